//! The port that agents dial.
//!
//! [`AgentPort`] puts the other ports together: a
//! [`CertificateAuthority`] that vouches for the server and its agents, an [`EnrollmentStore`] that
//! knows who is welcome, and an [`AgentGateway`] that does something with what agents say. It
//! accepts TLS 1.3 with no resumption (a resumed session would skip the client's certificate), and
//! judges the peer three times over:
//!
//! | when                       | what is judged                                              |
//! |----------------------------|-------------------------------------------------------------|
//! | at the handshake           | the chain, the purpose, the name, the agent's standing      |
//! | at each RPC                | the certificate's dates, the standing, whether the peer may call it |
//! | at each message of a stream | the certificate's dates, and the standing, kept for a few seconds |
//!
//! What may be called without a certificate is a table in code, and everything else is refused.
//! [`PortControl::revoked`] ends what an agent has open, at once.

mod acceptor;
mod connection;
mod ending;
mod enrollment;
pub(crate) mod handle;
mod judge;
mod link;
mod pace;
mod rates;
mod registry;
#[cfg(feature = "testing")]
mod rehearsal;
mod session;
mod tls;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use arkeep_core::{AgentId, Clock};

use crate::ca::CertificateAuthority;
use crate::enrollment::EnrollmentStore;
use crate::gateway::AgentGateway;
use crate::identity::TrustDomain;
use crate::proto::MESSAGE_LIMIT;
use crate::proto::agent_link_server::AgentLinkServer;
use crate::proto::enrollment_server::EnrollmentServer;

use acceptor::Acceptor;
use ending::Reason;
use enrollment::EnrollmentService;
use judge::JudgeLayer;
use link::LinkService;
use rates::Rates;
use registry::Registry;
use tls::Tls;

#[cfg(feature = "testing")]
pub(crate) use rehearsal::{run_enrollment, run_session};
pub use tls::OpenPortError;

/// What an [`AgentPort`] is made of.
#[derive(Debug, Clone)]
pub struct PortParts {
    /// Vouches for the server and its agents.
    pub ca: Arc<dyn CertificateAuthority>,
    /// Knows who is welcome.
    pub store: Arc<dyn EnrollmentStore>,
    /// Takes in what agents say.
    pub gateway: Arc<dyn AgentGateway>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

/// How an [`AgentPort`] behaves. The default is meant for production.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// Whose agents these are.
    pub trust_domain: TrustDomain,
    /// How long an agent's certificate is valid: 1 hour to 30 days.
    pub agent_validity: Duration,
    /// How long the server's own certificate is valid.
    pub server_validity: Duration,
    /// How long a peer may take for the handshake, and an agent for its first message.
    pub handshake_timeout: Duration,
    /// How long a connection without a current certificate may last.
    pub stranger_lifetime: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Handshakes at once.
    pub max_handshakes: usize,
    /// Handshakes at once from one address.
    pub max_handshakes_per_address: usize,
    /// How long an agent's standing may be remembered between two messages of one stream.
    pub standing_ttl: Duration,
    /// How many messages wait for an agent that reads slowly.
    pub queue: usize,
    /// How long an agent may leave its queue full.
    pub stall_timeout: Duration,
    /// Messages per second that one agent may send for long; ten times as many at once.
    pub messages_per_second: u32,
    /// Bytes per second that one agent may send for long; ten times as many at once.
    pub bytes_per_second: u32,
    /// Certificates per minute that may be asked for with join tokens from one address (of IPv6, one
    /// network of 64 bits) for long.
    pub enrollments_per_minute: u32,
    /// The same, at once.
    pub enrollments_at_once: u32,
    /// Certificates per minute that one agent may ask for with the one before, for long.
    pub renewals_per_minute: u32,
    /// The same, at once.
    pub renewals_at_once: u32,
    /// How often to ask a silent connection whether it is still there.
    pub ping_every: Duration,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// How long open sessions may take to end when the server stops.
    pub drain_timeout: Duration,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            agent_validity: Duration::from_secs(7 * DAY),
            server_validity: Duration::from_secs(7 * DAY),
            handshake_timeout: Duration::from_secs(10),
            stranger_lifetime: Duration::from_secs(30),
            max_connections: 20_000,
            max_handshakes: 512,
            max_handshakes_per_address: 64,
            standing_ttl: Duration::from_secs(15),
            queue: 64,
            stall_timeout: Duration::from_secs(30),
            messages_per_second: 200,
            bytes_per_second: 2 * 1024 * 1024,
            enrollments_per_minute: 600,
            enrollments_at_once: 1_200,
            renewals_per_minute: 2,
            renewals_at_once: 10,
            ping_every: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

const DAY: u64 = 24 * 60 * 60;

/// What the parts of the port share.
#[derive(Debug)]
struct Shared {
    parts: PortParts,
    config: PortConfig,
    registry: Registry,
    rates: Rates,
    /// The sessions that have not yet said good-bye to the gateway.
    sessions: TaskTracker,
}

/// A server for agents that is ready to listen.
pub struct AgentPort {
    shared: Arc<Shared>,
    tls: Arc<Tls>,
}

impl AgentPort {
    /// Issues the server's own certificate and makes ready to listen.
    ///
    /// # Errors
    ///
    /// [`OpenPortError`] when the CA does not issue it, or the configuration cannot be meant.
    pub async fn open(parts: PortParts, config: PortConfig) -> Result<Self, OpenPortError> {
        let limits = Duration::from_secs(60 * 60)..=Duration::from_secs(30 * DAY);
        if !limits.contains(&config.agent_validity) {
            return Err(OpenPortError::AgentValidity);
        }
        let shared = Arc::new(Shared {
            parts,
            rates: Rates::of(&config),
            config,
            registry: Registry::default(),
            sessions: TaskTracker::new(),
        });
        let tls = Arc::new(Tls::issue(Arc::clone(&shared)).await?);
        Ok(Self { shared, tls })
    }

    /// What reaches into the port while it serves.
    #[must_use]
    pub fn control(&self) -> PortControl {
        PortControl(Arc::clone(&self.shared))
    }

    /// Serves agents until `shutdown` resolves, then ends their sessions and returns.
    ///
    /// Every gateway call that was under way has ended when it returns, unless it took longer than
    /// [`PortConfig::drain_timeout`].
    ///
    /// # Errors
    ///
    /// [`ServeError`] when the listener fails for good.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let Self { shared, tls } = self;
        let (accepted, incoming) = mpsc::channel(shared.config.max_handshakes.max(1));
        let acceptor = Acceptor::new(Arc::clone(&shared), tls, accepted);
        let listening = tokio::spawn(acceptor.run(listener));

        let server = Server::builder()
            .http2_keepalive_interval(Some(shared.config.ping_every))
            .http2_keepalive_timeout(Some(shared.config.ping_timeout))
            // A session, and a renewal or two beside it.
            .max_concurrent_streams(8)
            .http2_max_header_list_size(16 * 1024)
            .http2_max_pending_accept_reset_streams(Some(16))
            .http2_max_local_error_reset_streams(Some(64))
            .layer(JudgeLayer::new(Arc::clone(&shared)))
            .add_service(
                EnrollmentServer::new(EnrollmentService::new(Arc::clone(&shared)))
                    .max_decoding_message_size(REQUEST_LIMIT)
                    .max_encoding_message_size(MESSAGE_LIMIT),
            )
            .add_service(
                AgentLinkServer::new(LinkService::new(Arc::clone(&shared)))
                    .max_decoding_message_size(MESSAGE_LIMIT)
                    .max_encoding_message_size(MESSAGE_LIMIT),
            );
        let drained = async {
            shutdown.await;
            listening.abort();
            shared.registry.end_all(Reason::Shutdown);
            shared.sessions.close();
            let drain = shared.sessions.wait();
            if tokio::time::timeout(shared.config.drain_timeout, drain)
                .await
                .is_err()
            {
                tracing::warn!("some sessions did not end in time");
            }
        };
        let connections = ReceiverStream::new(incoming);
        server
            .serve_with_incoming_shutdown(connections, drained)
            .await
            .map_err(|error| ServeError(Box::new(error)))
    }
}

impl fmt::Debug for AgentPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentPort")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

/// Reaches into a port while it serves. Cheap to clone.
#[derive(Clone)]
pub struct PortControl(Arc<Shared>);

impl PortControl {
    /// Ends what the agent has open here, and refuses its next handshake.
    ///
    /// Call it after [`EnrollmentStore::withdraw`] has returned, on every replica. A replica that
    /// is not told finds out by itself within [`PortConfig::standing_ttl`].
    pub fn revoked(&self, agent: AgentId) {
        self.0.registry.revoked(agent);
    }

    /// Agents that have a session open here.
    #[must_use]
    pub fn connected(&self) -> Vec<AgentId> {
        self.0.registry.connected()
    }

    /// Addresses of peers that are connected, agents or not. For tests and for the curious.
    #[must_use]
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.0.registry.peers()
    }
}

impl fmt::Debug for PortControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortControl").finish_non_exhaustive()
    }
}

/// The port stopped serving by itself.
#[derive(Debug, thiserror::Error)]
#[error("the port for agents has failed")]
pub struct ServeError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// The most that an enrolment or renewal request may weigh.
const REQUEST_LIMIT: usize = 16 * 1024;
