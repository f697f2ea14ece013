//! The port through which jobs are kept and moved.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::job::{Fence, JobKind, JobReport, JobSource, JobState, Outcome};
use crate::{AgentId, JobId, PolicyId, StoreError, Timestamp};

/// Keeps jobs and moves them from state to state, each step won by one caller.
///
/// # Security
///
/// A store that hands one job to two holders runs it twice; one that forgets a report loses the
/// truth of a backup. Every method is atomic, and what it answered survives a crash.
///
/// # Cost
///
/// `claim` runs whenever an agent connects or a job arrives; `apply` for each report. Aim for one
/// indexed statement each.
#[async_trait]
pub trait JobQueue: fmt::Debug + Send + Sync {
    /// Adds a job, or folds it into one of the same policy and kind that was never given to its
    /// agent, whose deadline becomes the later of the two.
    ///
    /// Nothing is folded into a job that its agent has had: what it is to do was fixed when it was
    /// sent, and whoever asks later asks for what the policy says later.
    ///
    /// Of many callers with the same policy, kind and `scheduled_for`, one makes a job; the others
    /// are told [`Enqueued::Known`]. A job without a policy, or of a kind that does not
    /// [fold](JobKind::folds), is always made.
    async fn enqueue(&self, job: &NewJob) -> Result<Enqueued, StoreError>;

    /// Leases the oldest queued job of the agent until `now + lease`, with a higher fence than any
    /// holder had before.
    ///
    /// A job past its deadline is not leased, nor one that [folds](JobKind::folds) while another of
    /// its policy and kind is leased or runs: it would only wait at the agent, where nothing more
    /// can be folded into it.
    async fn claim(
        &self,
        agent: AgentId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Option<ClaimedJob>, StoreError>;

    /// Applies what an agent says of a job of its own, once for each sequence number.
    ///
    /// It happened when the report says, and never later than `now`: an agent's clock may be wrong.
    /// The last holder is heard also when its lease has run out, as long as no other has the job: it
    /// has the job again.
    async fn apply(
        &self,
        agent: AgentId,
        report: &JobReport,
        now: Timestamp,
    ) -> Result<Applied, StoreError>;

    /// Leases for longer what the agent says it still holds, or again what it lost and no other
    /// has.
    ///
    /// Returns `false` when the job is another's, has ended, or is held under another fence.
    async fn extend(
        &self,
        agent: AgentId,
        job: JobId,
        fence: Fence,
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Ends a job that has not begun, at once; asks for the end of one that runs.
    async fn cancel(&self, job: JobId, now: Timestamp) -> Result<CancelOutcome, StoreError>;

    /// Queues again what was leased and whose lease has run out, and ends what is past its
    /// deadline. Returns what it changed.
    async fn reclaim(&self, now: Timestamp) -> Result<Vec<(JobId, JobState)>, StoreError>;
}

/// A job to be.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// Whose it is.
    pub agent: AgentId,
    /// The policy that it serves. A job of a policy may be folded into another.
    pub policy: Option<PolicyId>,
    /// The tick that made it, or the moment somebody asked.
    pub scheduled_for: Timestamp,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// Who wanted it.
    pub source: JobSource,
    /// What the dispatcher needs to know beside the policy, as JSON, without secrets.
    pub parameters: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What became of a [`NewJob`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits.
    Created(JobId),
    /// It was counted in this one, which waits and was never given out.
    Folded(JobId),
    /// This one was made for the same tick before.
    Known(JobId),
    /// Nothing was made: its agent or its policy is gone.
    NotFound,
}

impl Enqueued {
    /// The job that stands for what was asked, if there is one.
    #[must_use]
    pub const fn job(self) -> Option<JobId> {
        match self {
            Self::Created(job) | Self::Folded(job) | Self::Known(job) => Some(job),
            Self::NotFound => None,
        }
    }
}

/// A job that was leased to its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedJob {
    /// The job.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// The policy that it serves.
    pub policy: Option<PolicyId>,
    /// Counts from 1.
    pub attempt: u32,
    /// To be shown with everything that is said of it.
    pub fence: Fence,
    /// When it must have ended.
    pub deadline: Option<Timestamp>,
    /// As in [`NewJob::parameters`].
    pub parameters: String,
}

/// What a report did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The job moved to this state.
    Moved(JobState),
    /// This sequence number was applied before; nothing changed.
    Duplicate,
    /// The job had ended, or is held by another: kept beside the job as a late result.
    Late(Option<Outcome>),
    /// There is no such job of this agent.
    Unknown,
}

/// What a request to cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It had not begun, and has ended.
    Cancelled,
    /// It runs on this agent, which must be told.
    Requested(AgentId, Fence),
    /// It had ended already.
    AlreadyEnded(JobState),
    /// There is no such job.
    NotFound,
}
