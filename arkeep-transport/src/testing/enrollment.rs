//! The promises of [`EnrollmentStore`], as tests of any implementation.
//!
//! Each function is one promise and panics when it is broken.
//! [`enrollment_store_conformance!`](crate::enrollment_store_conformance) makes a test of each.

#![expect(missing_docs, reason = "the name of a function is its promise")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;

use arkeep_core::{AgentId, SystemEntropy, Timestamp};

use crate::enrollment::{
    EnrollmentStore, Issuance, Lapse, Occasion, OfferError, RecordError, RedeemError, Standing,
    TokenClaim,
};
use crate::identity::Serial;
use crate::token::{DEFAULT_VALIDITY, JoinToken, OfferedToken, TokenTerms};
use crate::trust::SpkiFingerprint;

/// An empty store, and whatever its implementation needs to be there.
#[async_trait]
pub trait EnrollmentFixture: Send + Sync {
    /// The store under test.
    fn store(&self) -> &dyn EnrollmentStore;

    /// Makes an agent that tokens may be for.
    async fn agent(&self) -> AgentId {
        AgentId::mint(NOON, &SystemEntropy)
    }
}

/// Makes a `#[tokio::test]` of each promise. The argument is an expression that is awaited and
/// gives an [`EnrollmentFixture`].
#[macro_export]
macro_rules! enrollment_store_conformance {
    ($fixture:expr) => {
        $crate::enrollment_store_conformance!(@each $fixture;
            offer_replaces_what_was_not_spent
            offer_refuses_whoever_was_withdrawn
            redeem_spends_a_token_once
            redeem_has_one_winner_among_concurrent_callers
            redeem_refuses_another_secret_and_spends_nothing
            redeem_refuses_a_stranger_and_an_unknown_token_alike
            redeem_refuses_what_has_expired
            redeem_tells_a_stranger_nothing_of_what_was_spent
            record_makes_a_certificate_stand
            record_of_an_enrolment_ends_what_was_before
            record_of_a_renewal_leaves_what_was_before
            record_refuses_a_renewal_with_a_certificate_that_does_not_stand
            standing_refuses_what_was_never_recorded
            standing_refuses_a_certificate_of_another_agent
            confirm_ends_what_was_issued_before
            confirm_spares_what_was_issued_after
            confirm_of_what_does_not_stand_does_nothing
            lapse_waits_for_an_approval
            lapse_uses_an_approval_up
            lapse_refuses_whoever_was_withdrawn
            lapse_refuses_a_certificate_that_was_renewed
            approve_is_for_those_who_wait
            withdraw_ends_every_certificate
            withdraw_ends_every_token
            withdraw_is_for_ever
            withdraw_spares_other_agents
        );
    };
    (@each $fixture:expr; $($promise:ident)+) => {$(
        #[tokio::test]
        async fn $promise() -> Result<(), Box<dyn std::error::Error>> {
            let fixture = $fixture.await;
            $crate::testing::enrollment::$promise(&fixture).await
        }
    )+};
}

/// Says something about an [`EnrollmentStore`].
type Promise = Result<(), Box<dyn std::error::Error>>;

pub async fn offer_replaces_what_was_not_spent(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let (first, second) = (offered(agent)?, offered(agent)?);

    store.offer(&first).await?;
    store.offer(&second).await?;

    refused(store.redeem(&claim(&first), NOON).await);
    assert_eq!(store.redeem(&claim(&second), NOON).await?, agent);
    Ok(())
}

pub async fn offer_refuses_whoever_was_withdrawn(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    store.withdraw(agent, NOON).await?;

    let offer = store.offer(&offered(agent)?).await;

    assert!(matches!(offer, Err(OfferError::Withdrawn)), "{offer:?}");
    Ok(())
}

pub async fn redeem_spends_a_token_once(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let token = offered(agent)?;
    store.offer(&token).await?;

    assert_eq!(store.redeem(&claim(&token), NOON).await?, agent);
    let again = store.redeem(&claim(&token), NOON).await;

    assert!(matches!(again, Err(RedeemError::Used)), "{again:?}");
    Ok(())
}

pub async fn redeem_has_one_winner_among_concurrent_callers(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let token = offered(agent)?;
    store.offer(&token).await?;
    let claim = claim(&token);

    let outcomes = all((0..CROWD).map(|_| store.redeem(&claim, NOON))).await;

    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let lost = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Err(RedeemError::Used)))
        .count();
    assert_eq!((won, lost), (1, CROWD - 1));
    Ok(())
}

pub async fn redeem_refuses_another_secret_and_spends_nothing(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let token = offered(agent)?;
    store.offer(&token).await?;
    let guess = TokenClaim {
        id: token.id,
        digest: offered(agent)?.digest,
    };

    refused(store.redeem(&guess, NOON).await);

    assert_eq!(store.redeem(&claim(&token), NOON).await?, agent);
    Ok(())
}

pub async fn redeem_refuses_a_stranger_and_an_unknown_token_alike(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let never_offered = offered(agent)?;

    refused(store.redeem(&claim(&never_offered), NOON).await);
    Ok(())
}

pub async fn redeem_refuses_what_has_expired(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let token = offered(agent)?;
    store.offer(&token).await?;

    let late = store.redeem(&claim(&token), token.expires_at).await;
    assert!(matches!(late, Err(RedeemError::Expired)), "{late:?}");

    let just_in_time = token.expires_at.minus(Duration::from_millis(1));
    assert_eq!(store.redeem(&claim(&token), just_in_time).await?, agent);
    Ok(())
}

pub async fn redeem_tells_a_stranger_nothing_of_what_was_spent(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let token = offered(agent)?;
    store.offer(&token).await?;
    store.redeem(&claim(&token), NOON).await?;
    let guess = TokenClaim {
        id: token.id,
        digest: offered(agent)?.digest,
    };

    refused(store.redeem(&guess, NOON).await);
    refused(store.redeem(&guess, token.expires_at).await);
    Ok(())
}

pub async fn record_makes_a_certificate_stand(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;

    let serial = enrolled(store, agent).await?;

    assert_eq!(store.standing(agent, serial).await?, Standing::Good);
    Ok(())
}

pub async fn record_of_an_enrolment_ends_what_was_before(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let before = enrolled(store, agent).await?;

    let after = enrolled(store, agent).await?;

    assert_eq!(store.standing(agent, before).await?, Standing::Refused);
    assert_eq!(store.standing(agent, after).await?, Standing::Good);
    Ok(())
}

pub async fn record_of_a_renewal_leaves_what_was_before(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let before = enrolled(store, agent).await?;

    let after = renewed(store, agent, before).await?;

    // The answer with the new certificate may be lost on its way.
    assert_eq!(store.standing(agent, before).await?, Standing::Good);
    assert_eq!(store.standing(agent, after).await?, Standing::Good);
    Ok(())
}

pub async fn record_refuses_a_renewal_with_a_certificate_that_does_not_stand(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let superseded = enrolled(store, agent).await?;
    enrolled(store, agent).await?;

    for with in [superseded, Serial::random(&SystemEntropy)] {
        let issuance = issuance(agent, Occasion::Renewed { with });
        withdrawn(store.record(&issuance).await);
        let standing = store.standing(agent, issuance.serial).await?;
        assert_eq!(standing, Standing::Refused);
    }
    Ok(())
}

pub async fn standing_refuses_what_was_never_recorded(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    enrolled(store, agent).await?;
    let nobody = AgentId::mint(NOON, &SystemEntropy);
    let serial = Serial::random(&SystemEntropy);

    assert_eq!(store.standing(agent, serial).await?, Standing::Refused);
    assert_eq!(store.standing(nobody, serial).await?, Standing::Refused);
    Ok(())
}

pub async fn standing_refuses_a_certificate_of_another_agent(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let (ada, bob) = (fixture.agent().await, fixture.agent().await);
    let adas = enrolled(store, ada).await?;
    enrolled(store, bob).await?;

    assert_eq!(store.standing(bob, adas).await?, Standing::Refused);
    Ok(())
}

pub async fn confirm_ends_what_was_issued_before(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let (agent, other) = (fixture.agent().await, fixture.agent().await);
    let first = enrolled(store, agent).await?;
    let others = enrolled(store, other).await?;
    let second = renewed(store, agent, first).await?;
    let third = renewed(store, agent, second).await?;

    store.confirm(agent, third).await?;

    for before in [first, second] {
        assert_eq!(store.standing(agent, before).await?, Standing::Refused);
    }
    assert_eq!(store.standing(agent, third).await?, Standing::Good);
    assert_eq!(store.standing(other, others).await?, Standing::Good);
    Ok(())
}

pub async fn confirm_spares_what_was_issued_after(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let before = enrolled(store, agent).await?;
    let mut later = issuance(agent, Occasion::Renewed { with: before });
    later.issued_at = later.issued_at.plus(Duration::from_secs(60));
    store.record(&later).await?;

    store.confirm(agent, before).await?;

    assert_eq!(store.standing(agent, before).await?, Standing::Good);
    assert_eq!(store.standing(agent, later.serial).await?, Standing::Good);
    Ok(())
}

pub async fn confirm_of_what_does_not_stand_does_nothing(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let (agent, other) = (fixture.agent().await, fixture.agent().await);
    let superseded = enrolled(store, agent).await?;
    let good = enrolled(store, agent).await?;
    let others = enrolled(store, other).await?;

    for serial in [superseded, others, Serial::random(&SystemEntropy)] {
        store.confirm(agent, serial).await?;
    }

    assert_eq!(store.standing(agent, good).await?, Standing::Good);
    assert_eq!(store.standing(other, others).await?, Standing::Good);
    Ok(())
}

pub async fn lapse_refuses_a_certificate_that_was_renewed(
    fixture: &dyn EnrollmentFixture,
) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let copied = enrolled(store, agent).await?;
    let renewed = renewed(store, agent, copied).await?;
    store.confirm(agent, renewed).await?;

    assert_eq!(store.lapse(agent, copied, NOON).await?, Lapse::Refused);

    assert!(!store.approve(agent, NOON).await?);
    Ok(())
}

pub async fn lapse_waits_for_an_approval(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let serial = enrolled(store, agent).await?;

    assert_eq!(store.lapse(agent, serial, NOON).await?, Lapse::Waiting);
    assert_eq!(store.lapse(agent, serial, NOON).await?, Lapse::Waiting);
    assert!(store.approve(agent, NOON).await?);

    assert_eq!(store.lapse(agent, serial, NOON).await?, Lapse::Approved);
    Ok(())
}

pub async fn lapse_uses_an_approval_up(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let serial = enrolled(store, agent).await?;
    store.lapse(agent, serial, NOON).await?;
    store.approve(agent, NOON).await?;

    let next = renewed(store, agent, serial).await?;

    assert_eq!(store.lapse(agent, next, NOON).await?, Lapse::Waiting);
    Ok(())
}

pub async fn lapse_refuses_whoever_was_withdrawn(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let serial = enrolled(store, agent).await?;
    store.lapse(agent, serial, NOON).await?;
    store.approve(agent, NOON).await?;

    store.withdraw(agent, NOON).await?;

    assert_eq!(store.lapse(agent, serial, NOON).await?, Lapse::Refused);
    assert!(!store.approve(agent, NOON).await?);
    Ok(())
}

pub async fn approve_is_for_those_who_wait(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let serial = enrolled(store, agent).await?;

    assert!(!store.approve(agent, NOON).await?);

    assert_eq!(store.lapse(agent, serial, NOON).await?, Lapse::Waiting);
    Ok(())
}

pub async fn withdraw_ends_every_certificate(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let first = enrolled(store, agent).await?;
    let second = renewed(store, agent, first).await?;

    store.withdraw(agent, NOON).await?;
    store.withdraw(agent, NOON).await?;

    assert_eq!(store.standing(agent, first).await?, Standing::Refused);
    assert_eq!(store.standing(agent, second).await?, Standing::Refused);
    Ok(())
}

pub async fn withdraw_ends_every_token(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let token = offered(agent)?;
    store.offer(&token).await?;

    store.withdraw(agent, NOON).await?;

    refused(store.redeem(&claim(&token), NOON).await);
    Ok(())
}

pub async fn withdraw_is_for_ever(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let agent = fixture.agent().await;
    let serial = enrolled(store, agent).await?;
    store.withdraw(agent, NOON).await?;

    withdrawn(store.record(&issuance(agent, Occasion::Enrolled)).await);
    let renewal = issuance(agent, Occasion::Renewed { with: serial });
    withdrawn(store.record(&renewal).await);

    assert_eq!(store.standing(agent, serial).await?, Standing::Refused);
    Ok(())
}

pub async fn withdraw_spares_other_agents(fixture: &dyn EnrollmentFixture) -> Promise {
    let store = fixture.store();
    let (ada, bob) = (fixture.agent().await, fixture.agent().await);
    let adas = enrolled(store, ada).await?;

    store.withdraw(bob, NOON).await?;

    assert_eq!(store.standing(ada, adas).await?, Standing::Good);
    Ok(())
}

const NOON: Timestamp = Timestamp::UNIX_EPOCH;
const CROWD: usize = 100;

fn offered(agent: AgentId) -> Result<OfferedToken, Box<dyn std::error::Error>> {
    let terms = TokenTerms {
        server: "backup.example:9090".parse()?,
        fingerprint: SpkiFingerprint::of(b"root"),
        validity: DEFAULT_VALIDITY,
    };
    Ok(JoinToken::mint(terms, NOON, &SystemEntropy)?.offered_to(agent))
}

const fn claim(token: &OfferedToken) -> TokenClaim {
    TokenClaim {
        id: token.id,
        digest: token.digest,
    }
}

fn issuance(agent: AgentId, occasion: Occasion) -> Issuance {
    Issuance {
        agent,
        serial: Serial::random(&SystemEntropy),
        not_before: NOON,
        not_after: NOON.plus(Duration::from_secs(3600)),
        issued_at: NOON,
        occasion,
    }
}

async fn recorded(
    store: &dyn EnrollmentStore,
    issuance: Issuance,
) -> Result<Serial, Box<dyn std::error::Error>> {
    store.record(&issuance).await?;
    Ok(issuance.serial)
}

async fn enrolled(
    store: &dyn EnrollmentStore,
    agent: AgentId,
) -> Result<Serial, Box<dyn std::error::Error>> {
    let token = offered(agent)?;
    store.offer(&token).await?;
    store.redeem(&claim(&token), NOON).await?;
    recorded(store, issuance(agent, Occasion::Enrolled)).await
}

async fn renewed(
    store: &dyn EnrollmentStore,
    agent: AgentId,
    with: Serial,
) -> Result<Serial, Box<dyn std::error::Error>> {
    recorded(store, issuance(agent, Occasion::Renewed { with })).await
}

fn refused(outcome: Result<AgentId, RedeemError>) {
    assert!(matches!(outcome, Err(RedeemError::Refused)), "{outcome:?}");
}

fn withdrawn(outcome: Result<(), RecordError>) {
    assert!(
        matches!(outcome, Err(RecordError::Withdrawn)),
        "{outcome:?}"
    );
}

/// Polls all at once and waits for the last.
async fn all<'a, T>(
    calls: impl Iterator<Item = Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
) -> Vec<T> {
    let mut open: Vec<_> = calls.collect();
    let mut answers = Vec::with_capacity(open.len());
    poll_fn(|context| {
        open.retain_mut(|call| match call.as_mut().poll(context) {
            Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            Poll::Pending => true,
        });
        if open.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    answers
}
