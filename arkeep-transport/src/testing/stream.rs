//! A session without a network, for fuzzers: bytes go in where HTTP/2 would deliver them.

use tonic::Code;

use crate::identity::AgentIdentity;
use crate::server::{PortConfig, PortParts, run_session};

/// What the server said before it ended a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Messages, the welcome among them.
    pub messages: usize,
    /// The last word: the number of a gRPC status.
    pub status: i32,
}

/// Lets an agent say `frames` (messages as gRPC frames them), and hang up.
///
/// Returns when the gateway has heard the last of it.
pub async fn say(
    parts: PortParts,
    config: PortConfig,
    identity: AgentIdentity,
    frames: Vec<u8>,
) -> Said {
    let (messages, status) = run_session(parts, config, identity, frames).await;
    Said {
        messages,
        status: status.map_or(Code::Ok, |status| status.code()).into(),
    }
}

/// A message as gRPC frames it.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = Vec::with_capacity(message.len() + 5);
    framed.push(0);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    framed
}
