use std::collections::BTreeMap;

use arkeep_core::{AgentId, SystemEntropy};
use arkeep_server::store::Refusal;
use arkeep_server::store::agents::{AgentEdit, AgentFacts, AgentStanding, AgentState, AgentStore};

use super::users::assert_refused;
use super::{NOON, Sandbox, Tested, after, join_token};

#[tokio::test]
async fn a_new_one_is_pending() -> Tested {
    let sandbox = Sandbox::new().await;

    let made = sandbox.agent().await;

    assert_eq!(made.standing, AgentStanding::Pending);
    assert_eq!(made.state(NOON), AgentState::Pending);
    let found = AgentStore::find(&sandbox.store, made.id).await?;
    assert_eq!(found, Some(made));
    Ok(())
}

#[tokio::test]
async fn is_renamed_from_the_version_that_was_read() -> Tested {
    let sandbox = Sandbox::new().await;
    let made = sandbox.agent().await;
    let edit = AgentEdit {
        id: made.id,
        version: made.version,
        name: "db1".to_owned(),
        labels: BTreeMap::from([("rack".to_owned(), "7".to_owned())]),
    };

    let renamed = AgentStore::update(&sandbox.store, &edit).await?;

    assert_eq!((renamed.version, renamed.name.as_str()), (2, "db1"));
    assert_eq!(renamed.labels, edit.labels);
    let late = AgentStore::update(&sandbox.store, &edit).await;
    assert_refused(late, Refusal::Stale);
    Ok(())
}

#[tokio::test]
async fn a_sign_of_life_changes_no_version_and_keeps_the_facts() -> Tested {
    let sandbox = Sandbox::new().await;
    let made = sandbox.agent().await;
    let facts = AgentFacts {
        hostname: Some("db1".to_owned()),
        docker: Some(true),
        ..AgentFacts::default()
    };

    sandbox
        .store
        .begin_session(made.id, &facts, after(10))
        .await?;
    sandbox.store.heard(made.id, after(20)).await?;
    // A replica whose clock is behind moves nothing back.
    sandbox.store.heard(made.id, after(15)).await?;

    let found = AgentStore::find(&sandbox.store, made.id).await?;
    let found = found.ok_or("gone")?;
    assert_eq!(found.facts, facts);
    assert_eq!(found.last_seen_at, Some(after(20)));
    assert_eq!(found.version, made.version);
    Ok(())
}

/// T8
#[tokio::test]
async fn each_session_has_a_higher_number_than_all_before_it() -> Tested {
    let sandbox = Sandbox::new().await;
    let made = sandbox.agent().await;
    let facts = AgentFacts::default();

    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(sandbox.store.begin_session(made.id, &facts, NOON).await?);
    }

    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    Ok(())
}

#[tokio::test]
async fn one_that_is_not_there_is_not_made() -> Tested {
    let sandbox = Sandbox::new().await;
    let nobody = AgentId::mint(NOON, &SystemEntropy);

    sandbox.store.heard(nobody, NOON).await?;
    let facts = AgentFacts::default();
    let begun = sandbox.store.begin_session(nobody, &facts, NOON).await?;

    assert_eq!(begun, None);
    assert_eq!(AgentStore::find(&sandbox.store, nobody).await?, None);
    let offered = AgentStore::offer(&sandbox.store, nobody, &join_token()).await;
    assert_refused(offered, Refusal::NotFound);
    Ok(())
}

#[tokio::test]
async fn one_that_a_policy_names_stays() -> Tested {
    let sandbox = Sandbox::new().await;
    let made = sandbox.agent().await;
    sandbox.policy(made.id, &[]).await;

    let removed = AgentStore::delete(&sandbox.store, made.id, None).await;

    assert_refused(removed, Refusal::InUse { by: "policies" });
    Ok(())
}
