//! Peers that vanish, and peers that come again and again, while others work.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::StreamExt;

use arkeep_transport::client::{Connector, Link};
use arkeep_transport::server::PortConfig;
use arkeep_transport::session::{AgentSaying, ServerSaying};
use arkeep_transport::testing::messages::{AgentMessage, write_agent_message};
use arkeep_transport::testing::stream::framed;

use crate::raw;
use crate::stand::{
    Heard, Outcome, Signed, Stand, agent_subject, hello, noon, record, signed_by, soon, started,
};

const SESSION: &str = "/arkeep.agent.v1.AgentLink/Session";

async fn rogue(stand: &Stand) -> Result<Signed, Box<dyn std::error::Error>> {
    let signed = signed_by(&stand.ca, agent_subject(stand.mint()), noon()).await?;
    record(&stand.store, &signed.credential()?).await?;
    Ok(signed)
}

fn greeting(agent: &Connector) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let greeting = AgentMessage::Hello(Box::new(hello(agent)));
    Ok(write_agent_message(&greeting)?)
}

/// How long an agent that is connected waits for one acknowledgement.
async fn acknowledged(
    stand: &Stand,
    agent: &Connector,
    link: &mut Link,
) -> Result<Duration, Box<dyn std::error::Error>> {
    let job = stand.gateway.job_of(agent.agent());
    let asked = Instant::now();
    link.send(&AgentSaying::Report(started(job))).await?;
    while !matches!(soon(link.next()).await??, ServerSaying::Ack(_)) {}
    Ok(asked.elapsed())
}

/// A connection whose end falls silent, and keeps the socket open.
struct Mortal<S> {
    stream: S,
    dead: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Mortal<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.dead.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mortal<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.dead.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.dead.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// T9: a peer whose machine lost its power says nothing more, not even good-bye.
#[tokio::test]
async fn a_half_open_connection_is_found_and_let_go() -> Outcome {
    let stand = Stand::start_with(PortConfig {
        ping_every: Duration::from_millis(100),
        ping_timeout: Duration::from_millis(300),
        ..PortConfig::default()
    })
    .await?;
    let rogue = rogue(&stand).await?;
    let agent = stand.connector(rogue.credential()?)?;
    let stream = raw::connect(&stand.server, Some(&rogue), &rustls::version::TLS13).await?;
    let dead = Arc::<AtomicBool>::default();
    let stream = Mortal {
        stream,
        dead: Arc::clone(&dead),
    };
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let first = Frame::data(Bytes::from(framed(&greeting(&agent)?)));
    let body = tokio_stream::once(Ok::<_, std::convert::Infallible>(first));
    let request = Request::post(format!("https://agents.arkeep.internal{SESSION}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(body.chain(tokio_stream::pending())))?;
    let _answer = soon(sender.send_request(request)).await??;
    let connected = stand.gateway.until(|heard| match heard {
        Heard::Connected(agent, _) => Some(agent),
        _ => None,
    });
    assert_eq!(connected.await?, agent.agent());

    dead.store(true, Ordering::SeqCst);
    let gone = stand.gateway.until(|heard| match heard {
        Heard::Disconnected(agent, _) => Some(agent),
        _ => None,
    });
    assert_eq!(gone.await?, agent.agent());

    assert!(stand.control.connected().is_empty());
    driver.abort();
    Ok(())
}

/// T9: what a newer agent says besides is passed over.
#[tokio::test]
async fn an_unknown_field_beside_known_ones_is_passed_over() -> Outcome {
    let stand = Stand::start().await?;
    let rogue = rogue(&stand).await?;
    let agent = stand.connector(rogue.credential()?)?;
    let mut body = greeting(&agent)?;
    // Field 99, three bytes.
    body.extend_from_slice(&[0x9a, 0x06, 0x03, 1, 2, 3]);

    soon(raw::call(&stand.server, Some(&rogue), SESSION, body)).await??;

    let heard = stand.gateway.next().await?;
    assert!(
        matches!(heard, Heard::Connected(who, _) if who == agent.agent()),
        "{heard:?}"
    );
    Ok(())
}

const STORM: usize = 1_000;

/// T9: an agent that connects again and again supersedes itself, and nobody else waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reconnects_hold_up_nobody_else() -> Outcome {
    let stand = Stand::start_with(PortConfig {
        max_handshakes_per_address: 16,
        ..PortConfig::default()
    })
    .await?;
    let other = stand.agent().await?;
    let mut link = other.connect(&hello(&other)).await?;
    let rogue = Arc::new(stand.agent().await?);
    let mut storm = JoinSet::new();
    let (mut begun, mut took) = (0, Vec::new());

    while begun < STORM || !storm.is_empty() {
        while begun < STORM && storm.len() < 64 {
            let rogue = Arc::clone(&rogue);
            // Beyond the limit it is dropped; that is an answer, too.
            storm.spawn(async move { rogue.connect(&hello(&rogue)).await.is_ok() });
            begun += 1;
        }
        took.push(acknowledged(&stand, &other, &mut link).await?);
        while storm.try_join_next().is_some() {}
    }

    took.sort_unstable();
    let median = took.get(took.len() / 2).ok_or("nothing was measured")?;
    assert!(*median < Duration::from_secs(1), "{median:?}");
    assert!(stand.control.connected().contains(&other.agent()));
    Ok(())
}
