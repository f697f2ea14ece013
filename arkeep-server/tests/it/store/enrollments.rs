//! S1, T1, T2, T5: the suite of the enrolment store, and how agents show what it knows.

use arkeep_core::{AgentId, SystemEntropy, Timestamp};
use arkeep_server::store::agents::{Agent, AgentCertificate, AgentStanding, AgentStore};
use arkeep_transport::enrollment::{
    EnrollmentStore, Issuance, Lapse, Occasion, RecordError, Standing,
};
use arkeep_transport::identity::Serial;
use arkeep_transport::testing::enrollment::EnrollmentFixture;
use async_trait::async_trait;

use super::{NOON, Sandbox, Store, Tested, after};

#[async_trait]
impl EnrollmentFixture for Sandbox {
    fn store(&self) -> &dyn EnrollmentStore {
        &self.store
    }

    async fn agent(&self) -> AgentId {
        Sandbox::agent(self).await.id
    }
}

arkeep_transport::enrollment_store_conformance!(Sandbox::new());

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

async fn issue(
    store: &Store,
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
