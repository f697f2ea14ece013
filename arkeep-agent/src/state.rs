//! The directory in which an agent keeps what it must not lose.
//!
//! | in it         | what                                                     |
//! |---------------|----------------------------------------------------------|
//! | `lock`        | held by the agent that runs, so that there is one        |
//! | `key`         | guards the key ring                                      |
//! | `keyring`     | the keys that seal the outbox                            |
//! | `identity/`   | private key, certificate, whom to trust, where to dial   |
//! | `outbox/`     | jobs and results                                         |
//! | `bin/`        | the restic that was built in, when there is one          |
//!
//! All of it is its owner's alone, and refused when it is not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arkeep_core::Timestamp;
use arkeep_vault::{KeyEncryptionKey, KeyFileError, RingError, RingFile, Sealer, Vault};
use rustix::fs::{FlockOperation, OFlags};

use crate::files;

/// A state directory that no other agent uses.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    // Closed by the kernel however the process ends, and with it the lock is gone.
    _lock: File,
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It is missing and cannot be made, or it is not its owner's alone. The text says what to do.
    #[error("the state directory {path} cannot be used")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What stands in the way.
        #[source]
        source: io::Error,
    },
    /// Another agent runs on it. Stop that one, or give this one a directory of its own.
    #[error("another agent runs on the state directory {path}")]
    Taken {
        /// Which one.
        path: PathBuf,
    },
    /// There is something sealed and no key for it. Put the key back; a new one is never made.
    #[error("{path} holds a key ring or jobs, and its key is missing: put {path}/key back")]
    KeyMissing {
        /// The state directory.
        path: PathBuf,
    },
    /// The key file cannot be used.
    #[error("the key of the state directory cannot be used")]
    KeyFile(#[from] KeyFileError),
    /// The key ring does not open, or cannot be made.
    #[error("the key ring of the state directory cannot be used")]
    Ring(#[from] RingError),
}

impl StateDir {
    /// Makes the directory if it is not there, and takes it for this process.
    ///
    /// # Errors
    ///
    /// [`StateError::Directory`] and [`StateError::Taken`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let refused = |source| StateError::Directory {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(refused)?;
        }
        files::private_directory(path).map_err(refused)?;
        let root = path.canonicalize().map_err(refused)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(root.join("lock"))
            .map_err(refused)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Taken { path: root }),
            Err(error) => Err(refused(error.into())),
        }
    }

    /// Where it is, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where the agent's identity is kept.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Where the outbox is kept.
    #[must_use]
    pub fn outbox(&self) -> PathBuf {
        self.root.join("outbox")
    }

    /// Opens the vault that seals the outbox; makes its keys in a directory that has never had any.
    ///
    /// # Errors
    ///
    /// [`StateError::KeyMissing`], [`StateError::KeyFile`], [`StateError::Ring`]. Nothing is
    /// written then.
    pub fn vault(&self, now: Timestamp) -> Result<Arc<dyn Sealer>, StateError> {
        let key_file = self.root.join("key");
        let ring_file = self.root.join("keyring");
        let kept = [&ring_file, &self.outbox()]
            .iter()
            .any(|path| path.symlink_metadata().is_ok());
        let key = match KeyEncryptionKey::from_file(&key_file) {
            Err(KeyFileError::Missing { .. }) if kept => {
                return Err(StateError::KeyMissing {
                    path: self.root.clone(),
                });
            }
            Err(KeyFileError::Missing { .. }) => KeyEncryptionKey::generate_file(&key_file)?,
            found => found?,
        };
        let ring = match kept {
            true => RingFile::open(&ring_file, Arc::new(key))?,
            false => RingFile::create_new(&ring_file, Arc::new(key), now.as_unix_millis())?,
        };
        Ok(Arc::new(Vault::new(ring)))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use arkeep_vault::{Binding, SecretString};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn has_one_agent_at_a_time() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("state");

        let first = StateDir::open(&path)?;
        assert!(matches!(
            StateDir::open(&path),
            Err(StateError::Taken { .. })
        ));
        drop(first);

        assert!(StateDir::open(&path).is_ok());
        Ok(())
    }

    #[test]
    fn opens_what_it_sealed_before() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("state");
        let binding = Binding::new("a", "b", "c");
        let secret = SecretString::from("hunter2");

        let sealed = StateDir::open(&path)?
            .vault(NOW)?
            .seal_str(&secret, &binding)?;

        assert!(
            StateDir::open(&path)?
                .vault(NOW)?
                .open_str(&sealed, &binding)
                .is_ok()
        );
        Ok(())
    }

    /// V6: what was sealed is never left behind for a new key.
    #[test]
    fn makes_no_new_key_beside_what_was_sealed() -> Result<(), Box<dyn Error>> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("state");
        StateDir::open(&path)?.vault(NOW)?;

        fs::remove_file(path.join("key"))?;

        let state = StateDir::open(&path)?;
        assert!(matches!(
            state.vault(NOW),
            Err(StateError::KeyMissing { .. })
        ));
        assert!(!path.join("key").exists());
        KeyEncryptionKey::generate_file(path.join("key"))?;
        assert!(matches!(
            state.vault(NOW),
            Err(StateError::Ring(RingError::WrongKey { .. }))
        ));
        Ok(())
    }
}
