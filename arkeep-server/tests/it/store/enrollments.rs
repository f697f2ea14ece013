use arkeep_core::{AgentId, SystemEntropy, Timestamp};
use arkeep_server::store::agents::{Agent, AgentCertificate, AgentStanding, AgentStore};
use arkeep_server::store::sqlite::SqliteStore;
use arkeep_transport::enrollment::{
    EnrollmentStore, Issuance, Lapse, Occasion, RecordError, RedeemError, Standing, TokenClaim,
};
use arkeep_transport::identity::Serial;
use arkeep_transport::token::{JoinDigest, JoinTokenId, OfferedToken};

use super::{NOON, Sandbox, Tested, after};

/// T2
#[tokio::test]
async fn a_token_is_spent_once_by_a_hundred_callers() -> Tested {
    let sandbox = Sandbox::new().await;
    let token = offer(&sandbox).await?;

    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (store, claim) = (sandbox.store.clone(), claim(&token));
        attempts.spawn(async move { store.redeem(&claim, NOON).await });
    }
    let mut agents = Vec::new();
    while let Some(attempt) = attempts.join_next().await {
        match attempt? {
            Ok(agent) => agents.push(agent),
            Err(error) => assert!(matches!(error, RedeemError::Used), "{error:?}"),
        }
    }

    assert_eq!(agents, [token.agent]);
    Ok(())
}

/// T2
#[tokio::test]
async fn a_token_is_worth_nothing_with_another_secret_or_too_late() -> Tested {
    let sandbox = Sandbox::new().await;
    let token = offer(&sandbox).await?;
    let guess = TokenClaim {
        digest: JoinDigest::from_bytes([9; 32]),
        ..claim(&token)
    };
    let nothing = TokenClaim {
        id: JoinTokenId::from_uuid(uuid::Uuid::nil()),
        ..claim(&token)
    };

    for unknown in [guess, nothing] {
        let answer = sandbox.store.redeem(&unknown, NOON).await;
        assert!(matches!(answer, Err(RedeemError::Refused)), "{answer:?}");
    }
    let late = sandbox.store.redeem(&claim(&token), token.expires_at).await;
    assert!(matches!(late, Err(RedeemError::Expired)), "{late:?}");
    Ok(())
}

/// T2
#[tokio::test]
async fn a_new_offer_ends_the_one_before_it() -> Tested {
    let sandbox = Sandbox::new().await;
    let first = offer(&sandbox).await?;
    let second = OfferedToken {
        id: JoinTokenId::from_uuid(arkeep_core::id::uuid_v7(NOON, &SystemEntropy)),
        ..first.clone()
    };

    EnrollmentStore::offer(&sandbox.store, &second).await?;

    let old = sandbox.store.redeem(&claim(&first), NOON).await;
    assert!(matches!(old, Err(RedeemError::Refused)), "{old:?}");
    let agent = sandbox.store.redeem(&claim(&second), NOON).await?;
    assert_eq!(agent, second.agent);
    Ok(())
}

/// T1
#[tokio::test]
async fn a_recorded_certificate_stands_and_shows_with_its_agent() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let stranger = sandbox.agent().await.id;
    let first = issue(&sandbox.store, agent, Occasion::Enrolled, 1).await?;

    let other = Serial::random(&SystemEntropy);
    assert_eq!(standing(&sandbox, agent, first).await?, Standing::Good);
    assert_eq!(standing(&sandbox, agent, other).await?, Standing::Refused);
    let stolen = standing(&sandbox, stranger, first).await?;
    assert_eq!(stolen, Standing::Refused);

    let found = agent_of(&sandbox, agent).await;
    assert_eq!(found.standing, AgentStanding::Trusted);
    let certificate = AgentCertificate {
        serial: first.to_string(),
        not_after: after(101),
    };
    assert_eq!(found.certificate, Some(certificate));
    Ok(())
}

/// T6
#[tokio::test]
async fn a_renewal_leaves_the_old_certificate_to_its_own_end() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let first = issue(&sandbox.store, agent, Occasion::Enrolled, 1).await?;

    let renewed = Occasion::Renewed { with: first };
    let second = issue(&sandbox.store, agent, renewed, 2).await?;

    assert_eq!(standing(&sandbox, agent, first).await?, Standing::Good);
    assert_eq!(standing(&sandbox, agent, second).await?, Standing::Good);
    let certificate = agent_of(&sandbox, agent).await.certificate;
    assert_eq!(certificate.map(|it| it.serial), Some(second.to_string()));
    Ok(())
}

/// T2
#[tokio::test]
async fn a_second_enrolment_ends_every_earlier_certificate() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let first = issue(&sandbox.store, agent, Occasion::Enrolled, 1).await?;

    issue(&sandbox.store, agent, Occasion::Enrolled, 2).await?;

    assert_eq!(standing(&sandbox, agent, first).await?, Standing::Refused);
    let renewed = Occasion::Renewed { with: first };
    let refused = issue(&sandbox.store, agent, renewed, 3).await;
    assert!(matches!(refused, Err(RecordError::Withdrawn)));
    Ok(())
}

/// T5
#[tokio::test]
async fn a_withdrawn_agent_stays_withdrawn() -> Tested {
    let sandbox = Sandbox::new().await;
    let token = offer(&sandbox).await?;
    let agent = token.agent;
    let serial = issue(&sandbox.store, agent, Occasion::Enrolled, 1).await?;

    sandbox.store.withdraw(agent, NOON).await?;
    sandbox.store.withdraw(agent, NOON).await?;

    assert_eq!(standing(&sandbox, agent, serial).await?, Standing::Refused);
    let spent = sandbox.store.redeem(&claim(&token), NOON).await;
    assert!(matches!(spent, Err(RedeemError::Refused)));
    let recorded = issue(&sandbox.store, agent, Occasion::Enrolled, 2).await;
    assert!(matches!(recorded, Err(RecordError::Withdrawn)));
    assert!(
        EnrollmentStore::offer(&sandbox.store, &token)
            .await
            .is_err()
    );
    assert!(!sandbox.store.approve(agent, NOON).await?);
    let lapse = sandbox.store.lapse(agent, serial, NOON).await?;
    assert_eq!(lapse, Lapse::Refused);
    Ok(())
}

/// T6
#[tokio::test]
async fn one_that_slept_too_long_renews_once_it_is_approved() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let serial = issue(&sandbox.store, agent, Occasion::Enrolled, 1).await?;
    assert!(!sandbox.store.approve(agent, NOON).await?);

    let lapse = || sandbox.store.lapse(agent, serial, after(200));
    assert_eq!(lapse().await?, Lapse::Waiting);
    assert_eq!(lapse().await?, Lapse::Waiting);
    let found = agent_of(&sandbox, agent).await;
    assert_eq!(found.standing, AgentStanding::AwaitingApproval);

    assert!(sandbox.store.approve(agent, NOON).await?);
    assert!(!sandbox.store.approve(agent, NOON).await?);
    assert_eq!(lapse().await?, Lapse::Approved);

    issue(
        &sandbox.store,
        agent,
        Occasion::Renewed { with: serial },
        201,
    )
    .await?;
    assert_eq!(lapse().await?, Lapse::Waiting);
    Ok(())
}

async fn offer(sandbox: &Sandbox) -> Result<OfferedToken, Box<dyn std::error::Error>> {
    let token = OfferedToken {
        id: JoinTokenId::from_uuid(arkeep_core::id::uuid_v7(NOON, &SystemEntropy)),
        agent: sandbox.agent().await.id,
        digest: JoinDigest::from_bytes([5; 32]),
        expires_at: after(3_600),
    };
    EnrollmentStore::offer(&sandbox.store, &token).await?;
    Ok(token)
}

fn claim(token: &OfferedToken) -> TokenClaim {
    TokenClaim {
        id: token.id,
        digest: token.digest,
    }
}

async fn issue(
    store: &SqliteStore,
    agent: AgentId,
    occasion: Occasion,
    second: u64,
) -> Result<Serial, RecordError> {
    let serial = Serial::random(&SystemEntropy);
    let issued_at: Timestamp = after(second);
    let issuance = Issuance {
        agent,
        serial,
        not_before: issued_at,
        not_after: after(second + 100),
        issued_at,
        occasion,
    };
    store.record(&issuance).await.map(|()| serial)
}

async fn standing(
    sandbox: &Sandbox,
    agent: AgentId,
    serial: Serial,
) -> Result<Standing, arkeep_core::StoreError> {
    sandbox.store.standing(agent, serial).await
}

async fn agent_of(sandbox: &Sandbox, id: AgentId) -> Agent {
    AgentStore::find(&sandbox.store, id)
        .await
        .expect("the store answers")
        .expect("an agent that was made")
}
