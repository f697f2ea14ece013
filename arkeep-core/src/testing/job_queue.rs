//! The promises of [`JobQueue`], as tests of any implementation.
//!
//! Each function is one promise and panics when it is broken.
//! [`job_queue_conformance!`](crate::job_queue_conformance) makes a test of each; whoever has no
//! tokio calls them by hand.

#![expect(missing_docs, reason = "the name of a function is its promise")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;

use crate::job::{Fence, JobKind, JobReport, JobSource, JobState, Outcome, ReportBody};
use crate::queue::{Applied, CancelOutcome, ClaimedJob, Enqueued, JobQueue, NewJob};
use crate::{AgentId, JobId, PolicyId, StoreError, SystemEntropy, Timestamp};

/// An empty queue, and whatever its implementation needs to be there.
#[async_trait]
pub trait JobQueueFixture: Send + Sync {
    /// The queue under test.
    fn queue(&self) -> &dyn JobQueue;

    /// Makes an agent that jobs may be for.
    async fn agent(&self) -> AgentId {
        AgentId::mint(NOON, &SystemEntropy)
    }

    /// Makes a policy of the agent that jobs may serve.
    async fn policy(&self, _agent: AgentId) -> PolicyId {
        PolicyId::mint(NOON, &SystemEntropy)
    }
}

/// Makes a `#[tokio::test]` of each promise. The argument is an expression that is awaited and
/// gives a [`JobQueueFixture`].
#[macro_export]
macro_rules! job_queue_conformance {
    ($fixture:expr) => {
        $crate::job_queue_conformance!(@each $fixture;
            enqueue_folds_into_a_job_that_waits
            enqueue_folds_nothing_into_a_job_that_runs
            enqueue_folds_nothing_into_what_was_given_out
            enqueue_never_folds_what_has_parameters_of_its_own
            enqueue_has_one_winner_among_concurrent_callers
            enqueue_remembers_the_ticks_that_were_folded
            enqueue_moves_the_deadline_of_what_it_folds_into
            claim_takes_the_oldest_of_the_agent
            claim_has_one_winner_among_concurrent_callers
            claim_passes_over_what_is_past_its_deadline
            claim_gives_out_one_job_of_a_policy_and_kind_at_a_time
            claim_gives_out_one_job_of_a_policy_to_concurrent_callers
            claim_raises_the_fence
            apply_moves_each_report_once
            apply_hears_only_the_owner
            apply_keeps_what_a_former_holder_says
            apply_keeps_what_comes_after_the_end
            apply_hears_the_last_holder_after_its_lease
            apply_takes_a_first_report_that_is_the_last
            extend_keeps_the_lease
            extend_gives_back_a_lost_lease
            extend_refuses_everyone_else
            cancel_ends_what_has_not_begun
            cancel_asks_for_the_end_of_what_runs
            cancel_changes_nothing_that_has_ended
            reclaim_queues_again_what_was_leased
            reclaim_leaves_what_runs
            reclaim_ends_what_is_past_its_deadline
        );
    };
    (@each $fixture:expr; $($promise:ident)+) => {$(
        #[tokio::test]
        async fn $promise() -> Result<(), $crate::StoreError> {
            let fixture = $fixture.await;
            $crate::testing::job_queue::$promise(&fixture).await
        }
    )+};
}

/// Says something about a [`JobQueue`].
type Promise = Result<(), StoreError>;

pub async fn enqueue_folds_into_a_job_that_waits(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    let other = fixture.policy(agent).await;

    let first = backup(agent, policy, 1);
    let verify = NewJob {
        kind: JobKind::Verify,
        ..backup(agent, policy, 1)
    };

    assert_eq!(queue.enqueue(&first).await?, Enqueued::Created(first.id));
    let folded = queue.enqueue(&backup(agent, policy, 2)).await?;
    assert_eq!(folded, Enqueued::Folded(first.id));
    let elsewhere = backup(agent, other, 2);
    assert_eq!(
        queue.enqueue(&elsewhere).await?,
        Enqueued::Created(elsewhere.id)
    );
    assert_eq!(queue.enqueue(&verify).await?, Enqueued::Created(verify.id));
    Ok(())
}

pub async fn enqueue_folds_nothing_into_a_job_that_runs(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    run_one(fixture, agent, policy).await?;

    let next = backup(agent, policy, 2);

    assert_eq!(queue.enqueue(&next).await?, Enqueued::Created(next.id));
    Ok(())
}

/// S4: the holder of the first does what the policy said when it was sent.
pub async fn enqueue_folds_nothing_into_what_was_given_out(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    queue.enqueue(&backup(agent, policy, 1)).await?;
    let leased = claim(queue, agent).await?;

    let second = backup(agent, policy, 2);
    let while_leased = queue.enqueue(&second).await?;
    assert_eq!(while_leased, Enqueued::Created(second.id));
    let lost = queue.reclaim(NOON.plus(LEASE)).await?;
    assert_eq!(lost, [(leased.id, JobState::Queued)]);
    let after_the_lease = queue.enqueue(&backup(agent, policy, 3)).await?;
    assert_eq!(after_the_lease, Enqueued::Folded(second.id));

    assert!(
        queue
            .extend(agent, leased.id, leased.fence, after(300))
            .await?
    );
    Ok(())
}

pub async fn enqueue_never_folds_what_has_parameters_of_its_own(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;

    for kind in [JobKind::Restore, JobKind::Test] {
        for _ in 0..2 {
            let job = NewJob {
                kind,
                ..backup(agent, policy, 1)
            };
            assert_eq!(queue.enqueue(&job).await?, Enqueued::Created(job.id));
        }
    }
    Ok(())
}

pub async fn enqueue_has_one_winner_among_concurrent_callers(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;

    let jobs: Vec<_> = (0..100).map(|_| backup(agent, policy, 1)).collect();
    let answers = all(jobs.iter().map(|job| queue.enqueue(job))).await?;

    let winners: Vec<_> = answers
        .iter()
        .filter(|answer| matches!(answer, Enqueued::Created(_)))
        .collect();
    assert_eq!(winners.len(), 1);
    let made = winners.first().and_then(|winner| winner.job());
    for answer in &answers {
        assert!(!matches!(answer, Enqueued::Folded(_)), "{answer:?}");
        assert_eq!(answer.job(), made);
    }
    Ok(())
}

pub async fn enqueue_remembers_the_ticks_that_were_folded(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    let first = backup(agent, policy, 1);
    queue.enqueue(&first).await?;
    queue.enqueue(&backup(agent, policy, 2)).await?;

    let again = queue.enqueue(&backup(agent, policy, 2)).await?;

    assert_eq!(again, Enqueued::Known(first.id));
    Ok(())
}

pub async fn enqueue_moves_the_deadline_of_what_it_folds_into(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    let with_deadline = |tick, seconds| NewJob {
        deadline: Some(after(seconds)),
        ..backup(agent, policy, tick)
    };
    queue.enqueue(&with_deadline(1, 10)).await?;
    queue.enqueue(&with_deadline(2, 20)).await?;

    assert_eq!(queue.reclaim(after(15)).await?, []);
    let claimed = queue.claim(agent, LEASE, after(15)).await?;

    let deadline = claimed.and_then(|job| job.deadline);
    assert_eq!(deadline, Some(after(20)));
    Ok(())
}

pub async fn claim_takes_the_oldest_of_the_agent(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let other = fixture.agent().await;
    let others = backup_alone(other, 0);
    queue.enqueue(&others).await?;
    let late = backup_alone(agent, 2);
    queue.enqueue(&late).await?;
    let early = NewJob {
        parameters: r#"{"a":1}"#.to_owned(),
        ..backup_alone(agent, 1)
    };
    queue.enqueue(&early).await?;

    let first = queue.claim(agent, LEASE, NOON).await?;
    let second = queue.claim(agent, LEASE, NOON).await?;
    let third = queue.claim(agent, LEASE, NOON).await?;

    assert_eq!(
        first,
        Some(ClaimedJob {
            id: early.id,
            kind: JobKind::Backup,
            policy: None,
            attempt: 1,
            fence: Fence(1),
            deadline: None,
            parameters: r#"{"a":1}"#.to_owned(),
        })
    );
    assert_eq!(second.map(|job| job.id), Some(late.id));
    assert_eq!(third, None);
    Ok(())
}

pub async fn claim_has_one_winner_among_concurrent_callers(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;

    let answers = all((0..100).map(|_| queue.claim(agent, LEASE, NOON))).await?;

    assert_eq!(answers.iter().flatten().count(), 1);
    Ok(())
}

pub async fn claim_passes_over_what_is_past_its_deadline(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let job = NewJob {
        deadline: Some(after(10)),
        ..backup_alone(agent, 1)
    };
    queue.enqueue(&job).await?;

    assert_eq!(queue.claim(agent, LEASE, after(10)).await?, None);
    assert!(queue.claim(agent, LEASE, after(9)).await?.is_some());
    Ok(())
}

/// S3: what waits goes on taking in later ticks, and begins with the policy of that moment.
pub async fn claim_gives_out_one_job_of_a_policy_and_kind_at_a_time(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    let running = run_one(fixture, agent, policy).await?;
    let next = backup(agent, policy, 2);
    queue.enqueue(&next).await?;
    let verify = NewJob {
        kind: JobKind::Verify,
        ..backup(agent, policy, 3)
    };
    queue.enqueue(&verify).await?;

    let other_kind = claim(queue, agent).await?;
    assert_eq!(other_kind.id, verify.id);
    assert_eq!(queue.claim(agent, LEASE, NOON).await?, None);
    let meanwhile = queue.enqueue(&backup(agent, policy, 4)).await?;
    assert_eq!(meanwhile, Enqueued::Folded(next.id));

    let done = finished(&running, 2, Outcome::Succeeded);
    queue.apply(agent, &done, NOON).await?;
    assert_eq!(claim(queue, agent).await?.id, next.id);
    Ok(())
}

pub async fn claim_gives_out_one_job_of_a_policy_to_concurrent_callers(
    fixture: &dyn JobQueueFixture,
) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    queue.enqueue(&backup(agent, policy, 1)).await?;
    claim(queue, agent).await?;
    queue.enqueue(&backup(agent, policy, 2)).await?;
    queue.reclaim(NOON.plus(LEASE)).await?;

    let answers = all((0..100).map(|_| queue.claim(agent, LEASE, NOON))).await?;

    assert_eq!(answers.iter().flatten().count(), 1);
    Ok(())
}

pub async fn claim_raises_the_fence(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let first = claim(queue, agent).await?;
    queue.reclaim(NOON.plus(LEASE)).await?;

    let second = claim(queue, agent).await?;

    assert!(second.fence > first.fence);
    assert_eq!((first.attempt, second.attempt), (1, 2));
    Ok(())
}

pub async fn apply_moves_each_report_once(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;
    let started = started(&job);
    let finished = finished(&job, 2, Outcome::Partial);

    let moved = queue.apply(agent, &started, NOON).await?;
    assert_eq!(moved, Applied::Moved(JobState::Running));
    assert_eq!(
        queue.apply(agent, &started, NOON).await?,
        Applied::Duplicate
    );
    let moved = queue.apply(agent, &finished, NOON).await?;
    assert_eq!(moved, Applied::Moved(JobState::Partial));
    assert_eq!(
        queue.apply(agent, &finished, NOON).await?,
        Applied::Duplicate
    );
    assert_eq!(
        queue.apply(agent, &started, NOON).await?,
        Applied::Duplicate
    );
    Ok(())
}

pub async fn apply_hears_only_the_owner(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let stranger = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;
    let report = finished(&job, 1, Outcome::Succeeded);
    let of_nothing = JobReport {
        job: JobId::mint(NOON, &SystemEntropy),
        ..report.clone()
    };

    assert_eq!(
        queue.apply(stranger, &report, NOON).await?,
        Applied::Unknown
    );
    assert_eq!(
        queue.apply(agent, &of_nothing, NOON).await?,
        Applied::Unknown
    );
    let untouched = queue.apply(agent, &started(&job), NOON).await?;
    assert_eq!(untouched, Applied::Moved(JobState::Running));
    Ok(())
}

pub async fn apply_keeps_what_a_former_holder_says(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let former = claim(queue, agent).await?;
    queue.reclaim(NOON.plus(LEASE)).await?;
    let holder = claim(queue, agent).await?;
    let late = finished(&former, 2, Outcome::Succeeded);

    let begun = queue.apply(agent, &started(&former), NOON).await?;
    assert_eq!(begun, Applied::Late(None));
    assert_eq!(
        queue.apply(agent, &late, NOON).await?,
        Applied::Late(Some(Outcome::Succeeded))
    );
    assert_eq!(queue.apply(agent, &late, NOON).await?, Applied::Duplicate);
    let moved = queue.apply(agent, &started(&holder), NOON).await?;
    assert_eq!(moved, Applied::Moved(JobState::Running));
    Ok(())
}

pub async fn apply_keeps_what_comes_after_the_end(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;
    assert_eq!(queue.cancel(job.id, NOON).await?, CancelOutcome::Cancelled);
    let late = finished(&job, 2, Outcome::Succeeded);

    let begun = queue.apply(agent, &started(&job), NOON).await?;
    assert_eq!(begun, Applied::Late(None));
    assert_eq!(
        queue.apply(agent, &late, NOON).await?,
        Applied::Late(Some(Outcome::Succeeded))
    );
    assert_eq!(queue.apply(agent, &late, NOON).await?, Applied::Duplicate);
    assert_eq!(
        queue.cancel(job.id, NOON).await?,
        CancelOutcome::AlreadyEnded(JobState::Cancelled)
    );
    Ok(())
}

pub async fn apply_hears_the_last_holder_after_its_lease(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;
    let lost = queue.reclaim(NOON.plus(LEASE)).await?;
    assert_eq!(lost, [(job.id, JobState::Queued)]);

    let moved = queue.apply(agent, &started(&job), NOON).await?;

    assert_eq!(moved, Applied::Moved(JobState::Running));
    assert_eq!(queue.claim(agent, LEASE, NOON).await?, None);
    Ok(())
}

pub async fn apply_takes_a_first_report_that_is_the_last(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;

    let moved = queue
        .apply(agent, &finished(&job, 1, Outcome::Failed), NOON)
        .await?;

    assert_eq!(moved, Applied::Moved(JobState::Failed));
    Ok(())
}

pub async fn extend_keeps_the_lease(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;

    assert!(queue.extend(agent, job.id, job.fence, after(300)).await?);

    assert_eq!(queue.reclaim(NOON.plus(LEASE)).await?, []);
    assert_eq!(
        queue.reclaim(after(300)).await?,
        [(job.id, JobState::Queued)]
    );
    Ok(())
}

pub async fn extend_gives_back_a_lost_lease(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;
    queue.reclaim(NOON.plus(LEASE)).await?;

    assert!(queue.extend(agent, job.id, job.fence, after(300)).await?);

    assert_eq!(queue.claim(agent, LEASE, after(61)).await?, None);
    Ok(())
}

pub async fn extend_refuses_everyone_else(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let stranger = fixture.agent().await;
    let new = backup_alone(agent, 1);
    queue.enqueue(&new).await?;
    assert!(!queue.extend(agent, new.id, Fence(0), after(300)).await?);
    let former = claim(queue, agent).await?;
    assert!(
        !queue
            .extend(stranger, former.id, former.fence, after(300))
            .await?
    );
    queue.reclaim(NOON.plus(LEASE)).await?;
    let holder = claim(queue, agent).await?;
    assert!(
        !queue
            .extend(agent, former.id, former.fence, after(300))
            .await?
    );
    queue
        .apply(agent, &finished(&holder, 1, Outcome::Succeeded), NOON)
        .await?;
    assert!(
        !queue
            .extend(agent, holder.id, holder.fence, after(300))
            .await?
    );
    Ok(())
}

pub async fn cancel_ends_what_has_not_begun(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let queued = backup_alone(agent, 2);
    queue.enqueue(&backup_alone(agent, 1)).await?;
    queue.enqueue(&queued).await?;
    let leased = claim(queue, agent).await?;

    for job in [queued.id, leased.id] {
        assert_eq!(queue.cancel(job, NOON).await?, CancelOutcome::Cancelled);
        assert_eq!(
            queue.cancel(job, NOON).await?,
            CancelOutcome::AlreadyEnded(JobState::Cancelled)
        );
    }
    assert_eq!(queue.claim(agent, LEASE, NOON).await?, None);
    Ok(())
}

pub async fn cancel_asks_for_the_end_of_what_runs(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    let job = run_one(fixture, agent, policy).await?;

    let asked = queue.cancel(job.id, NOON).await?;
    assert_eq!(asked, CancelOutcome::Requested(agent, job.fence));

    let ended = queue
        .apply(agent, &finished(&job, 2, Outcome::Cancelled), NOON)
        .await?;
    assert_eq!(ended, Applied::Moved(JobState::Cancelled));
    Ok(())
}

pub async fn cancel_changes_nothing_that_has_ended(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;
    queue
        .apply(agent, &finished(&job, 1, Outcome::Succeeded), NOON)
        .await?;

    let ended = queue.cancel(job.id, NOON).await?;
    let nothing = queue
        .cancel(JobId::mint(NOON, &SystemEntropy), NOON)
        .await?;

    assert_eq!(ended, CancelOutcome::AlreadyEnded(JobState::Succeeded));
    assert_eq!(nothing, CancelOutcome::NotFound);
    Ok(())
}

pub async fn reclaim_queues_again_what_was_leased(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    queue.enqueue(&backup_alone(agent, 1)).await?;
    let job = claim(queue, agent).await?;

    assert_eq!(queue.reclaim(NOON).await?, []);
    let lost = queue.reclaim(NOON.plus(LEASE)).await?;
    assert_eq!(lost, [(job.id, JobState::Queued)]);
    assert_eq!(queue.reclaim(NOON.plus(LEASE)).await?, []);
    Ok(())
}

pub async fn reclaim_leaves_what_runs(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let policy = fixture.policy(agent).await;
    run_one(fixture, agent, policy).await?;

    assert_eq!(queue.reclaim(after(1_000_000)).await?, []);
    Ok(())
}

pub async fn reclaim_ends_what_is_past_its_deadline(fixture: &dyn JobQueueFixture) -> Promise {
    let queue = fixture.queue();
    let agent = fixture.agent().await;
    let with_deadline = |tick| NewJob {
        deadline: Some(after(10)),
        ..backup_alone(agent, tick)
    };
    for tick in 1..=3 {
        queue.enqueue(&with_deadline(tick)).await?;
    }
    let running = claim(queue, agent).await?;
    queue.apply(agent, &started(&running), NOON).await?;
    let leased = claim(queue, agent).await?;

    assert_eq!(queue.reclaim(after(9)).await?, []);
    let mut ended = queue.reclaim(after(10)).await?;
    ended.sort_by_key(|(id, _)| *id);

    let states: Vec<_> = ended.iter().map(|(_, state)| *state).collect();
    assert_eq!(
        states,
        [JobState::Failed, JobState::Failed, JobState::Expired]
    );
    assert_eq!(
        ended.iter().map(|(id, _)| *id).take(2).collect::<Vec<_>>(),
        [running.id, leased.id]
    );
    Ok(())
}

const NOON: Timestamp = Timestamp::UNIX_EPOCH;
const LEASE: Duration = Duration::from_secs(60);

fn after(seconds: u64) -> Timestamp {
    NOON.plus(Duration::from_secs(seconds))
}

fn backup(agent: AgentId, policy: PolicyId, tick: u64) -> NewJob {
    NewJob {
        policy: Some(policy),
        ..backup_alone(agent, tick)
    }
}

/// A job without a policy. A later tick gives a later id.
fn backup_alone(agent: AgentId, tick: u64) -> NewJob {
    NewJob {
        id: JobId::mint(after(tick), &SystemEntropy),
        kind: JobKind::Backup,
        agent,
        policy: None,
        scheduled_for: after(tick),
        deadline: None,
        source: JobSource::Manual,
        parameters: "{}".to_owned(),
        created_at: after(tick),
    }
}

async fn claim(queue: &dyn JobQueue, agent: AgentId) -> Result<ClaimedJob, StoreError> {
    queue
        .claim(agent, LEASE, NOON)
        .await?
        .ok_or_else(|| StoreError::Corrupt("a queued job was not to be had".to_owned()))
}

async fn run_one(
    fixture: &dyn JobQueueFixture,
    agent: AgentId,
    policy: PolicyId,
) -> Result<ClaimedJob, StoreError> {
    let queue = fixture.queue();
    queue.enqueue(&backup(agent, policy, 1)).await?;
    let job = claim(queue, agent).await?;
    queue.apply(agent, &started(&job), NOON).await?;
    Ok(job)
}

fn started(job: &ClaimedJob) -> JobReport {
    report(job, 1, ReportBody::Started)
}

fn finished(job: &ClaimedJob, sequence: u64, outcome: Outcome) -> JobReport {
    let body = ReportBody::Finished {
        outcome,
        error: None,
        results: Vec::new(),
        hooks: Vec::new(),
    };
    report(job, sequence, body)
}

fn report(job: &ClaimedJob, sequence: u64, body: ReportBody) -> JobReport {
    JobReport {
        job: job.id,
        attempt: job.attempt,
        fence: job.fence,
        sequence,
        at: NOON,
        body,
    }
}

/// Polls all at once and waits for the last.
async fn all<'a, T>(
    calls: impl Iterator<Item = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>>,
) -> Result<Vec<T>, StoreError> {
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
    answers.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryQueue;

    impl JobQueueFixture for MemoryQueue {
        fn queue(&self) -> &dyn JobQueue {
            self
        }
    }

    job_queue_conformance!(async { MemoryQueue::default() });
}
