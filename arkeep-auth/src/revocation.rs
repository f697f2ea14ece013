//! Taking tokens back before they expire.
//!
//! A signed token is valid until it expires, and nothing its holder does can change that. This
//! module is the other half: what is no longer honoured, asked on every request.
//!
//! Three things can be revoked. They differ in how much they cut off:
//!
//! | [`Revocation`] | ends                               | stored                   |
//! |----------------|------------------------------------|--------------------------|
//! | `Token`        | one access token                   | until it has expired     |
//! | `Session`      | every token of one login           | until they have expired  |
//! | `Subject`      | every token of an earlier epoch    | one number, for ever     |
//!
//! `Subject` is why "log out everywhere" is exact here and needs no list of outstanding tokens: it
//! counts one number up, and a token that carries a lower one is refused.
//!
//! A [`RevocationStore`] is the truth, shared by all replicas. [`RevocationCache`] holds a copy of
//! it in memory, knows how old the copy is, and asks the store whenever the copy cannot tell.

mod cache;
mod set;

use std::fmt;
use std::time::Duration;

use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

pub use cache::RevocationCache;
pub use set::{RevocationSet, Verdict};

use crate::id::{Epoch, SessionId, TokenId};
use crate::token::SignedClaims;

/// Something that is no longer honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// One access token.
    Token {
        /// Its `jti`.
        token: TokenId,
        /// When it may be forgotten. See [`Revocation::HOLD`].
        until: Timestamp,
    },
    /// Every access token of one login.
    Session {
        /// Their `sid`.
        session: SessionId,
        /// When it may be forgotten. See [`Revocation::HOLD`].
        until: Timestamp,
    },
    /// Every access token of a user from before this epoch.
    Subject {
        /// The user.
        user: UserId,
        /// The first epoch that is honoured again.
        epoch: Epoch,
    },
}

impl Revocation {
    /// How long a revoked token or session is remembered: the longest life of a token, and a day
    /// on top, so that replicas whose clocks disagree by hours forget nothing that still counts.
    pub const HOLD: Duration = Duration::from_secs(48 * 60 * 60);

    /// Revokes one token at `now`.
    #[must_use]
    pub fn token(token: TokenId, now: Timestamp) -> Self {
        Self::Token {
            token,
            until: now.plus(Self::HOLD),
        }
    }

    /// Revokes every token of a login at `now`.
    #[must_use]
    pub fn session(session: SessionId, now: Timestamp) -> Self {
        Self::Session {
            session,
            until: now.plus(Self::HOLD),
        }
    }
}

/// How far a reader of [`RevocationStore::changes`] has come. Only the store knows what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor(i64);

impl Cursor {
    /// Before everything.
    pub const START: Self = Self(0);

    /// A position that a store chose.
    #[must_use]
    pub const fn from_i64(position: i64) -> Self {
        Self(position)
    }

    /// The position, for the store that chose it.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }
}

/// What was revoked since a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// In any order, and more than once if that is easier.
    pub revoked: Vec<Revocation>,
    /// Where the next call goes on.
    pub cursor: Cursor,
}

/// Remembers what is no longer honoured.
///
/// Implement this to keep revocations somewhere of your own. `testing::MemoryStore` keeps them in
/// this process; `arkeep-server`'s stores keep them in SQLite or PostgreSQL. Put a
/// [`RevocationCache`] before a store that is slower than memory.
///
/// # Security
///
/// The two ways to be wrong are not alike.
///
/// - Answering `false` for something revoked lets a thief in. An implementation must not do it, not
///   even for the moment between [`revoke`](Self::revoke) returning and the next call of
///   [`is_revoked`](Self::is_revoked), and a revocation must survive a crash once it returned.
/// - Answering `true` for something live sends a user back to the login page.
///
/// When the truth cannot be had, return an error: [`Authenticator`](crate::Authenticator) refuses
/// the token. Do not guess.
///
/// # Cost
///
/// `is_revoked` runs once for each request when there is no cache before it. Aim for one indexed
/// look-up.
#[async_trait]
pub trait RevocationStore: fmt::Debug + Send + Sync {
    /// Stops honouring `what`, from the moment this returns.
    ///
    /// Revoking twice is not an error. An epoch never moves back, and one of a user that the store
    /// does not know is kept nevertheless.
    async fn revoke(&self, what: &Revocation) -> Result<(), StoreError>;

    /// Takes note of what the truth holds already, because the step that made it so wrote it down
    /// in the same transaction.
    ///
    /// A store that is the truth has nothing to do; a copy of it need not wait until it reads again.
    fn learn(&self, _what: &Revocation) {}

    /// Whether the token of these claims is no longer honoured.
    ///
    /// It is not when it or its session was revoked, or when its epoch is any other than its user's
    /// present one. A user that the store does not know has no epoch: none of their tokens is
    /// honoured.
    async fn is_revoked(&self, claims: &SignedClaims) -> Result<bool, StoreError>;

    /// What was revoked since `after`; since [`Cursor::START`], all that still counts, with the
    /// present epoch of each user.
    ///
    /// Everything that was revoked before the call, and that no earlier call gave to a reader with
    /// this cursor, is in the answer. A plain sequence number does not keep that promise in a
    /// database where a later number can become visible before an earlier one.
    async fn changes(&self, after: Cursor) -> Result<Changes, StoreError>;

    /// Forgets tokens and sessions whose time is over, never an epoch. Returns how many.
    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError>;
}
