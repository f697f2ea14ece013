use std::sync::Arc;
use std::time::Duration;

use arkeep_core::Clock as _;
use arkeep_core::SystemEntropy;
use arkeep_core::job::{JobKind, JobState};
use arkeep_core::policy::{CatchUp, Schedule};
use arkeep_server::dispatch::{Scheduler, SchedulerParts};
use arkeep_server::store::Page;
use arkeep_server::store::jobs::{Job, JobFilter, JobStore};
use arkeep_server::store::policies::{Policy, PolicySettings};

use super::Server;

impl Server {
    fn scheduler(&self) -> Scheduler {
        let store = Arc::new(self.sandbox.store.clone());
        Scheduler::new(SchedulerParts {
            policies: store.clone(),
            jobs: store.clone(),
            queue: store.clone(),
            marks: store,
            fleet: Arc::new(self.dispatcher.clone()),
            clock: Arc::clone(&self.clock) as _,
            entropy: Arc::new(SystemEntropy),
        })
    }

    async fn change(
        &self,
        policy: &mut Policy,
        change: impl FnOnce(&mut PolicySettings, &mut bool),
    ) {
        self.edit_policy(policy, |edit| change(&mut edit.settings, &mut edit.enabled))
            .await;
    }

    /// A policy that runs at every full hour, seen by a scheduler for the first time.
    async fn hourly(&self, catch_up: CatchUp) -> Policy {
        let mut policy = self.policy(1).await;
        self.change(&mut policy, |settings, _| {
            settings.schedule = Some(schedule("0 * * * *"));
            settings.catch_up = catch_up;
        })
        .await;
        self.round().await;
        policy
    }

    async fn round(&self) -> usize {
        let round = self.scheduler().round().await;
        round.expect("the store answers")
    }

    /// The jobs of a policy, oldest first.
    async fn jobs_of(&self, policy: &Policy) -> Vec<Job> {
        let filter = JobFilter {
            policy: Some(policy.id),
            ..JobFilter::default()
        };
        let listed = JobStore::list(&self.sandbox.store, &filter, &Page::default()).await;
        let mut jobs = listed.expect("the store answers").items;
        jobs.reverse();
        jobs
    }
}

fn schedule(cron: &str) -> Schedule {
    Schedule {
        cron: cron.to_owned(),
        timezone: "UTC".to_owned(),
        jitter: 0,
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

/// S3
#[tokio::test]
async fn a_tick_makes_one_job_for_any_number_of_schedulers() {
    let server = Server::new().await;
    let policy = server.hourly(CatchUp::Latest).await;
    assert_eq!(server.round().await, 0);

    server.clock.advance(HOUR);
    let (one, two, three) = (server.scheduler(), server.scheduler(), server.scheduler());
    let (one, two, three) = tokio::join!(one.round(), two.round(), three.round());

    let made: usize = [one, two, three]
        .into_iter()
        .map(|round| round.expect("the store answers"))
        .sum();
    assert_eq!(made, 1);
    let jobs = server.jobs_of(&policy).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].scheduled_for, server.clock.now());
    assert_eq!((jobs[0].folded, jobs[0].kind), (0, JobKind::Backup));
    assert_eq!(server.round().await, 0);
}

/// S3
#[tokio::test]
async fn later_ticks_fold_into_a_job_that_waits() {
    let server = Server::new().await;
    let policy = server.hourly(CatchUp::Latest).await;

    for _ in 0..3 {
        server.clock.advance(HOUR);
        server.round().await;
    }

    let jobs = server.jobs_of(&policy).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].state, jobs[0].folded), (JobState::Queued, 2));
}

/// S3
#[tokio::test]
async fn one_run_makes_up_for_a_day_that_nobody_looked() {
    let server = Server::new().await;
    let policy = server.hourly(CatchUp::Latest).await;

    server.clock.advance(24 * HOUR + HOUR / 2);

    assert_eq!(server.round().await, 1);
    let jobs = server.jobs_of(&policy).await;
    assert_eq!(jobs.len(), 1);
    assert_eq!(server.clock.now().since(jobs[0].scheduled_for), HOUR / 2);
}

/// S3
#[tokio::test]
async fn a_policy_that_does_not_catch_up_lets_old_ticks_go() {
    let server = Server::new().await;
    let policy = server.hourly(CatchUp::None).await;

    server.clock.advance(24 * HOUR + HOUR / 2);
    assert_eq!(server.round().await, 0);
    assert_eq!(server.jobs_of(&policy).await.len(), 0);

    server.clock.advance(HOUR / 2);
    assert_eq!(server.round().await, 1);
}

/// S3
#[tokio::test]
async fn a_tick_whose_agent_stayed_away_is_missed_when_the_next_one_comes() {
    let server = Server::new().await;
    let policy = server.hourly(CatchUp::None).await;

    for _ in 0..2 {
        server.clock.advance(HOUR);
        server.round().await;
        // Another replica that looks at the same tick misses nothing.
        server.round().await;
    }

    let jobs = server.jobs_of(&policy).await;
    let states: Vec<_> = jobs.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Missed, JobState::Queued]);
}

/// S3
#[tokio::test]
async fn a_schedule_counts_from_when_it_was_set_or_enabled() {
    let server = Server::new().await;
    let mut policy = server.hourly(CatchUp::Latest).await;
    server.clock.advance(HOUR / 2);

    // A schedule under which a tick would have passed since the last look.
    server
        .change(&mut policy, |settings, _| {
            settings.schedule = Some(schedule("*/10 * * * *"));
        })
        .await;
    assert_eq!(server.round().await, 0);

    server
        .change(&mut policy, |_, enabled| *enabled = false)
        .await;
    server.clock.advance(5 * HOUR);
    assert_eq!(server.round().await, 0);
    server
        .change(&mut policy, |_, enabled| *enabled = true)
        .await;
    assert_eq!(server.round().await, 0);

    server.clock.advance(HOUR);
    assert_eq!(server.round().await, 1);
}

/// S3
#[tokio::test]
async fn a_job_of_the_schedule_reaches_its_agent_with_its_deadline() {
    let server = Server::new().await;
    let mut policy = server.hourly(CatchUp::Latest).await;
    server
        .change(&mut policy, |settings, _| settings.deadline = Some(600))
        .await;
    let mut agent = server.connect(policy.agent, &[]).await;

    server.clock.advance(HOUR);
    server.round().await;

    let assignment = agent.assignment().await;
    let deadline = server.clock.now().plus(Duration::from_secs(600));
    assert_eq!(assignment.deadline, Some(deadline));
}
