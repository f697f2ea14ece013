//! Jobs find their agents, and what agents say finds its place.
//!
//! A job waits in the queue until its agent has a stream. Then it is leased, turned into an
//! [`Assignment`](arkeep_core::job::Assignment) with every secret opened at the last moment, and
//! sent. From there on the agent has the word, and the [`Dispatcher`] believes it as far as it can
//! be checked:
//!
//! | the agent says        | what is done before it is acknowledged                          |
//! |-----------------------|-----------------------------------------------------------------|
//! | it has the job        | the lease is made longer                                        |
//! | the job began, ended  | judged by what was asked for ([`verdict`]), stored, snapshots listed |
//! | a line of log         | stored, within the job's bound                                  |
//! | it is alive           | its leases are made longer, what it does not have is sent again |
//!
//! Everything that matters is in the stores, so a dispatcher may die at any instruction. What it
//! keeps in memory is who is connected, how far running jobs have come, and who waits for an
//! answer.

mod assignment;
mod gateway;
mod line;
mod reports;
mod roster;
mod scheduler;
mod supply;
pub mod ticks;
pub mod verdict;
mod watch;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arkeep_core::job::{Fence, Progress};
use arkeep_core::queue::JobQueue;
use arkeep_core::{AgentId, Clock, Entropy, JobId};
use arkeep_transport::server::PortControl;
use arkeep_transport::session::{Answer, Cancel, Query, Question, RequestId};
use arkeep_vault::Sealer;
use tokio::sync::{broadcast, oneshot};

use crate::http::services::Fleet;
use crate::store::{
    AgentStore, Database, DestinationStore, JobLogStore, JobStore, PolicyStore, SnapshotStore,
};

pub use line::Line;
use roster::Roster;
pub use scheduler::{Scheduler, SchedulerParts};

/// What a [`Dispatcher`] stands on.
#[derive(Debug, Clone)]
pub struct DispatcherParts {
    /// Keeps everything.
    pub stores: DispatcherStores,
    /// Opens credentials at the last moment.
    pub sealer: Arc<dyn Sealer>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub entropy: Arc<dyn Entropy>,
}

/// The stores that a [`Dispatcher`] reads and writes.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is named for the port that it is")]
pub struct DispatcherStores {
    pub agents: Arc<dyn AgentStore>,
    pub destinations: Arc<dyn DestinationStore>,
    pub jobs: Arc<dyn JobStore>,
    pub logs: Arc<dyn JobLogStore>,
    pub policies: Arc<dyn PolicyStore>,
    pub queue: Arc<dyn JobQueue>,
    pub snapshots: Arc<dyn SnapshotStore>,
}

impl DispatcherStores {
    /// All of them on one database.
    #[must_use]
    pub fn on(store: Arc<dyn Database>) -> Self {
        Self {
            agents: store.clone(),
            destinations: store.clone(),
            jobs: store.clone(),
            logs: store.clone(),
            policies: store.clone(),
            queue: store.clone(),
            snapshots: store,
        }
    }
}

/// Gives agents their jobs and takes in what they say. Clones share everything.
///
/// It is the [`AgentGateway`](arkeep_transport::gateway::AgentGateway) of the port that agents
/// dial, and the [`Fleet`] of the HTTP API.
#[derive(Debug, Clone)]
pub struct Dispatcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: DispatcherParts,
    roster: Roster,
    changes: broadcast::Sender<Change>,
    port: OnceLock<PortControl>,
    draining: AtomicBool,
}

/// Something that a page may want to show anew. Those who listen too slowly miss some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A job moved, or came further.
    Job(JobId),
    /// A job's log grew.
    Log(JobId),
    /// An agent came or went.
    Agent(AgentId),
}

impl Dispatcher {
    /// Stands on these. Nobody is connected yet.
    #[must_use]
    pub fn new(parts: DispatcherParts) -> Self {
        Self(Arc::new(Inner {
            parts,
            roster: Roster::default(),
            changes: broadcast::Sender::new(CHANGES),
            port: OnceLock::new(),
            draining: AtomicBool::new(false),
        }))
    }

    /// Lets [`Fleet::hang_up`] end connections too, and not only streams. The port is opened with
    /// its gateway, so this comes after.
    pub fn attach(&self, port: PortControl) {
        // A second port would be a mistake of the composition root; the first one stays.
        let _ = self.0.port.set(port);
    }

    /// Tells of changes from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// Gives out no more jobs. What agents say is still taken in.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the agent has a stream open here.
    #[must_use]
    pub fn is_connected(&self, agent: AgentId) -> bool {
        self.0.roster.line(agent).is_some()
    }

    /// Asks an agent something, and waits for the answer for as long as `patience`.
    ///
    /// # Errors
    ///
    /// [`AskError`]: nobody was asked, or nobody answered.
    pub async fn ask(
        &self,
        agent: AgentId,
        question: Question,
        patience: Duration,
    ) -> Result<Answer, AskError> {
        let inner = &self.0;
        let line = inner.roster.line(agent).ok_or(AskError::Offline)?;
        let id = RequestId::mint(inner.parts.clock.now(), inner.parts.entropy.as_ref());
        let (sender, answer) = oneshot::channel();
        let _forgotten = inner.roster.expect_answer(id, agent, sender);
        line.ask(&Query { id, question })
            .map_err(|_| AskError::Offline)?;
        tokio::select! {
            () = line.closed() => Err(AskError::Offline),
            answered = tokio::time::timeout(patience, answer) => match answered {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) => Err(AskError::Offline),
                Err(_) => Err(AskError::TimedOut),
            },
        }
    }
}

impl Inner {
    fn tell(&self, change: Change) {
        // Nobody may be listening.
        let _ = self.changes.send(change);
    }
}

impl Fleet for Dispatcher {
    fn wake(&self, agent: AgentId) {
        self.0.roster.wake(agent);
    }

    fn cancel(&self, agent: AgentId, job: JobId, fence: Fence) {
        if let Some(line) = self.0.roster.line(agent)
            && let Err(error) = line.cancel(Cancel { job, fence })
        {
            // The request is stored; the agent hears of it at its next sign of life.
            tracing::debug!(%agent, %job, %error, "a cancellation waits for its agent");
        }
    }

    fn hang_up(&self, agent: AgentId) {
        self.0.roster.ban(agent);
        if let Some(port) = self.0.port.get() {
            port.revoked(agent);
        }
    }

    fn progress(&self, job: JobId) -> Option<Progress> {
        self.0.roster.progress(job)
    }
}

/// An agent did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// It has no stream here, or lost it while it was asked.
    #[error("the agent is not connected")]
    Offline,

    /// It took too long.
    #[error("the agent did not answer in time")]
    TimedOut,
}

/// How long an agent may be silent before a job that it has not begun is given out again: three
/// signs of life, and a half.
const LEASE: Duration = Duration::from_secs(105);
/// Jobs that one agent holds at once. More would only wait there instead of here.
const MOST_HELD: usize = 16;
const CHANGES: usize = 1_024;
