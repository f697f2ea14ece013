use arkeep_core::job::{JobKind, JobSource, JobState};
use arkeep_core::policy::Retention;
use arkeep_core::queue::{JobQueue, NewJob};
use arkeep_core::{AgentId, DestinationId, JobId, SystemEntropy};
use arkeep_server::store::policies::{
    NewPolicy, Policy, PolicyDestination, PolicyEdit, PolicyStore,
};
use arkeep_server::store::{JobStore, Page, Refusal, SnapshotStore as _};

use super::users::assert_refused;
use super::{NOON, SameBytes, Sandbox, Tested, after, new_policy};

#[tokio::test]
async fn are_found_as_they_were_made() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let far = sandbox.destination().await.id;
    let near = sandbox.destination().await.id;
    let mut new = new_policy(agent, &[far, near]);
    new.destinations[0].retention = Some(Retention {
        keep_last: Some(3),
        ..Retention::default()
    });

    let made = PolicyStore::create(&sandbox.store, &new, &SameBytes).await?;

    assert_eq!(made.destinations, new.destinations);
    assert_eq!(made.settings, new.settings);
    assert_eq!(made.repository_password, new.repository_password);
    assert_eq!(
        PolicyStore::find(&sandbox.store, new.id).await?,
        Some(made.clone())
    );
    let of_agent = PolicyStore::list(&sandbox.store, Some(agent), &Page::default()).await?;
    assert_eq!(of_agent.items, [made]);
    let other = sandbox.agent().await.id;
    let of_other = PolicyStore::list(&sandbox.store, Some(other), &Page::default()).await?;
    assert_eq!(of_other.items, []);
    Ok(())
}

#[tokio::test]
async fn name_what_is_there() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let nobody = AgentId::mint(NOON, &SystemEntropy);
    let nowhere = DestinationId::mint(NOON, &SystemEntropy);

    let answer = PolicyStore::create(&sandbox.store, &new_policy(nobody, &[]), &SameBytes).await;
    assert_refused(answer, Refusal::Dangling { field: "agent_id" });
    let answer =
        PolicyStore::create(&sandbox.store, &new_policy(agent, &[nowhere]), &SameBytes).await;
    assert_refused(
        answer,
        Refusal::Dangling {
            field: "destinations",
        },
    );
    let all = PolicyStore::list(&sandbox.store, None, &Page::default()).await?;
    assert_eq!(all.items, []);
    Ok(())
}

#[tokio::test]
async fn name_no_destination_twice() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let destination = sandbox.destination().await.id;
    let new = NewPolicy {
        ..new_policy(agent, &[destination, destination])
    };

    let answer = PolicyStore::create(&sandbox.store, &new, &SameBytes).await;

    assert_refused(
        answer,
        Refusal::Taken {
            field: "destinations",
        },
    );
    Ok(())
}

#[tokio::test]
async fn change_as_a_whole_or_not_at_all() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let first = sandbox.destination().await.id;
    let second = sandbox.destination().await.id;
    let made = sandbox.policy(agent, &[first]).await;

    let broken = PolicyEdit {
        name: "other".to_owned(),
        destinations: vec![pair(DestinationId::mint(NOON, &SystemEntropy))],
        ..edit(&made)
    };
    assert!(
        PolicyStore::update(&sandbox.store, &broken, &SameBytes)
            .await
            .is_err()
    );
    let found = PolicyStore::find(&sandbox.store, made.id).await?;
    assert_eq!(found, Some(made.clone()));

    let whole = PolicyEdit {
        destinations: vec![pair(second)],
        repository_password: Some(b"other".to_vec()),
        ..edit(&made)
    };
    let changed = PolicyStore::update(&sandbox.store, &whole, &SameBytes).await?;
    assert_eq!(changed.destinations, [pair(second)]);
    assert_eq!(changed.repository_password, b"other");
    assert_eq!(changed.version, 2);
    let late = PolicyStore::update(&sandbox.store, &whole, &SameBytes).await;
    assert_refused(late, Refusal::Stale);
    Ok(())
}

#[tokio::test]
async fn one_that_goes_takes_its_waiting_jobs_along() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let policy = sandbox.policy(agent, &[]).await;
    let job = enqueue(&sandbox, &policy).await?;

    PolicyStore::delete(&sandbox.store, policy.id, None, after(9)).await?;

    let job = JobStore::find(&sandbox.store, job).await?.ok_or("gone")?;
    assert_eq!(
        (job.state, job.ended_at),
        (JobState::Cancelled, Some(after(9)))
    );
    assert_eq!(PolicyStore::find(&sandbox.store, policy.id).await?, None);
    Ok(())
}

#[tokio::test]
async fn one_whose_job_is_with_an_agent_stays() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let policy = sandbox.policy(agent, &[]).await;
    enqueue(&sandbox, &policy).await?;
    let lease = std::time::Duration::from_secs(60);
    JobQueue::claim(&sandbox.store, agent, lease, NOON).await?;

    let removed = PolicyStore::delete(&sandbox.store, policy.id, None, NOON).await;

    assert_refused(removed, Refusal::InUse { by: "running jobs" });
    Ok(())
}

/// V4: what is overwritten is kept nowhere else.
#[tokio::test]
async fn the_password_stays_once_a_backup_was_given_out_or_a_snapshot_is_known() -> Tested {
    let sandbox = Sandbox::new().await;
    let with_snapshot = super::snapshots::snapshot(&sandbox).await;
    sandbox.store.record(&with_snapshot).await?;
    let agent = sandbox.agent().await.id;
    let with_job = sandbox.policy(agent, &[]).await;
    enqueue(&sandbox, &with_job).await?;
    let lease = std::time::Duration::from_secs(60);

    let other = |policy: &Policy| PolicyEdit {
        name: format!("{} again", policy.name),
        repository_password: Some(b"other".to_vec()),
        ..edit(policy)
    };
    let waits = PolicyStore::update(&sandbox.store, &other(&with_job), &SameBytes).await?;
    assert_eq!(waits.repository_password, b"other");
    JobQueue::claim(&sandbox.store, agent, lease, NOON).await?;

    let found = PolicyStore::find(&sandbox.store, with_snapshot.policy).await?;
    for policy in [waits, found.ok_or("gone")?] {
        let refused = PolicyStore::update(&sandbox.store, &other(&policy), &SameBytes).await;
        let field = "repository_password";
        assert_refused(refused, Refusal::Settled { field });
        let after = PolicyStore::find(&sandbox.store, policy.id).await?;
        assert_eq!(after, Some(policy.clone()));
        PolicyStore::update(&sandbox.store, &edit(&policy), &SameBytes).await?;
    }
    Ok(())
}

/// A policy at `shared` below a destination, with this password.
fn at_shared(agent: AgentId, destination: DestinationId, password: &str) -> NewPolicy {
    let mut new = new_policy(agent, &[destination]);
    new.destinations[0].path = "shared".parse().expect("a plain component");
    new.repository_password = password.as_bytes().to_vec();
    new
}

/// DESIGN §3
#[tokio::test]
async fn those_with_one_repository_have_one_password() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    // Both stand for one place.
    let (one, other) = (
        sandbox.destination().await.id,
        sandbox.destination().await.id,
    );
    let create = |new: NewPolicy| {
        let store = sandbox.store.clone();
        async move { PolicyStore::create(&store, &new, &SameBytes).await }
    };
    create(at_shared(agent, one, "a")).await?;

    for place in [one, other] {
        let refused = create(at_shared(agent, place, "b")).await;
        assert_refused(refused, Refusal::OtherPassword { position: 0 });
    }
    let second = create(at_shared(agent, other, "a")).await?;
    let changed = PolicyEdit {
        repository_password: Some(b"b".to_vec()),
        ..edit(&second)
    };
    let refused = PolicyStore::update(&sandbox.store, &changed, &SameBytes).await;
    assert_refused(refused, Refusal::OtherPassword { position: 0 });

    let elsewhere = create(new_policy(agent, &[one])).await?;
    let moved = PolicyEdit {
        destinations: second.destinations,
        ..edit(&elsewhere)
    };
    let refused = PolicyStore::update(&sandbox.store, &moved, &SameBytes).await;
    assert_refused(refused, Refusal::OtherPassword { position: 0 });
    Ok(())
}

/// DESIGN §3
#[tokio::test]
async fn one_repository_gets_one_password_from_concurrent_callers() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let destination = sandbox.destination().await.id;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = sandbox.store.clone();
        let new = at_shared(agent, destination, &number.to_string());
        calls.spawn(async move { PolicyStore::create(&store, &new, &SameBytes).await });
    }

    let answers = calls.join_all().await;

    let made = answers.iter().filter(|answer| answer.is_ok());
    assert_eq!(made.count(), 1);
    Ok(())
}

async fn enqueue(sandbox: &Sandbox, policy: &Policy) -> Result<JobId, arkeep_core::StoreError> {
    let job = NewJob {
        id: JobId::mint(NOON, &SystemEntropy),
        kind: JobKind::Backup,
        agent: policy.agent,
        policy: Some(policy.id),
        scheduled_for: NOON,
        deadline: None,
        source: JobSource::Manual,
        parameters: "{}".to_owned(),
        created_at: NOON,
    };
    let enqueued = sandbox.store.enqueue(&job).await?;
    Ok(enqueued.job().expect("its policy is there"))
}

fn pair(destination_id: DestinationId) -> PolicyDestination {
    PolicyDestination {
        destination_id,
        path: arkeep_core::repository::RelativePath::default(),
        retention: None,
    }
}

fn edit(policy: &Policy) -> PolicyEdit {
    PolicyEdit {
        id: policy.id,
        version: policy.version,
        name: policy.name.clone(),
        enabled: policy.enabled,
        destinations: policy.destinations.clone(),
        repository_password: None,
        settings: policy.settings.clone(),
        at: after(1),
    }
}
