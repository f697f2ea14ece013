use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use arkeep_core::AgentId;
use arkeep_core::job::Assignment;

use crate::proto;
use crate::session::{Cancel, Query, ServerSaying};
use crate::trust::TrustBundle;
use crate::wire::{self, EncodeError};

use super::ending::{Ending, Reason};

/// Reaches one agent through one session.
///
/// Cheap to clone. It outlives its session: what is pushed later is [`PushError::Closed`]. Pushing
/// never waits; an agent that does not read fills its own queue and nobody else's.
#[derive(Clone)]
pub struct AgentHandle {
    agent: AgentId,
    outgoing: mpsc::Sender<Box<proto::ServerMessage>>,
    ending: Arc<Ending>,
}

impl AgentHandle {
    pub(super) const fn new(
        agent: AgentId,
        outgoing: mpsc::Sender<Box<proto::ServerMessage>>,
        ending: Arc<Ending>,
    ) -> Self {
        Self {
            agent,
            outgoing,
            ending,
        }
    }

    /// The agent.
    #[must_use]
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// Gives the agent a job. It is the agent's only when the gateway hears
    /// [`accepted`](crate::gateway::AgentGateway::accepted).
    ///
    /// # Errors
    ///
    /// [`PushError`]: the job was not sent.
    pub fn assign(&self, assignment: &Assignment) -> Result<(), PushError> {
        let message = proto::Assignment::try_from(assignment)
            .map_err(EncodeError::unknown)
            .map_err(PushError::Message)?;
        self.push(proto::server_message::Saying::Assignment(message))
    }

    /// Asks the agent to stop a job.
    ///
    /// # Errors
    ///
    /// [`PushError`]: the request was not sent.
    pub fn cancel(&self, cancel: Cancel) -> Result<(), PushError> {
        self.say(&ServerSaying::Cancel(cancel))
    }

    /// Asks the agent something. The gateway hears
    /// [`answered`](crate::gateway::AgentGateway::answered), or nothing.
    ///
    /// # Errors
    ///
    /// [`PushError`]: the question was not sent.
    pub fn ask(&self, query: &Query) -> Result<(), PushError> {
        self.push(proto::server_message::Saying::Query(query.into()))
    }

    /// Tells the agent which roots to trust from now on.
    ///
    /// # Errors
    ///
    /// [`PushError`]: the bundle was not sent.
    pub fn trust(&self, bundle: &TrustBundle) -> Result<(), PushError> {
        self.say(&ServerSaying::Trust(bundle.clone()))
    }

    /// Asks the agent to renew its certificate now, and to come back with the new one.
    ///
    /// # Errors
    ///
    /// [`PushError`]: the request was not sent.
    pub fn renew(&self) -> Result<(), PushError> {
        self.say(&ServerSaying::Renew)
    }

    /// Ends the session. The agent comes back when it wants to; to keep it away, withdraw it.
    pub fn close(&self) {
        self.ending.end(Reason::Closed);
    }

    /// Whether the session is still on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ending.reason().is_none()
    }

    /// Waits for the end of the session.
    pub async fn closed(&self) {
        self.ending.ended().await;
    }

    fn say(&self, saying: &ServerSaying) -> Result<(), PushError> {
        let message = proto::ServerMessage::try_from(saying)
            .map_err(EncodeError::unknown)
            .map_err(PushError::Message)?;
        match message.saying {
            Some(saying) => self.push(saying),
            None => Ok(()),
        }
    }

    fn push(&self, saying: proto::server_message::Saying) -> Result<(), PushError> {
        if !self.is_open() {
            return Err(PushError::Closed);
        }
        let message = proto::ServerMessage {
            saying: Some(saying),
        };
        wire::check_weight(&message).map_err(PushError::Message)?;
        self.outgoing
            .try_send(Box::new(message))
            .map_err(|refused| match refused {
                TrySendError::Full(_) => PushError::Full,
                TrySendError::Closed(_) => PushError::Closed,
            })
    }
}

impl fmt::Debug for AgentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentHandle")
            .field("agent", &self.agent)
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// Something was not sent to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The agent does not read. Try again later; the session ends by itself if it never does.
    #[error("the agent's queue is full")]
    Full,

    /// The session has ended. The agent will be back, with another handle.
    #[error("the session has ended")]
    Closed,

    /// It cannot be written as a message. Trying again does not help.
    #[error(transparent)]
    Message(EncodeError),
}
