//! `arkeep-server vault rekey`
//!
//! The ring has room for two keys that unwrap it. First the new one is let in, then the old one is
//! shut out; in between either opens, so that no moment is one in which a kill locks the ring.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arkeep_vault::{RingError, RingFile};

use super::super::{Finding, MaintenanceError, Tools};
use super::judge_ring;
use crate::app::data_dir::{DataDir, DataDirError};
use crate::config::RekeyArgs;
use crate::config::key::KeySource;
use crate::config::serve::{ConfigRefused, DataConfig};
use crate::failpoint;
use crate::store::audit::Target;

pub(super) async fn run(args: RekeyArgs, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    let new = args.new_key()?;
    let data_dir = DataDir::new(&DataConfig::judge(args.data)?);
    let (tools, told) = match new {
        None if data_dir.is_shared() => return Err(ConfigRefused::SharedRing.into()),
        Some(new) => replace_source(&data_dir, &new).await?,
        None => replace_file(&data_dir).await?,
    };
    writeln!(out, "{told}")?;
    let changes = serde_json::json!({"key_source": "[changed]"});
    let target = Target::new("vault", None);
    tools.record("vault.rekey", target, changes).await?;
    Ok(Finding::Good)
}

/// The state with this ring, if the ring may be changed.
async fn judged(data_dir: &DataDir, ring: Arc<RingFile>) -> Result<Tools, MaintenanceError> {
    let tools = Tools::from(data_dir.open_with(ring).await?);
    judge_ring(&tools).await?;
    Ok(tools)
}

/// Puts a new key where the present one lies. A server that runs finds it there.
async fn replace_file(data_dir: &DataDir) -> Result<(Tools, String), MaintenanceError> {
    let KeySource::File(path) = data_dir.key() else {
        return Err(ConfigRefused::NoNewKey(data_dir.key().to_string()).into());
    };
    let tools = judged(data_dir, data_dir.unlock()?).await?;
    let mut waiting = path.clone().into_os_string();
    waiting.push(".new");
    let waiting = Path::new(&waiting);
    let origin = match waiting.exists() {
        true => format!(", the one that lay in {}", waiting.display()),
        false => String::new(),
    };
    tools.ring.rekey_file(path)?;
    let told = format!(
        "{} holds a new key{origin}, and the old one opens nothing any more",
        path.display()
    );
    Ok((tools, told))
}

/// Locks the ring with a key from elsewhere.
async fn replace_source(
    data_dir: &DataDir,
    new: &KeySource,
) -> Result<(Tools, String), MaintenanceError> {
    let names_key_in_use = match (data_dir.key(), new) {
        (KeySource::File(old), KeySource::File(new)) => is_same(old, new),
        _ => false,
    };
    let guard = Arc::new(new.read()?);
    let tools = match data_dir.unlock() {
        Ok(ring) if names_key_in_use && !ring.is_rekeying() => {
            return Err(ConfigRefused::SameKey.into());
        }
        Ok(ring) => {
            let tools = judged(data_dir, ring).await?;
            match tools.ring.begin_rekey(guard.as_ref()) {
                // An attempt that was cut off let this key in, and it is in use by now. What is
                // left to do is to shut the other out.
                Err(RingError::SameKey) if tools.ring.is_rekeying() => {}
                begun => begun?,
            }
            tools
        }
        // An attempt that was cut off after its last step has shut the old key out already.
        Err(refused) => judged(data_dir, reopened(data_dir, new, refused)?).await?,
    };
    failpoint::hit("rekey-let-in");
    tools.ring.finish_rekey(guard)?;
    failpoint::hit("rekey-shut-out");
    let told =
        format!("the key ring opens with {new} alone; start servers with it, also those that run");
    Ok((tools, told))
}

fn reopened(
    data_dir: &DataDir,
    new: &KeySource,
    refused: DataDirError,
) -> Result<Arc<RingFile>, MaintenanceError> {
    if !matches!(refused, DataDirError::Ring(RingError::WrongKey { .. })) {
        return Err(refused.into());
    }
    match data_dir.unlock_with(new.read()?) {
        Ok(ring) => Ok(ring),
        // The first answer is the one about the key in use.
        Err(_) => Err(refused.into()),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (one.canonicalize(), other.canonicalize());
    matches!((one, other), (Ok(one), Ok(other)) if one == other)
}
