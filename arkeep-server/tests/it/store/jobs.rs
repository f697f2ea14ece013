use std::time::Duration;

use arkeep_core::job::{
    DestinationResult, HookResult, HookState, JobError, JobKind, JobReport, JobSource, JobState,
    Outcome, ReportBody,
};
use arkeep_core::policy::{HookPhase, Source};
use arkeep_core::queue::{Applied, Enqueued, JobQueue, NewJob};
use arkeep_core::{AgentId, DestinationId, JobId, PolicyId, StoreError, SystemEntropy};
use arkeep_server::store::jobs::{JobFilter, JobStore, Sent, SentRepository};
use arkeep_server::store::policies::{PolicyEdit, PolicyStore};
use arkeep_server::store::snapshots::Snapshot;
use arkeep_server::store::{AgentStore as _, Page, SnapshotStore};
use arkeep_transport::enrollment::EnrollmentStore as _;

use super::{NOON, SameBytes, Sandbox, Tested, after, new_policy};

#[tokio::test]
async fn show_what_their_agent_reported() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let id = enqueue(&sandbox, agent, None, 1).await?;
    let error = JobError {
        code: "wrong_password".to_owned(),
        detail: "the repository has another password".to_owned(),
    };
    let result = result(Outcome::Failed, Some(error.clone()));
    let claimed = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;

    for (sequence, body) in [
        (1, ReportBody::Started),
        (
            2,
            ReportBody::Finished {
                outcome: Outcome::Failed,
                error: Some(error.clone()),
                results: vec![result.clone()],
                hooks: Vec::new(),
            },
        ),
    ] {
        let report = JobReport {
            job: id,
            attempt: claimed.attempt,
            fence: claimed.fence,
            sequence,
            at: after(sequence),
            body,
        };
        sandbox.store.apply(agent, &report, after(9)).await?;
    }

    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!((job.attempt, job.fence), (1, claimed.fence));
    assert_eq!(
        (job.started_at, job.ended_at),
        (Some(after(1)), Some(after(2)))
    );
    assert_eq!(job.error, Some(error));
    assert_eq!(job.results, [result]);
    assert_eq!(job.late_result, None);
    Ok(())
}

#[tokio::test]
async fn keep_what_came_too_late_beside_what_was_said_before() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let id = enqueue(&sandbox, agent, None, 1).await?;
    let claimed = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;
    sandbox.store.cancel(id, after(1)).await?;
    let report = JobReport {
        job: id,
        attempt: claimed.attempt,
        fence: claimed.fence,
        sequence: 2,
        at: after(2),
        body: ReportBody::Finished {
            outcome: Outcome::Succeeded,
            error: None,
            results: vec![result(Outcome::Succeeded, None)],
            hooks: Vec::new(),
        },
    };

    sandbox.store.apply(agent, &report, after(3)).await?;

    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;
    assert_eq!((job.state, job.results.len()), (JobState::Cancelled, 0));
    let late = job.late_result.ok_or("nothing was kept")?;
    assert_eq!(late.outcome, Outcome::Succeeded);
    assert_eq!(late.results, [result(Outcome::Succeeded, None)]);
    Ok(())
}

#[tokio::test]
async fn are_listed_newest_first_by_what_they_are() -> Tested {
    let sandbox = Sandbox::new().await;
    let (mine, other) = (sandbox.agent().await.id, sandbox.agent().await.id);
    let policy = sandbox.policy(mine, &[]).await.id;
    let first = enqueue(&sandbox, mine, Some(policy), 1).await?;
    let second = enqueue(&sandbox, other, None, 2).await?;
    let third = enqueue(&sandbox, mine, None, 3).await?;
    sandbox.store.cancel(third, NOON).await?;

    let any = JobFilter::default();
    for (filter, expected) in [
        (any.clone(), vec![third, second, first]),
        (
            JobFilter {
                agent: Some(mine),
                ..any.clone()
            },
            vec![third, first],
        ),
        (
            JobFilter {
                policy: Some(policy),
                ..any.clone()
            },
            vec![first],
        ),
        (
            JobFilter {
                state: Some(JobState::Queued),
                ..any.clone()
            },
            vec![second, first],
        ),
        (
            JobFilter {
                kind: Some(JobKind::Test),
                ..any.clone()
            },
            vec![],
        ),
        (
            JobFilter {
                since: Some(after(2)),
                ..any.clone()
            },
            vec![third, second],
        ),
    ] {
        let listed = JobStore::list(&sandbox.store, &filter, &Page::default()).await?;
        let ids: Vec<_> = listed.items.iter().map(|job| job.id).collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
    Ok(())
}

/// S4
#[tokio::test]
async fn remember_where_their_holder_was_sent() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let id = enqueue(&sandbox, agent, None, 1).await?;
    let destination = DestinationId::mint(NOON, &SystemEntropy);
    let sent = Sent {
        repositories: vec![SentRepository {
            destination_id: destination,
            path: "nightly".parse()?,
            address: Some("local:/srv/backup/nightly".to_owned()),
        }],
        sources: vec![Source::Path("/etc".to_owned())],
        tags: vec!["nightly".to_owned()],
    };
    let note = |fence| sandbox.store.note_assignment(id, fence, &sent);
    assert!(!note(arkeep_core::job::Fence(0)).await?);
    let first = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;

    assert!(note(first.fence).await?);
    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;
    assert_eq!(job.assigned, [destination]);
    assert_eq!(job.sent.as_ref(), Some(&sent));

    sandbox.store.reclaim(after(60)).await?;
    let second = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;
    assert!(!note(first.fence).await?);
    assert!(note(second.fence).await?);
    Ok(())
}

/// S3
#[tokio::test]
async fn count_the_ticks_that_were_folded() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let policy = sandbox.policy(agent, &[]).await.id;
    let id = enqueue(&sandbox, agent, Some(policy), 1).await?;
    for second in 2..=4 {
        enqueue(&sandbox, agent, Some(policy), second).await?;
        enqueue(&sandbox, agent, Some(policy), second).await?;
    }

    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;

    assert_eq!(job.folded, 3);
    Ok(())
}

/// S3
#[tokio::test]
async fn one_that_waits_can_be_missed_and_one_that_runs_cannot() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let policy = sandbox.policy(agent, &[]).await.id;
    let id = enqueue(&sandbox, agent, Some(policy), 1).await?;

    let miss = |tick| {
        let store = sandbox.store.clone();
        async move {
            let kind = JobKind::Backup;
            store.miss(policy, kind, after(tick), after(9)).await
        }
    };
    assert_eq!(miss(1).await?, []);
    assert_eq!(miss(2).await?, [id]);
    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;
    assert_eq!(
        (job.state, job.ended_at),
        (JobState::Missed, Some(after(9)))
    );

    enqueue(&sandbox, agent, Some(policy), 2).await?;
    claim(&sandbox, agent).await?;
    assert_eq!(miss(3).await?, []);
    Ok(())
}

/// S5
#[tokio::test]
async fn one_that_was_given_up_keeps_what_its_holder_says_later() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let id = enqueue(&sandbox, agent, None, 1).await?;
    let claimed = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;
    let error = JobError {
        code: "lost".to_owned(),
        detail: "the agent knows nothing of it".to_owned(),
    };

    let stale = arkeep_core::job::Fence(claimed.fence.0 + 1);
    assert!(!sandbox.store.give_up(id, stale, &error, after(5)).await?);
    let given_up = sandbox.store.give_up(id, claimed.fence, &error, after(5));
    assert!(given_up.await?);
    let again = sandbox.store.give_up(id, claimed.fence, &error, after(6));
    assert!(!again.await?);

    let report = JobReport {
        job: id,
        attempt: claimed.attempt,
        fence: claimed.fence,
        sequence: 1,
        at: after(7),
        body: ReportBody::Finished {
            outcome: Outcome::Succeeded,
            error: None,
            results: Vec::new(),
            hooks: Vec::new(),
        },
    };
    let applied = sandbox.store.apply(agent, &report, after(7)).await?;
    assert_eq!(applied, Applied::Late(Some(Outcome::Succeeded)));
    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;
    assert_eq!(
        (job.state, job.ended_at),
        (JobState::Failed, Some(after(5)))
    );
    assert_eq!(job.error, Some(error));
    Ok(())
}

/// S5
#[tokio::test]
async fn those_of_a_revoked_agent_end() -> Tested {
    let sandbox = Sandbox::new().await;
    let (agent, other) = (sandbox.agent().await.id, sandbox.agent().await.id);
    let held = enqueue(&sandbox, agent, None, 1).await?;
    claim(&sandbox, agent).await?;
    let waiting = enqueue(&sandbox, agent, None, 2).await?;
    let of_other = enqueue(&sandbox, other, None, 3).await?;
    assert_eq!(sandbox.store.abandon(after(5)).await?, []);

    sandbox.store.withdraw(agent, after(5)).await?;
    let mut ended = sandbox.store.abandon(after(5)).await?;
    ended.sort_unstable();

    assert_eq!(ended, [held, waiting]);
    assert_eq!(sandbox.store.abandon(after(5)).await?, []);
    for (id, expected) in [
        (held, JobState::Failed),
        (waiting, JobState::Cancelled),
        (of_other, JobState::Queued),
    ] {
        let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;
        assert_eq!(job.state, expected);
    }
    Ok(())
}

/// S5
#[tokio::test]
async fn one_whose_end_was_asked_for_ends_when_its_agent_is_away() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    sandbox.store.heard(agent, NOON).await?;
    let id = enqueue(&sandbox, agent, None, 1).await?;
    let claimed = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;
    let report = |sequence, body| JobReport {
        job: id,
        attempt: claimed.attempt,
        fence: claimed.fence,
        sequence,
        at: after(sequence),
        body,
    };
    let started = report(1, ReportBody::Started);
    sandbox.store.apply(agent, &started, NOON).await?;
    assert_eq!(sandbox.store.abandon(after(1_000)).await?, []);
    sandbox.store.cancel(id, NOON).await?;

    assert_eq!(sandbox.store.abandon(after(89)).await?, []);
    assert_eq!(sandbox.store.abandon(after(90)).await?, [id]);

    let done = ReportBody::Finished {
        outcome: Outcome::Succeeded,
        error: None,
        results: Vec::new(),
        hooks: Vec::new(),
    };
    let late = sandbox
        .store
        .apply(agent, &report(2, done), after(95))
        .await?;
    assert_eq!(late, Applied::Late(Some(Outcome::Succeeded)));
    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;
    assert_eq!(job.state, JobState::Cancelled);
    let code = job.error.map(|error| error.code);
    assert_eq!(code.as_deref(), Some("agent_away"));
    Ok(())
}

/// G5: two first backups would both make the repository.
#[tokio::test]
async fn the_first_use_of_a_repository_is_one_agents_alone() -> Tested {
    let sandbox = Sandbox::new().await;
    let (first, second) = (sandbox.agent().await.id, sandbox.agent().await.id);
    let mut policies = Vec::new();
    for agent in [first, second] {
        // Two destinations that stand for one place.
        let mut new = new_policy(agent, &[sandbox.destination().await.id]);
        new.destinations[0].path = "shared".parse()?;
        let policy = PolicyStore::create(&sandbox.store, &new, &SameBytes).await?;
        policies.push(policy);
    }
    for policy in &policies {
        enqueue(&sandbox, policy.agent, Some(policy.id), 1).await?;
    }
    let claimed = claim(&sandbox, first).await?.ok_or("nothing to claim")?;
    let sent = Sent {
        repositories: vec![SentRepository {
            destination_id: policies[0].destinations[0].destination_id,
            path: "shared".parse()?,
            address: Some("local:/srv/backup/shared".to_owned()),
        }],
        ..Sent::default()
    };
    let noted = sandbox
        .store
        .note_assignment(claimed.id, claimed.fence, &sent);
    assert!(noted.await?);
    assert_eq!(claim(&sandbox, second).await?, None);

    // What the holder was sent to do does not change with its policy.
    let away = PolicyEdit {
        id: policies[0].id,
        version: policies[0].version,
        name: policies[0].name.clone(),
        enabled: true,
        destinations: Vec::new(),
        repository_password: None,
        settings: policies[0].settings.clone(),
        at: NOON,
    };
    PolicyStore::update(&sandbox.store, &away, &SameBytes).await?;
    assert_eq!(claim(&sandbox, second).await?, None);
    let alone = enqueue(&sandbox, second, None, 2).await?;
    let passed = claim(&sandbox, second).await?.ok_or("nothing to claim")?;
    assert_eq!(passed.id, alone);

    let taken = Snapshot {
        policy: policies[0].id,
        agent: first,
        destination: policies[0].destinations[0].destination_id,
        path: "shared".parse()?,
        repository: Some("local:/srv/backup/shared".to_owned()),
        ..super::snapshots::snapshot(&sandbox).await
    };
    SnapshotStore::record(&sandbox.store, &taken).await?;
    assert!(claim(&sandbox, second).await?.is_some());
    Ok(())
}

/// S16
#[tokio::test]
async fn a_list_does_not_hold_what_hooks_printed() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let id = enqueue(&sandbox, agent, None, 1).await?;
    let claimed = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;
    let hook = HookResult {
        name: "dump".to_owned(),
        phase: HookPhase::Before,
        state: HookState::Failed,
        exit_code: Some(1),
        output: "a long text with \u{0} in it".to_owned(),
        started_at: NOON,
        ended_at: NOON,
    };
    for sequence in 1..=2 {
        let report = JobReport {
            job: id,
            attempt: claimed.attempt,
            fence: claimed.fence,
            sequence,
            at: after(1),
            body: ReportBody::Finished {
                outcome: Outcome::Failed,
                error: None,
                results: vec![result(Outcome::Failed, None)],
                hooks: vec![hook.clone()],
            },
        };
        sandbox.store.apply(agent, &report, after(1)).await?;
    }

    let listed = JobStore::list(&sandbox.store, &JobFilter::default(), &Page::default()).await?;
    let found = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;

    assert_eq!(found.hooks, std::slice::from_ref(&hook));
    let mut brief = found;
    brief.hooks[0].output.clear();
    let late = brief.late_result.as_mut().ok_or("nothing came late")?;
    late.hooks.clear();
    late.results.clear();
    assert_eq!(listed.items, [brief]);
    Ok(())
}

/// S7: a clock in the future would silence the alarm.
#[tokio::test]
async fn one_never_ends_later_than_it_is_reported() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let id = enqueue(&sandbox, agent, None, 1).await?;
    let claimed = claim(&sandbox, agent).await?.ok_or("nothing to claim")?;
    let done = ReportBody::Finished {
        outcome: Outcome::Failed,
        error: None,
        results: Vec::new(),
        hooks: Vec::new(),
    };
    for (sequence, body) in [(1, ReportBody::Started), (2, done)] {
        let report = JobReport {
            job: id,
            attempt: claimed.attempt,
            fence: claimed.fence,
            sequence,
            at: after(4_000_000_000),
            body,
        };
        sandbox.store.apply(agent, &report, after(sequence)).await?;
    }

    let job = JobStore::find(&sandbox.store, id).await?.ok_or("gone")?;

    assert_eq!(
        (job.started_at, job.ended_at),
        (Some(after(1)), Some(after(2)))
    );
    Ok(())
}

/// S5: whoever asks has looked before, and others remove meanwhile.
#[tokio::test]
async fn none_is_made_for_what_is_gone() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let job = |agent, policy| NewJob {
        id: JobId::mint(NOON, &SystemEntropy),
        kind: JobKind::Backup,
        agent,
        policy,
        scheduled_for: NOON,
        deadline: None,
        source: JobSource::Manual,
        parameters: "{}".to_owned(),
        created_at: NOON,
    };
    let nobody = AgentId::mint(NOON, &SystemEntropy);
    let nothing = PolicyId::mint(NOON, &SystemEntropy);

    for gone in [job(nobody, None), job(agent, Some(nothing))] {
        let enqueued = sandbox.store.enqueue(&gone).await?;
        assert_eq!(enqueued, Enqueued::NotFound);
    }

    let all = JobStore::list(&sandbox.store, &JobFilter::default(), &Page::default()).await?;
    assert_eq!(all.items, []);
    Ok(())
}

#[tokio::test]
async fn those_that_an_agent_holds_are_found() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let held = enqueue(&sandbox, agent, None, 1).await?;
    enqueue(&sandbox, agent, None, 2).await?;
    claim(&sandbox, agent).await?;

    let found = sandbox.store.held(agent).await?;

    assert_eq!(found.iter().map(|job| job.id).collect::<Vec<_>>(), [held]);
    let pending = sandbox.store.pending().await?;
    assert_eq!(pending, [(JobState::Leased, 1), (JobState::Queued, 1)]);
    Ok(())
}

async fn enqueue(
    sandbox: &Sandbox,
    agent: AgentId,
    policy: Option<PolicyId>,
    second: u64,
) -> Result<JobId, StoreError> {
    let job = NewJob {
        id: JobId::mint(after(second), &SystemEntropy),
        kind: JobKind::Backup,
        agent,
        policy,
        scheduled_for: after(second),
        deadline: None,
        source: JobSource::Schedule,
        parameters: "{}".to_owned(),
        created_at: after(second),
    };
    let enqueued = sandbox.store.enqueue(&job).await?;
    Ok(enqueued.job().expect("agent and policy are there"))
}

async fn claim(
    sandbox: &Sandbox,
    agent: AgentId,
) -> Result<Option<arkeep_core::queue::ClaimedJob>, StoreError> {
    let lease = Duration::from_secs(60);
    JobQueue::claim(&sandbox.store, agent, lease, NOON).await
}

fn result(state: Outcome, error: Option<JobError>) -> DestinationResult {
    DestinationResult {
        destination_id: DestinationId::from_uuid(uuid::Uuid::from_u128(5)),
        state,
        snapshot_id: None,
        bytes_processed: 1,
        bytes_added: 2,
        files_new: 3,
        files_changed: 4,
        files_unmodified: 5,
        started_at: NOON,
        ended_at: NOON,
        error,
    }
}
