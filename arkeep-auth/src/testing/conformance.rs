//! What every store of this crate's ports must keep, whoever wrote it.
//!
//! Implement [`Backend`] over your store and run the suites in a test of yours:
//!
//! ```
//! use arkeep_auth::testing::{MemoryStore, conformance};
//! use std::sync::Arc;
//!
//! # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # rt.block_on(async {
//! let backend = conformance::MemoryBackend::new(Arc::new(MemoryStore::default()));
//! conformance::session_store::all(&backend).await?;
//! conformance::revocation_store::all(&backend).await?;
//! conformance::user_store::all(&backend).await?;
//! # Ok::<(), arkeep_core::StoreError>(()) }).unwrap();
//! ```
//!
//! Each case makes users of its own, so all of them can run on one database, at the same time too.
//! A promise that is broken is a panic; a store that does not answer is the error.

pub mod api_token_store;
pub mod factor_store;
#[cfg(feature = "oidc")]
pub mod login_state_store;
pub mod revocation_store;
pub mod session_store;
pub mod user_store;

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{StoreError, SystemEntropy, Timestamp, UserId};
use async_trait::async_trait;

use super::MemoryStore;
use crate::id::{Epoch, SessionId};
use crate::password::PasswordHash;
use crate::revocation::RevocationStore;
use crate::role::Role;
use crate::session::{
    Client, LiveSession, NewSession, OpenOutcome, RefreshToken, Rotation, SessionStore,
};
use crate::user::UserStore;

/// A set of stores that share one truth, and what an administrator does to its users.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The sessions.
    fn sessions(&self) -> Arc<dyn SessionStore>;
    /// The revocations.
    fn revocations(&self) -> Arc<dyn RevocationStore>;
    /// The users.
    fn users(&self) -> Arc<dyn UserStore>;
    /// Adds an enabled user of the role viewer.
    async fn add_user(&self, user: &NewUser) -> Result<(), StoreError>;
    /// Disables a user and takes back everything of theirs, in one transaction.
    async fn disable(&self, user: UserId, now: Timestamp) -> Result<(), StoreError>;
    /// Gives a user another role and counts their epoch up, in one transaction.
    async fn set_role(&self, user: UserId, role: Role, now: Timestamp) -> Result<(), StoreError>;
    /// Removes a user and takes back everything of theirs, in one transaction.
    async fn remove(&self, user: UserId, now: Timestamp) -> Result<(), StoreError>;
}

/// A user for a test.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Its id.
    pub id: UserId,
    /// Its e-mail address.
    pub email: String,
    /// Its hash.
    pub password: PasswordHash,
    /// When it is made.
    pub now: Timestamp,
}

/// The suites over [`MemoryStore`].
#[derive(Debug)]
pub struct MemoryBackend(Arc<MemoryStore>);

impl MemoryBackend {
    /// Over this store.
    #[must_use]
    pub const fn new(store: Arc<MemoryStore>) -> Self {
        Self(store)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn sessions(&self) -> Arc<dyn SessionStore> {
        Arc::clone(&self.0) as _
    }

    fn revocations(&self) -> Arc<dyn RevocationStore> {
        Arc::clone(&self.0) as _
    }

    fn users(&self) -> Arc<dyn UserStore> {
        Arc::clone(&self.0) as _
    }

    async fn add_user(&self, user: &NewUser) -> Result<(), StoreError> {
        let password = Some(user.password.clone());
        self.0
            .add_user(user.id, &user.email, password, Role::Viewer);
        Ok(())
    }

    async fn disable(&self, user: UserId, now: Timestamp) -> Result<(), StoreError> {
        self.0.set_enabled(user, false, now);
        Ok(())
    }

    async fn set_role(&self, user: UserId, role: Role, _: Timestamp) -> Result<(), StoreError> {
        self.0.set_role(user, role);
        Ok(())
    }

    async fn remove(&self, user: UserId, now: Timestamp) -> Result<(), StoreError> {
        self.0.remove_user(user, now);
        Ok(())
    }
}

type Checked = Result<(), StoreError>;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GRACE: Duration = Duration::from_secs(10);

/// A whole number of seconds, so that a store may keep seconds or milliseconds.
fn noon() -> Timestamp {
    Timestamp::from_unix_seconds(1_750_000_000)
}

async fn user(backend: &dyn Backend) -> Result<UserId, StoreError> {
    let id = UserId::mint(noon(), &SystemEntropy);
    let user = NewUser {
        id,
        email: format!("{id}@example.test"),
        password: PasswordHash::from_stored("$argon2id$first"),
        now: noon(),
    };
    backend.add_user(&user).await?;
    Ok(id)
}

async fn epoch(backend: &dyn Backend, user: UserId) -> Result<Epoch, StoreError> {
    let found = backend.users().find(user).await?;
    Ok(found.map_or(Epoch::FIRST, |user| user.epoch))
}

fn new_session(user: UserId, epoch: Epoch, refresh: &RefreshToken, now: Timestamp) -> NewSession {
    NewSession {
        id: SessionId::mint(now, &SystemEntropy),
        user,
        epoch,
        refresh: refresh.digest(),
        refresh_expires_at: now.plus(DAY * 7),
        ends_at: now.plus(DAY * 30),
        client: Client::new(None, Some("conformance")),
        now,
    }
}

/// Opens a session in the user's present epoch.
async fn open(
    backend: &dyn Backend,
    user: UserId,
    now: Timestamp,
) -> Result<(LiveSession, RefreshToken), StoreError> {
    let refresh = RefreshToken::generate(&SystemEntropy);
    let epoch = epoch(backend, user).await?;
    let new = new_session(user, epoch, &refresh, now);
    match backend.sessions().open(&new).await? {
        OpenOutcome::Opened(session) => Ok((session, refresh)),
        other => Err(StoreError::Corrupt(format!(
            "a session of an enabled user in their own epoch is opened, not {other:?}"
        ))),
    }
}

fn rotation(presented: &RefreshToken, successor: &RefreshToken, now: Timestamp) -> Rotation {
    Rotation {
        presented: presented.digest(),
        successor: successor.digest(),
        successor_expires_at: now.plus(DAY * 7),
        sealed_successor: presented.seal_successor(successor, &SystemEntropy),
        grace_until: now.plus(GRACE),
        client: Client::new(None, Some("conformance, later")),
        now,
    }
}
