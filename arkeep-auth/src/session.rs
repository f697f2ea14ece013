//! Logins that last: families of refresh tokens.
//!
//! A login opens a session. Its refresh token is exchanged for the next one at each use; what was
//! exchanged is *spent*. Two holders of one token are a thief and an owner, and the second of them
//! to come shows a spent token: that ends the whole family, and every access token of the user.
//!
//! One honest client looks like a thief: the one whose answer was lost, and who asks again. For
//! [`Lifetimes::grace`] it gets the very successor that was lost. The store keeps it for that long,
//! sealed under a key that only the predecessor gives, so that a copy of the store is of no use.
//! Once the successor was used, the answer had arrived, and the grace is over.
//!
//! [`Sessions`] is the service: log in, refresh, log out. [`SessionStore`] is what it stands on.

mod error;
mod login;
mod refresh;
mod service;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

pub use error::{ChangePasswordError, LoginError, RefreshError};
pub use login::Login;
pub use refresh::{ParseRefreshTokenError, RefreshDigest, RefreshToken, SealedSuccessor};
pub use service::{LogOut, SessionParts, Sessions, TokenPair};

use crate::id::{Epoch, SessionId};
use crate::token::Grant;

/// How long things last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// A refresh token that is not used.
    pub refresh: Duration,
    /// A session, however often it is refreshed.
    pub session: Duration,
    /// A lost answer can be had again.
    pub grace: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            refresh: Duration::from_secs(7 * DAY),
            session: Duration::from_secs(30 * DAY),
            grace: Duration::from_secs(10),
        }
    }
}

/// Where a session is used from, as its owner sees it in the list. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    /// The address of the peer, or what a trusted proxy says it is.
    pub address: Option<IpAddr>,
    user_agent: Option<String>,
}

impl Client {
    /// Takes over what a client says of itself, without control characters and not more than 256
    /// characters of it.
    #[must_use]
    pub fn new(address: Option<IpAddr>, user_agent: Option<&str>) -> Self {
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(256).collect();
        Self {
            address,
            user_agent: user_agent.map(clean),
        }
    }

    /// The `User-Agent` header.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }
}

/// A session to be.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// The epoch in which the user's credentials were read.
    pub epoch: Epoch,
    /// The first refresh token.
    pub refresh: RefreshDigest,
    /// When that expires.
    pub refresh_expires_at: Timestamp,
    /// When the session ends, whatever happens.
    pub ends_at: Timestamp,
    /// Where it is opened from.
    pub client: Client,
    /// When; also the time of authentication.
    pub now: Timestamp,
}

/// What became of a [`NewSession`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenOutcome {
    /// It is open.
    Opened(LiveSession),
    /// The user's epoch is another by now: their credentials must be looked at again.
    EpochMoved,
    /// There is no such user, or they are disabled.
    Refused,
}

/// A session that is alive, as its store read it in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSession {
    /// What an access token of it says.
    pub grant: Grant,
    /// When it ends, whatever happens.
    pub ends_at: Timestamp,
}

/// One refresh token in exchange for the next.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// What was presented.
    pub presented: RefreshDigest,
    /// What comes in its place, if this call is the one that exchanges it.
    pub successor: RefreshDigest,
    /// When the successor expires. Never later than its session ends.
    pub successor_expires_at: Timestamp,
    /// The successor, sealed with the predecessor.
    pub sealed_successor: SealedSuccessor,
    /// Until when it may be had again.
    pub grace_until: Timestamp,
    /// Where the session is used from now.
    pub client: Client,
    /// When.
    pub now: Timestamp,
}

/// What became of a [`Rotation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotateOutcome {
    /// This call exchanged the token: the successor counts.
    Rotated(LiveSession),
    /// Another call exchanged it just now, and its successor was not used yet: this is the one.
    Retried {
        /// The session.
        session: LiveSession,
        /// What the call that won had sealed.
        sealed_successor: SealedSuccessor,
    },
    /// It was spent before. In the same transaction the session ended and the epoch was counted up.
    Reused {
        /// Whose token it was.
        user: UserId,
        /// Its session.
        session: SessionId,
        /// The user's new epoch.
        epoch: Epoch,
    },
    /// No session has this token.
    Unknown,
    /// The token or its session is too old.
    Expired,
    /// The session was ended.
    Ended,
    /// The user is disabled or gone.
    UserDisabled,
}

/// Which session is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The one with this id, if it is this user's.
    Session {
        /// Whose it must be.
        user: UserId,
        /// Its id.
        session: SessionId,
    },
    /// The one that this refresh token is or was of.
    Token(RefreshDigest),
}

/// A session's owner proved who they are once more.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Whose session it is.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The epoch in which the proof was checked.
    pub epoch: Epoch,
    /// A refresh token in place of all earlier ones of the session, and when it expires.
    pub refresh: Option<(RefreshDigest, Timestamp)>,
    /// When; also the new time of authentication.
    pub now: Timestamp,
}

/// One line of a user's list of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When its refresh token was last used.
    pub last_used_at: Timestamp,
    /// When it ends, whatever happens.
    pub ends_at: Timestamp,
    /// Where it was last used from.
    pub client: Client,
}

/// Keeps sessions and exchanges their refresh tokens.
///
/// Implement this to keep sessions somewhere of your own. `testing::MemoryStore` keeps them in this
/// process; `arkeep-server`'s stores keep them in SQLite or PostgreSQL.
///
/// # Security
///
/// - A store never sees a refresh token, only its SHA-256.
/// - Each method is one transaction, and what it answered survives a crash. Role, epoch and
///   `enabled` in an answer were read in that transaction, so that nothing is issued on the ground
///   of what was true a moment before.
/// - What ends a session takes its access tokens back in that same transaction, in the
///   [`RevocationStore`](crate::RevocationStore) that shares its truth: no crash leaves one alive
///   whose refresh token is dead. The caller tells copies of that truth
///   ([`learn`](crate::RevocationStore::learn)).
/// - Exchanging a token is one conditional statement: of many callers with one token, one is told
///   [`RotateOutcome::Rotated`]. A store that tells it to two has given a thief a session.
///
/// # Cost
///
/// A refresh is one `rotate`; it runs every quarter of an hour for each client.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// Opens a session, if the user is enabled and still in the epoch that was read.
    async fn open(&self, new: &NewSession) -> Result<OpenOutcome, StoreError>;

    /// Exchanges a refresh token for its successor, once.
    ///
    /// A token that was spent before ends its session and counts the user's epoch up, unless the
    /// session is over anyhow, or the token is the last one spent, its grace lasts, and its
    /// successor is not spent. The sealed successor is forgotten when the successor is spent.
    async fn rotate(&self, rotation: &Rotation) -> Result<RotateOutcome, StoreError>;

    /// Takes note of a new proof of identity, and exchanges the session's tokens if asked to.
    ///
    /// Tokens from before are unknown afterwards. Returns `None` and changes nothing when the
    /// session is not alive or not this user's, the user is disabled, or the epoch has moved.
    async fn renew(&self, renewal: &Renewal) -> Result<Option<LiveSession>, StoreError>;

    /// Ends a session, takes back every access token of it
    /// ([`Revocation::session`](crate::Revocation::session)), and returns whose and which it was.
    ///
    /// Ending again does and says the same, until [`prune`](Self::prune) forgets the session.
    async fn end(
        &self,
        which: &Ending,
        now: Timestamp,
    ) -> Result<Option<(UserId, SessionId)>, StoreError>;

    /// Ends every session of a user and counts their epoch up, which takes back every access token
    /// of theirs. Returns the new epoch, or `None` when there is no such user.
    async fn end_all(&self, user: UserId, now: Timestamp) -> Result<Option<Epoch>, StoreError>;

    /// The user's sessions that are alive, the newest first.
    async fn list(&self, user: UserId, now: Timestamp) -> Result<Vec<SessionInfo>, StoreError>;

    /// Forgets sessions that came to their end, or were ended more than
    /// [`Revocation::HOLD`](crate::Revocation::HOLD) ago, with all their tokens. Returns how many.
    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError>;
}
