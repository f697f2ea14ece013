//! What other replicas do to the agents whose streams are open here.
//!
//! An agent has its stream at one replica, and whoever revokes it, gives it a job or cancels one
//! may be at another. [`AgentNotices`] tells of it as it is committed; [`Elsewhere`] says how things
//! stand, for whoever was told, and for whoever looks now and then because a notice may be lost.

use std::fmt;

use arkeep_core::{AgentId, StoreError};
use async_trait::async_trait;

/// Says how things stand with agents.
///
/// # Cost
///
/// One query for all that are asked for, twice a second for as many as are connected.
#[async_trait]
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// How things stand with these. One that is not in the answer is gone.
    async fn outlook(&self, agents: &[AgentId]) -> Result<Vec<Outlook>, StoreError>;
}

/// How things stand with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outlook {
    /// Which.
    pub agent: AgentId,
    /// Whether it may be heard no more.
    pub is_revoked: bool,
    /// The generation of the session that it opened last, wherever that was.
    pub generation: u64,
    /// Whether a job waits for it.
    pub has_work: bool,
    /// Whether it shall end a job that it has.
    pub must_cancel: bool,
}

/// Tells when something was done to an agent, wherever it is connected.
#[async_trait]
pub trait AgentNotices: fmt::Debug + Send {
    /// Waits for the next notice, and says which agent it is about; none when some may have been
    /// lost.
    async fn next(&mut self) -> Option<AgentId>;
}
