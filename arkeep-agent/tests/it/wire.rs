//! A wire between an agent and its server that can be cut in every way that wires are cut.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// They arrive.
    Open,
    /// They wait, and nobody is told.
    Held,
    /// After so many more the connection is reset: RST to both ends.
    Cut(usize),
}

/// Bytes on their way, by direction.
#[derive(Debug, Clone)]
struct Ways {
    to_server: Arc<watch::Sender<Flow>>,
    to_agent: Arc<watch::Sender<Flow>>,
}

pub(crate) struct Wire {
    /// Where the agent dials.
    pub(crate) address: String,
    server: Arc<watch::Sender<String>>,
    ways: Ways,
    accepted: Arc<AtomicUsize>,
    relaying: JoinHandle<()>,
}

impl Wire {
    pub(crate) async fn new() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = Arc::new(watch::Sender::new(String::new()));
        let ways = Ways {
            to_server: Arc::new(watch::Sender::new(Flow::Open)),
            to_agent: Arc::new(watch::Sender::new(Flow::Open)),
        };
        let accepted = Arc::<AtomicUsize>::default();
        let relaying = tokio::spawn({
            let (server, ways) = (Arc::clone(&server), ways.clone());
            let accepted = Arc::clone(&accepted);
            async move {
                while let Ok((agent, _)) = listener.accept().await {
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let (to, ways) = (server.borrow().clone(), ways.clone());
                    tokio::spawn(async move {
                        if let Ok(server) = TcpStream::connect(to).await {
                            relay(Arc::new(agent), Arc::new(server), &ways).await;
                        }
                    });
                }
            }
        });
        Ok(Self {
            address,
            server,
            ways,
            accepted,
            relaying,
        })
    }

    pub(crate) fn leads_to(&self, server: &str) {
        self.server.send_replace(server.to_owned());
    }

    pub(crate) fn to_server(&self, flow: Flow) {
        self.ways.to_server.send_replace(flow);
    }

    pub(crate) fn to_agent(&self, flow: Flow) {
        self.ways.to_agent.send_replace(flow);
    }

    pub(crate) fn both(&self, flow: Flow) {
        self.to_server(flow);
        self.to_agent(flow);
    }

    /// How often somebody has dialled.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Whether a cut that was asked for has happened. The wire is whole again then.
    pub(crate) fn was_cut(&self) -> bool {
        *self.ways.to_server.borrow() == Flow::Open && *self.ways.to_agent.borrow() == Flow::Open
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

async fn relay(agent: Arc<TcpStream>, server: Arc<TcpStream>, ways: &Ways) {
    let there = pour(&agent, &server, &ways.to_server);
    let back = pour(&server, &agent, &ways.to_agent);
    let reset = tokio::select! {
        reset = there => reset,
        reset = back => reset,
    };
    if reset {
        let _ = agent.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// Carries bytes until an end is reached. Says whether both ends are to be reset.
async fn pour(from: &TcpStream, to: &TcpStream, way: &watch::Sender<Flow>) -> bool {
    let mut flow = way.subscribe();
    let mut bytes = [0; 4096];
    loop {
        if from.readable().await.is_err()
            || flow.wait_for(|flow| *flow != Flow::Held).await.is_err()
        {
            return false;
        }
        let read = match from.try_read(&mut bytes) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return false,
        };
        let now = *flow.borrow();
        let (carried, is_cut) = match now {
            Flow::Cut(left) if left <= read => (left, true),
            Flow::Cut(left) => {
                way.send_replace(Flow::Cut(left - read));
                (read, false)
            }
            Flow::Open | Flow::Held => (read, false),
        };
        if put(to, &bytes[..carried]).await.is_err() {
            return false;
        }
        if is_cut {
            way.send_replace(Flow::Open);
            return true;
        }
    }
}

async fn put(to: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
