//! What can be wrong with a ring.

use std::io;
use std::path::{Path, PathBuf};

use super::ChangeError;
use crate::{KeyWrapper, UnwrapError, WrapError};

/// A ring file was not opened, made or changed.
///
/// Every variant but [`Refused`](Self::Refused) is a reason not to start: exit code 4 in the
/// programs of this project. None of them is ever answered by making a new ring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Nothing is there. If anything was sealed before, restore the file; a new ring would open
    /// none of it.
    #[error(
        "there is no key ring at {}: restore it from a backup, or correct the path",
        .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },

    /// Something is already there, and it may be the only copy of the keys.
    #[error("{} exists already and was left alone", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },

    /// The key is that of another ring, or the ring was rekeyed since. Give the right key.
    #[error(
        "the {given} does not open the key ring {}, which was locked with: {}; give that one, or \
         put back the ring that belongs to this one",
        .path.display(),
        .locked_with.join(", ")
    )]
    WrongKey {
        /// The ring.
        path: PathBuf,
        /// The kind of the guard that was tried.
        given: String,
        /// The kinds of guards that the ring has.
        locked_with: Vec<String>,
    },

    /// The new key is the one that opens the ring already, so that nothing would change. Make
    /// another.
    #[error("the new key is the one that the key ring has already: make another")]
    SameKey,

    /// The file is not as it was written. Restore it from a backup.
    #[error("the key ring {} is damaged: restore it from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: RingFormatError,
    },

    /// The file is older than what this process has already read. Somebody put a backup in its
    /// place: bring back the newer file, or stop every process that uses it.
    #[error(
        "the key ring {} was replaced by an older copy while it was in use",
        .path.display()
    )]
    RolledBack {
        /// The file.
        path: PathBuf,
    },

    /// A link is not followed, because a change would replace it by a file.
    #[error("{} is a symbolic link: name the key ring itself", .path.display())]
    SymbolicLink {
        /// The file.
        path: PathBuf,
    },

    /// A directory, a pipe, or another thing that holds no ring.
    #[error("{} is not a regular file: name the key ring itself", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },

    /// What guards the ring cannot be asked to open it now. Worth a retry.
    #[error("the key ring {} cannot be unlocked now", .path.display())]
    Unwrap {
        /// The ring.
        path: PathBuf,
        /// What stands in the way.
        #[source]
        source: UnwrapError,
    },

    /// What guards the ring cannot be asked to lock it now. Worth a retry.
    #[error("the key ring {} cannot be locked now", .path.display())]
    Wrap {
        /// The ring.
        path: PathBuf,
        /// What stands in the way.
        #[source]
        source: WrapError,
    },

    /// The operating system refused.
    #[error("the key ring {} cannot be used", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },

    /// The ring is well, and the change is not allowed.
    #[error("the key ring was not changed: {0}")]
    Refused(ChangeError),
}

impl RingError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }

    pub(super) fn damaged(path: &Path) -> impl FnOnce(RingFormatError) -> Self {
        let path = path.into();
        |source| Self::Damaged { path, source }
    }

    pub(super) fn wrap(path: &Path) -> impl FnOnce(WrapError) -> Self {
        let path = path.into();
        |source| Self::Wrap { path, source }
    }

    pub(super) fn unlock(
        path: &Path,
        locked_with: Vec<String>,
        guard: &dyn KeyWrapper,
        error: UnlockError,
    ) -> Self {
        let path = path.into();
        match error {
            UnlockError::WrongKey => Self::WrongKey {
                path,
                given: guard.kind().to_owned(),
                locked_with,
            },
            UnlockError::Damaged(source) => Self::Damaged { path, source },
            UnlockError::Guard(source) => Self::Unwrap { path, source },
        }
    }
}

impl From<ChangeError> for RingError {
    fn from(error: ChangeError) -> Self {
        Self::Refused(error)
    }
}

/// Bytes that are not a ring, or a ring that nobody should use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingFormatError {
    /// Something else was stored here.
    #[error("it is not a key ring")]
    NotARing,

    /// Written by a newer program. Run the version that wrote it.
    #[error("it has format version {version}, which is not known here")]
    Version {
        /// The version it says it has.
        version: u8,
    },

    /// Cut short, or with a length that lies. Restore it from a backup.
    #[error("it is cut short")]
    CutShort,

    /// Longer than it says it is. Restore it from a backup.
    #[error("it is longer than it says")]
    TooLong,

    /// Some byte is not as it was written. Restore it from a backup.
    #[error("its checksum is wrong")]
    Checksum,

    /// No slot, more than two, or one that no guard can have written.
    #[error("its slots make no sense")]
    Slots,

    /// The ring key is right and the ring is not the one it encrypted. Restore it from a backup.
    #[error("it was altered")]
    Altered,

    /// It was decrypted and has not exactly one primary key.
    #[error("it has {count} primary keys, and must have exactly one")]
    Primaries {
        /// How many there are.
        count: usize,
    },

    /// It was decrypted and is no list of keys that this program could have written.
    #[error("its list of keys makes no sense")]
    Keys,
}

/// A ring did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlockError {
    /// The guard opens no slot of this ring: it is another ring's key.
    #[error("the key does not belong to this ring")]
    WrongKey,

    /// The guard opened its slot, and the ring behind it is damaged.
    #[error("the key ring is damaged")]
    Damaged(#[from] RingFormatError),

    /// The guard cannot be asked now.
    #[error("the ring key could not be unwrapped")]
    Guard(#[source] UnwrapError),
}
