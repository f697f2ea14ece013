//! What this crate needs to know of a user, and who knows it.

use std::fmt;

use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

use crate::id::{Epoch, SessionId};
use crate::password::PasswordHash;
use crate::role::Role;

/// A user, as far as a login needs to know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: UserId,
    /// None for a user who only comes in through an identity provider.
    pub password: Option<PasswordHash>,
    /// A disabled user is told the same as one who does not exist.
    pub enabled: bool,
    /// What they may do.
    pub role: Role,
    /// How often everything of theirs was taken back.
    pub epoch: Epoch,
}

/// A new password for a user, in place of a known one.
#[derive(Debug, Clone)]
pub struct PasswordChange {
    /// The user.
    pub user: UserId,
    /// The new hash.
    pub new: PasswordHash,
    /// The epoch in which the old password was checked.
    pub epoch: Epoch,
    /// The session that goes on. Every other one ends.
    pub keep: Option<SessionId>,
    /// When.
    pub now: Timestamp,
}

/// Knows the users and their password hashes.
///
/// Implement this over the user table of your product. `testing::MemoryStore` is one in this
/// process; `arkeep-server`'s stores keep users in SQLite or PostgreSQL.
///
/// # Security
///
/// Answers come from the truth, not from a copy that may be old: a login reads `enabled` and the
/// epoch here. The [`SessionStore`](crate::SessionStore) reads both again in its own transaction.
///
/// # Cost
///
/// A login asks once. Absence must not take longer than presence: it would say who has an account.
#[async_trait]
pub trait UserStore: fmt::Debug + Send + Sync {
    /// The user with this e-mail address, whatever the case of its ASCII letters.
    async fn find_by_email(&self, email: &str) -> Result<Option<Credentials>, StoreError>;

    /// The user with this id.
    async fn find(&self, user: UserId) -> Result<Option<Credentials>, StoreError>;

    /// Replaces a hash by another one of the same password, and nothing else.
    ///
    /// Returns `false` and changes nothing when the present hash is no longer `old`.
    async fn rehash(
        &self,
        user: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError>;

    /// In one transaction: stores the new hash, counts the epoch up, and ends every session but
    /// the one to keep. Returns the new epoch.
    ///
    /// Returns `None` and changes nothing when the user is gone or disabled, or the epoch is
    /// another than the one in which the old password was checked.
    async fn change_password(&self, change: &PasswordChange) -> Result<Option<Epoch>, StoreError>;
}
