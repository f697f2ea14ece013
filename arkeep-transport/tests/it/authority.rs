//! Who may call what.

use std::collections::BTreeMap;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_transport::SERVER_NAME;
use arkeep_transport::ca::{LocalCa, Subject};
use arkeep_transport::client::{ConnectError, DialError, RenewError};
use arkeep_transport::enrollment::EnrollmentStore;
use arkeep_transport::session::{Ack, AgentSaying, Receipt, ServerSaying};

use crate::generated::descriptors;
use crate::raw::{Answer, call, connect};
use crate::stand::{
    Outcome, Signed, Stand, agent_subject, hello, nobodys_job, noon, record, signed_by, soon,
    started,
};

const UNAUTHENTICATED: u32 = 16;

/// Every call that the proto declares.
fn calls() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut calls = Vec::new();
    for file in descriptors()?.file {
        for service in &file.service {
            for method in &service.method {
                calls.push(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    assert_eq!(calls.len(), 3, "{calls:?}");
    Ok(calls)
}

/// Everybody who must not get through.
async fn wrong_identities(
    stand: &Stand,
) -> Result<BTreeMap<&'static str, Option<Signed>>, Box<dyn std::error::Error>> {
    let week_and_more = Duration::from_secs(10 * 24 * 3600);
    let (foreign_ca, _) = LocalCa::generate(noon())?;
    let agent = || agent_subject(stand.mint());

    let expired = signed_by(&stand.ca, agent(), noon().minus(week_and_more)).await?;
    record(&stand.store, &expired.credential()?).await?;

    let revoked = signed_by(&stand.ca, agent(), noon()).await?;
    let credential = revoked.credential()?;
    record(&stand.store, &credential).await?;
    stand.store.withdraw(credential.agent(), noon()).await?;

    let of_another_domain = Subject::Agent {
        agent: stand.mint(),
        uri: format!("spiffe://elsewhere/agent/{}", stand.mint()),
    };
    let server = Subject::Server {
        dns_name: SERVER_NAME.to_owned(),
    };
    Ok(BTreeMap::from([
        ("nobody", None),
        ("expired", Some(expired)),
        ("revoked", Some(revoked)),
        (
            "never recorded",
            Some(signed_by(&stand.ca, agent(), noon()).await?),
        ),
        (
            "foreign CA",
            Some(signed_by(&foreign_ca, agent(), noon()).await?),
        ),
        (
            "another domain",
            Some(signed_by(&stand.ca, of_another_domain, noon()).await?),
        ),
        (
            "the server",
            Some(signed_by(&stand.ca, server, noon()).await?),
        ),
    ]))
}

/// T4
#[tokio::test]
async fn every_call_refuses_every_wrong_identity() -> Outcome {
    let stand = Stand::start().await?;
    let identities = wrong_identities(&stand).await?;

    for path in calls()? {
        for (who, identity) in &identities {
            let answer = soon(call(&stand.server, identity.as_ref(), &path, Vec::new())).await??;

            match (*who, path.as_str()) {
                // Its request is looked at, and holds no token and no key.
                ("nobody", "/arkeep.agent.v1.Enrollment/Enroll") => {
                    assert_eq!(
                        answer,
                        Answer::Status(3, "the signing request was refused".into())
                    );
                }
                // The one call of the lapsed. Their request holds no key.
                ("expired", "/arkeep.agent.v1.Enrollment/Renew") => {
                    assert_eq!(
                        answer,
                        Answer::Status(3, "the signing request was refused".into())
                    );
                }
                ("nobody" | "expired", _) => {
                    let message = "a valid agent certificate is required".to_owned();
                    assert_eq!(
                        answer,
                        Answer::Status(UNAUTHENTICATED, message),
                        "{who} {path}"
                    );
                }
                _ => assert_eq!(answer, Answer::Disconnected, "{who} {path}"),
            }
        }
    }
    Ok(())
}

/// T4
#[tokio::test]
async fn a_certificate_is_no_help_in_enrolling() -> Outcome {
    let stand = Stand::start().await?;
    let welcome = signed_by(&stand.ca, agent_subject(stand.mint()), noon()).await?;
    record(&stand.store, &welcome.credential()?).await?;

    let path = "/arkeep.agent.v1.Enrollment/Enroll";
    let answer = call(&stand.server, Some(&welcome), path, Vec::new()).await?;

    let message = "a valid agent certificate is required".to_owned();
    assert_eq!(answer, Answer::Status(UNAUTHENTICATED, message));
    Ok(())
}

/// T4
#[tokio::test]
async fn what_is_in_no_table_is_refused() -> Outcome {
    let stand = Stand::start().await?;
    let welcome = signed_by(&stand.ca, agent_subject(stand.mint()), noon()).await?;
    record(&stand.store, &welcome.credential()?).await?;

    for path in [
        "/arkeep.agent.v1.Enrollment/Enrol",
        "/grpc.health.v1.Health/Check",
        "/",
    ] {
        for identity in [None, Some(&welcome)] {
            let answer = call(&stand.server, identity, path, Vec::new()).await?;

            let message = "a valid agent certificate is required".to_owned();
            assert_eq!(answer, Answer::Status(UNAUTHENTICATED, message), "{path}");
        }
    }
    Ok(())
}

/// T4
#[tokio::test]
async fn another_agents_job_is_as_if_it_did_not_exist() -> Outcome {
    let stand = Stand::start().await?;
    let (ada, eve) = (stand.agent().await?, stand.agent().await?);
    let adas = stand.gateway.job_of(ada.agent());
    let mut link = eve.connect(&hello(&eve)).await?;

    for job in [adas, nobodys_job()] {
        link.send(&AgentSaying::Report(started(job))).await?;

        let answer = soon(link.next()).await??;
        let ServerSaying::Ack(ack) = answer else {
            return Err(format!("{answer:?}").into());
        };
        let expected = Ack {
            job: job.job,
            attempt: 1,
            sequence: 1,
            receipt: Receipt::NotFound,
        };
        assert_eq!(ack, expected);
    }
    Ok(())
}

/// T4
#[tokio::test]
async fn a_renewal_is_for_whom_the_certificate_names() -> Outcome {
    let stand = Stand::start().await?;
    let eve = stand.agent().await?;

    let renewal = eve.renew().await?;

    // The request has no place for an id, and the CA asks the certificate.
    assert_eq!(renewal.credential.agent(), eve.agent());
    assert_ne!(renewal.credential.serial(), eve.credential().serial());
    Ok(())
}

/// T3
#[tokio::test]
async fn older_tls_is_refused() -> Outcome {
    let stand = Stand::start().await?;

    let modern = connect(&stand.server, None, &rustls::version::TLS13).await;
    let older = connect(&stand.server, None, &rustls::version::TLS12).await;

    assert!(modern.is_ok());
    assert!(older.is_err());
    Ok(())
}

/// T3
#[tokio::test]
async fn a_session_cannot_be_resumed() -> Outcome {
    let stand = Stand::start().await?;

    let stream = connect(&stand.server, None, &rustls::version::TLS13).await?;

    let (_, session) = stream.get_ref();
    assert_eq!(session.tls13_tickets_received(), 0);
    Ok(())
}

/// T3
#[tokio::test]
async fn a_refused_certificate_is_called_so() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    stand.store.withdraw(agent.agent(), noon()).await?;
    stand.control.revoked(agent.agent());

    let refused = agent.connect(&hello(&agent)).await;
    let told = matches!(
        refused,
        Err(ConnectError::Dial(DialError::CertificateRefused))
    );
    assert!(told, "{refused:?}");

    let refused = agent.renew().await;
    let told = matches!(
        refused,
        Err(RenewError::Dial(DialError::CertificateRefused))
    );
    assert!(told, "{refused:?}");
    Ok(())
}

/// T3
#[tokio::test]
async fn a_server_that_was_not_told_finds_out_at_the_handshake() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    stand.store.withdraw(agent.agent(), noon()).await?;

    let first = agent.connect(&hello(&agent)).await;
    let second = agent.connect(&hello(&agent)).await;

    // The store is asked after the handshake, when no alert can be sent any more.
    assert!(
        matches!(first, Err(ConnectError::Dial(DialError::Dropped { .. }))),
        "{first:?}"
    );
    let told = matches!(
        second,
        Err(ConnectError::Dial(DialError::CertificateRefused))
    );
    assert!(told, "{second:?}");
    Ok(())
}

/// T6
#[tokio::test]
async fn an_expired_certificate_waits_for_an_approval() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.agent().await?;
    stand.clock.advance(Duration::from_secs(8 * 24 * 3600));

    let refused = agent.connect(&hello(&agent)).await;
    assert!(
        matches!(refused, Err(ConnectError::CertificateExpired)),
        "{refused:?}"
    );
    let waiting = agent.renew().await;
    assert!(
        matches!(waiting, Err(RenewError::AwaitingApproval)),
        "{waiting:?}"
    );

    assert!(stand.store.approve(agent.agent(), noon()).await?);
    let renewal = agent.renew().await?;
    agent.replace(renewal.credential, renewal.trust)?;

    agent.connect(&hello(&agent)).await?;
    Ok(())
}

/// T3
#[tokio::test]
async fn an_agent_whose_clock_lags_cannot_use_an_expired_certificate() -> Outcome {
    let stand = Stand::start().await?;
    let enrolled = stand.enroll().await?;
    stand.clock.advance(Duration::from_secs(7 * 24 * 3600 + 60));
    let lagging =
        arkeep_transport::client::Connector::new(arkeep_transport::client::ConnectorParts {
            server: stand.server.clone(),
            credential: enrolled.credential,
            trust: enrolled.trust,
            clock: std::sync::Arc::new(ManualClock::at(
                stand.clock().now().minus(Duration::from_secs(120)),
            )),
        })?;

    let refused = lagging.connect(&hello(&lagging)).await;

    assert!(refused.is_err(), "{refused:?}");
    Ok(())
}
