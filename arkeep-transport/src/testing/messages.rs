//! The messages of a session as bytes, for fuzzers.

use prost::Message;

use crate::convert::{FromAgent, Invalid};
use crate::proto;
use crate::session::{AgentSaying, Hello};
use crate::wire::{DecodeError, EncodeError};

/// What an agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentMessage {
    /// First.
    Hello(Box<Hello>),
    /// Later.
    Saying(AgentSaying),
}

/// Reads a message as the server does.
///
/// # Errors
///
/// [`DecodeError`] for what the server would not take in.
pub fn read_agent_message(bytes: &[u8]) -> Result<AgentMessage, DecodeError> {
    let message = proto::AgentMessage::decode(bytes).map_err(|_| DecodeError::Malformed)?;
    match FromAgent::try_from(message) {
        Ok(FromAgent::Hello(hello)) => Ok(AgentMessage::Hello(hello)),
        Ok(FromAgent::Saying(saying)) => Ok(AgentMessage::Saying(saying)),
        Err(Invalid(field)) => Err(DecodeError::Field(field)),
    }
}

/// Writes a message as the agent does.
///
/// # Errors
///
/// [`EncodeError`] for what the agent could not say.
pub fn write_agent_message(message: &AgentMessage) -> Result<Vec<u8>, EncodeError> {
    let message = match message {
        AgentMessage::Hello(hello) => proto::AgentMessage {
            saying: Some(proto::agent_message::Saying::Hello(hello.as_ref().into())),
        },
        AgentMessage::Saying(saying) => saying.try_into().map_err(EncodeError::unknown)?,
    };
    Ok(message.encode_to_vec())
}

/// Reads a message as an agent does, and tells whether it could.
///
/// # Errors
///
/// [`DecodeError`] for what the agent would not understand.
#[cfg(feature = "client")]
pub fn read_server_message(bytes: &[u8]) -> Result<(), DecodeError> {
    let message = proto::ServerMessage::decode(bytes).map_err(|_| DecodeError::Malformed)?;
    match crate::convert::FromServer::try_from(message) {
        Ok(_) => Ok(()),
        Err(Invalid(field)) => Err(DecodeError::Field(field)),
    }
}
