//! Commands that look after the server's state, beside a running server or without one.
//!
//! They answer on standard output, and in the exit code: 1 when something was found that should not
//! be. None of them makes state where there is none.

mod audit;
mod ca;
mod user;
mod vault;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arkeep_core::{Clock, Entropy, StoreError, SystemClock, SystemEntropy};
use arkeep_vault::{RekeyError, RingError, RingFile, Sealer, Vault};

use crate::app::data_dir::{DataDir, DataDirError, Opened};
use crate::app::keys::KeysError;
use crate::authority::RotateError;
use crate::config::key::KeySourceError;
use crate::config::serve::{ConfigRefused, DataConfig};
use crate::config::{Command, DataArgs};
use crate::reseal::ResealError;
use crate::store::audit::{Actor, Changes, NewEntry, Target};
use crate::store::{AuditStore, Database, WriteError};

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The options are refused.
    #[error(transparent)]
    Config(#[from] ConfigRefused),

    /// The state cannot be opened.
    #[error(transparent)]
    DataDir(#[from] DataDirError),

    /// The server's own keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),

    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),

    /// The key ring cannot be read or changed.
    #[error(transparent)]
    Ring(#[from] RingError),

    /// Values were sealed with keys that the ring does not have. Nothing has changed. Exit with 4.
    #[error(
        "{ring} misses the keys of {values} sealed values: it is older than they are, or another \
         server's. Put back the ring that `vault status` shows no missing key for; where there is \
         none, replace the values that `vault verify` names",
        ring = ring.display()
    )]
    KeysMissing {
        /// The ring.
        ring: PathBuf,
        /// How many values it cannot open.
        values: u64,
    },

    /// The key of the ring cannot be changed.
    #[error(transparent)]
    Rekey(#[from] RekeyError),

    /// The new key of the ring is refused.
    #[error("the new vault key is refused")]
    NewKey(#[from] KeySourceError),

    /// It was done, and who did it could not be written down.
    #[error("it is done, and could not be written into the audit log")]
    Unrecorded(#[source] StoreError),

    /// Not every sealed value could be looked at.
    #[error(transparent)]
    Reseal(#[from] ResealError),

    /// A rotation did not come to its end. Every sealed value opens.
    #[error(
        "the rotation did not come to its end; nothing is lost: run it again, or start the server, \
         which goes on with it"
    )]
    Interrupted(#[source] ResealError),

    /// The root was not replaced any further.
    #[error(transparent)]
    Rotate(#[from] RotateError),

    /// The database did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// What was asked for makes no sense here. The text says why.
    #[error("{0}")]
    Refused(String),

    /// Standard input or output is gone.
    #[error("standard input or output")]
    Io(#[from] io::Error),
}

/// Whether a command found everything as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It did.
    Good,
    /// It did not, and has said what.
    Bad,
}

/// Carries out one command. `serve` is none of them.
///
/// # Errors
///
/// [`MaintenanceError`]
pub async fn run(command: Command, out: &mut dyn Write) -> Result<Finding, MaintenanceError> {
    match command {
        Command::Audit(command) => audit::run(command, out).await,
        Command::User(command) => user::run(command, out).await,
        Command::Vault(command) => vault::run(command, out).await,
        Command::Ca(command) => ca::run(command, out).await,
        Command::Serve(_) => Err(MaintenanceError::Refused(
            "serve is no maintenance".to_owned(),
        )),
    }
}

/// The state, open.
struct Tools {
    store: Arc<dyn Database>,
    ring: Arc<RingFile>,
    sealer: Arc<dyn Sealer>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

async fn open(data: DataArgs) -> Result<Tools, MaintenanceError> {
    let data_dir = DataDir::new(&DataConfig::judge(data)?);
    Ok(Tools::from(data_dir.open_existing().await?))
}

impl Tools {
    /// Writes into the audit log what was just done by whoever runs this command.
    async fn record(
        &self,
        action: &'static str,
        target: Target,
        changes: impl Into<Changes>,
    ) -> Result<(), MaintenanceError> {
        let entry = NewEntry {
            at: self.clock.now(),
            actor: Actor {
                kind: "operator".into(),
                id: None,
                // Names are what a table of the machine says; the number is what the kernel says.
                name: Some(format!("uid {}", rustix::process::getuid().as_raw())),
            },
            action: action.into(),
            target,
            result: "ok".into(),
            address: None,
            request_id: None,
            changes: changes.into(),
        };
        let appended = AuditStore::append(&*self.store, &entry).await;
        appended.map(drop).map_err(MaintenanceError::Unrecorded)
    }
}

impl From<Opened> for Tools {
    fn from(opened: Opened) -> Self {
        Self {
            store: opened.store,
            sealer: Arc::new(Vault::shared(Arc::clone(&opened.ring) as Arc<_>)),
            ring: opened.ring,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}
