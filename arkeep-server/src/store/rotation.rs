//! How far the replacement of the root has come, and who follows.

use std::fmt;

use arkeep_core::{AgentId, StoreError, Timestamp};
use arkeep_transport::ca::rotation::{FleetMember, Phase, Rotation};
use arkeep_transport::trust::TrustDigest;
use async_trait::async_trait;

use super::keys::StoredAuthority;

/// Keeps the phase of a rotation with its roots, and what each agent has said that it trusts.
///
/// Whether the next phase may begin is decided by
/// [`Rotation::next`](arkeep_transport::ca::rotation::Rotation::next); this keeps what was decided.
///
/// # Security
///
/// [`advance`](Self::advance) must change the phase and the roots in one step, and only from the
/// phase that the caller saw. Half a step, or one taken twice, locks agents out.
///
/// # Cost
///
/// `rotation` runs every few seconds on each replica, `fleet` only while a rotation is under way or
/// when somebody asks; `trusts` once for each session and whenever an agent takes over new roots.
#[async_trait]
pub trait RotationStore: fmt::Debug + Send + Sync {
    /// Where the rotation stands. Nothing before the first authority was established.
    async fn rotation(&self) -> Result<Option<StoredRotation>, StoreError>;

    /// Takes the next step, unless the rotation is no longer where the caller saw it. Says whether
    /// it was taken. With [`Step::Settle`] the old root and its key are gone.
    async fn advance(
        &self,
        seen: &Rotation,
        step: Step<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Every agent that was not withdrawn, by id.
    async fn fleet(&self) -> Result<Vec<Follower>, StoreError>;

    /// Notes what an agent said that it trusts. Of one that is not there, it notes nothing. A new
    /// enrolment forgets it: another machine may be behind the same agent.
    async fn trusts(&self, agent: AgentId, trust: TrustDigest) -> Result<(), StoreError>;
}

/// Where a rotation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRotation {
    /// The phase, and since when.
    pub rotation: Rotation,
    /// The root that was there before; the only one when it has settled.
    pub old: StoredAuthority,
    /// The root that takes its place, while it does.
    pub new: Option<StoredAuthority>,
    /// From when on the newest root that signs has signed. Nothing for the first root of all.
    pub signs_since: Option<Timestamp>,
}

/// One step of a rotation.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// To [`Phase::Announced`], with this new root.
    Announce(&'a StoredAuthority),
    /// To [`Phase::Issuing`].
    Issue,
    /// To [`Phase::Settled`].
    Settle,
}

impl Step<'_> {
    /// The phase that it leads to.
    #[must_use]
    pub const fn leads_to(&self) -> Phase {
        match self {
            Self::Announce(_) => Phase::Announced,
            Self::Issue => Phase::Issuing,
            Self::Settle => Phase::Settled,
        }
    }
}

/// An agent, as far as a rotation is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: String,
    /// What it last said that it trusts.
    pub trust: Option<TrustDigest>,
    /// When the oldest of its certificates was issued that still stands. One that was renewed may
    /// still hold the one before: only a session with the newer proves that it has arrived.
    pub certified_at: Option<Timestamp>,
    /// When it was last heard.
    pub last_seen_at: Option<Timestamp>,
}

impl Follower {
    /// What [`Rotation`] asks of it, while these roots are in force.
    #[must_use]
    pub fn member(&self, in_force: TrustDigest) -> FleetMember {
        FleetMember {
            agent: self.agent,
            trusts_all: self.trust == Some(in_force),
            certified_at: self.certified_at,
        }
    }
}

/// The phase that a word stands for.
pub(super) fn phase(word: &str) -> Result<Phase, StoreError> {
    Phase::ALL
        .into_iter()
        .find(|phase| phase.as_str() == word)
        .ok_or_else(|| StoreError::Corrupt("column phase".to_owned()))
}

/// The digest that bytes stand for.
pub(super) fn trust(bytes: Option<Vec<u8>>) -> Result<Option<TrustDigest>, StoreError> {
    bytes
        .map(|bytes| {
            <[u8; 32]>::try_from(bytes)
                .map(TrustDigest::from_bytes)
                .map_err(|_| StoreError::Corrupt("column trust".to_owned()))
        })
        .transpose()
}
