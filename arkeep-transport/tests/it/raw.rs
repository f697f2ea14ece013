//! A client and a server that keep to no rule of ours.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use arkeep_transport::address::ServerAddress;

use crate::stand::Signed;

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The connection was refused before anything was answered.
    Disconnected,
    /// A gRPC status.
    Status(u32, String),
}

/// Makes a call with one message, as whoever holds `identity`.
pub(crate) async fn call(
    server: &ServerAddress,
    identity: Option<&Signed>,
    path: &str,
    message: Vec<u8>,
) -> Result<Answer, Box<dyn Error>> {
    let Ok(stream) = connect(server, identity, &rustls::version::TLS13).await else {
        return Ok(Answer::Disconnected);
    };
    let body = Full::new(Bytes::from(framed(&message)));
    Box::pin(post(stream, path, body)).await
}

/// Makes a call, and never sends a message.
pub(crate) async fn open_and_wait(
    stream: TlsStream<TcpStream>,
    path: &str,
) -> Result<Answer, Box<dyn Error>> {
    let nothing = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>());
    Box::pin(post(stream, path, nothing)).await
}

async fn post<B>(
    stream: TlsStream<TcpStream>,
    path: &str,
    body: B,
) -> Result<Answer, Box<dyn Error>>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static,
{
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let Ok((mut sender, connection)) = handshake else {
        return Ok(Answer::Disconnected);
    };
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("https://agents.arkeep.internal{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    let answer = match sender.send_request(request).await {
        Err(_) => Answer::Disconnected,
        Ok(response) => answer_of(response).await?,
    };
    driver.abort();
    Ok(answer)
}

async fn answer_of(response: Response<Incoming>) -> Result<Answer, Box<dyn Error>> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await.ok();
    let trailers = collected
        .as_ref()
        .and_then(|collected| collected.trailers());
    let found = |name: &str| {
        let trailing = trailers.and_then(|trailers| trailers.get(name));
        let value = head.headers.get(name).or(trailing)?;
        value.to_str().ok().map(str::to_owned)
    };
    Ok(match found("grpc-status") {
        Some(code) => {
            let message = found("grpc-message").unwrap_or_default();
            Answer::Status(code.parse()?, message.replace("%20", " "))
        }
        None => Answer::Disconnected,
    })
}

/// One message as gRPC frames it.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(body);
    framed
}

/// A TLS connection that trusts whoever answers.
pub(crate) async fn connect(
    server: &ServerAddress,
    identity: Option<&Signed>,
    version: &'static SupportedProtocolVersion,
) -> Result<TlsStream<TcpStream>, Box<dyn Error>> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match identity {
        Some(Signed { key, chain }) => {
            let chain = chain.iter().cloned().map(CertificateDer::from).collect();
            let key = PrivateKeyDer::try_from(key.serialize_der())?;
            config.with_client_auth_cert(chain, key)?
        }
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect((server.host(), server.port())).await?;
    let name = ServerName::try_from("agents.arkeep.internal")?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}

/// A port that ends TLS with a certificate of its own, as a proxy does.
pub(crate) async fn tls_listener(
    chain: Vec<Vec<u8>>,
    key: &rcgen::KeyPair,
) -> Result<ServerAddress, Box<dyn Error>> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string().parse()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    Ok(address)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
