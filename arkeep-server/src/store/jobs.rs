//! Jobs, to be looked at. They are moved through [`JobQueue`](arkeep_core::queue::JobQueue).

use std::fmt;

use arkeep_core::job::{
    DestinationResult, Fence, HookResult, JobError, JobKind, JobSource, JobState, Outcome,
};
use arkeep_core::policy::Source;
use arkeep_core::repository::RelativePath;
use arkeep_core::{AgentId, DestinationId, JobId, PolicyId, StoreError, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Listed, Page};

/// Shows jobs.
#[async_trait]
pub trait JobStore: fmt::Debug + Send + Sync {
    /// The job of this id.
    async fn find(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// Jobs that match, newest first, without what their hooks printed and what came late in detail:
    /// a page of those would be as long as agents like.
    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Listed<Job>, StoreError>;

    /// Jobs that an agent holds: leased or running.
    async fn held(&self, agent: AgentId) -> Result<Vec<Job>, StoreError>;

    /// Notes what the holder of this fence is sent to do, before it is sent. What it reports is
    /// judged by that, whatever the policy says by then. Returns `false` when the job is not leased
    /// under this fence.
    async fn note_assignment(
        &self,
        job: JobId,
        fence: Fence,
        sent: &Sent,
    ) -> Result<bool, StoreError>;

    /// Ends the jobs of this policy and kind that wait for their agent, of earlier ticks than this,
    /// because their time has passed. Returns them.
    async fn miss(
        &self,
        policy: PolicyId,
        kind: JobKind,
        tick: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<JobId>, StoreError>;

    /// Ends a job that its holder will never end, as failed. What the holder says later is kept as
    /// a late result. Returns `false` when the job is not held under this fence.
    async fn give_up(
        &self,
        job: JobId,
        fence: Fence,
        error: &JobError,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Ends the jobs that nobody will ever end: those of revoked agents, and those that run, whose
    /// end was asked for, and whose agent has been silent for [`Agent::ABSENCE`]. What such an agent
    /// says when it comes back is kept as a late result. Returns what it ended.
    ///
    /// [`Agent::ABSENCE`]: super::agents::Agent::ABSENCE
    async fn abandon(&self, now: Timestamp) -> Result<Vec<JobId>, StoreError>;

    /// How many jobs there are in each state that is not terminal.
    async fn pending(&self) -> Result<Vec<(JobState, u64)>, StoreError>;
}

/// Which jobs are wanted. An absent field matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<JobState>,
    /// Of this kind.
    pub kind: Option<JobKind>,
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// Of this policy.
    pub policy: Option<PolicyId>,
    /// Made at this moment or later.
    pub since: Option<Timestamp>,
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// Where it stands.
    pub state: JobState,
    /// Whose it is.
    pub agent: AgentId,
    /// The policy that it serves, while there is one.
    pub policy: Option<PolicyId>,
    /// The tick that made it, or the moment somebody asked.
    pub scheduled_for: Timestamp,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// Counts from 1; 0 before it was first given to its agent.
    pub attempt: u32,
    /// The holder that is heard; 0 before it was first given to its agent.
    pub fence: Fence,
    /// The destinations that a success must cover.
    pub assigned: Vec<DestinationId>,
    /// What its holder was sent to do; nothing before it was sent.
    pub sent: Option<Sent>,
    /// How many other requests it stands for.
    pub folded: u32,
    /// Who wanted it.
    pub source: JobSource,
    /// What the dispatcher needs to know beside the policy, as JSON.
    pub parameters: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its agent began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When somebody asked for its end.
    pub cancel_requested_at: Option<Timestamp>,
    /// Why it was not a success.
    pub error: Option<JobError>,
    /// Destination by destination.
    pub results: Vec<DestinationResult>,
    /// Hook by hook.
    pub hooks: Vec<HookResult>,
    /// What was said of it when it had ended already.
    pub late_result: Option<LateResult>,
}

/// Why a job was ended by [`JobStore::abandon`], as its agent was revoked.
pub(super) fn agent_revoked() -> JobError {
    JobError {
        code: "agent_revoked".to_owned(),
        detail: "the agent was revoked before the job had ended".to_owned(),
    }
}

/// Why a job was ended by [`JobStore::abandon`], as its agent cannot be told.
pub(super) fn agent_away() -> JobError {
    JobError {
        code: "agent_away".to_owned(),
        detail: "cancelled while the agent was away; what it says when it comes back is kept"
            .to_owned(),
    }
}

/// What a job's holder was sent to do, as far as its results are read by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Every repository that a success must cover, whether it was sent or left out.
    pub repositories: Vec<SentRepository>,
    /// What was to be backed up.
    pub sources: Vec<Source>,
    /// The policy's tags.
    pub tags: Vec<String>,
}

impl Sent {
    /// The destinations of its repositories.
    #[must_use]
    pub fn destinations(&self) -> Vec<DestinationId> {
        let all = self.repositories.iter();
        all.map(|repository| repository.destination_id).collect()
    }
}

/// A repository that a job's holder was sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentRepository {
    /// Its destination.
    pub destination_id: DestinationId,
    /// Its path below the destination's place.
    pub path: RelativePath,
    /// Its [`address`](super::address::address), if it was sent and not left out.
    #[serde(default)]
    pub address: Option<String>,
}

/// A result that came after the job had ended, or from a holder that had lost it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LateResult {
    /// Which attempt it was.
    pub attempt: u32,
    /// The report's number within the attempt.
    pub sequence: u64,
    /// What the agent says came of it.
    pub outcome: Outcome,
    /// When the agent says it ended.
    pub at: Timestamp,
    /// Why it was not a success.
    pub error: Option<JobError>,
    /// Destination by destination.
    pub results: Vec<DestinationResult>,
    /// Hook by hook.
    pub hooks: Vec<HookResult>,
}
