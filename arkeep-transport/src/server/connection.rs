use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use arkeep_core::AgentId;

use crate::identity::AgentIdentity;

use super::Shared;
use super::ending::Ending;
use super::registry::Number;

/// One connection, as the judge sees it: who is at its other end, and whether it has been ended.
#[derive(Debug)]
pub(super) struct Connection {
    who: Who,
    address: SocketAddr,
    ending: Arc<Ending>,
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// It showed no certificate.
    Stranger,
    /// It showed a certificate of ours, which may have expired.
    Agent(AgentIdentity),
}

impl Connection {
    pub(super) fn new(who: Who, address: SocketAddr) -> Self {
        let ending = Arc::default();
        Self {
            who,
            address,
            ending,
        }
    }

    pub(super) const fn who(&self) -> &Who {
        &self.who
    }

    pub(super) const fn identity(&self) -> Option<&AgentIdentity> {
        match &self.who {
            Who::Stranger => None,
            Who::Agent(identity) => Some(identity),
        }
    }

    pub(super) fn agent(&self) -> Option<AgentId> {
        self.identity().map(AgentIdentity::agent)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) const fn ending(&self) -> &Arc<Ending> {
        &self.ending
    }
}

/// The bytes of a connection. They cease when its ending comes.
pub(super) struct Io {
    stream: TlsStream<TcpStream>,
    connection: Arc<Connection>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
    number: Number,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Io {
    /// `lifetime` is for connections that must not stay: those without a current certificate.
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        connection: Arc<Connection>,
        lifetime: Option<Duration>,
        place: (Arc<Shared>, Number, OwnedSemaphorePermit),
    ) -> Self {
        let (shared, number, permit) = place;
        let ended = connection.ending().token();
        let cut = Box::pin(async move {
            match lifetime {
                None => ended.cancelled().await,
                Some(lifetime) => {
                    tokio::select! {
                        () = ended.cancelled() => {}
                        () = tokio::time::sleep(lifetime) => return,
                    }
                }
            }
            // The last words of the streams are still to be sent.
            tokio::time::sleep(LAST_WORDS).await;
        });
        Self {
            stream,
            connection,
            cut,
            is_cut: false,
            number,
            shared,
            _permit: permit,
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.connection.ending().end(super::ending::Reason::Gone);
        self.shared.registry.release(self.number);
    }
}

impl Connected for Io {
    type ConnectInfo = Arc<Connection>;

    fn connect_info(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

const LAST_WORDS: Duration = Duration::from_millis(500);
