//! What a server does with what an agent says.
//!
//! The transport ends here: it has checked who speaks, that the message is whole and within its
//! bounds, and calls an [`AgentGateway`]. The gateway decides, stores, and pushes work back through
//! the [`AgentHandle`] that it was given.

use std::fmt;

use async_trait::async_trait;

use arkeep_core::StoreError;
use arkeep_core::job::JobReport;

use crate::identity::AgentIdentity;
use crate::session::{Generation, Heartbeat, HeldJob, Hello, JobProgress, LogBatch, QueryAnswer};

pub use crate::server::handle::{AgentHandle, PushError};

/// Takes in what agents say.
///
/// Implement this for a server; `arkeep-server` does so over its stores.
///
/// # Security
///
/// Every call carries the identity that the certificate proves. A message names jobs by ids of the
/// agent's choosing: look each up *as a job of this agent*. A job of another agent's is
/// [`GatewayError::NotFound`], exactly as one that does not exist.
///
/// # Durability
///
/// `Ok` from [`report`](Self::report), and the number that [`logs`](Self::logs) returns, are
/// acknowledged to the agent, which then forgets. Return them only for what would survive a crash.
/// Delivery is at least once: the same report may arrive again, on another stream or replica.
///
/// # Order
///
/// Calls for one stream come one after another, in the order in which the agent spoke. Calls for
/// two streams of the same agent may overlap, until the older has ended.
#[async_trait]
pub trait AgentGateway: fmt::Debug + Send + Sync {
    /// A session begins. Returns its number, which is higher than that of every session this agent
    /// had before, on any replica.
    ///
    /// The handle reaches the agent from now on; keep it in place of an older one.
    async fn connected(
        &self,
        agent: &AgentIdentity,
        hello: Hello,
        handle: AgentHandle,
    ) -> Result<Generation, GatewayError>;

    /// An assignment is durable on the agent.
    ///
    /// With [`GatewayError::NotFound`] the agent is told to drop the job.
    async fn accepted(&self, agent: &AgentIdentity, job: HeldJob) -> Result<(), GatewayError>;

    /// Something happened to a job. `Ok` means that it is durable, also when nothing changed.
    async fn report(&self, agent: &AgentIdentity, report: JobReport) -> Result<(), GatewayError>;

    /// Lines of a log arrived. Returns the number up to which all lines of this attempt are durable
    /// (or were dropped on purpose).
    async fn logs(&self, agent: &AgentIdentity, batch: LogBatch) -> Result<u64, GatewayError>;

    /// How far a job has come. Nothing depends on it.
    async fn progress(&self, agent: &AgentIdentity, progress: JobProgress);

    /// The agent is alive.
    async fn heartbeat(
        &self,
        agent: &AgentIdentity,
        heartbeat: Heartbeat,
    ) -> Result<(), GatewayError>;

    /// The answer to a query arrived. One that nobody waits for is not an error.
    async fn answered(&self, agent: &AgentIdentity, answer: QueryAnswer);

    /// A session has ended, whatever the cause. Called once for each `connected` that succeeded.
    ///
    /// A newer session may have begun long before: clean up what is of this generation only.
    async fn disconnected(&self, agent: &AgentIdentity, generation: Generation);
}

/// A gateway did not take in what an agent said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// There is no such job of this agent. The stream goes on; the agent forgets what it said.
    #[error("not found")]
    NotFound,

    /// This agent is not to be served. The stream ends.
    #[error("the agent is refused")]
    Refused,

    /// It could not be stored now. The stream ends, and the agent comes back and says it again.
    #[error(transparent)]
    Store(#[from] StoreError),
}
