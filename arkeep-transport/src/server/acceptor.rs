use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
                Ok(Err(refused)) => tracing::debug!(%address, %refused, "handshake refused"),
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

async fn shake_hands(
    shared: &Arc<Shared>,
    tls: &Tls,
    stream: TcpStream,
    address: SocketAddr,
) -> Result<(TlsStream<TcpStream>, Arc<Connection>), Refused> {
    // Without it, small messages wait for the delayed acknowledgements of larger ones.
    stream.set_nodelay(true)?;
    let config = tls.config().await;
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(crate::certificate::ALPN) {
        return Err(Refused::Protocol);
    }
    let who = match session.peer_certificates().and_then(<[_]>::first) {
        None => Who::Stranger,
        Some(certificate) => {
            let ours = &shared.config.trust_domain;
            let identity = Leaf::read(certificate)
                .and_then(|leaf| AgentIdentity::from_verified(&leaf, ours))
                .ok_or(Refused::Standing)?;
            let store = &shared.parts.store;
            let standing = store.standing(identity.agent(), identity.serial()).await?;
            if standing != Standing::Good {
                shared.registry.refuse(&identity);
                return Err(Refused::Standing);
            }
            Who::Agent(identity)
        }
    };
    Ok((stream, Arc::new(Connection::new(who, address))))
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

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
