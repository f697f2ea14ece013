use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use prost::Message;
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;
use tonic::codec::Codec;
use tonic::codegen::Bytes;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::identity::AgentIdentity;
use crate::proto::enrollment_server::Enrollment;
use crate::proto::{AgentMessage, EnrollRequest, MESSAGE_LIMIT, RenewRequest, ServerMessage};

use super::connection::{Connection, Who};
use super::enrollment::EnrollmentService;
use super::judge::Admitted;
use super::rates::Rates;
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
        rates: Rates::of(&config),
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

/// Runs one call of the enrolment service on bytes in memory: a renewal by `identity`, or else an
/// enrolment by a stranger. Nothing when the bytes are no request.
pub(crate) async fn run_enrollment(
    parts: PortParts,
    config: PortConfig,
    identity: Option<AgentIdentity>,
    request: &[u8],
) -> Option<Result<Vec<Vec<u8>>, Status>> {
    let shared = Arc::new(Shared {
        parts,
        rates: Rates::of(&config),
        config,
        registry: Registry::default(),
        sessions: TaskTracker::new(),
    });
    let who = identity.clone().map_or(Who::Stranger, Who::Agent);
    let address = SocketAddr::from(([127, 0, 0, 1], 9090));
    let connection = Arc::new(Connection::new(who, address));
    let service = EnrollmentService::new(shared);
    let chain = match identity {
        Some(identity) => {
            let mut request = Request::new(RenewRequest::decode(request).ok()?);
            request.extensions_mut().insert(Admitted {
                identity,
                connection,
            });
            let renewed = service.renew(request).await;
            renewed.map(|renewed| renewed.into_inner().certificate_chain)
        }
        None => {
            let mut request = Request::new(EnrollRequest::decode(request).ok()?);
            request.extensions_mut().insert(connection);
            let enrolled = service.enroll(request).await;
            enrolled.map(|enrolled| enrolled.into_inner().certificate_chain)
        }
    };
    Some(chain)
}
