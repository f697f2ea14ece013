use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;
use tonic::codec::Codec;
use tonic::codegen::Bytes;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use crate::identity::AgentIdentity;
use crate::proto::{AgentMessage, MESSAGE_LIMIT, ServerMessage};

use super::connection::{Connection, Who};
use super::judge::Admitted;
use super::registry::Registry;
use super::{PortConfig, PortParts, Shared, link};

/// Runs one session over bytes in memory, and returns how many messages it answered and how it
/// ended.
pub(crate) async fn run_session(
    parts: PortParts,
    config: PortConfig,
    identity: AgentIdentity,
    frames: Vec<u8>,
) -> (usize, Option<Status>) {
    let shared = Arc::new(Shared {
        parts,
        config,
        registry: Registry::default(),
        sessions: TaskTracker::new(),
    });
    let address = SocketAddr::from(([127, 0, 0, 1], 9090));
    let connection = Connection::new(Who::Agent(identity.clone()), address);
    let connection = Arc::new(connection);
    let mut codec = ProstCodec::<ServerMessage, AgentMessage>::default();
    let body = Full::<Bytes>::from(frames);
    let incoming = Streaming::new_request(codec.decoder(), body, None, Some(MESSAGE_LIMIT));
    let admitted = Admitted {
        identity,
        connection,
    };
    let mut outgoing = link::open(&shared, admitted, incoming);
    let (mut messages, mut status) = (0, None);
    while let Some(said) = outgoing.next().await {
        match said {
            Ok(_) => messages += 1,
            Err(last) => status = Some(last),
        }
    }
    shared.sessions.close();
    shared.sessions.wait().await;
    (messages, status)
}
