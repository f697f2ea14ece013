use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tower::Service;

use arkeep_core::{Clock, Timestamp};

use crate::SERVER_NAME;
use crate::address::ServerAddress;
use crate::certificate::{ALPN, OurTime, VERSIONS, provider};

use super::DialError;
use super::verify::{Anchor, Distrust, ServerVerifier};

/// Where to, by what, and as whom.
pub(super) struct Dial<'a> {
    pub(super) server: &'a ServerAddress,
    pub(super) anchor: Anchor,
    pub(super) credential: Option<Arc<CertifiedKey>>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) pings: Pings,
}

/// How a silent server is asked whether it is still there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pings {
    pub(super) every: Duration,
    pub(super) timeout: Duration,
}

impl Default for Pings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
        }
    }
}

/// An HTTP/2 connection to a server that has proven itself. Ends when it is dropped.
pub(super) struct Dialed {
    pub(super) channel: Channel,
    pub(super) seen: Arc<Seen>,
    driver: AbortHandle,
}

impl Drop for Dialed {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Dial<'_> {
    pub(super) async fn connect(self) -> Result<Dialed, DialError> {
        let server = self.server.clone();
        match tokio::time::timeout(DIAL_TIMEOUT, self.connect_at_leisure()).await {
            Ok(connected) => connected,
            Err(_) => Err(DialError::TimedOut { server }),
        }
    }

    async fn connect_at_leisure(self) -> Result<Dialed, DialError> {
        let server = self.server;
        let has_credential = self.credential.is_some();
        let now = self.clock.now();
        let config = client_config(self.anchor, self.credential, self.clock)?;
        let unreachable = |source| DialError::Unreachable {
            server: server.clone(),
            source,
        };
        let stream = TcpStream::connect((server.host(), server.port()))
            .await
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::try_from(SERVER_NAME)
            .map_err(|error| DialError::Unusable(Box::new(error)))?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| handshake_error(error, server, now))?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            let server = server.clone();
            return Err(DialError::Intercepted { server });
        }
        let seen = Arc::new(Seen {
            server: server.clone(),
            has_credential,
            state: Mutex::default(),
        });
        let watched = Watched {
            stream,
            seen: Arc::clone(&seen),
        };
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.pings.every)
            .keep_alive_timeout(self.pings.timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(watched))
            .await
            .map_err(|error| seen.explain().unwrap_or_else(|| broken(server, &error)))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn Error, "the connection has ended");
            }
        });
        Ok(Dialed {
            channel: Channel(sender),
            seen,
            driver: driver.abort_handle(),
        })
    }
}

fn client_config(
    anchor: Anchor,
    credential: Option<Arc<CertifiedKey>>,
    clock: &Arc<dyn Clock>,
) -> Result<ClientConfig, DialError> {
    let provider = provider();
    let verifier = ServerVerifier {
        anchor,
        provider: Arc::clone(&provider),
    };
    let time = Arc::new(OurTime(Arc::clone(clock)));
    let config = ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(VERSIONS)
        .map_err(|error| DialError::Unusable(Box::new(error)))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credential {
        Some(key) => config.with_client_cert_resolver(Arc::new(Always(key))),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Shows the one certificate that there is, whatever the server hints at.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn handshake_error(error: io::Error, server: &ServerAddress, now: Timestamp) -> DialError {
    let server = server.clone();
    let Some(tls) = tls_error(&error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => DialError::Dropped { server },
            _ => DialError::Unreachable {
                server,
                source: error,
            },
        };
    };
    match Distrust::of(tls) {
        Some(Distrust::AnotherCa) => DialError::WrongServer { server },
        Some(Distrust::Dates {
            not_before,
            not_after,
        }) => DialError::ClockOff {
            now,
            not_before,
            not_after,
        },
        // No TLS at all, another version of it, another certificate: not the agent port.
        Some(Distrust::Foreign) | None => DialError::Intercepted { server },
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn broken(server: &ServerAddress, error: &hyper::Error) -> DialError {
    DialError::Unreachable {
        server: server.clone(),
        source: io::Error::other(error.to_string()),
    }
}

/// What became of a connection, beneath HTTP/2.
///
/// A TLS 1.3 server judges the client's certificate when the client already believes itself
/// connected: the refusal arrives as an alert in place of the first answer, or as a silent end.
/// HTTP/2 makes "cancelled" of both.
#[derive(Debug)]
pub(super) struct Seen {
    server: ServerAddress,
    has_credential: bool,
    state: Mutex<SeenState>,
}

#[derive(Debug, Default)]
struct SeenState {
    heard_anything: bool,
    alert: Option<AlertDescription>,
    ended: bool,
}

impl Seen {
    /// Why the connection failed, if that was decided beneath HTTP/2.
    pub(super) fn explain(&self) -> Option<DialError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let server = self.server.clone();
        match state.alert {
            Some(_) if self.has_credential => Some(DialError::CertificateRefused),
            Some(_) => Some(DialError::Intercepted { server }),
            None if state.ended && !state.heard_anything => Some(DialError::Dropped { server }),
            None => None,
        }
    }

    fn note_end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
    }

    fn note(&self, outcome: &io::Result<()>, received: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) if received > 0 => state.heard_anything = true,
            Ok(()) => state.ended = true,
            Err(error) => {
                state.ended = true;
                if let Some(rustls::Error::AlertReceived(alert)) = tls_error(error) {
                    state.alert = Some(*alert);
                }
            }
        }
    }
}

/// A TLS stream that remembers how it ended.
struct Watched {
    stream: TlsStream<TcpStream>,
    seen: Arc<Seen>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(outcome) = &polled {
            self.seen.note(outcome, buf.filled().len() - before);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Err(_)) = &polled {
            self.seen.note_end();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The connection as tonic's clients want it.
#[derive(Clone)]
pub(super) struct Channel(SendRequest<Body>);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").finish_non_exhaustive()
    }
}

/// The authority of every call. The connection is already there, so it names no place.
pub(super) fn origin() -> Uri {
    Uri::from_static("https://agents.arkeep.internal")
}

const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
