use arkeep_core::StoreError;

/// A record was not written. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// What was asked for does not fit what is there. Ask for something else.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The store could not answer. Worth a retry if the cause is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a store would not write what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such record (any more).
    #[error("there is no such record")]
    NotFound,

    /// The record has changed since it was read. Read it again, and decide again.
    #[error("the record has changed since it was read")]
    Stale,

    /// Another record has the value of this field, and no two may share it.
    #[error("another record has the same {field}")]
    Taken {
        /// The field, as the HTTP API names it.
        field: &'static str,
    },

    /// This field names a record that is not there.
    #[error("{field} names something that does not exist")]
    Dangling {
        /// The field, as the HTTP API names it.
        field: &'static str,
    },

    /// Something else stands on this record. Remove that first.
    #[error("the record is used by {by}")]
    InUse {
        /// What uses it, in the plural.
        by: &'static str,
    },

    /// This field cannot change any more: what was made with it needs it.
    #[error("{field} cannot change any more: there are backups that only the old value opens")]
    Settled {
        /// The field, as the HTTP API names it.
        field: &'static str,
    },

    /// A repository would have two passwords.
    #[error("another policy has a repository at the same place, with another password")]
    OtherPassword {
        /// Which of the policy's destinations it is, from 0.
        position: u32,
    },

    /// It would leave nobody who can administer the server.
    #[error("this is the last active administrator")]
    LastAdmin,
}

/// What a write does to a sealed column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SecretChange {
    /// It stays as it is.
    #[default]
    Keep,
    /// There is no secret any more.
    Clear,
    /// This blob takes its place.
    Set(Vec<u8>),
}
