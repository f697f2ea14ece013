use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::RootCertStore;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use arkeep_core::{AgentId, Clock};

use crate::address::ServerAddress;
use crate::certificate::root_store;
use crate::convert::FromServer;
use crate::key::FreshKey;
use crate::proto::agent_link_client::AgentLinkClient;
use crate::proto::enrollment_client::EnrollmentClient;
use crate::proto::{AgentMessage, MESSAGE_LIMIT, RenewRequest, agent_message};
use crate::session::Hello;
use crate::status::Refusal;
use crate::trust::TrustBundle;

use super::dial::{Dial, Dialed, Pings, origin};
use super::enroll::{CALL_TIMEOUT, accept};
use super::link::Link;
use super::verify::Anchor;
use super::{ConnectError, Credential, CredentialError, DialError, LinkError, RenewError};

/// Opens sessions as one agent.
///
/// It holds the agent's credential and the roots it trusts. Both can be changed while sessions are
/// open: [`replace`](Self::replace) is for the next connection, and the present one goes on.
pub struct Connector {
    server: ServerAddress,
    clock: Arc<dyn Clock>,
    pings: Pings,
    identity: RwLock<Identity>,
}

/// What a [`Connector`] is made of.
#[derive(Debug, Clone)]
pub struct ConnectorParts {
    /// Where the server is.
    pub server: ServerAddress,
    /// The agent's key and certificate.
    pub credential: Credential,
    /// The roots that the agent trusts.
    pub trust: TrustBundle,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Identity {
    credential: Credential,
    trust: TrustBundle,
    roots: Arc<RootCertStore>,
}

impl Identity {
    fn new(credential: Credential, trust: TrustBundle) -> Result<Self, CredentialError> {
        let roots = root_store(&trust).ok_or(CredentialError::Certificate)?;
        Ok(Self {
            credential,
            trust,
            roots,
        })
    }
}

/// The next credential. Make it durable, then [`Connector::replace`] with it.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The new key and certificate.
    pub credential: Credential,
    /// The roots that are in force.
    pub trust: TrustBundle,
}

impl Connector {
    /// Makes ready to connect. Nothing is dialled yet.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] when a root is not a certificate.
    pub fn new(parts: ConnectorParts) -> Result<Self, CredentialError> {
        Ok(Self {
            server: parts.server,
            clock: parts.clock,
            pings: Pings::default(),
            identity: RwLock::new(Identity::new(parts.credential, parts.trust)?),
        })
    }

    /// Asks a silent server so often whether it is still there, and gives it so long to answer. By
    /// default, every 30 seconds and 10.
    #[must_use]
    pub fn with_pings(mut self, every: Duration, timeout: Duration) -> Self {
        self.pings = Pings { every, timeout };
        self
    }

    /// The agent that it connects as.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.identity().credential.agent()
    }

    /// The credential for the next connection.
    #[must_use]
    pub fn credential(&self) -> Credential {
        self.identity().credential
    }

    /// The roots for the next connection.
    #[must_use]
    pub fn trust(&self) -> TrustBundle {
        self.identity().trust
    }

    /// Uses another credential and other roots from the next connection on.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] when a root is not a certificate; nothing has changed then.
    pub fn replace(
        &self,
        credential: Credential,
        trust: TrustBundle,
    ) -> Result<(), CredentialError> {
        let identity = Identity::new(credential, trust)?;
        *self
            .identity
            .write()
            .unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    /// Dials the server and begins a session.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; what to do is with each variant.
    pub async fn connect(&self, hello: &Hello) -> Result<Link, ConnectError> {
        let identity = self.identity();
        if self.clock.now() > identity.credential.not_after() {
            return Err(ConnectError::CertificateExpired);
        }
        let dialed = self.dial(&identity).await?;
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let hello = AgentMessage {
            saying: Some(agent_message::Saying::Hello(hello.into())),
        };
        outgoing
            .try_send(hello)
            .map_err(|_| LinkError::Misunderstood("the first message was not sent"))?;
        let mut client = AgentLinkClient::with_origin(dialed.channel.clone(), origin())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let opened = tokio::time::timeout(WELCOME_TIMEOUT, async {
            let session = client.session(ReceiverStream::new(queue)).await?;
            let mut incoming = session.into_inner();
            let first = incoming.message().await?;
            Ok::<_, Status>((incoming, first))
        });
        let server = self.server.clone();
        let (incoming, first) = opened
            .await
            .map_err(|_| DialError::TimedOut { server })?
            .map_err(|status| explain_connect(&dialed, status))?;
        match first.map(FromServer::try_from) {
            Some(Ok(FromServer::Welcome(welcome))) => {
                Ok(Link::new(welcome, outgoing, incoming, dialed))
            }
            Some(_) => Err(LinkError::Misunderstood("the first message is not a welcome").into()),
            None => Err(LinkError::Closed.into()),
        }
    }

    /// Asks for the next credential, on a connection of its own. Sessions that are open go on.
    ///
    /// Works with a certificate that has expired, too: the answer is then
    /// [`RenewError::AwaitingApproval`] until an administrator has approved the agent.
    ///
    /// # Errors
    ///
    /// [`RenewError`]; what to do is with each variant.
    pub async fn renew(&self) -> Result<Renewal, RenewError> {
        let identity = self.identity();
        let key = FreshKey::generate().map_err(|_| RenewError::Key)?;
        let csr = key.csr().map_err(|_| RenewError::Key)?;
        let dialed = self.dial(&identity).await?;
        let mut client = EnrollmentClient::with_origin(dialed.channel.clone(), origin());
        let answer = tokio::time::timeout(CALL_TIMEOUT, client.renew(RenewRequest { csr }))
            .await
            .map_err(|elapsed| RenewError::Lost(Box::new(elapsed)))?
            .map_err(|status| explain_renew(&dialed, status))?
            .into_inner();
        let trust = TrustBundle::new(answer.trust_bundle).map_err(|_| RenewError::Answer)?;
        let credential = accept(key.pem(), &key.spki(), answer.certificate_chain, &trust)
            .filter(|renewed| renewed.agent() == identity.credential.agent())
            .ok_or(RenewError::Answer)?;
        Ok(Renewal { credential, trust })
    }

    async fn dial(&self, identity: &Identity) -> Result<Dialed, DialError> {
        let dial = Dial {
            server: &self.server,
            anchor: Anchor::Roots(Arc::clone(&identity.roots)),
            credential: Some(identity.credential.usable()),
            clock: &self.clock,
            pings: self.pings,
        };
        dial.connect().await
    }

    fn identity(&self) -> Identity {
        self.identity
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("server", &self.server)
            .field("agent", &self.agent())
            .finish_non_exhaustive()
    }
}

fn explain_connect(dialed: &Dialed, status: Status) -> ConnectError {
    if Refusal::of(&status).is_none()
        && let Some(error) = dialed.seen.explain()
    {
        return error.into();
    }
    LinkError::from(status).into()
}

fn explain_renew(dialed: &Dialed, status: Status) -> RenewError {
    match Refusal::of(&status) {
        Some(Refusal::AwaitingApproval) => RenewError::AwaitingApproval,
        Some(Refusal::Unwelcome) => RenewError::Refused,
        Some(Refusal::TooOften(seconds)) => {
            RenewError::TooOften(Duration::from_secs(u64::from(seconds)))
        }
        Some(Refusal::Unavailable | Refusal::Stopping) => RenewError::Unavailable,
        Some(_) => RenewError::Answer,
        None => match dialed.seen.explain() {
            Some(error) => RenewError::Dial(error),
            None => RenewError::Lost(Box::new(status)),
        },
    }
}

const QUEUE: usize = 32;
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);
