use std::fmt;

use arkeep_core::job::Assignment;
use arkeep_transport::gateway::{AgentHandle, PushError};
use arkeep_transport::session::{Cancel, Query};
use async_trait::async_trait;

/// Reaches one agent through one stream.
///
/// [`AgentHandle`] is the one in production. Pushing never waits.
#[async_trait]
pub trait Line: fmt::Debug + Send + Sync {
    /// Gives the agent a job.
    fn assign(&self, assignment: &Assignment) -> Result<(), PushError>;

    /// Asks the agent to stop a job.
    fn cancel(&self, cancel: Cancel) -> Result<(), PushError>;

    /// Asks the agent something.
    fn ask(&self, query: &Query) -> Result<(), PushError>;

    /// Ends the stream.
    fn close(&self);

    /// Waits for the end of the stream.
    async fn closed(&self);
}

#[async_trait]
impl Line for AgentHandle {
    fn assign(&self, assignment: &Assignment) -> Result<(), PushError> {
        Self::assign(self, assignment)
    }

    fn cancel(&self, cancel: Cancel) -> Result<(), PushError> {
        Self::cancel(self, cancel)
    }

    fn ask(&self, query: &Query) -> Result<(), PushError> {
        Self::ask(self, query)
    }

    fn close(&self) {
        Self::close(self);
    }

    async fn closed(&self) {
        Self::closed(self).await;
    }
}
