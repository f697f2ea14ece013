//! Who may become an agent, and who still is one.
//!
//! An agent's life as the store sees it:
//!
//! ```text
//! offer ─→ redeem ─→ record ─→ confirm ─→ standing … ─→ record (renewal) ─→ confirm ─→ … ─→ withdraw
//!                                             │             ↑
//!                                             └─ expired ─ lapse ─→ approve
//! ```
//!
//! A join token is spent by [`redeem`](EnrollmentStore::redeem), every certificate is
//! [`record`](EnrollmentStore::record)ed before it is handed out, and from then on
//! [`standing`](EnrollmentStore::standing) is asked again and again. A certificate by itself proves
//! a key; only the store knows whether its holder is still welcome.

#[cfg(feature = "testing")]
mod memory;

use std::fmt;

use async_trait::async_trait;

use arkeep_core::{AgentId, StoreError, Timestamp};

use crate::identity::Serial;
use crate::token::{JoinDigest, JoinTokenId, OfferedToken};

#[cfg(feature = "testing")]
pub use memory::MemoryEnrollments;

/// Remembers offers, certificates, and who was sent away.
///
/// Implement this to keep enrolments somewhere of your own. `MemoryEnrollments` (feature `testing`)
/// keeps them in this process; `arkeep-server`'s stores keep them in SQLite or PostgreSQL. The
/// conformance suite in `testing::enrollment` holds for all of them.
///
/// # Security
///
/// The two ways to be wrong are not alike.
///
/// - Letting in whoever was withdrawn, or spending one token twice, gives a thief an identity. An
///   implementation must not do it, on any node that shares the store, from the moment
///   [`withdraw`](Self::withdraw) or [`redeem`](Self::redeem) has returned.
/// - Refusing somebody who is welcome costs a new join token.
///
/// When the truth cannot be had, return an error: the caller refuses. Do not guess.
///
/// # Cost
///
/// `standing` runs at each handshake and RPC, and now and then for each open stream. Aim for one
/// indexed look-up.
#[async_trait]
pub trait EnrollmentStore: fmt::Debug + Send + Sync {
    /// Makes a token spendable, in place of every unspent one of the same agent.
    async fn offer(&self, token: &OfferedToken) -> Result<(), OfferError>;

    /// Spends a token: of many callers, one is told the agent, and only once.
    ///
    /// Compare the digests as [`JoinDigest`]s, which takes constant time, and let one conditional
    /// statement decide who is first.
    async fn redeem(&self, claim: &TokenClaim, now: Timestamp) -> Result<AgentId, RedeemError>;

    /// Makes a certificate known before it is handed out.
    ///
    /// [`Occasion::Enrolled`] ends every earlier certificate of the agent; [`Occasion::Renewed`]
    /// leaves them as they are, since its answer may be lost, and uses up an approval.
    async fn record(&self, issuance: &Issuance) -> Result<(), RecordError>;

    /// Whether a certificate's holder is welcome. It says nothing of the certificate's dates.
    async fn standing(&self, agent: AgentId, serial: Serial) -> Result<Standing, StoreError>;

    /// Notes that the holder has begun a session with this certificate, so that it has arrived:
    /// every certificate of the agent that was issued no later ends. A copy of an old one cannot
    /// come back then, expired or not.
    ///
    /// Of a certificate that does not stand, it says and does nothing.
    async fn confirm(&self, agent: AgentId, serial: Serial) -> Result<(), StoreError>;

    /// Notes that the holder of an expired certificate has come back, and says whether an
    /// administrator has approved it.
    async fn lapse(
        &self,
        agent: AgentId,
        serial: Serial,
        now: Timestamp,
    ) -> Result<Lapse, StoreError>;

    /// Lets an agent whose certificate has expired renew it, once.
    ///
    /// Returns `false` when the agent is not waiting for it.
    async fn approve(&self, agent: AgentId, now: Timestamp) -> Result<bool, StoreError>;

    /// Sends an agent away for ever: its certificates and its unspent tokens are worth nothing from
    /// the moment this returns. Withdrawing twice is not an error.
    async fn withdraw(&self, agent: AgentId, now: Timestamp) -> Result<(), StoreError>;
}

/// What an enrolling machine shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaim {
    /// The token's id.
    pub id: JoinTokenId,
    /// What its secret hashes to.
    pub digest: JoinDigest,
}

/// A certificate that is about to be handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuance {
    /// Whose.
    pub agent: AgentId,
    /// Its serial number.
    pub serial: Serial,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// What for.
    pub occasion: Occasion,
}

/// Why a certificate was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A join token was spent.
    Enrolled,
    /// The holder of this certificate asked for the next.
    Renewed {
        /// The serial number of the certificate that it showed.
        with: Serial,
    },
}

/// Whether a certificate's holder is welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Good,
    /// The agent was withdrawn, the certificate was superseded, or nobody here issued it. One
    /// variant for all: the agent is told no more.
    Refused,
}

/// What awaits the holder of an expired certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// It may renew, once.
    Approved,
    /// An administrator has to approve it first.
    Waiting,
    /// As in [`Standing::Refused`].
    Refused,
}

/// A token cannot be offered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The agent was withdrawn, and ids are never used again. Make a new agent.
    #[error("the agent was withdrawn")]
    Withdrawn,

    /// There is no such agent.
    #[error("there is no such agent")]
    UnknownAgent,

    /// Nothing was offered.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A token was not spent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// It was never offered, its secret is another, or its agent was withdrawn. One variant for
    /// all: the difference would tell a stranger what exists.
    #[error("the join token was refused")]
    Refused,

    /// Its time is over. Say so only to a caller that showed the right secret.
    #[error("the join token has expired")]
    Expired,

    /// It was spent before. Say so only to a caller that showed the right secret.
    #[error("the join token was used before")]
    Used,

    /// Nothing was spent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A certificate was not recorded, and must not be handed out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The agent was withdrawn in the meantime, or the certificate that it showed no longer stands.
    #[error("the agent was withdrawn")]
    Withdrawn,

    /// Nothing was recorded.
    #[error(transparent)]
    Store(#[from] StoreError),
}
