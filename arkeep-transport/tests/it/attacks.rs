//! What one hostile peer can do to the others: nothing that they would notice.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use arkeep_core::job::Work;
use arkeep_transport::client::{Connector, LinkError};
use arkeep_transport::enrollment::EnrollmentStore;
use arkeep_transport::gateway::PushError;
use arkeep_transport::server::PortConfig;
use arkeep_transport::session::{AgentSaying, Heartbeat, ServerSaying};

use crate::raw::{Answer, call};
use crate::stand::{
    Heard, Outcome, Signed, Stand, agent_subject, assignment, hello, nobodys_job, noon, record,
    signed_by, soon, started,
};

const SESSION: &str = "/arkeep.agent.v1.AgentLink/Session";
const INVALID_ARGUMENT: u32 = 3;

/// An agent whose certificate is good and whose manners are not.
async fn rogue(stand: &Stand) -> Result<Signed, Box<dyn std::error::Error>> {
    let signed = signed_by(&stand.ca, agent_subject(stand.mint()), noon()).await?;
    record(&stand.store, &signed.credential()?).await?;
    Ok(signed)
}

/// How long a well-behaved agent waits for an acknowledgement.
async fn latency(stand: &Stand, agent: &Connector) -> Result<Duration, Box<dyn std::error::Error>> {
    let job = stand.gateway.job_of(agent.agent());
    let mut link = agent.connect(&hello(agent)).await?;
    let asked = Instant::now();
    link.send(&AgentSaying::Report(started(job))).await?;
    let answer = soon(link.next()).await??;
    assert!(matches!(answer, ServerSaying::Ack(_)), "{answer:?}");
    Ok(asked.elapsed())
}

/// T9
#[tokio::test]
async fn a_message_of_more_than_four_mebibytes_ends_the_session() -> Outcome {
    let stand = Stand::start().await?;
    let rogue = rogue(&stand).await?;
    let body = vec![0; 4 * 1024 * 1024 + 1];

    let answer = soon(call(&stand.server, Some(&rogue), SESSION, body)).await??;

    let message = "the message is larger than 4 MiB".to_owned();
    assert_eq!(answer, Answer::Status(INVALID_ARGUMENT, message));
    Ok(())
}

/// T9
#[tokio::test]
async fn nonsense_and_wrong_order_end_the_session() -> Outcome {
    let stand = Stand::start().await?;
    let rogue = rogue(&stand).await?;
    let heartbeat = vec![0x32, 0x00];
    let empty_hello = vec![0x0a, 0x00];
    let unknown_field = vec![0x9a, 0x06, 0x00];

    for (body, told) in [
        (heartbeat, "the first message was not understood"),
        (empty_hello, "the first message was not understood"),
        (unknown_field, "the first message was not understood"),
        (vec![], "the first message was not understood"),
        (vec![0xff; 32], "a message was not understood"),
    ] {
        let answer = soon(call(&stand.server, Some(&rogue), SESSION, body.clone())).await??;

        let expected = Answer::Status(INVALID_ARGUMENT, told.to_owned());
        assert_eq!(answer, expected, "{body:?}");
    }
    assert!(stand.control.connected().is_empty());
    Ok(())
}

/// T9
#[tokio::test]
async fn handshakes_that_never_end_hold_up_nobody_else() -> Outcome {
    let stand = Stand::start_with(PortConfig {
        handshake_timeout: Duration::from_millis(300),
        max_handshakes: 24,
        max_handshakes_per_address: 8,
        ..PortConfig::default()
    })
    .await?;
    let agent = stand.agent().await?;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(connect_from("127.0.0.2", &stand).await?);
    }

    // The rogue's eight places are taken, and sixteen are left.
    latency(&stand, &agent).await?;

    for mut stream in silent {
        let mut nothing = [0; 1];
        // Beyond the limit, or out of time: closed either way.
        let end = soon(stream.read(&mut nothing)).await?;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    Ok(())
}

async fn connect_from(
    address: &str,
    stand: &Stand,
) -> Result<TcpStream, Box<dyn std::error::Error>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{address}:0").parse()?)?;
    let server = (stand.server.host(), stand.server.port());
    let server = tokio::net::lookup_host(server).await?.next();
    Ok(socket.connect(server.ok_or("no address")?).await?)
}

/// T9
#[tokio::test]
async fn a_stranger_is_not_kept() -> Outcome {
    let stand = Stand::start_with(PortConfig {
        stranger_lifetime: Duration::from_millis(50),
        ..PortConfig::default()
    })
    .await?;

    let mut stream = crate::raw::connect(&stand.server, None, &rustls::version::TLS13).await?;

    let mut everything = Vec::new();
    let _ = soon(stream.read_to_end(&mut everything)).await?;
    assert!(stand.control.peers().is_empty());
    Ok(())
}

/// T9
#[tokio::test]
async fn an_agent_that_says_nothing_is_let_go() -> Outcome {
    let stand = Stand::start_with(PortConfig {
        handshake_timeout: Duration::from_millis(200),
        ..PortConfig::default()
    })
    .await?;
    let rogue = rogue(&stand).await?;
    let stream = crate::raw::connect(&stand.server, Some(&rogue), &rustls::version::TLS13).await?;

    let status = soon(crate::raw::open_and_wait(stream, SESSION)).await??;

    let message = "the first message took too long".to_owned();
    assert_eq!(status, Answer::Status(INVALID_ARGUMENT, message));
    Ok(())
}

/// T9
#[tokio::test]
async fn an_agent_that_does_not_read_fills_its_own_queue_only() -> Outcome {
    let stand = Stand::start_with(PortConfig {
        queue: 4,
        ..PortConfig::default()
    })
    .await?;
    let (deaf, other) = (stand.agent().await?, stand.agent().await?);
    let link = deaf.connect(&hello(&deaf)).await?;
    let handle = stand.gateway.handle(deaf.agent())?;
    let mut heavy = assignment(nobodys_job())?;
    if let Work::Test(test) = &mut heavy.work {
        test.repository.password = "x".repeat(1024 * 1024).into();
    }

    let mut refused = Ok(());
    for _ in 0..100 {
        refused = handle.assign(&heavy);
        if refused.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }

    assert_eq!(refused, Err(PushError::Full));
    latency(&stand, &other).await?;
    drop(link);
    Ok(())
}

/// T9
#[tokio::test]
async fn a_flood_is_slowed_down_and_others_are_heard() -> Outcome {
    let stand = Stand::start_with(PortConfig {
        messages_per_second: 10,
        ..PortConfig::default()
    })
    .await?;
    let (rogue, other) = (stand.agent().await?, stand.agent().await?);
    let link = rogue.connect(&hello(&rogue)).await?;
    let (sender, mut receiver) = link.split();
    let trust = rogue.trust().digest();
    let flood = tokio::spawn(async move {
        let held = Vec::new();
        let heartbeat = AgentSaying::Heartbeat(Heartbeat { held, trust });
        for _ in 0..100_000 {
            if sender.send(&heartbeat).await.is_err() {
                return;
            }
        }
    });
    // A hundred pass at once; from then on each second lets ten pass.
    let mut heard = 0;
    while heard < 100 {
        if matches!(stand.gateway.next().await?, Heard::Heartbeat(..)) {
            heard += 1;
        }
    }

    let spent = Instant::now();
    latency(&stand, &other).await?;

    let mut since = 0;
    while let Ok(heard) = stand.gateway.try_next() {
        since += u64::from(matches!(heard, Heard::Heartbeat(..)));
    }
    let allowed = 10 * (spent.elapsed().as_secs() + 2);
    assert!(since <= allowed, "{since} of {allowed}");
    stand.store.withdraw(rogue.agent(), noon()).await?;
    stand.control.revoked(rogue.agent());
    // Being slowed down does not keep it in.
    let ended = soon(receiver.next()).await?;
    assert!(matches!(ended, Err(LinkError::Refused)), "{ended:?}");
    flood.abort();
    Ok(())
}

/// T5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_five_hundred_streams_those_revoked_end_within_a_second() -> Outcome {
    let stand = Stand::start().await?;
    let mut links = Vec::new();
    for _ in 0..500 {
        let signed = signed_by(&stand.ca, agent_subject(stand.mint()), noon()).await?;
        let credential = signed.credential()?;
        record(&stand.store, &credential).await?;
        let agent = stand.connector(credential)?;
        let link = soon(agent.connect(&hello(&agent))).await??;
        links.push((agent.agent(), link));
    }

    let mut took = Vec::new();
    // Every fifth; the others stay open.
    for (agent, link) in links.iter_mut().step_by(5) {
        let agent = *agent;
        let revoked = Instant::now();
        stand.store.withdraw(agent, noon()).await?;
        stand.control.revoked(agent);
        let ended = soon(link.next()).await?;
        took.push(revoked.elapsed());
        assert!(matches!(ended, Err(LinkError::Refused)), "{ended:?}");
    }

    let late = took.iter().filter(|took| **took > Duration::from_secs(1));
    assert!(late.count() <= 1, "{took:?}");
    assert_eq!((took.len(), links.len()), (100, 500));
    Ok(())
}
