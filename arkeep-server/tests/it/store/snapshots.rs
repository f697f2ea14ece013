use arkeep_core::{DestinationId, PolicyId, SnapshotId, SystemEntropy};
use arkeep_server::store::Page;
use arkeep_server::store::snapshots::{Snapshot, SnapshotFilter, SnapshotStore};

use super::{NOON, Sandbox, Tested};

#[tokio::test]
async fn one_that_is_recorded_twice_is_there_once() -> Tested {
    let sandbox = Sandbox::new().await;
    let first = snapshot(&sandbox).await;
    let again = Snapshot {
        id: SnapshotId::mint(NOON, &SystemEntropy),
        ..first.clone()
    };

    sandbox.store.record(&first).await?;
    let id = sandbox.store.record(&again).await?;

    assert_eq!(id, Some(first.id));
    let all = SnapshotFilter::default();
    let listed = SnapshotStore::list(&sandbox.store, &all, &Page::default()).await?;
    assert_eq!(listed.items, [first]);
    Ok(())
}

/// S5: the report that brings it is not the last thing that its agent has to say.
#[tokio::test]
async fn one_whose_destination_or_policy_is_gone_is_not_listed() -> Tested {
    let sandbox = Sandbox::new().await;
    let there = snapshot(&sandbox).await;
    let nowhere = Snapshot {
        destination: DestinationId::mint(NOON, &SystemEntropy),
        ..there.clone()
    };
    let of_nothing = Snapshot {
        policy: PolicyId::mint(NOON, &SystemEntropy),
        ..there.clone()
    };

    assert_eq!(sandbox.store.record(&nowhere).await?, None);
    assert_eq!(sandbox.store.record(&of_nothing).await?, None);

    assert_eq!(sandbox.store.record(&there).await?, Some(there.id));
    Ok(())
}

#[tokio::test]
async fn are_listed_by_what_they_belong_to() -> Tested {
    let sandbox = Sandbox::new().await;
    let (mine, other) = (snapshot(&sandbox).await, snapshot(&sandbox).await);
    sandbox.store.record(&mine).await?;
    sandbox.store.record(&other).await?;

    for filter in [
        SnapshotFilter {
            policy: Some(mine.policy),
            ..SnapshotFilter::default()
        },
        SnapshotFilter {
            agent: Some(mine.agent),
            ..SnapshotFilter::default()
        },
        SnapshotFilter {
            destination: Some(mine.destination),
            ..SnapshotFilter::default()
        },
    ] {
        let listed = SnapshotStore::list(&sandbox.store, &filter, &Page::default()).await?;
        assert_eq!(listed.items, std::slice::from_ref(&mine), "{filter:?}");
    }
    Ok(())
}

/// S8
#[tokio::test]
async fn one_that_vanished_is_told_once() -> Tested {
    let sandbox = Sandbox::new().await;
    let there = snapshot(&sandbox).await;
    sandbox.store.record(&there).await?;
    let reconcile = |present| {
        let store = sandbox.store.clone();
        let (policy, destination) = (there.policy, there.destination);
        async move { store.reconcile(policy, destination, present).await }
    };
    let present = [there.restic_id.clone()];

    assert_eq!(reconcile(&present).await?, []);
    assert_eq!(reconcile(&[]).await?, [there.id]);
    assert_eq!(reconcile(&[]).await?, []);
    let found = SnapshotStore::find(&sandbox.store, there.id).await?;
    assert_eq!(found.map(|found| found.present), Some(false));

    reconcile(&present).await?;
    let found = SnapshotStore::find(&sandbox.store, there.id).await?;
    assert_eq!(found.map(|found| found.present), Some(true));
    Ok(())
}

/// A snapshot that could be recorded, of a policy of its own.
pub(super) async fn snapshot(sandbox: &Sandbox) -> Snapshot {
    let agent = sandbox.agent().await;
    let destination = sandbox.destination().await;
    let policy = sandbox.policy(agent.id, &[destination.id]).await;
    Snapshot {
        id: SnapshotId::mint(NOON, &SystemEntropy),
        restic_id: "0123abcd".parse().expect("eight digits"),
        policy: policy.id,
        agent: agent.id,
        destination: destination.id,
        path: policy.destinations[0].path.clone(),
        job: None,
        taken_at: NOON,
        hostname: "db1".to_owned(),
        paths: vec!["/etc".to_owned()],
        tags: vec!["nightly".to_owned()],
        bytes_processed: 10,
        bytes_added: 5,
        files: 2,
        verified_at: None,
        present: true,
        repository: Some(format!("local:/srv/backup/{}", policy.id)),
    }
}
