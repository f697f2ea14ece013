use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::Leaf;
use crate::enrollment::Standing;
use crate::identity::AgentIdentity;

use super::Shared;
use super::connection::{Connection, Io, Who};
use super::tls::Tls;

/// Shakes hands, and passes on whoever may stay.
///
/// Every handshake is a task of its own with a limit on its time, so a peer that dawdles holds up
/// nobody; limits on their number, in all and from one address, bound what dawdling costs.
pub(super) struct Acceptor {
    shared: Arc<Shared>,
    tls: Arc<Tls>,
    accepted: mpsc::Sender<io::Result<Io>>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    per_address: Arc<PerAddress>,
}

impl Acceptor {
    pub(super) fn new(
        shared: Arc<Shared>,
        tls: Arc<Tls>,
        accepted: mpsc::Sender<io::Result<Io>>,
    ) -> Self {
        let config = &shared.config;
        Self {
            connections: Arc::new(Semaphore::new(config.max_connections)),
            handshakes: Arc::new(Semaphore::new(config.max_handshakes)),
            per_address: Arc::new(PerAddress::new(config.max_handshakes_per_address)),
            shared,
            tls,
            accepted,
        }
    }

    pub(super) async fn run(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.take(stream, address),
                // Out of descriptors, most likely. Connections that end will free some.
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    // Beyond a limit the connection is dropped at once: waiting would let whoever fills the limits
    // fill the memory too.
    fn take(&self, stream: TcpStream, address: SocketAddr) {
        let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() else {
            return tracing::debug!(%address, "refused: too many connections");
        };
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            return tracing::debug!(%address, "refused: too many handshakes");
        };
        let Some(turn) = Turn::take(&self.per_address, address.ip()) else {
            return tracing::debug!(%address, "refused: too many handshakes from there");
        };
        let shared = Arc::clone(&self.shared);
        let tls = Arc::clone(&self.tls);
        let accepted = self.accepted.clone();
        tokio::spawn(async move {
            let limit = shared.config.handshake_timeout;
            let shaking = shake_hands(&shared, &tls, stream, address);
            let outcome = tokio::time::timeout(limit, shaking).await;
            drop((handshake, turn));
            match outcome {
                Ok(Ok((stream, connection))) => {
                    if let Some(io) = admit(&shared, stream, connection, permit) {
                        // The receiver is gone when the server stops.
                        let _ = accepted.send(Ok(io)).await;
                    }
                }
                Ok(Err((refused, stream))) => {
                    tracing::debug!(%address, %refused, "handshake refused");
                    if let Some(stream) = stream {
                        let _ = tokio::time::timeout(LINGER, hear_out(stream)).await;
                    }
                }
                Err(_) => tracing::debug!(%address, "handshake took too long"),
            }
        });
    }
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0}")]
    Handshake(#[from] io::Error),
    #[error("the peer does not speak HTTP/2")]
    Protocol,
    #[error("the agent is not welcome")]
    Standing,
    #[error("the store cannot be asked: {0}")]
    Store(#[from] arkeep_core::StoreError),
}

/// Why not, and what is left of the connection.
type Refusal = (Refused, Option<TcpStream>);

async fn shake_hands(
    shared: &Arc<Shared>,
    tls: &Tls,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<(TlsStream<TcpStream>, Arc<Connection>), Refusal> {
    // Without it, small messages wait for the delayed acknowledgements of larger ones.
    stream
        .set_nodelay(true)
        .map_err(|error| (error.into(), None))?;
    let config = tls.config().await;
    let shaken = TlsAcceptor::from(config)
        .accept(stream)
        .into_fallible()
        .await;
    let mut stream = shaken.map_err(|(error, stream)| (error.into(), Some(stream)))?;
    match recognise(shared, &stream).await {
        Ok(who) => Ok((stream, Arc::new(Connection::new(who, address)))),
        Err(refused) => {
            let _ = stream.shutdown().await;
            let (stream, _) = stream.into_inner();
            Err((refused, Some(stream)))
        }
    }
}

async fn recognise(shared: &Arc<Shared>, stream: &TlsStream<TcpStream>) -> Result<Who, Refused> {
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(crate::certificate::ALPN) {
        return Err(Refused::Protocol);
    }
    let Some(certificate) = session.peer_certificates().and_then(<[_]>::first) else {
        return Ok(Who::Stranger);
    };
    let ours = &shared.config.trust_domain;
    let identity = Leaf::read(certificate)
        .and_then(|leaf| AgentIdentity::from_verified(&leaf, ours))
        .ok_or(Refused::Standing)?;
    let store = &shared.parts.store;
    match store.standing(identity.agent(), identity.serial()).await? {
        Standing::Good => Ok(Who::Agent(identity)),
        Standing::Refused => {
            shared.registry.refuse(&identity);
            Err(Refused::Standing)
        }
    }
}

/// Reads what the peer still has to say, so that it hears why it was refused: closing with unread
/// bytes would reset the connection, and the alert would be lost on its way.
async fn hear_out(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut unheard = [0; 1024];
    let mut rest = HEARD_OUT;
    while rest > 0 {
        match stream.read(&mut unheard).await {
            Ok(0) | Err(_) => return,
            Ok(some) => rest = rest.saturating_sub(some),
        }
    }
}

fn admit(
    shared: &Arc<Shared>,
    stream: TlsStream<TcpStream>,
    connection: Arc<Connection>,
    permit: OwnedSemaphorePermit,
) -> Option<Io> {
    let number = shared.registry.admit(&connection)?;
    let now = shared.parts.clock.now();
    let current = connection
        .identity()
        .is_some_and(|identity| now <= identity.not_after());
    let lifetime = (!current).then_some(shared.config.stranger_lifetime);
    let place = (Arc::clone(shared), number, permit);
    Some(Io::new(stream, connection, lifetime, place))
}

/// Handshakes under way, by address.
#[derive(Debug)]
struct PerAddress {
    limit: usize,
    turns: Mutex<HashMap<IpAddr, usize>>,
}

impl PerAddress {
    fn new(limit: usize) -> Self {
        let turns = Mutex::default();
        Self { limit, turns }
    }
}

/// One handshake of an address, until it is dropped.
#[derive(Debug)]
struct Turn {
    all: Arc<PerAddress>,
    address: IpAddr,
}

impl Turn {
    fn take(all: &Arc<PerAddress>, address: IpAddr) -> Option<Self> {
        let mut turns = all.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = turns.entry(address).or_default();
        if *taken >= all.limit {
            return None;
        }
        *taken += 1;
        Some(Self {
            all: Arc::clone(all),
            address,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self
            .all
            .turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = turns.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                turns.remove(&self.address);
            }
        }
    }
}

const LINGER: Duration = Duration::from_secs(1);
const HEARD_OUT: usize = 64 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
