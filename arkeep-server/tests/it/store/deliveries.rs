use std::collections::BTreeSet;
use std::time::Duration;

use arkeep_auth::session::{
    Client, NewSession, OpenOutcome, RefreshToken, RotateOutcome, Rotation, SealedSuccessor,
};
use arkeep_auth::{SessionId, SessionStore as _};
use arkeep_core::job::{
    JobError, JobKind, JobReport, JobSource, Outcome as JobOutcome, ReportBody,
};
use arkeep_core::queue::{JobQueue as _, NewJob};
use arkeep_core::{AgentId, JobId, PolicyId, SystemEntropy, Timestamp};
use arkeep_server::store::channels::{Channel, ChannelEdit, ChannelStore as _};
use arkeep_server::store::deliveries::{
    Claimed, Delivery, DeliveryFilter, DeliveryState, DeliveryStore as _, Outcome, PATIENCE,
    Settled, Settlement,
};
use arkeep_server::store::{JobStore, Page, UserDirectory};

use super::channels::{channel, edit};
use super::{NOON, Sandbox, Store, Tested, after};

const JOBS: [&str; 4] = ["job.succeeded", "job.partial", "job.failed", "job.missed"];

async fn enqueue(sandbox: &Sandbox, agent: AgentId, policy: Option<PolicyId>, at: u64) -> JobId {
    let job = NewJob {
        id: JobId::mint(after(at), &SystemEntropy),
        kind: JobKind::Backup,
        agent,
        policy,
        scheduled_for: after(at),
        deadline: Some(after(at + 1_000)),
        source: JobSource::Schedule,
        parameters: "{}".to_owned(),
        created_at: after(at),
    };
    sandbox.store.enqueue(&job).await.expect("an answer");
    job.id
}

/// A job that is handed out and ends like this, `at`.
async fn end(sandbox: &Sandbox, agent: AgentId, outcome: JobOutcome, at: u64) -> JobId {
    let id = enqueue(sandbox, agent, None, at).await;
    finish(sandbox, agent, outcome, at)
        .await
        .expect("an answer");
    id
}

async fn finish(
    sandbox: &Sandbox,
    agent: AgentId,
    outcome: JobOutcome,
    at: u64,
) -> Result<(), Box<dyn std::error::Error>> {
    let lease = Duration::from_secs(60);
    let claimed = sandbox.store.claim(agent, lease, after(at)).await?;
    let claimed = claimed.ok_or("nothing to claim")?;
    let report = JobReport {
        job: claimed.id,
        attempt: claimed.attempt,
        fence: claimed.fence,
        sequence: 1,
        at: after(at),
        body: ReportBody::Finished {
            outcome,
            error: (outcome == JobOutcome::Failed).then(|| error("\u{0}\n")),
            results: Vec::new(),
            hooks: Vec::new(),
        },
    };
    sandbox.store.apply(agent, &report, after(at)).await?;
    Ok(())
}

fn error(detail: &str) -> JobError {
    JobError {
        code: "some".to_owned(),
        detail: detail.to_owned(),
    }
}

async fn all(store: &Store) -> Vec<Delivery> {
    let filter = DeliveryFilter::default();
    let listed = store.deliveries(&filter, &Page::default()).await;
    listed.expect("a list").items
}

async fn kinds(store: &Store) -> Vec<String> {
    let mut all = all(store).await;
    all.reverse();
    all.into_iter().map(|one| one.event.kind).collect()
}

async fn claim(store: &Store, now: Timestamp) -> Option<Claimed> {
    let until = now.plus(Duration::from_secs(60));
    store.claim_delivery(now, until).await.expect("an answer")
}

async fn settle(
    store: &Store,
    claimed: &Claimed,
    outcome: Outcome,
    now: Timestamp,
) -> Option<Settled> {
    let done = Settlement {
        channel: claimed.channel.id,
        turn: claimed.turn,
        seq: claimed.seq,
        outcome,
        now,
    };
    store.settle_delivery(&done).await.expect("an answer")
}

fn failed(retry_at: Timestamp) -> Outcome {
    Outcome::Failed {
        reason: "no".to_owned(),
        retry_at,
    }
}

/// S13: whichever statement ends a job, the channels that asked for it get to know, and no other.
#[tokio::test]
async fn each_end_of_a_job_is_told_to_those_who_asked() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let asked = channel(store, "asked", &JOBS).await;
    channel(store, "other", &["security.*"]).await;
    let off = channel(store, "off", &JOBS).await;
    let off = ChannelEdit {
        enabled: false,
        ..edit(&off)
    };
    store.update_channel(&off).await?;
    let agent = sandbox.agent().await.id;
    let policy = sandbox.policy(agent, &[]).await;

    let first = end(&sandbox, agent, JobOutcome::Succeeded, 1).await;
    end(&sandbox, agent, JobOutcome::Partial, 2).await;
    end(&sandbox, agent, JobOutcome::Failed, 3).await;
    // Missed by its policy, expired, given up, cancelled, failed by its deadline.
    enqueue(&sandbox, agent, Some(policy.id), 4).await;
    let kind = JobKind::Backup;
    store.miss(policy.id, kind, after(5), after(6)).await?;
    enqueue(&sandbox, agent, None, 7).await;
    store.reclaim(after(2_000)).await?;
    let given_up = enqueue(&sandbox, agent, None, 2_001).await;
    let lease = Duration::from_secs(60);
    let claimed = store.claim(agent, lease, after(2_002)).await?;
    let fence = claimed.ok_or("nothing to claim")?.fence;
    store
        .give_up(given_up, fence, &error("lost"), after(2_003))
        .await?;
    let cancelled = enqueue(&sandbox, agent, None, 2_004).await;
    store.cancel(cancelled, after(2_005)).await?;
    enqueue(&sandbox, agent, None, 2_006).await;
    store.claim(agent, lease, after(2_007)).await?;
    store.reclaim(after(9_000)).await?;

    assert_eq!(
        kinds(store).await,
        [
            "job.succeeded",
            "job.partial",
            "job.failed",
            "job.missed",
            "job.missed",
            "job.failed",
            "job.failed"
        ]
    );
    let all = all(store).await;
    assert!(all.iter().all(|one| one.channel == asked.id));
    let ids: BTreeSet<_> = all.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), all.len());
    for one in &all {
        let id = one.id.as_uuid();
        assert_eq!(id.get_version_num(), 7, "{id}");
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122, "{id}");
        let (seconds, nanos) = id.get_timestamp().ok_or("no time")?.to_unix();
        let millis = i64::try_from(seconds * 1_000 + u64::from(nanos) / 1_000_000)?;
        assert_eq!(millis, one.event.occurred_at.as_unix_millis());
    }
    let told = &all.last().ok_or("nothing")?.event;
    assert_eq!(told.occurred_at, after(1));
    assert_eq!(told.data["job_id"], first.to_string());
    assert_eq!(told.data["agent_id"], agent.to_string());
    assert_eq!(told.data["error"], serde_json::Value::Null);
    assert_eq!(all[4].event.data["error"]["detail"], "\u{0}\n");
    assert_eq!(all[3].event.data["policy"], policy.name);
    Ok(())
}

/// S13: there is no change without its event, and no event without its deliveries.
#[tokio::test]
async fn an_event_that_cannot_be_told_did_not_happen() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await.id;
    let job = enqueue(&sandbox, agent, None, 1).await;
    sandbox.tamper("DROP TABLE deliveries").await?;

    let ended = finish(&sandbox, agent, JobOutcome::Succeeded, 2).await;

    assert!(ended.is_err());
    let job = JobStore::find(&sandbox.store, job).await?.ok_or("gone")?;
    assert!(!job.state.is_terminal(), "{}", job.state);
    Ok(())
}

/// S13
#[tokio::test]
async fn come_in_order_one_turn_at_a_time() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "one", &JOBS).await;
    channel(store, "two", &JOBS).await;
    let agent = sandbox.agent().await.id;
    let jobs = [
        end(&sandbox, agent, JobOutcome::Succeeded, 1).await,
        end(&sandbox, agent, JobOutcome::Failed, 2).await,
    ];

    let first = claim(store, after(3)).await.ok_or("nothing")?;
    let second = claim(store, after(3)).await.ok_or("nothing")?;
    assert_ne!(first.channel.id, second.channel.id);
    assert_eq!(claim(store, after(3)).await, None);
    for claimed in [&first, &second] {
        assert_eq!(claimed.event.data["job_id"], jobs[0].to_string());
    }

    let settled = settle(store, &first, Outcome::Delivered, after(4)).await;
    assert_eq!(settled, Some(Settled { given_up: 0 }));
    let next = claim(store, after(4)).await.ok_or("nothing")?;
    assert_eq!(next.channel.id, first.channel.id);
    assert_eq!(next.event.data["job_id"], jobs[1].to_string());
    settle(store, &next, Outcome::Delivered, after(4)).await;
    assert_eq!(claim(store, after(5)).await, None);

    // Whoever had the second one's turn is gone.
    let again = claim(store, after(63)).await.ok_or("nothing")?;
    assert_eq!((again.seq, again.id), (second.seq, second.id));
    let late = settle(store, &second, Outcome::Delivered, after(64)).await;
    assert_eq!(late, None);
    assert!(
        settle(store, &again, Outcome::Delivered, after(64))
            .await
            .is_some()
    );
    Ok(())
}

/// S13: of many senders one has the turn.
#[tokio::test]
async fn of_many_who_claim_one_wins() -> Tested {
    let sandbox = Sandbox::new().await;
    channel(&sandbox.store, "one", &JOBS).await;
    let agent = sandbox.agent().await.id;
    end(&sandbox, agent, JobOutcome::Succeeded, 1).await;

    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = sandbox.store.clone();
        tries.spawn(async move { claim(&store, after(2)).await });
    }
    let winners = tries.join_all().await.into_iter().flatten();

    assert_eq!(winners.count(), 1);
    Ok(())
}

/// S13
#[tokio::test]
async fn a_channel_that_fails_rests_and_keeps_its_order() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let made = channel(store, "one", &JOBS).await;
    let agent = sandbox.agent().await.id;
    end(&sandbox, agent, JobOutcome::Succeeded, 1).await;
    end(&sandbox, agent, JobOutcome::Failed, 2).await;

    let first = claim(store, after(3)).await.ok_or("nothing")?;
    assert_eq!(first.failures, 0);
    settle(store, &first, failed(after(10)), after(3)).await;
    assert_eq!(claim(store, after(9)).await, None);
    let shown = all(store).await;
    assert_eq!(
        (shown[1].state, shown[1].attempts),
        (DeliveryState::Pending, 1)
    );
    assert_eq!(shown[1].error.as_deref(), Some("no"));
    assert_eq!(shown[1].retry_at, Some(after(10)));

    let again = claim(store, after(10)).await.ok_or("nothing")?;
    assert_eq!((again.seq, again.failures), (first.seq, 1));
    settle(store, &again, failed(after(1_000)), after(10)).await;
    // A channel that was mended need not rest.
    store.update_channel(&edit(&made)).await?;
    let mended = claim(store, after(11)).await.ok_or("nothing")?;
    assert_eq!((mended.seq, mended.failures), (first.seq, 0));
    settle(store, &mended, Outcome::Delivered, after(11)).await;

    let shown = all(store).await;
    assert_eq!(
        (shown[1].state, shown[1].attempts),
        (DeliveryState::Delivered, 3)
    );
    assert_eq!(
        (shown[1].error.clone(), shown[1].ended_at),
        (None, Some(after(11)))
    );
    Ok(())
}

/// S13: noted while the clock was ahead.
#[tokio::test]
async fn a_rest_that_lies_years_ahead_is_over() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let agent = sandbox.agent().await.id;
    channel(store, "one", &JOBS).await;
    end(&sandbox, agent, JobOutcome::Failed, 1).await;
    let claimed = claim(store, after(10)).await.ok_or("nothing waits")?;
    settle(store, &claimed, failed(after(300_000_000)), after(10)).await;

    let again = claim(store, after(11)).await.ok_or("it rests")?;

    assert_eq!(again.seq, claimed.seq);
    assert_eq!(again.failures, 1);
    Ok(())
}

/// S13: channels that do not answer are tried after those that do.
#[tokio::test]
async fn a_channel_that_took_the_last_one_comes_first() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let agent = sandbox.agent().await.id;
    for name in ["one", "two", "three"] {
        channel(store, name, &JOBS).await;
    }
    end(&sandbox, agent, JobOutcome::Failed, 1).await;
    for _ in 0..3 {
        let claimed = claim(store, after(10)).await.ok_or("nothing waits")?;
        settle(store, &claimed, failed(after(12)), after(10)).await;
    }
    let well = channel(store, "well", &JOBS).await;
    end(&sandbox, agent, JobOutcome::Failed, 20).await;

    let first = claim(store, after(30)).await.ok_or("nothing waits")?;
    let second = claim(store, after(30)).await.ok_or("nothing waits")?;

    assert_eq!(first.channel.id, well.id);
    assert_ne!(second.channel.id, well.id);
    Ok(())
}

/// S13: after a day in vain, what has waited for a day is given up, and what is younger is not.
#[tokio::test]
async fn are_given_up_after_a_day_in_vain() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "one", &JOBS).await;
    let agent = sandbox.agent().await.id;
    let day = PATIENCE.as_secs();
    for at in [1, 2, day] {
        end(&sandbox, agent, JobOutcome::Succeeded, at).await;
    }

    // It was away for days itself: the first failure gives nothing up.
    let first = claim(store, after(3 * day)).await.ok_or("nothing")?;
    let settled = settle(store, &first, failed(NOON), after(3 * day)).await;
    assert_eq!(settled, Some(Settled { given_up: 0 }));
    end(&sandbox, agent, JobOutcome::Succeeded, 4 * day - 5).await;
    let still = claim(store, after(4 * day - 1)).await.ok_or("nothing")?;
    let settled = settle(store, &still, failed(NOON), after(4 * day - 1)).await;
    assert_eq!(settled, Some(Settled { given_up: 0 }));
    let last = claim(store, after(4 * day)).await.ok_or("nothing")?;
    let settled = settle(store, &last, failed(NOON), after(4 * day)).await;
    assert_eq!(settled, Some(Settled { given_up: 3 }));

    let states: Vec<_> = all(store).await.iter().map(|one| one.state).collect();
    let gone = DeliveryState::GivenUp;
    assert_eq!(states, [DeliveryState::Pending, gone, gone, gone]);
    let young = claim(store, after(4 * day + 1)).await.ok_or("nothing")?;
    assert!(young.seq > last.seq);
    let only = DeliveryFilter {
        state: Some(gone),
        ..DeliveryFilter::default()
    };
    let listed = store.deliveries(&only, &Page::default()).await?;
    assert_eq!(listed.items.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_disabled_channel_waits() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    let made = channel(store, "one", &JOBS).await;
    let agent = sandbox.agent().await.id;
    end(&sandbox, agent, JobOutcome::Succeeded, 1).await;
    let off = ChannelEdit {
        enabled: false,
        ..edit(&made)
    };
    let off = store.update_channel(&off).await?;
    assert_eq!(claim(store, after(2)).await, None);

    let on = ChannelEdit {
        enabled: true,
        ..edit(&off)
    };
    let on: Channel = store.update_channel(&on).await?;

    assert!(claim(store, after(3)).await.is_some());
    store.delete_channel(on.id, None).await?;
    assert_eq!(all(store).await, []);
    Ok(())
}

/// S6
#[tokio::test]
async fn are_forgotten_some_time_after_they_ended() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "one", &JOBS).await;
    let agent = sandbox.agent().await.id;
    end(&sandbox, agent, JobOutcome::Succeeded, 1).await;
    end(&sandbox, agent, JobOutcome::Failed, 2).await;
    let first = claim(store, after(3)).await.ok_or("nothing")?;
    settle(store, &first, Outcome::Delivered, after(5)).await;

    assert_eq!(store.prune_deliveries(after(4)).await?, 0);
    assert_eq!(store.prune_deliveries(after(5)).await?, 1);

    // What waits stays, however old.
    assert_eq!(kinds(store).await, ["job.failed"]);
    assert_eq!(store.prune_deliveries(after(9)).await?, 0);
    assert!(claim(store, after(9)).await.is_some());
    Ok(())
}

/// A6, S13: whoever finds a theft out has told of it.
#[tokio::test]
async fn a_theft_is_told() -> Tested {
    let sandbox = Sandbox::new().await;
    let store = &sandbox.store;
    channel(store, "all", &["security.*"]).await;
    channel(store, "one", &["security.token_reuse"]).await;
    let id = super::auth::new_user(&sandbox).await?;
    let user = UserDirectory::find(store, id).await?.ok_or("gone")?;
    let stolen = RefreshToken::generate(&SystemEntropy);
    let new = NewSession {
        id: SessionId::mint(NOON, &SystemEntropy),
        user: user.id,
        epoch: user.epoch,
        refresh: stolen.digest(),
        refresh_expires_at: after(1_000),
        ends_at: after(1_000),
        client: Client::default(),
        now: NOON,
    };
    let opened = store.open(&new).await?;
    assert!(matches!(opened, OpenOutcome::Opened(_)), "{opened:?}");
    let rotation = |now| Rotation {
        presented: stolen.digest(),
        successor: RefreshToken::generate(&SystemEntropy).digest(),
        successor_expires_at: after(1_000),
        sealed_successor: SealedSuccessor::from_bytes(b"sealed".to_vec()),
        grace_until: after(11),
        client: Client::default(),
        now,
    };
    store.rotate(&rotation(after(1))).await?;
    assert_eq!(kinds(store).await, [""; 0]);

    let reused = store.rotate(&rotation(after(20))).await?;

    assert!(matches!(reused, RotateOutcome::Reused { .. }), "{reused:?}");
    assert_eq!(kinds(store).await, ["security.token_reuse"; 2]);
    let told = &all(store).await[0].event;
    assert_eq!(told.occurred_at, after(20));
    assert_eq!(told.data["email"], user.email);
    assert_eq!(told.data["session_id"], new.id.to_string());
    Ok(())
}
