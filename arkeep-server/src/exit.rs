//! How the program ends, in a number.

use std::io;
use std::process::ExitCode;

use arkeep_vault::{KeyFileError, RekeyError, RingError};

use crate::app::StartError;
use crate::app::data_dir::DataDirError;
use crate::app::keys::KeysError;
use crate::app::tls::TlsError;
use crate::maintenance::MaintenanceError;

/// The exit codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It went well.
    Ok = 0,
    /// It failed.
    Failed = 1,
    /// The command line is not one of this program.
    Usage = 2,
    /// The configuration is refused.
    Refused = 3,
    /// The vault key is refused. Nothing has changed.
    VaultKey = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&StartError> for Exit {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::Config(_)
            | StartError::AgentAddress(_)
            | StartError::MetricsToken { .. } => Self::Refused,
            StartError::DataDir(error) => error.into(),
            StartError::Keys(error) => error.into(),
            StartError::Tls(TlsError::File { .. } | TlsError::Certificate(_)) => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl From<&MaintenanceError> for Exit {
    fn from(error: &MaintenanceError) -> Self {
        match error {
            MaintenanceError::Config(_) => Self::Refused,
            MaintenanceError::DataDir(error) => error.into(),
            MaintenanceError::Keys(error) => error.into(),
            // The disk failed, and no key was refused.
            MaintenanceError::Rekey(RekeyError::KeyFile(KeyFileError::Io { .. })) => Self::Failed,
            MaintenanceError::NewKey(_)
            | MaintenanceError::KeysMissing { .. }
            | MaintenanceError::Rekey(RekeyError::KeyFile(_)) => Self::VaultKey,
            MaintenanceError::Ring(error) | MaintenanceError::Rekey(RekeyError::Ring(error)) => {
                error.into()
            }
            _ => Self::Failed,
        }
    }
}

impl From<&DataDirError> for Exit {
    fn from(error: &DataDirError) -> Self {
        match error {
            DataDirError::Config(_)
            | DataDirError::DatabaseLost { .. }
            | DataDirError::Empty { .. } => Self::Refused,
            DataDirError::Key(_)
            | DataDirError::Ring(_)
            | DataDirError::RingLost { .. }
            | DataDirError::Foreign { .. }
            | DataDirError::Outdated { .. } => Self::VaultKey,
            // What should be a directory is something else.
            DataDirError::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory => {
                Self::Refused
            }
            DataDirError::Io { .. } | DataDirError::Store(_) => Self::Failed,
        }
    }
}

/// Of a ring that was open already.
impl From<&RingError> for Exit {
    fn from(error: &RingError) -> Self {
        match error {
            RingError::Refused(_) | RingError::Wrap { .. } | RingError::Io { .. } => Self::Failed,
            _ => Self::VaultKey,
        }
    }
}

impl From<&KeysError> for Exit {
    fn from(error: &KeysError) -> Self {
        match error {
            KeysError::Open(_) | KeysError::NotSealed(_) => Self::VaultKey,
            _ => Self::Failed,
        }
    }
}
