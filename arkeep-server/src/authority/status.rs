use arkeep_core::{AgentId, Timestamp};
use arkeep_transport::ca::LocalCa;
use arkeep_transport::ca::rotation::{Phase, REPLICAS_LAG, Rotation};
use arkeep_transport::trust::SpkiFingerprint;

use super::InForce;
use crate::store::rotation::Follower;

/// What may be known of the roots and of who follows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Status {
    /// The phase, and since when.
    pub rotation: Rotation,
    /// Before then nothing goes on, whoever asks. Nothing while no rotation is under way.
    pub not_before: Option<Timestamp>,
    /// The roots that are trusted; the one that signs first.
    pub roots: Vec<Root>,
    /// The agents that the next step waits for; with none, those that the last one left behind.
    pub behind: Vec<Behind>,
}

/// A root.
#[derive(Debug, Clone)]
pub struct Root {
    /// The fingerprint of its key.
    pub fingerprint: SpkiFingerprint,
    /// What it is for.
    pub state: RootState,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// The certificate.
    pub pem: String,
}

/// What a root is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootState {
    /// It signs, and join tokens name it.
    Signing,
    /// It is trusted, and will sign.
    Announced,
    /// It is trusted for what it signed, and will go.
    Retiring,
}

impl RootState {
    /// The word that stands for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Announced => "announced",
            Self::Retiring => "retiring",
        }
    }
}

/// An agent that does not follow.
#[derive(Debug, Clone)]
pub struct Behind {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: String,
    /// What it lacks.
    pub lacks: Lack,
    /// When it was last heard.
    pub last_seen_at: Option<Timestamp>,
}

/// What an agent lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// It has not said that it trusts both roots.
    Trust,
    /// It has not come with a certificate of the new root.
    Certificate,
    /// Its root was withdrawn. It must enrol anew.
    Enrolment,
}

impl Lack {
    /// The word that stands for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Certificate => "certificate",
            Self::Enrolment => "enrolment",
        }
    }
}

impl Status {
    pub(super) fn of(in_force: &InForce, fleet: &[Follower]) -> Self {
        let stored = &in_force.stored;
        let rotation = stored.rotation;
        let signs_since = stored.signs_since;
        let digest = in_force.bundle.digest();
        let members: Vec<_> = fleet.iter().map(|agent| agent.member(digest)).collect();
        let awaited = rotation.waits_for(&members);
        let lack = |agent: &Follower| match rotation.phase {
            Phase::Announced if awaited.contains(&agent.agent) => Some(Lack::Trust),
            Phase::Issuing if awaited.contains(&agent.agent) => Some(Lack::Certificate),
            // Whoever said that it trusts these roots has been here since.
            Phase::Settled if agent.trust != Some(digest) => {
                let last = signs_since?.plus(REPLICAS_LAG);
                let is_old = agent.certified_at.is_some_and(|at| at <= last);
                is_old.then_some(Lack::Enrolment)
            }
            _ => None,
        };
        let behind = fleet.iter().filter_map(|agent| {
            Some(Behind {
                agent: agent.agent,
                name: agent.name.clone(),
                lacks: lack(agent)?,
                last_seen_at: agent.last_seen_at,
            })
        });
        let other = match rotation.phase {
            Phase::Issuing => RootState::Retiring,
            Phase::Announced | Phase::Settled => RootState::Announced,
        };
        let signer = root(&in_force.signer, RootState::Signing);
        let other = in_force.other.as_ref().map(|ca| root(ca, other));
        Self {
            rotation,
            not_before: (rotation.phase != Phase::Settled).then(|| rotation.ready_at()),
            roots: std::iter::once(signer).chain(other).collect(),
            behind: behind.collect(),
        }
    }
}

fn root(ca: &LocalCa, state: RootState) -> Root {
    Root {
        fingerprint: ca.fingerprint(),
        state,
        not_before: ca.not_before(),
        not_after: ca.not_after(),
        pem: ca.root_pem(),
    }
}
