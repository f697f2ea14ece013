//! Join tokens, and what can go wrong with them.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock, SystemEntropy};
use arkeep_transport::address::ServerAddress;
use arkeep_transport::ca::LocalCa;
use arkeep_transport::client::{DialError, EnrollError, enroll};
use arkeep_transport::enrollment::{EnrollmentStore, Standing, TokenClaim};
use arkeep_transport::token::{DEFAULT_VALIDITY, JoinToken, MintTokenError, TokenTerms};

use crate::raw::tls_listener;
use crate::stand::{Outcome, Stand, agent_subject, hello, noon, signed_by, soon};

/// T1, T2
#[tokio::test]
async fn gives_an_identity_that_the_store_knows() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.mint();
    let token = stand.token_for(agent).await?;

    let enrolled = enroll(&token, &stand.clock()).await?;

    assert_eq!(enrolled.agent, agent);
    assert_eq!(enrolled.credential.agent(), agent);
    assert_eq!(enrolled.server, stand.server);
    let week = Duration::from_secs(7 * 24 * 3600);
    assert_eq!(enrolled.credential.not_after(), noon().plus(week));
    let serial = enrolled.credential.serial();
    assert_eq!(stand.store.standing(agent, serial).await?, Standing::Good);
    Ok(())
}

/// T2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_uses_of_one_token_one_gets_a_certificate() -> Outcome {
    let stand = Stand::start().await?;
    let token = Arc::new(stand.token().await?);

    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (token, clock) = (Arc::clone(&token), stand.clock());
        crowd.spawn(async move { enroll(&token, &clock).await });
    }
    let outcomes = soon(crowd.join_all()).await?;

    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let used = |outcome: &&Result<_, _>| matches!(outcome, Err(EnrollError::TokenUsed));
    let lost = outcomes.iter().filter(used).count();
    // The others may have met the limit on handshakes from one address.
    let turned_away = |outcome: &&Result<_, _>| {
        matches!(
            outcome,
            Err(EnrollError::Dial(
                DialError::Dropped { .. } | DialError::Unreachable { .. }
            ))
        )
    };
    let dropped = outcomes.iter().filter(turned_away).count();
    assert_eq!((won, lost + dropped), (1, 99));
    assert!(lost > 0);
    Ok(())
}

/// T2
#[tokio::test]
async fn an_expired_token_is_called_so() -> Outcome {
    let stand = Stand::start().await?;
    let token = stand.token().await?;
    stand.clock.advance(DEFAULT_VALIDITY);

    let refused = enroll(&token, &stand.clock()).await;

    assert!(
        matches!(refused, Err(EnrollError::TokenExpired)),
        "{refused:?}"
    );
    Ok(())
}

/// T2
#[tokio::test]
async fn a_token_that_nobody_offered_is_refused() -> Outcome {
    let stand = Stand::start().await?;
    let terms = TokenTerms {
        server: stand.server.clone(),
        fingerprint: stand.ca.fingerprint(),
        validity: DEFAULT_VALIDITY,
    };
    let token = JoinToken::mint(terms, noon(), &SystemEntropy)?;

    let refused = enroll(&token, &stand.clock()).await;

    assert!(
        matches!(refused, Err(EnrollError::TokenRefused)),
        "{refused:?}"
    );
    Ok(())
}

/// T2
#[tokio::test]
async fn a_server_of_another_ca_does_not_learn_the_secret() -> Outcome {
    let impostor = Stand::start().await?;
    let (ours, _) = LocalCa::generate(noon())?;
    let agent = impostor.mint();
    let terms = TokenTerms {
        server: impostor.server.clone(),
        fingerprint: ours.fingerprint(),
        validity: DEFAULT_VALIDITY,
    };
    let token = JoinToken::mint(terms, noon(), &SystemEntropy)?;
    let offered = token.offered_to(agent);
    // The impostor would accept this very token, if only it were shown to it.
    impostor.store.offer(&offered).await?;

    let refused = enroll(&token, &impostor.clock()).await;

    let another = matches!(
        refused,
        Err(EnrollError::Dial(DialError::WrongServer { .. }))
    );
    assert!(another, "{refused:?}");
    let claim = TokenClaim {
        id: offered.id,
        digest: offered.digest,
    };
    assert_eq!(impostor.store.redeem(&claim, noon()).await?, agent);
    Ok(())
}

/// T2
#[tokio::test]
async fn an_agent_certificate_does_not_make_a_server() -> Outcome {
    let stand = Stand::start().await?;
    // Signed by the very root that the token names, but not for servers.
    let subject = agent_subject(stand.mint());
    let impostor = signed_by(&stand.ca, subject, noon()).await?;
    let mut chain = impostor.chain.clone();
    chain.push(stand.ca.root_der().to_vec());
    let server = tls_listener(chain, &impostor.key).await?;

    let refused = enroll(&token_to(&stand, server)?, &stand.clock()).await;

    let foreign = matches!(
        refused,
        Err(EnrollError::Dial(DialError::Intercepted { .. }))
    );
    assert!(foreign, "{refused:?}");
    Ok(())
}

/// T2
#[tokio::test]
async fn a_proxy_that_ends_tls_is_called_so() -> Outcome {
    let stand = Stand::start().await?;
    let proxy = rcgen::generate_simple_self_signed(["backup.example".to_owned()])?;
    let chain = vec![proxy.cert.der().to_vec()];
    let server = tls_listener(chain, &proxy.signing_key).await?;

    let refused = enroll(&token_to(&stand, server)?, &stand.clock()).await;

    let Err(EnrollError::Dial(error @ DialError::Intercepted { .. })) = refused else {
        return Err(format!("{refused:?}").into());
    };
    assert!(error.to_string().contains("passthrough"), "{error}");
    Ok(())
}

/// T2
#[tokio::test]
async fn a_web_server_without_tls_is_called_something_else() -> Outcome {
    let stand = Stand::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?.to_string().parse()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 64];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });

    let refused = enroll(&token_to(&stand, server)?, &stand.clock()).await;

    let foreign = matches!(
        refused,
        Err(EnrollError::Dial(DialError::Intercepted { .. }))
    );
    assert!(foreign, "{refused:?}");
    Ok(())
}

/// T2
#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() -> Outcome {
    let stand = Stand::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?.to_string().parse()?;
    drop(listener);

    let refused = enroll(&token_to(&stand, server)?, &stand.clock()).await;

    let gone = matches!(
        refused,
        Err(EnrollError::Dial(DialError::Unreachable { .. }))
    );
    assert!(gone, "{refused:?}");
    Ok(())
}

/// T2
#[tokio::test]
async fn a_clock_that_is_off_is_called_so() -> Outcome {
    let stand = Stand::start().await?;
    let token = stand.token().await?;
    let day = Duration::from_secs(24 * 3600);

    for shown in [noon().minus(day), noon().plus(8 * day)] {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(shown));
        let refused = enroll(&token, &clock).await;

        let Err(EnrollError::Dial(error @ DialError::ClockOff { .. })) = refused else {
            return Err(format!("{refused:?}").into());
        };
        assert!(error.to_string().contains(&shown.to_string()), "{error}");
    }
    // Nobody saw the secret, so the token is as good as before.
    enroll(&token, &stand.clock()).await?;
    Ok(())
}

/// T1
#[tokio::test]
async fn enrolling_anew_ends_the_certificate_before() -> Outcome {
    let stand = Stand::start().await?;
    let agent = stand.mint();
    let before = enroll(&stand.token_for(agent).await?, &stand.clock()).await?;
    let connector = stand.connector(before.credential)?;
    let mut link = connector.connect(&hello(&connector)).await?;

    enroll(&stand.token_for(agent).await?, &stand.clock()).await?;

    let ended = soon(link.next()).await?;
    assert!(ended.is_err(), "{ended:?}");
    let again = connector.connect(&hello(&connector)).await;
    assert!(again.is_err(), "{again:?}");
    Ok(())
}

/// A token that the server at `server` could not have made.
fn token_to(stand: &Stand, server: ServerAddress) -> Result<JoinToken, MintTokenError> {
    let terms = TokenTerms {
        server,
        fingerprint: stand.ca.fingerprint(),
        validity: DEFAULT_VALIDITY,
    };
    JoinToken::mint(terms, noon(), &SystemEntropy)
}
