//! The same with tonic alone: TLS with certificates on both sides, one stream for each client, and
//! an echo.

use std::convert::Infallible;
use std::fs;
use std::future::{Future, ready};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arkeep_examples::until;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::{NamedService, StreamingService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::{Outcome, PATIENCE};

const NAME: &str = "bare.bench.internal";
const PATH: &str = "/bench.Echo/Session";
type Codec = ProstCodec<Vec<u8>, Vec<u8>>;

/// Serves until it is killed, with the certificates that lie in `place`.
pub(super) async fn serve(place: &Path) -> Outcome<()> {
    let roots = roots(place)?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let (chain, key) = credential(place, "server")?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    fs::write(place.join("address.new"), address)?;
    fs::rename(place.join("address.new"), place.join("address"))?;

    let (connected, incoming) = mpsc::unbounded_channel();
    let accepting = async move {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (acceptor, connected) = (acceptor.clone(), connected.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    connected.send(Ok::<_, std::io::Error>(stream)).ok();
                }
            });
        }
    };
    let serving = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .serve_with_incoming(Echo, UnboundedReceiverStream::new(incoming));
    tokio::select! {
        failed = accepting => failed,
        ended = serving => Ok(ended?),
    }
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Codec::default());
            Ok(grpc.streaming(Echo, request).await)
        })
    }
}

impl StreamingService<Vec<u8>> for Echo {
    type Response = Vec<u8>;
    type ResponseStream = Streaming<Vec<u8>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

/// The echo, in a process of its own.
pub(super) struct Server {
    place: PathBuf,
    address: String,
    process: u32,
    _child: Child,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the server is a program")]
    pub(super) async fn start(scratch: &Path) -> Outcome<Self> {
        let place = scratch.join("bare");
        fs::create_dir(&place)?;
        write_certificates(&place)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("bare-server")
            .arg(&place)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let address = until(PATIENCE, async || {
            fs::read_to_string(place.join("address")).ok()
        });
        Ok(Self {
            address: address.await.ok_or("the echo did not start")?,
            process: child.id().ok_or("the echo has ended")?,
            place,
            _child: child,
        })
    }

    pub(super) const fn process(&self) -> u32 {
        self.process
    }

    /// Connects so many clients at the same moment, and waits until each has had an answer.
    pub(super) async fn connect(&self, count: usize) -> Outcome<Clients> {
        let (chain, key) = credential(&self.place, "client")?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots(&self.place)?)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let connector = TlsConnector::from(Arc::new(config));
        let mut connecting = JoinSet::new();
        for _ in 0..count {
            connecting.spawn(Client::connect(self.address.clone(), connector.clone()));
        }
        let mut clients = Vec::with_capacity(count);
        while let Some(connected) = tokio::time::timeout(PATIENCE, connecting.join_next()).await? {
            clients.push(connected??);
        }
        Ok(Clients(clients))
    }
}

/// Clients that hold their streams open.
pub(super) struct Clients(Vec<Client>);

struct Client {
    say: mpsc::Sender<Vec<u8>>,
    hear: Streaming<Vec<u8>>,
    _channel: Channel,
}

impl Clients {
    /// How long each waits for its echo, one after the other.
    pub(super) async fn echo(&mut self) -> Outcome<Vec<Duration>> {
        let mut took = Vec::with_capacity(self.0.len());
        for client in &mut self.0 {
            let asked = Instant::now();
            client.echo().await?;
            took.push(asked.elapsed());
        }
        Ok(took)
    }
}

impl Client {
    async fn connect(address: String, tls: TlsConnector) -> Outcome<Self> {
        let dialing = tower::service_fn(move |_| -> Pin<Box<dyn Future<Output = _> + Send>> {
            let (address, tls) = (address.clone(), tls.clone());
            Box::pin(async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from(NAME)?;
                let stream = tls.connect(name, stream).await?;
                Ok::<_, StdError>(TokioIo::new(stream))
            })
        });
        let channel = Endpoint::from_static("http://bare.bench.internal")
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .connect_with_connector(dialing)
            .await?;
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await?;
        let (say, said) = mpsc::channel(32);
        say.send(vec![0; HELLO]).await?;
        let request = Request::new(ReceiverStream::new(said));
        let answer = grpc
            .streaming(
                request,
                http::uri::PathAndQuery::from_static(PATH),
                Codec::default(),
            )
            .await?;
        let mut client = Self {
            say,
            hear: answer.into_inner(),
            _channel: channel,
        };
        client.hear.message().await?.ok_or("no answer")?;
        Ok(client)
    }

    async fn echo(&mut self) -> Outcome<()> {
        self.say.send(vec![0; REPORT]).await?;
        self.hear.message().await?.ok_or("no echo")?;
        Ok(())
    }
}

/// About as long as what an agent says first, and as a report.
const HELLO: usize = 128;
const REPORT: usize = 256;

fn write_certificates(place: &Path) -> Outcome<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(place.join("root.pem"), issuer.pem())?;
    for holder in ["server", "client"] {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &issuer)?;
        fs::write(place.join(holder), certificate.pem() + &key.serialize_pem())?;
    }
    Ok(())
}

fn roots(place: &Path) -> Outcome<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(place.join("root.pem"))?)?;
    Ok(roots)
}

fn credential(
    place: &Path,
    holder: &str,
) -> Outcome<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let path = place.join(holder);
    let chain = CertificateDer::pem_file_iter(&path)?.collect::<Result<_, _>>()?;
    Ok((chain, PrivateKeyDer::from_pem_file(&path)?))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
