//! Tokens for programs: long-lived, cut down to what the program is for, and gone when revoked.
//!
//! A token is `akt_` and one base64url text of its id, 256 random bits and a checksum. The prefix
//! lets a scanner find one that was published by mistake; the checksum lets it be sure, and spares
//! the store a question about a mistyped one. Only a digest is kept.
//!
//! A program acts as the owner of its token, cut down twice: to its [`Scopes`], and to what the
//! owner may do at that moment. It is never fresh: what needs a step-up needs a person. Each request
//! reads the store, so that a revoked token is dead at once and everywhere.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use arkeep_auth::api_token::{ApiTokens, Owner, Scope, Wanted};
//! use arkeep_auth::testing::MemoryStore;
//! use arkeep_auth::{Epoch, Role, UserStore};
//! use arkeep_core::{SystemEntropy, Timestamp, UserId};
//!
//! # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # rt.block_on(async {
//! let now = Timestamp::from_unix_seconds(1_750_000_000);
//! let store = Arc::new(MemoryStore::default());
//! let ada = UserId::mint(now, &SystemEntropy);
//! store.add_user(ada, "ada@example.com", None, Role::Admin);
//! let tokens = ApiTokens::new(store, Arc::new(SystemEntropy));
//!
//! let wanted = Wanted {
//!     name: "monitoring".to_owned(),
//!     scopes: [Scope::Read].into_iter().collect(),
//!     expires_at: now.plus(Duration::from_secs(86_400)),
//! };
//! let owner = Owner { user: ada, epoch: Epoch::FIRST };
//! let (token, _info) = tokens.create(owner, wanted, now).await?;
//! let caller = tokens.authenticate(&token.expose(), now).await?;
//! assert_eq!((caller.user(), caller.role()), (ada, Role::Viewer));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod scope;
mod service;
mod text;

use std::fmt;

use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

pub use scope::{ParseScopeError, Scope, Scopes};
pub use service::{ApiTokens, CreateError, Wanted};
pub use text::{ApiToken, ApiTokenDigest, ParseApiTokenError};

use crate::id::{ApiTokenId, Epoch};
use crate::principal::Principal;
use crate::role::Role;

/// Whom a token acts as, and the epoch in which they asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub user: UserId,
    /// Their epoch at that moment.
    pub epoch: Epoch,
}

impl From<&Principal> for Owner {
    fn from(caller: &Principal) -> Self {
        Self {
            user: caller.user(),
            epoch: caller.epoch(),
        }
    }
}

/// A token to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// Whom it acts as.
    pub owner: Owner,
    /// What its owner calls it.
    pub name: String,
    /// What is kept in its place.
    pub digest: ApiTokenDigest,
    /// What it may do.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A token and its owner, as they are at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredApiToken {
    /// What is kept in its place.
    pub digest: ApiTokenDigest,
    /// What it may do.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was last used, as far as that was written down.
    pub last_used_at: Option<Timestamp>,
    /// Whom it acts as.
    pub owner: UserId,
    /// What the owner may do.
    pub owner_role: Role,
    /// The owner's epoch.
    pub owner_epoch: Epoch,
    /// A disabled owner's tokens are dead until they are enabled again.
    pub owner_enabled: bool,
}

/// One line of a user's list of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiTokenInfo {
    /// Its id.
    pub id: ApiTokenId,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// Keeps API tokens.
///
/// `testing::MemoryStore` is one in this process; `arkeep-server` keeps them in its database.
///
/// # Security
///
/// A store never sees a token, only its SHA-256. What it answers is the truth at that moment, and
/// not a copy: nothing else stands between a revoked token and its use.
///
/// # Cost
///
/// `find` runs for each request that shows an API token. Aim for one indexed look-up.
#[async_trait]
pub trait ApiTokenStore: fmt::Debug + Send + Sync {
    /// Keeps a token. Returns `false` and keeps nothing when its owner is gone or disabled, or is no
    /// longer in the epoch in which they asked: what was taken back must not leave a token behind.
    async fn create(&self, new: &NewApiToken) -> Result<bool, StoreError>;

    /// The token with this id, unless it was revoked or its owner is gone.
    async fn find(&self, id: ApiTokenId) -> Result<Option<StoredApiToken>, StoreError>;

    /// Writes down that a token was used. The time never moves back.
    async fn used(&self, id: ApiTokenId, now: Timestamp) -> Result<(), StoreError>;

    /// The user's tokens, also expired ones, the newest first.
    async fn list(&self, owner: UserId) -> Result<Vec<ApiTokenInfo>, StoreError>;

    /// Revokes a token of this user's. Returns `false` when they have no such token.
    async fn revoke(&self, owner: UserId, id: ApiTokenId) -> Result<bool, StoreError>;

    /// Forgets tokens that expired before `before`. Returns how many.
    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError>;
}
