//! Machines that back up.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use arkeep_core::{AgentId, StoreError, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Listed, Page, WriteError};

/// Keeps agents and the join tokens that are offered to them.
///
/// Which certificate speaks for an agent, and whether it may, is decided by
/// `arkeep_transport::EnrollmentStore`, which the same stores implement.
#[async_trait]
pub trait AgentStore: fmt::Debug + Send + Sync {
    /// Adds an agent and offers it a join token, both or neither. Names are unique without regard
    /// to case of ASCII letters.
    async fn create(&self, new: &NewAgent, token: &NewJoinToken) -> Result<Agent, WriteError>;

    /// The agent of this id.
    async fn find(&self, id: AgentId) -> Result<Option<Agent>, StoreError>;

    /// Agents, newest first.
    async fn list(&self, page: &Page) -> Result<Listed<Agent>, StoreError>;

    /// Changes name and labels of an agent that is still of the version that the edit was made
    /// from.
    async fn update(&self, edit: &AgentEdit) -> Result<Agent, WriteError>;

    /// Removes an agent that no policy names, its certificates and its jobs.
    async fn delete(&self, id: AgentId, version: Option<u64>) -> Result<(), WriteError>;

    /// Offers a join token; those offered before are worth nothing from then on.
    async fn offer(&self, agent: AgentId, token: &NewJoinToken) -> Result<(), WriteError>;

    /// Begins a session: notes what the agent says of itself, and returns the session's number,
    /// which is higher than that of every session it had before. None when there is no such agent.
    async fn begin_session(
        &self,
        id: AgentId,
        facts: &AgentFacts,
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError>;

    /// Notes that an agent was heard.
    async fn heard(&self, id: AgentId, now: Timestamp) -> Result<(), StoreError>;
}

/// An agent to be.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Its id.
    pub id: AgentId,
    /// What people call it.
    pub name: String,
    /// What it is sorted by.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A join token, without its secret.
#[derive(Debug, Clone)]
pub struct NewJoinToken {
    /// Its id, which the token names.
    pub id: Uuid,
    /// SHA-256 of its secret.
    pub secret_digest: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
}

/// What an agent is to be called.
#[derive(Debug, Clone)]
pub struct AgentEdit {
    /// Which one.
    pub id: AgentId,
    /// The version that was read.
    pub version: u64,
    /// Its name from now on.
    pub name: String,
    /// Its labels from now on.
    pub labels: BTreeMap<String, String>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Grows by one with each change of its name, labels or standing.
    pub version: u64,
    /// What people call it.
    pub name: String,
    /// What it is sorted by.
    pub labels: BTreeMap<String, String>,
    /// How far it is trusted.
    pub standing: AgentStanding,
    /// What it last said of itself.
    pub facts: AgentFacts,
    /// When it was last heard.
    pub last_seen_at: Option<Timestamp>,
    /// Its newest certificate.
    pub certificate: Option<AgentCertificate>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Agent {
    /// How long an agent may be silent before it counts as away.
    pub const ABSENCE: Duration = Duration::from_secs(90);

    /// What the world is told of the agent at the moment `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> AgentState {
        match self.standing {
            AgentStanding::Pending => AgentState::Pending,
            AgentStanding::AwaitingApproval => AgentState::AwaitingApproval,
            AgentStanding::Revoked => AgentState::Revoked,
            AgentStanding::Trusted => match self.last_seen_at {
                Some(seen) if now.since(seen) < Self::ABSENCE => AgentState::Online,
                _ => AgentState::Offline,
            },
        }
    }
}

/// How far an agent is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentStanding {
    /// It has not enrolled yet.
    Pending,
    /// Its certificate is honoured.
    Trusted,
    /// Its certificate ran out; an administrator must approve it.
    AwaitingApproval,
    /// It is not heard any more.
    Revoked,
}

impl AgentStanding {
    /// Every standing.
    pub const ALL: [Self; 4] = [
        Self::Pending,
        Self::Trusted,
        Self::AwaitingApproval,
        Self::Revoked,
    ];

    /// The word that stands for it in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Trusted => "trusted",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Revoked => "revoked",
        }
    }
}

/// What the world is told of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It has not enrolled yet.
    Pending,
    /// It was heard a moment ago.
    Online,
    /// It was not heard for [`Agent::ABSENCE`].
    Offline,
    /// An administrator must approve it.
    AwaitingApproval,
    /// It is not heard any more.
    Revoked,
}

/// What an agent says of itself. Nothing depends on its being true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentFacts {
    /// The machine's name.
    pub hostname: Option<String>,
    /// Such as `linux`.
    pub os: Option<String>,
    /// Such as `x86_64`.
    pub arch: Option<String>,
    /// The agent program's version.
    pub agent_version: Option<String>,
    /// The restic that it found.
    pub restic: Option<ResticFacts>,
    /// Why it found no restic that it can use.
    pub restic_problem: Option<String>,
    /// Its owner's policy for hooks: `off`, `allow-list`, `signed` or `any`.
    pub hook_policy: Option<String>,
    /// What its sandbox can do.
    pub sandbox: Option<String>,
    /// Whether it reaches Docker.
    pub docker: Option<bool>,
}

/// The restic of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResticFacts {
    /// Such as `0.18.0`.
    pub version: String,
    /// `bundled`, `configured` or `path`.
    pub source: String,
}

/// The certificate that speaks for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCertificate {
    /// Its serial number, in lower-case hexadecimal digits.
    pub serial: String,
    /// When it runs out.
    pub not_after: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_at(millis: i64, standing: AgentStanding) -> Agent {
        Agent {
            id: AgentId::from_uuid(Uuid::nil()),
            version: 1,
            name: "db1".to_owned(),
            labels: BTreeMap::new(),
            standing,
            facts: AgentFacts::default(),
            last_seen_at: Some(Timestamp::from_unix_millis(millis)),
            certificate: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// S5
    #[test]
    fn an_agent_is_offline_after_ninety_seconds_of_silence() {
        let agent = seen_at(0, AgentStanding::Trusted);

        let state = |millis| agent.state(Timestamp::from_unix_millis(millis));
        assert_eq!(state(89_999), AgentState::Online);
        assert_eq!(state(90_000), AgentState::Offline);
    }

    #[test]
    fn a_revoked_agent_is_never_online() {
        let agent = seen_at(0, AgentStanding::Revoked);

        assert_eq!(agent.state(Timestamp::UNIX_EPOCH), AgentState::Revoked);
    }
}
