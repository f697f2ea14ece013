//! T7: how far a rotation has come, and who follows.

use arkeep_core::{AgentId, SystemEntropy};
use arkeep_server::store::keys::{KeyStore, StoredAuthority};
use arkeep_server::store::rotation::{Follower, RotationStore, Step, StoredRotation};
use arkeep_transport::ca::rotation::{Phase, Rotation};
use arkeep_transport::enrollment::{EnrollmentStore, Issuance, Occasion};
use arkeep_transport::identity::Serial;
use arkeep_transport::trust::TrustDigest;

use super::{NOON, Sandbox, Store, Tested, after};

fn root(id: &str) -> StoredAuthority {
    StoredAuthority {
        id: id.to_owned(),
        certificate: id.as_bytes().to_vec(),
        private_key: b"sealed".to_vec(),
        created_at: NOON,
    }
}

async fn rotation(store: &Store) -> StoredRotation {
    let found = store.rotation().await.expect("the store answers");
    found.expect("a root was established")
}

/// T7
#[tokio::test]
async fn nothing_rotates_before_there_is_a_root() -> Tested {
    let sandbox = Sandbox::new().await;

    assert_eq!(sandbox.store.rotation().await?, None);
    sandbox.store.establish_authority(&root("one")).await?;

    let settled = StoredRotation {
        rotation: Rotation::settled(NOON),
        old: root("one"),
        new: None,
        signs_since: None,
    };
    assert_eq!(sandbox.store.rotation().await?, Some(settled));
    Ok(())
}

/// T7: the phase and its roots change in one step, and the old root's key goes with the last.
#[tokio::test]
async fn goes_from_root_to_root() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    store.establish_authority(&root("one")).await?;
    let new = root("two");

    for (second, step) in [(1, Step::Announce(&new)), (2, Step::Issue)] {
        let seen = rotation(store).await.rotation;
        assert!(store.advance(&seen, step, after(second)).await?);
        let there = rotation(store).await;
        let expected = Rotation {
            phase: step.leads_to(),
            since: after(second),
        };
        assert_eq!(there.rotation, expected);
        assert_eq!((there.old, there.new), (root("one"), Some(root("two"))));
    }
    let seen = rotation(store).await.rotation;
    assert!(store.advance(&seen, Step::Settle, after(3)).await?);

    let settled = StoredRotation {
        rotation: Rotation::settled(after(3)),
        old: root("two"),
        new: None,
        signs_since: Some(after(2)),
    };
    assert_eq!(rotation(store).await, settled);
    assert_eq!(store.authorities().await?, [root("two")]);
    Ok(())
}

/// T7
#[tokio::test]
async fn of_many_who_take_a_step_one_does() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    store.establish_authority(&root("one")).await?;
    let seen = rotation(store).await.rotation;

    let (two, three) = (root("two"), root("three"));
    let (left, right) = tokio::join!(
        store.advance(&seen, Step::Announce(&two), after(1)),
        store.advance(&seen, Step::Announce(&three), after(1))
    );

    assert_eq!([left?, right?].iter().filter(|won| **won).count(), 1);
    let there = rotation(store).await;
    assert_eq!(there.rotation.phase, Phase::Announced);
    // The root of whoever lost is not there either.
    assert_eq!(store.authorities().await?.len(), 2);
    assert!(!store.advance(&seen, Step::Issue, after(2)).await?);
    assert_eq!(rotation(store).await, there);
    Ok(())
}

async fn issue(store: &Store, agent: AgentId, occasion: Occasion, second: u64) -> Serial {
    let serial = Serial::random(&SystemEntropy);
    let issuance = Issuance {
        agent,
        serial,
        not_before: after(second),
        not_after: after(second + 100),
        issued_at: after(second),
        occasion,
    };
    let recorded = store.record(&issuance).await;
    recorded.expect("a certificate of an agent that is there");
    serial
}

async fn follower(store: &Store, agent: AgentId) -> Option<Follower> {
    let fleet = store.fleet().await.expect("the store answers");
    fleet.into_iter().find(|follower| follower.agent == agent)
}

/// T7: a renewal counts when the agent has come with it, not when it was handed out.
#[tokio::test]
async fn the_oldest_certificate_that_stands_is_what_counts() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let agent = sandbox.agent().await;
    let certified = async || {
        let follower = follower(store, agent.id).await;
        follower.and_then(|follower| follower.certified_at)
    };
    assert_eq!(certified().await, None);

    let first = issue(store, agent.id, Occasion::Enrolled, 1).await;
    let renewed = Occasion::Renewed { with: first };
    let second = issue(store, agent.id, renewed, 2).await;
    assert_eq!(certified().await, Some(after(1)));
    store.confirm(agent.id, second).await?;
    assert_eq!(certified().await, Some(after(2)));

    store.withdraw(agent.id, after(3)).await?;
    assert_eq!(follower(store, agent.id).await, None);
    Ok(())
}

/// T7: and a machine that enrols as an agent that was there has said nothing yet.
#[tokio::test]
async fn what_an_agent_trusts_is_what_it_said_last() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let (agent, other) = (sandbox.agent().await, sandbox.agent().await);
    let (one, two) = (
        TrustDigest::from_bytes([1; 32]),
        TrustDigest::from_bytes([2; 32]),
    );
    let trust = async || {
        let follower = follower(store, agent.id).await;
        follower.and_then(|follower| follower.trust)
    };
    issue(store, agent.id, Occasion::Enrolled, 1).await;

    store.trusts(agent.id, one).await?;
    store.trusts(other.id, one).await?;
    store.trusts(agent.id, two).await?;
    assert_eq!(trust().await, Some(two));

    issue(store, agent.id, Occasion::Enrolled, 2).await;
    assert_eq!(trust().await, None);
    let unknown = AgentId::mint(NOON, &SystemEntropy);
    store.trusts(unknown, one).await?;
    assert_eq!(follower(store, unknown).await, None);
    Ok(())
}
