//! The root is replaced while agents are connected.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use arkeep_transport::ca::{LocalCa, SwappableCa};
use arkeep_transport::client::{ConnectError, Connector, DialError, Link, enroll};
use arkeep_transport::server::PortConfig;
use arkeep_transport::session::{Ack, AgentSaying, Heartbeat, Receipt, ServerSaying};
use arkeep_transport::token::{DEFAULT_VALIDITY, JoinToken, TokenTerms};
use arkeep_transport::trust::TrustBundle;

use crate::stand::{Heard, Outcome, Stand, hello, noon, soon, started};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const AGENTS: usize = 100;

/// Waits until the agent is told of these roots, and takes them over.
async fn take_over(
    connector: &Connector,
    link: &mut Link,
    expected: &TrustBundle,
) -> Result<(), Failure> {
    loop {
        if let ServerSaying::Trust(bundle) = link.next().await? {
            let last = bundle == *expected;
            connector.replace(connector.credential(), bundle)?;
            let heartbeat = Heartbeat {
                held: Vec::new(),
                trust: connector.trust().digest(),
            };
            link.send(&AgentSaying::Heartbeat(heartbeat)).await?;
            if last {
                return Ok(());
            }
        }
    }
}

/// Everyone takes the roots over, and the server hears it.
async fn all_take_over(
    stand: &Stand<SwappableCa>,
    fleet: &mut Vec<(Connector, Link)>,
    expected: &TrustBundle,
) -> Outcome {
    let mut taking = JoinSet::new();
    for (connector, mut link) in fleet.drain(..) {
        let expected = expected.clone();
        taking.spawn(async move {
            take_over(&connector, &mut link, &expected).await?;
            Ok::<_, Failure>((connector, link))
        });
    }
    for taken in soon(taking.join_all()).await? {
        fleet.push(taken.map_err(|error| error.to_string())?);
    }
    for _ in 0..fleet.len() {
        let said = stand.gateway.until(|heard| match heard {
            Heard::Heartbeat(_, heartbeat) => Some(heartbeat.trust),
            _ => None,
        });
        assert_eq!(said.await?, expected.digest());
    }
    Ok(())
}

/// Everyone connects anew and has a report taken in.
async fn all_report(stand: &Stand<SwappableCa>, fleet: &mut [(Connector, Link)]) -> Outcome {
    for (connector, link) in fleet {
        let job = stand.gateway.job_of(connector.agent());
        *link = soon(connector.connect(&hello(connector))).await??;
        link.send(&AgentSaying::Report(started(job))).await?;
        let answer = soon(link.next()).await??;
        let ServerSaying::Ack(Ack { receipt, .. }) = answer else {
            return Err(format!("{answer:?}").into());
        };
        assert_eq!(receipt, Receipt::Stored);
    }
    Ok(())
}

/// T7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_agents_follow_from_root_to_root_and_lose_no_job() -> Outcome {
    let (old, old_key) = LocalCa::generate(noon())?;
    let (new, new_key) = LocalCa::generate(noon())?;
    let reload = |ca: &LocalCa, key: &_| LocalCa::load(&ca.root_pem(), key);
    let both = TrustBundle::new([old.root_der().to_vec(), new.root_der().to_vec()])?;
    let only_new = TrustBundle::new([new.root_der().to_vec()])?;
    let config = PortConfig {
        standing_ttl: Duration::from_millis(50),
        messages_per_second: 1_000,
        ..PortConfig::default()
    };
    let fingerprint = old.fingerprint();
    let ca = SwappableCa::new(Arc::new(reload(&old, &old_key)?));
    let stand = Stand::start_over(ca, fingerprint, config).await?;
    let mut fleet = Vec::new();
    for _ in 0..AGENTS {
        let connector = stand.agent().await?;
        let link = connector.connect(&hello(&connector)).await?;
        fleet.push((connector, link));
    }
    let away = stand.agent().await?;

    // Both are trusted; the old one signs.
    let announced = reload(&old, &old_key)?.with_trusted([new.root_der().to_vec()])?;
    stand.ca.swap(Arc::new(announced));
    all_take_over(&stand, &mut fleet, &both).await?;
    all_report(&stand, &mut fleet).await?;

    // Both are trusted; the new one signs.
    let issuing = reload(&new, &new_key)?.with_trusted([old.root_der().to_vec()])?;
    stand.ca.swap(Arc::new(issuing));
    for (connector, _) in &fleet {
        let renewal = soon(connector.renew()).await??;
        assert_eq!(renewal.trust, both);
        connector.replace(renewal.credential, renewal.trust)?;
    }
    all_report(&stand, &mut fleet).await?;

    // A token that is made now names the new root.
    let terms = TokenTerms {
        server: stand.server.clone(),
        fingerprint: new.fingerprint(),
        validity: DEFAULT_VALIDITY,
    };
    let token = JoinToken::mint(terms, noon(), &arkeep_core::SystemEntropy)?;
    let newcomer = token.offered_to(stand.mint());
    arkeep_transport::enrollment::EnrollmentStore::offer(&*stand.store, &newcomer).await?;
    let enrolled = soon(enroll(&token, &stand.clock())).await??;
    assert_eq!(enrolled.trust, both);

    // The old one is gone.
    stand.ca.swap(Arc::new(reload(&new, &new_key)?));
    all_take_over(&stand, &mut fleet, &only_new).await?;
    all_report(&stand, &mut fleet).await?;
    assert_eq!(stand.control.connected().len(), AGENTS);

    // Whoever was away all the time would be held up for; gone on without, it must enrol anew.
    let refused = away.connect(&hello(&away)).await;
    let stranded = matches!(
        refused,
        Err(ConnectError::Dial(DialError::WrongServer { .. }))
    );
    assert!(stranded, "{refused:?}");
    Ok(())
}
