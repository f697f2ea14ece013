//! `arkeep-server ca …`

use std::io::Write;
use std::sync::Arc;

use arkeep_transport::ca::rotation::{NotYet, Patience, Phase};

use super::{Finding, MaintenanceError, Tools, open};
use crate::authority::{Authority, AuthorityParts, Lack, RotateError, Status};
use crate::config::{CaCommand, RotateArgs};
use crate::store::audit::Target;

pub(super) async fn run(
    command: CaCommand,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    match command {
        CaCommand::Status(data) => status(&authority(&open(data).await?).await?, out).await,
        CaCommand::Fingerprint(data) => {
            let authority = authority(&open(data).await?).await?;
            writeln!(out, "{}", authority.root())?;
            Ok(Finding::Good)
        }
        CaCommand::Rotate(RotateArgs { data, force }) => {
            rotate(&open(data).await?, force, out).await
        }
    }
}

async fn authority(tools: &Tools) -> Result<Authority, MaintenanceError> {
    let parts = AuthorityParts {
        keys: Arc::clone(&tools.store) as Arc<_>,
        rotations: Arc::clone(&tools.store) as Arc<_>,
        sealer: Arc::clone(&tools.sealer),
        clock: Arc::clone(&tools.clock),
    };
    let there = Authority::open_existing(parts).await?;
    there.ok_or_else(|| {
        MaintenanceError::Refused("there is no root yet: the first start makes it".to_owned())
    })
}

async fn status(authority: &Authority, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let status = authority.status().await?;
    let rotation = status.rotation;
    writeln!(out, "{} since {}", rotation.phase.as_str(), rotation.since)?;
    for root in &status.roots {
        writeln!(out)?;
        writeln!(out, "fingerprint  {}", root.fingerprint)?;
        writeln!(out, "state        {}", root.state.as_str())?;
        writeln!(
            out,
            "valid        {} to {}",
            root.not_before, root.not_after
        )?;
        write!(out, "{}", root.pem)?;
    }
    tell_who_is_behind(&status, out)?;
    Ok(Finding::Good)
}

fn tell_who_is_behind(status: &Status, out: &mut dyn Write) -> Result<(), MaintenanceError> {
    let told = match (status.rotation.phase, status.behind.as_slice()) {
        (Phase::Settled, []) => return Ok(()),
        (_, []) => "every agent is ready; the server goes on by itself".to_owned(),
        (Phase::Settled, behind) => format!(
            "{} agents were left behind and must enrol anew:",
            behind.len()
        ),
        (_, behind) => format!("waits for {} agents:", behind.len()),
    };
    writeln!(out, "\n{told}")?;
    for behind in &status.behind {
        let lacks = match behind.lacks {
            Lack::Trust => "has not said that it trusts the new root",
            Lack::Certificate => "has not come with a certificate of the new root",
            Lack::Enrolment => "its root was withdrawn",
        };
        let seen = behind
            .last_seen_at
            .map_or_else(|| "never".to_owned(), |at| at.to_string());
        let (agent, name) = (behind.agent, &behind.name);
        writeln!(out, "{agent}  {seen:<24}  {lacks}  {name}")?;
    }
    if let Some(at) = status.not_before {
        writeln!(out, "the next step is taken at {at} at the earliest")?;
    }
    Ok(())
}

async fn rotate(
    tools: &Tools,
    force: bool,
    out: &mut dyn Write,
) -> Result<Finding, MaintenanceError> {
    let authority = authority(tools).await?;
    let patience = match force {
        true => Patience::None,
        false => Patience::Full,
    };
    match authority.rotate(patience).await {
        Ok(()) => {
            let status = authority.status().await?;
            let phase = status.rotation.phase.as_str();
            let changes = serde_json::json!({"phase": phase, "force": force});
            let target = Target::new("ca", None);
            tools.record("ca.rotate", target, changes).await?;
            let told = match status.rotation.phase {
                Phase::Announced => "a new root is announced; the old one signs for now",
                Phase::Issuing => "the new root signs; the old one is trusted for now",
                Phase::Settled => "the old root is withdrawn, and its key is gone",
            };
            writeln!(out, "{told}")?;
            tell_who_is_behind(&status, out)?;
            Ok(Finding::Good)
        }
        Err(RotateError::NotYet(why)) => {
            let hint = match &why {
                NotYet::Behind(_) => "; it goes on by itself, or without them by --force",
                _ => "",
            };
            writeln!(out, "{why}{hint}")?;
            tell_who_is_behind(&authority.status().await?, out)?;
            Ok(Finding::Bad)
        }
        Err(other) => Err(other.into()),
    }
}
