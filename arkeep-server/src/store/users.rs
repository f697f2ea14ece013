//! People who log in.

use std::fmt;

use arkeep_auth::{Epoch, OidcProviderId, PasswordHash, Role};
use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Listed, Page, WriteError};

/// Keeps users, as an administrator sees them.
///
/// How a password is checked and changed by its owner is `arkeep_auth::UserStore`, which the same
/// stores implement.
///
/// # Security
///
/// Each user has an `epoch`, a number that only grows; an access token that was issued under a
/// lower one is refused. Whatever takes something from a user (another role, another password, being
/// disabled or removed) raises it in the same transaction, here and not in the caller, so that no
/// change can forget to. Another password and being disabled also end the user's sessions.
#[async_trait]
pub trait UserDirectory: fmt::Debug + Send + Sync {
    /// Makes the first user, spending the setup token of this SHA-256 digest.
    ///
    /// Of any number of callers, one is [`SetUp::Done`].
    async fn set_up(&self, first: &NewUser, token_digest: &[u8; 32]) -> Result<SetUp, StoreError>;

    /// Adds a user. Addresses are unique without regard to case of ASCII letters.
    async fn create(&self, new: &NewUser) -> Result<User, WriteError>;

    /// The user of this id.
    async fn find(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user of this address.
    async fn find_by_email(&self, email: &str) -> Result<Option<User>, StoreError>;

    /// Users, newest first.
    async fn list(&self, page: &Page) -> Result<Listed<User>, StoreError>;

    /// Changes a user that is still of the version that the edit was made from.
    ///
    /// Refuses to demote or disable the last active administrator.
    async fn update(&self, edit: &UserEdit) -> Result<User, WriteError>;

    /// Removes a user with all sessions. Refuses to remove the last active administrator.
    async fn delete(&self, id: UserId, version: Option<u64>) -> Result<(), WriteError>;

    /// Notes a login. The version and the epoch stay.
    async fn logged_in(&self, id: UserId, now: Timestamp) -> Result<(), StoreError>;
}

/// A user to be.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The id.
    pub id: UserId,
    /// The address to log in with.
    pub email: String,
    /// What people call the user.
    pub display_name: String,
    /// What the user may do.
    pub role: Role,
    /// A PHC string. None for a user who logs in elsewhere.
    pub password_hash: Option<PasswordHash>,
    /// When the user was made.
    pub created_at: Timestamp,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// Grows by one with each change.
    pub version: u64,
    /// The address to log in with.
    pub email: String,
    /// What people call the user.
    pub display_name: String,
    /// What the user may do.
    pub role: Role,
    /// Whether the user may log in.
    pub enabled: bool,
    /// Whether a login takes a second factor too.
    pub mfa: bool,
    /// Logins elsewhere that lead to the user.
    pub identities: Vec<Identity>,
    /// A PHC string.
    pub password_hash: Option<PasswordHash>,
    /// Tokens of lower epochs are refused.
    pub epoch: Epoch,
    /// When the user last logged in.
    pub last_login_at: Option<Timestamp>,
    /// When the user was made.
    pub created_at: Timestamp,
    /// When the user last changed.
    pub updated_at: Timestamp,
}

/// A login elsewhere that leads to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Our name for where.
    pub provider: OidcProviderId,
    /// Its name for the user.
    pub subject: String,
}

/// What a user is to become.
#[derive(Debug, Clone)]
pub struct UserEdit {
    /// Who.
    pub id: UserId,
    /// The version that was read.
    pub version: u64,
    /// The address from now on.
    pub email: String,
    /// The name from now on.
    pub display_name: String,
    /// The role from now on.
    pub role: Role,
    /// Whether the user may log in from now on.
    pub enabled: bool,
    /// Another password. None keeps the old one.
    pub password_hash: Option<PasswordHash>,
    /// When the user changes.
    pub at: Timestamp,
}

/// What became of an attempt to set the server up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetUp {
    /// This is the first user.
    Done(User),
    /// The token is not the one that was offered.
    WrongToken,
    /// Somebody else was first.
    AlreadyDone,
}
