//! What an agent and its server say to one another on the session stream.
//!
//! One stream carries everything after enrolment, so that order, acknowledgement, cancellation and
//! liveness have one home. The agent opens it with a [`Hello`], the server answers with a
//! [`Welcome`]; from then on each side says what it has to say:
//!
//! | agent says                | the server answers                                    |
//! |---------------------------|-------------------------------------------------------|
//! | [`AgentSaying::Accepted`] | nothing; [`ServerSaying::Cancel`] if it knows no such job |
//! | [`AgentSaying::Report`]   | [`ServerSaying::Ack`], once the report is durable     |
//! | [`AgentSaying::Logs`]     | [`ServerSaying::LogAck`], once the lines are durable  |
//! | [`AgentSaying::Progress`] | nothing: the latest is all that counts                |
//! | [`AgentSaying::Heartbeat`]| nothing                                               |
//! | [`AgentSaying::Answer`]   | nothing: it is the answer to [`ServerSaying::Query`]  |
//!
//! What is not acknowledged is said again on the next stream. The types here are what a gateway and
//! an agent see; the protobuf messages stay inside the crate.

use std::fmt;

use uuid::Uuid;

use arkeep_core::engine::EngineInfo;
use arkeep_core::job::{Assignment, Fence, JobError, JobReport, LogLine, Progress};
use arkeep_core::repository::Repository;
use arkeep_core::snapshot::{Entry, ResticId};
use arkeep_core::{Entropy, JobId, Timestamp};

use crate::trust::{TrustBundle, TrustDigest};

/// A job under the fence with which it was assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeldJob {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// The fence of the assignment.
    pub fence: Fence,
}

impl From<&Assignment> for HeldJob {
    fn from(assignment: &Assignment) -> Self {
        Self {
            job: assignment.job,
            attempt: assignment.attempt,
            fence: assignment.fence,
        }
    }
}

impl From<&JobReport> for HeldJob {
    fn from(report: &JobReport) -> Self {
        Self {
            job: report.job,
            attempt: report.attempt,
            fence: report.fence,
        }
    }
}

/// How an agent introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The agent's version.
    pub agent_version: String,
    /// The machine's name, as the machine sees it.
    pub hostname: String,
    /// The operating system, as people call it.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// The backup engine, or what is wrong with it.
    pub engine: EngineStatus,
    /// The owner's hook policy: `off`, `allow-list`, `signed` or `any`.
    pub hook_policy: String,
    /// What confines a hook on this machine.
    pub sandbox: String,
    /// Whether Docker answers.
    pub docker: bool,
    /// The jobs that the agent has accepted and whose end is not acknowledged.
    pub held: Vec<HeldJob>,
    /// The roots that the agent trusts.
    pub trust: TrustDigest,
}

/// Whether an agent can back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineStatus {
    /// It can, with this.
    Found(EngineInfo),
    /// It cannot; the text says why and what to do.
    Unusable(String),
}

/// How the server answers a [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Which of the agent's sessions this is.
    pub generation: Generation,
    /// The server's clock, so that an agent can tell that its own is off.
    pub server_time: Timestamp,
}

/// Which of an agent's sessions is meant: each has a higher number than all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What an agent says after its [`Hello`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum AgentSaying {
    /// The assignment is durable on the agent, which will see it through.
    Accepted(HeldJob),
    /// Something happened to a job. Said until it is acknowledged.
    Report(JobReport),
    /// Lines of a job's log. Said until they are acknowledged.
    Logs(LogBatch),
    /// How far a job has come. May be lost.
    Progress(JobProgress),
    /// The agent is alive, and holds these jobs.
    Heartbeat(Heartbeat),
    /// What the server asked for.
    Answer(QueryAnswer),
}

/// Lines of one job's log, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// The job.
    pub job: HeldJob,
    /// The lines; their numbers rise.
    pub lines: Vec<LogLine>,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq)]
pub struct JobProgress {
    /// The job.
    pub job: HeldJob,
    /// How far.
    pub progress: Progress,
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The jobs that the agent has accepted and whose end is not acknowledged.
    pub held: Vec<HeldJob>,
    /// The roots that the agent trusts. An agent that has taken over a new bundle says so at once.
    pub trust: TrustDigest,
}

/// What the server says after its [`Welcome`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServerSaying {
    /// A job for this agent, to be made durable and then accepted.
    Assignment(Box<Assignment>),
    /// Stop a job, if it runs under this fence.
    Cancel(Cancel),
    /// What became of a report.
    Ack(Ack),
    /// What became of log lines.
    LogAck(LogAck),
    /// A question, to be answered under its id.
    Query(Query),
    /// The roots to trust from now on. Make them durable, then say so in a [`Heartbeat`].
    Trust(TrustBundle),
    /// Ask for the next certificate now, though the present one has long to live, and connect anew
    /// with it: the root that signed it is to go.
    Renew,
}

/// Stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    /// The job.
    pub job: JobId,
    /// Under this fence and no other.
    pub fence: Fence,
}

/// What became of something that an agent said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is durable; the agent may forget it.
    Stored,
    /// There is no such job of this agent; the agent may forget it.
    NotFound,
}

/// What became of one report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// The report's sequence number.
    pub sequence: u64,
    /// What became of it.
    pub receipt: Receipt,
}

/// What became of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogAck {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// Every line up to and with this one. With [`Receipt::NotFound`], the last of the batch.
    pub through: u64,
    /// What became of them.
    pub receipt: Receipt,
}

/// Which question an answer belongs to. Unique, so that replicas can share one table of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(Uuid);

impl RequestId {
    /// Makes a new id.
    #[must_use]
    pub fn mint(now: Timestamp, entropy: &dyn Entropy) -> Self {
        Self(arkeep_core::id::uuid_v7(now, entropy))
    }

    /// Takes over an id that was made elsewhere.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

/// A question to an agent.
#[derive(Debug, Clone)]
pub struct Query {
    /// Comes back with the answer.
    pub id: RequestId,
    /// What is asked.
    pub question: Question,
}

/// What a server can ask.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Question {
    /// What lies in one directory of a snapshot.
    ListEntries(Box<ListEntries>),
    /// Which Docker volumes there are.
    DockerVolumes,
}

/// One directory of a snapshot.
#[derive(Debug, Clone)]
pub struct ListEntries {
    /// Where the snapshot lies.
    pub repository: Repository,
    /// The snapshot.
    pub snapshot: ResticId,
    /// The directory's full path.
    pub path: String,
    /// How many entries to return at most.
    pub limit: u32,
}

/// An answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    /// The question's id.
    pub id: RequestId,
    /// What the agent found.
    pub answer: Answer,
}

/// What an agent found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// One directory's entries.
    Entries {
        /// The entries.
        entries: Vec<Entry>,
        /// There are more than fit.
        truncated: bool,
    },
    /// The machine's Docker volumes.
    DockerVolumes(Vec<DockerVolume>),
    /// It could not be done.
    Failed(JobError),
}

/// A Docker volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerVolume {
    /// Its name.
    pub name: String,
    /// What provides it.
    pub driver: String,
}
