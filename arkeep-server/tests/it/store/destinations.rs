use arkeep_core::job::{JobKind, JobSource};
use arkeep_core::queue::{JobQueue as _, NewJob};
use arkeep_core::repository::RelativePath;
use arkeep_core::{DestinationId, JobId, SystemEntropy};
use arkeep_server::store::destinations::{
    Destination, DestinationEdit, DestinationStore, NewDestination,
};
use arkeep_server::store::jobs::{JobStore as _, Sent, SentRepository};
use arkeep_server::store::policies::PolicyStore;
use arkeep_server::store::{Refusal, SecretChange};

use super::users::assert_refused;
use super::{NOON, SameBytes, Sandbox, Tested, after, local, new_policy};

#[tokio::test]
async fn are_found_as_they_were_made() -> Tested {
    let sandbox = Sandbox::new().await;
    let new = NewDestination {
        id: DestinationId::mint(NOON, &SystemEntropy),
        name: "nas".to_owned(),
        location: local("/mnt/nas"),
        credentials: Some(b"sealed".to_vec()),
        enabled: false,
        created_at: NOON,
    };

    let made = DestinationStore::create(&sandbox.store, &new).await?;

    let expected = Destination {
        id: new.id,
        version: 1,
        name: "nas".to_owned(),
        location: local("/mnt/nas"),
        credentials: Some(b"sealed".to_vec()),
        credentials_updated_at: Some(NOON),
        enabled: false,
        created_at: NOON,
        updated_at: NOON,
    };
    assert_eq!(made, expected);
    let found = DestinationStore::find(&sandbox.store, new.id).await?;
    assert_eq!(found, Some(expected));
    Ok(())
}

#[tokio::test]
async fn credentials_stay_unless_they_are_set_or_cleared() -> Tested {
    let sandbox = Sandbox::new().await;
    let mut made = sandbox.destination().await;

    for (second, change, expected) in [
        (1, SecretChange::Keep, (None, None)),
        (
            2,
            SecretChange::Set(b"one".to_vec()),
            (Some(b"one".to_vec()), Some(after(2))),
        ),
        (
            3,
            SecretChange::Keep,
            (Some(b"one".to_vec()), Some(after(2))),
        ),
        (4, SecretChange::Clear, (None, Some(after(4)))),
    ] {
        let edit = DestinationEdit {
            credentials: change,
            at: after(second),
            ..edit(&made)
        };
        made = DestinationStore::update(&sandbox.store, &edit, &SameBytes).await?;

        assert_eq!(
            (made.credentials.clone(), made.credentials_updated_at),
            expected
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_write_from_an_old_version_is_refused() -> Tested {
    let sandbox = Sandbox::new().await;
    let made = sandbox.destination().await;
    DestinationStore::update(&sandbox.store, &edit(&made), &SameBytes).await?;

    let late = DestinationStore::update(&sandbox.store, &edit(&made), &SameBytes).await;
    assert_refused(late, Refusal::Stale);
    let removed = DestinationStore::delete(&sandbox.store, made.id, Some(1)).await;
    assert_refused(removed, Refusal::Stale);
    DestinationStore::delete(&sandbox.store, made.id, Some(2)).await?;
    let gone = DestinationStore::update(&sandbox.store, &edit(&made), &SameBytes).await;
    assert_refused(gone, Refusal::NotFound);
    Ok(())
}

#[tokio::test]
async fn no_two_have_one_name() -> Tested {
    let sandbox = Sandbox::new().await;
    let first = sandbox.destination().await;
    let second = sandbox.destination().await;

    let renamed = DestinationEdit {
        name: first.name.to_uppercase(),
        ..edit(&second)
    };

    let answer = DestinationStore::update(&sandbox.store, &renamed, &SameBytes).await;
    assert_refused(answer, Refusal::Taken { field: "name" });
    Ok(())
}

#[tokio::test]
async fn one_that_a_policy_names_stays() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await;
    let destination = sandbox.destination().await;
    sandbox.policy(agent.id, &[destination.id]).await;

    let removed = DestinationStore::delete(&sandbox.store, destination.id, None).await;

    assert_refused(removed, Refusal::InUse { by: "policies" });
    Ok(())
}

/// DESIGN §3
#[tokio::test]
async fn a_place_that_brings_two_passwords_together_is_refused() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let (one, other) = (sandbox.destination().await, sandbox.destination().await);
    let away = DestinationEdit {
        location: local("/mnt/other"),
        ..edit(&other)
    };
    let other = DestinationStore::update(&sandbox.store, &away, &SameBytes).await?;
    for (destination, password) in [(one.id, "a"), (other.id, "b")] {
        let mut new = new_policy(agent, &[destination]);
        new.destinations[0].path = "shared".parse()?;
        new.repository_password = password.as_bytes().to_vec();
        PolicyStore::create(&sandbox.store, &new, &SameBytes).await?;
    }

    let back = DestinationEdit {
        location: local("/srv//backup/"),
        ..edit(&other)
    };
    let refused = DestinationStore::update(&sandbox.store, &back, &SameBytes).await;

    assert_refused(refused, Refusal::OtherPassword { position: 0 });
    let found = DestinationStore::find(&sandbox.store, other.id).await?;
    assert_eq!(found, Some(other));
    Ok(())
}

/// S5: a result that is still to come names it.
#[tokio::test]
async fn one_to_which_an_open_job_was_sent_stays() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let (used, other) = (sandbox.destination().await, sandbox.destination().await);
    let job = NewJob {
        id: JobId::mint(NOON, &SystemEntropy),
        kind: JobKind::Backup,
        agent,
        policy: None,
        scheduled_for: NOON,
        deadline: None,
        source: JobSource::Manual,
        parameters: "{}".to_owned(),
        created_at: NOON,
    };
    sandbox.store.enqueue(&job).await?;
    let lease = std::time::Duration::from_secs(60);
    let claimed = sandbox.store.claim(agent, lease, NOON).await?;
    let fence = claimed.ok_or("nothing to claim")?.fence;
    let sent = Sent {
        repositories: vec![SentRepository {
            destination_id: used.id,
            path: RelativePath::default(),
            address: None,
        }],
        ..Sent::default()
    };
    let noted = sandbox.store.note_assignment(job.id, fence, &sent);
    assert!(noted.await?);

    let delete = |id| DestinationStore::delete(&sandbox.store, id, None);
    assert_refused(delete(used.id).await, Refusal::InUse { by: "open jobs" });
    // Its lease is lost, and its holder may come back.
    sandbox.store.reclaim(after(60)).await?;
    assert_refused(delete(used.id).await, Refusal::InUse { by: "open jobs" });
    delete(other.id).await?;

    sandbox.store.cancel(job.id, NOON).await?;
    delete(used.id).await?;
    Ok(())
}

fn edit(destination: &Destination) -> DestinationEdit {
    DestinationEdit {
        id: destination.id,
        version: destination.version,
        name: destination.name.clone(),
        location: destination.location.clone(),
        credentials: SecretChange::Keep,
        enabled: destination.enabled,
        at: after(1),
    }
}
