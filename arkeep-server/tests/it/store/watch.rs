use std::time::Duration;

use arkeep_core::job::{JobKind, JobReport, JobSource, Outcome, ReportBody};
use arkeep_core::policy::Source;
use arkeep_core::queue::{JobQueue as _, NewJob};
use arkeep_core::{AgentId, DestinationId, JobId, SnapshotId, SystemEntropy};
use arkeep_server::store::deliveries::{Delivery, DeliveryFilter, DeliveryStore as _};
use arkeep_server::store::policies::{Policy, PolicySettings, PolicyStore};
use arkeep_server::store::snapshots::Snapshot;
use arkeep_server::store::{AgentStore, Page, SnapshotStore as _, WatchStore as _};

use super::channels::channel;
use super::{SameBytes, Sandbox, Tested, after, new_policy};

const PROMISE: u64 = 1_000;

async fn promised(sandbox: &Sandbox, agent: AgentId, to: DestinationId) -> Policy {
    let mut new = new_policy(agent, &[to]);
    new.settings = PolicySettings {
        sources: vec![Source::Path("/etc".to_owned())],
        max_age: Some(PROMISE),
        ..PolicySettings::default()
    };
    let made = PolicyStore::create(&sandbox.store, &new, &SameBytes).await;
    made.expect("a new policy")
}

async fn told(sandbox: &Sandbox) -> Vec<Delivery> {
    let filter = DeliveryFilter::default();
    let listed = sandbox.store.deliveries(&filter, &Page::default()).await;
    listed.expect("a list").items
}

/// A job that ends like this, and the snapshot that it says it took.
async fn backed_up(
    sandbox: &Sandbox,
    policy: &Policy,
    outcome: Outcome,
    (ended, taken): (u64, u64),
) -> Tested {
    let store = &sandbox.store;
    let id = JobId::mint(after(ended), &SystemEntropy);
    let job = NewJob {
        id,
        kind: JobKind::Backup,
        agent: policy.agent,
        policy: Some(policy.id),
        scheduled_for: after(ended),
        deadline: None,
        source: JobSource::Manual,
        parameters: "{}".to_owned(),
        created_at: after(ended),
    };
    store.enqueue(&job).await?;
    let lease = Duration::from_secs(60);
    let claimed = store.claim(policy.agent, lease, after(ended)).await?;
    let claimed = claimed.ok_or("nothing to claim")?;
    let report = JobReport {
        job: id,
        attempt: claimed.attempt,
        fence: claimed.fence,
        sequence: 1,
        at: after(ended),
        body: ReportBody::Finished {
            outcome,
            error: None,
            results: Vec::new(),
            hooks: Vec::new(),
        },
    };
    store.apply(policy.agent, &report, after(ended)).await?;
    let to = policy.destinations.first().ok_or("no destination")?;
    let snapshot = Snapshot {
        id: SnapshotId::mint(after(ended), &SystemEntropy),
        restic_id: format!("{ended:064x}").parse()?,
        policy: policy.id,
        agent: policy.agent,
        destination: to.destination_id,
        path: to.path.clone(),
        job: Some(id),
        taken_at: after(taken),
        hostname: "db1".to_owned(),
        paths: Vec::new(),
        tags: Vec::new(),
        bytes_processed: 0,
        bytes_added: 0,
        files: 0,
        verified_at: None,
        present: true,
        repository: None,
    };
    store.record(&snapshot).await?.ok_or("not recorded")?;
    Ok(())
}

/// S7: an agent that never connected breaks the promise all the same, and that is told once.
#[tokio::test]
async fn a_policy_without_any_snapshot_is_overdue_once() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "hook", &["policy.overdue"]).await;
    let (agent, disk) = (sandbox.agent().await.id, sandbox.destination().await.id);
    let policy = promised(&sandbox, agent, disk).await;
    // One that promises nothing.
    sandbox.policy(agent, &[disk]).await;

    store.watch_policies(after(PROMISE - 1)).await?;
    assert_eq!(told(&sandbox).await, []);
    for later in 0..3 {
        store.watch_policies(after(PROMISE + later)).await?;
    }

    let told = told(&sandbox).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].event.occurred_at, after(PROMISE));
    let data = &told[0].event.data;
    assert_eq!(data["policy_id"], policy.id.to_string());
    assert_eq!(data["agent_id"], agent.to_string());
    assert_eq!(data["max_age"], PROMISE);
    assert_eq!(data["last_good_at"], serde_json::Value::Null);
    Ok(())
}

/// S7: only a snapshot that is there, of a job that succeeded, ends it; the next time is told again.
#[tokio::test]
async fn a_good_snapshot_ends_it_until_it_is_too_old() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "hook", &["policy.overdue"]).await;
    let (agent, disk) = (sandbox.agent().await.id, sandbox.destination().await.id);
    let policy = promised(&sandbox, agent, disk).await;
    store.watch_policies(after(2_000)).await?;
    assert_eq!(told(&sandbox).await.len(), 1);

    backed_up(&sandbox, &policy, Outcome::Partial, (2_100, 2_100)).await?;
    store.watch_policies(after(2_101)).await?;
    // Still the same time.
    backed_up(&sandbox, &policy, Outcome::Succeeded, (2_200, 2_200)).await?;
    store.watch_policies(after(2_201)).await?;
    store.watch_policies(after(2_200 + PROMISE - 1)).await?;
    assert_eq!(told(&sandbox).await.len(), 1);
    store.watch_policies(after(2_200 + PROMISE)).await?;
    let second = told(&sandbox).await;
    assert_eq!(second.len(), 2);
    assert_eq!(
        second[0].event.data["last_good_at"],
        after(2_200).as_unix_millis()
    );

    // By an agent's clock it is of tomorrow; by ours the job is old.
    backed_up(&sandbox, &policy, Outcome::Succeeded, (3_300, 90_000)).await?;
    store.watch_policies(after(3_301)).await?;
    store.watch_policies(after(3_300 + PROMISE)).await?;
    assert_eq!(told(&sandbox).await.len(), 3);

    // Gone from the repository.
    backed_up(&sandbox, &policy, Outcome::Succeeded, (5_000, 5_000)).await?;
    store.watch_policies(after(5_001)).await?;
    store.reconcile(policy.id, disk, &[]).await?;
    store.watch_policies(after(5_002)).await?;
    assert_eq!(told(&sandbox).await.len(), 4);
    Ok(())
}

#[tokio::test]
async fn agents_that_fall_silent_and_come_back_are_told_of() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "hook", &["agent.offline", "agent.online"]).await;
    let ids = [
        sandbox.agent().await.id,
        sandbox.agent().await.id,
        sandbox.agent().await.id,
    ];
    sandbox
        .tamper("UPDATE agents SET standing = 'trusted'")
        .await?;
    // The third never connected.
    for id in &ids[..2] {
        store.heard(*id, after(100)).await?;
    }

    store.watch_agents(after(189)).await?;
    assert_eq!(told(&sandbox).await, []);
    store.watch_agents(after(190)).await?;
    store.watch_agents(after(500)).await?;
    let offline = told(&sandbox).await;
    assert_eq!(offline.len(), 2);
    assert!(offline.iter().all(|one| one.event.kind == "agent.offline"));
    assert_eq!(offline[0].event.occurred_at, after(190));

    // One comes back, one is revoked.
    store.heard(ids[0], after(600)).await?;
    let other = ids[1];
    sandbox
        .tamper(&format!(
            "UPDATE agents SET standing = 'revoked' WHERE id = '{other}'"
        ))
        .await?;
    store.watch_agents(after(601)).await?;
    store.watch_agents(after(602)).await?;
    let all = told(&sandbox).await;
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].event.kind, "agent.online");
    assert_eq!(all[0].event.occurred_at, after(600));
    assert_eq!(all[0].event.data["agent_id"], ids[0].to_string());
    Ok(())
}

/// A removal is no return.
#[tokio::test]
async fn a_removed_agent_does_not_come_back() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "hook", &["agent.online"]).await;
    let agent = sandbox.agent().await.id;
    sandbox
        .tamper("UPDATE agents SET standing = 'trusted'")
        .await?;
    store.heard(agent, after(100)).await?;
    store.watch_agents(after(300)).await?;

    AgentStore::delete(store, agent, None).await?;
    store.watch_agents(after(301)).await?;

    assert_eq!(told(&sandbox).await, []);
    Ok(())
}
