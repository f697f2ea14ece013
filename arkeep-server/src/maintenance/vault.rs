//! `arkeep-server vault …`

mod progress;
mod rekey;

use std::io::Write;

use arkeep_core::{Clock as _, SystemClock, Timestamp};
use arkeep_vault::{ChangeError, KeyId, RingError};

use super::{Finding, MaintenanceError, Tools};
use crate::app::data_dir::DataDir;
use crate::config::serve::DataConfig;
use crate::config::{DataArgs, KeyArgs, VaultCommand};
use crate::keeper::word;
use crate::reseal::{self, Unopened};
use crate::store::audit::Target;
use progress::Teller;

pub(super) async fn run(
    command: VaultCommand,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    match command {
        VaultCommand::Status(data) => status(&whatever_fits(data).await?, out).await,
        VaultCommand::Verify(data) => verify(&whatever_fits(data).await?, out).await,
        VaultCommand::Rotate(data) => rotate(&changeable(data).await?, out).await,
        VaultCommand::Rekey(args) => rekey::run(args, out).await,
        VaultCommand::Disable(KeyArgs { data, key }) => {
            disable(&changeable(data).await?, key, out).await
        }
        VaultCommand::Enable(KeyArgs { data, key }) => {
            enable(&changeable(data).await?, key, out).await
        }
        VaultCommand::Remove(KeyArgs { data, key }) => {
            remove(&changeable(data).await?, key, out).await
        }
    }
}

/// The state, for a command that changes the ring.
async fn changeable(data: DataArgs) -> Result<Tools, MaintenanceError> {
    let tools = super::open(data).await?;
    judge_ring(&tools).await?;
    Ok(tools)
}

/// Refuses a ring that misses keys: whatever it seals is lost when the newer ring is put back, and
/// so is that ring's key when this one is rekeyed.
async fn judge_ring(tools: &Tools) -> Result<(), MaintenanceError> {
    match reseal::missing(tools.store.as_ref(), &tools.ring).await? {
        0 => Ok(()),
        values => Err(MaintenanceError::KeysMissing {
            ring: tools.ring.path().to_owned(),
            values,
        }),
    }
}

/// The state, for a command that says what is wrong with it.
async fn whatever_fits(data: DataArgs) -> Result<Tools, MaintenanceError> {
    let data_dir = DataDir::new(&DataConfig::judge(data)?);
    Ok(Tools::from(data_dir.open_whatever_fits().await?))
}

/// Writes into the audit log what was done to a key.
async fn record(tools: &Tools, action: &'static str, key: KeyId) -> Result<(), MaintenanceError> {
    let changes = serde_json::json!({"key": key.to_string()});
    let target = Target::new("vault", None);
    tools.record(action, target, changes).await
}

async fn status(tools: &Tools, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let needed = reseal::census(tools.store.as_ref()).await?;
    // A server may have rotated since the ring was opened.
    tools.ring.refresh()?;
    writeln!(
        out,
        "{:<16}  {:<8}  {:<24}  {:<15}  needed by",
        "key", "state", "made", "messages sealed"
    )?;
    for key in tools.ring.keys() {
        let made = Timestamp::from_unix_millis(key.created_at);
        writeln!(
            out,
            "{}  {:<8}  {made}  {:<15}  {}",
            key.id,
            word(key.state),
            key.messages_sealed,
            needed.sealed_by(key.id)
        )?;
    }
    let missing = needed.missing_from(&tools.ring.keys());
    for (key, values) in &missing {
        writeln!(
            out,
            "{key}  {:<8}  {:<24}  {:<15}  {values}",
            "missing", "", ""
        )?;
    }
    match tools.ring.guards().as_slice() {
        [one] => writeln!(out, "unlocked by: {one}")?,
        several => writeln!(
            out,
            "unlocked by: {} (a rekey was interrupted: run it again)",
            several.join(" or ")
        )?,
    }
    Ok(match missing.as_slice() {
        [] => Finding::Good,
        _ => Finding::Bad,
    })
}

/// Opens every sealed value there is, and names those that do not open.
async fn verify(tools: &Tools, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let outcome = reseal::verify(tools.store.as_ref(), &tools.ring).await?;
    for unopened in &outcome.unopened {
        writeln!(out, "{unopened}")?;
    }
    let progress = outcome.progress;
    writeln!(
        out,
        "{} sealed values open, {} do not",
        progress.done - progress.unopened,
        progress.unopened
    )?;
    Ok(finding(&outcome.unopened))
}

/// Makes a new key and moves every value to it.
async fn rotate(tools: &Tools, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let mut teller = Teller::new(out);
    let key = tools.ring.rotate(now())?;
    record(tools, "vault.rotate", key).await?;
    teller.rotated(key);
    let walked = reseal::reseal(tools.store.as_ref(), &tools.ring, |progress| {
        teller.at(progress)
    })
    .await;
    let outcome = teller.ended(walked)?;
    Ok(finding(&outcome.unopened))
}

async fn disable(
    tools: &Tools,
    key: KeyId,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let rows = reseal::census(tools.store.as_ref()).await?.sealed_by(key);
    if rows > 0 {
        return Err(MaintenanceError::Refused(format!(
            "key {key} is needed by {rows} sealed values: seal them again first, by `vault rotate`"
        )));
    }
    tools.ring.disable(key, now())?;
    record(tools, "vault.disable", key).await?;
    writeln!(
        out,
        "key {key} is disabled; remove it in a day if nothing is missed"
    )?;
    Ok(Finding::Good)
}

async fn enable(
    tools: &Tools,
    key: KeyId,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    tools.ring.enable(key, now())?;
    record(tools, "vault.enable", key).await?;
    writeln!(out, "key {key} opens what it sealed")?;
    Ok(Finding::Good)
}

async fn remove(
    tools: &Tools,
    key: KeyId,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let census = reseal::census(tools.store.as_ref()).await?;
    tools
        .ring
        .remove(key, &census, now())
        .map_err(|error| match error {
            RingError::Refused(ChangeError::TooSoon { id, allowed_at }) => {
                let allowed_at = Timestamp::from_unix_millis(allowed_at);
                MaintenanceError::Refused(format!(
                    "key {id} was disabled less than a day ago: remove it after {allowed_at}"
                ))
            }
            error => error.into(),
        })?;
    record(tools, "vault.remove", key).await?;
    writeln!(out, "key {key} is gone")?;
    Ok(Finding::Good)
}

fn finding(unopened: &[Unopened]) -> Finding {
    match unopened {
        [] => Finding::Good,
        _ => Finding::Bad,
    }
}

fn now() -> i64 {
    SystemClock.now().as_unix_millis()
}
