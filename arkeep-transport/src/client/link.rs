use std::fmt;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::{Status, Streaming};

use crate::convert::FromServer;
use crate::proto::{AgentMessage, ServerMessage};
use crate::session::{AgentSaying, ServerSaying, Welcome};
use crate::status::Refusal;
use crate::wire::{self, EncodeError};

use super::LinkError;
use super::dial::Dialed;

/// One session, as the agent holds it. Ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    welcome: Welcome,
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl Link {
    pub(super) fn new(
        welcome: Welcome,
        outgoing: mpsc::Sender<AgentMessage>,
        incoming: Streaming<ServerMessage>,
        dialed: Dialed,
    ) -> Self {
        Self {
            welcome,
            sender: LinkSender { outgoing },
            receiver: LinkReceiver { incoming, dialed },
        }
    }

    /// How the server greeted.
    #[must_use]
    pub const fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// As [`LinkSender::send`].
    ///
    /// # Errors
    ///
    /// As [`LinkSender::send`].
    pub async fn send(&self, saying: &AgentSaying) -> Result<(), LinkError> {
        self.sender.send(saying).await
    }

    /// As [`LinkReceiver::next`].
    ///
    /// # Errors
    ///
    /// As [`LinkReceiver::next`].
    pub async fn next(&mut self) -> Result<ServerSaying, LinkError> {
        self.receiver.next().await
    }

    /// The two halves, for two tasks.
    #[must_use]
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }
}

/// The speaking half of a [`Link`]. Cheap to clone.
#[derive(Clone)]
pub struct LinkSender {
    outgoing: mpsc::Sender<AgentMessage>,
}

impl LinkSender {
    /// Says something, waiting while the server is slow to listen.
    ///
    /// That it returns says nothing of whether it arrived: reports and logs are said until they are
    /// acknowledged. Progress is dropped rather than waited for.
    ///
    /// # Errors
    ///
    /// [`LinkError::Lost`] when the session has ended, [`LinkError::Misunderstood`] when the message
    /// cannot be written; [`LinkReceiver::next`] tells why a session ended.
    pub async fn send(&self, saying: &AgentSaying) -> Result<(), LinkError> {
        let message = AgentMessage::try_from(saying)
            .map_err(EncodeError::unknown)
            .and_then(|message| wire::check_weight(&message).map(|()| message))
            .map_err(|error| match error {
                EncodeError::TooLarge(_) => LinkError::Misunderstood("a message exceeds 4 MiB"),
                EncodeError::Unknown(what) => LinkError::Misunderstood(what),
            })?;
        if matches!(saying, AgentSaying::Progress(_)) {
            return match self.outgoing.try_send(message) {
                Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
                Err(error @ TrySendError::Closed(_)) => Err(gone(error.to_string())),
            };
        }
        let sent = self.outgoing.send(message).await;
        sent.map_err(|error| gone(error.to_string()))
    }
}

fn gone(why: String) -> LinkError {
    LinkError::Lost(why.into())
}

impl fmt::Debug for LinkSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSender").finish_non_exhaustive()
    }
}

/// The listening half of a [`Link`]. The session ends when it is dropped.
pub struct LinkReceiver {
    incoming: Streaming<ServerMessage>,
    dialed: Dialed,
}

impl LinkReceiver {
    /// Waits for what the server says next.
    ///
    /// Dropping the future loses nothing, so it can stand in a `select`.
    ///
    /// # Errors
    ///
    /// [`LinkError`] when the session has ended, and why.
    pub async fn next(&mut self) -> Result<ServerSaying, LinkError> {
        loop {
            let message = match self.incoming.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return Err(LinkError::Closed),
                Err(status) => return Err(self.ended(status)),
            };
            match FromServer::try_from(message) {
                Ok(FromServer::Saying(saying)) => return Ok(saying),
                // A newer server says more than we know; the rest is still for us.
                Ok(FromServer::Unknown) => {}
                Ok(FromServer::Welcome(_)) => {
                    return Err(LinkError::Misunderstood("the server said welcome twice"));
                }
                Err(error) => return Err(LinkError::Misunderstood(error.0)),
            }
        }
    }

    fn ended(&self, status: Status) -> LinkError {
        match (Refusal::of(&status), self.dialed.seen.explain()) {
            (None, Some(error)) => LinkError::Lost(Box::new(error)),
            _ => status.into(),
        }
    }
}

impl From<Status> for LinkError {
    fn from(status: Status) -> Self {
        match Refusal::of(&status) {
            Some(Refusal::Unwelcome) => Self::Refused,
            Some(Refusal::Superseded) => Self::Superseded,
            Some(Refusal::Closed) => Self::Closed,
            Some(Refusal::Unavailable | Refusal::Stopping) => Self::Unavailable,
            Some(_) => Self::Misunderstood("the server did not understand this agent"),
            None => Self::Lost(Box::new(status)),
        }
    }
}

impl fmt::Debug for LinkReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkReceiver").finish_non_exhaustive()
    }
}
