//! Connections: how many, how long, and how they end.
//!
//! A slow or silent client holds one connection and no thread. It must finish its TLS handshake in
//! time, say in time which HTTP it speaks, then send the head of each request in time; what comes
//! after is bounded by the request's own limits. One address holds a quarter of the connections at
//! most, unless it is that of a trusted proxy. When the server stops, open requests end and idle
//! connections are closed.

mod prompt;
mod seats;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::address::Peer;
use crate::config::Cidr;
use prompt::Prompt;
use seats::{Seat, Seats};

/// Answers HTTP until `stop`, then lets open requests end for at most `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    trusted_proxies: Vec<Cidr>,
    stop: CancellationToken,
    grace: Duration,
) {
    let server = Server {
        router,
        tls: tls.map(TlsAcceptor::from),
        protocol: protocol(),
    };
    let graceful = GracefulShutdown::new();
    let seats = Seats::new(MAX_CONNECTIONS, MAX_OF_ONE_ADDRESS, trusted_proxies);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &seats) => accepted,
        };
        match accepted {
            Ok(None) => {}
            Ok(Some((stream, peer, seat))) => {
                let server = server.clone();
                let watcher = graceful.watcher();
                tokio::spawn(async move {
                    server.connection(stream, peer, watcher).await;
                    drop(seat);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: it passes when a connection ends.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(grace, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests were still open when their time to end was over");
    }
}

type Accepted = (TcpStream, SocketAddr, Seat);

// The seat comes first: whoever finds none waits in the kernel's queue, where waiting is cheap.
// An address that holds too many is hung up on.
async fn accept(listener: &TcpListener, seats: &Seats) -> std::io::Result<Option<Accepted>> {
    let free = seats.free().await?;
    let (stream, peer) = listener.accept().await?;
    let seat = free.take(peer.ip());
    if seat.is_none() {
        tracing::debug!(%peer, "the address holds too many connections");
    }
    Ok(seat.map(|seat| (stream, peer, seat)))
}

#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<TlsAcceptor>,
    protocol: auto::Builder<TokioExecutor>,
}

impl Server {
    async fn connection(self, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        // Answers are small; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        match self.tls.clone() {
            None => self.http(stream, peer, watcher).await,
            Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => self.http(stream, peer, watcher).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS came about"),
                Err(_) => tracing::debug!(%peer, "no TLS came about in time"),
            },
        }
    }

    async fn http(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: SocketAddr,
        watcher: Watcher,
    ) {
        let router = self.router;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let mut router = router.clone();
            async move {
                // A router is always ready.
                let response: Result<Response<Body>, Infallible> = router.call(request).await;
                response
            }
        });
        let stream = TokioIo::new(Prompt::new(stream, HEAD));
        let connection = self.protocol.serve_connection(stream, service);
        if let Err(error) = watcher.watch(connection.into_owned()).await {
            tracing::debug!(%peer, error = %error, "the connection broke");
        }
    }
}

fn protocol() -> auto::Builder<TokioExecutor> {
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(HEAD)
        .keep_alive_timeout(HEAD);
    protocol
}

/// Connections at once. More wait in the kernel.
const MAX_CONNECTIONS: usize = 1_024;

/// Connections at once of one address, or of one /64 of IPv6.
const MAX_OF_ONE_ADDRESS: usize = MAX_CONNECTIONS / 4;

/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;

/// Bytes of a request's head.
const MAX_HEAD: usize = 32 << 10;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long it may take to say which HTTP is spoken, how long the head of a request may take, and how long a connection may be idle before it.
const HEAD: Duration = Duration::from_secs(15);

/// How long to wait when the system has no descriptor left.
const BREATH: Duration = Duration::from_millis(50);
