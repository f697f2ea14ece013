use arkeep_core::job::{
    HookResult, HookState, JobError, JobState, LogLevel, LogLine, LogSource, Outcome, Progress,
    ReportBody,
};
use arkeep_core::policy::{HookPhase, Source};
use arkeep_core::queue::JobQueue as _;
use arkeep_server::dispatch::Change;
use arkeep_server::http::services::Fleet;
use arkeep_server::store::Page;
use arkeep_server::store::destinations::DestinationStore;
use arkeep_server::store::logs::JobLogStore as _;
use arkeep_server::store::snapshots::{Snapshot, SnapshotFilter, SnapshotStore};
use arkeep_transport::gateway::{AgentGateway, GatewayError};
use arkeep_transport::session::{HeldJob, JobProgress, LogBatch};

use super::{Server, finished, good, identity};
use crate::store::NOON;

impl Server {
    async fn snapshots(&self) -> Vec<Snapshot> {
        SnapshotStore::list(
            &self.sandbox.store,
            &SnapshotFilter::default(),
            &Page::default(),
        )
        .await
        .expect("the store answers")
        .items
    }
}

/// S4
#[tokio::test]
async fn a_success_that_was_shown_is_one_and_its_snapshots_are_listed() {
    let server = Server::new().await;
    let policy = server.policy(2).await;
    let (_, assignment) = server.received(&policy).await;
    let ids: Vec<_> = policy
        .destinations
        .iter()
        .map(|it| it.destination_id)
        .collect();
    let results = vec![good(ids[0], "0123abcd"), good(ids[1], "4567cdef")];

    for (sequence, body) in [
        (1, ReportBody::Started),
        (2, finished(Outcome::Succeeded, results.clone())),
    ] {
        server
            .report(policy.agent, &assignment, sequence, body)
            .await
            .expect("it is stored");
    }

    let job = server.job(assignment.job).await;
    assert_eq!((job.state, job.error), (JobState::Succeeded, None));
    assert_eq!(job.results, results);
    let mut snapshots = server.snapshots().await;
    snapshots.sort_by_key(|snapshot| snapshot.restic_id.clone());
    assert_eq!(snapshots.len(), 2);
    let first = &snapshots[0];
    assert_eq!((first.policy, first.destination), (policy.id, ids[0]));
    assert_eq!((first.job, first.files), (Some(assignment.job), 6));
    assert_eq!(first.hostname, "db1");
    assert_eq!(first.path, policy.destinations[0].path);
    assert_eq!(
        first.tags,
        [
            format!("policy:{}", policy.id),
            format!("job:{}", assignment.job)
        ]
    );
}

/// S4
#[tokio::test]
async fn a_success_that_was_not_shown_is_none() {
    let server = Server::new().await;
    let policy = server.policy(2).await;
    let (_, assignment) = server.received(&policy).await;
    let results = vec![good(policy.destinations[0].destination_id, "0123abcd")];

    server
        .report(
            policy.agent,
            &assignment,
            1,
            finished(Outcome::Succeeded, results),
        )
        .await
        .expect("it is stored");

    let job = server.job(assignment.job).await;
    assert_eq!(job.state, JobState::Partial);
    let code = job.error.map(|error| error.code);
    assert_eq!(code.as_deref(), Some("not_proven"));
    assert_eq!(server.snapshots().await.len(), 1);
}

/// S4
#[tokio::test]
async fn an_agent_lists_no_snapshot_where_it_was_not_sent() {
    let server = Server::new().await;
    let (policy, other) = (server.policy(1).await, server.policy(1).await);
    let (_, assignment) = server.received(&policy).await;
    let elsewhere = good(other.destinations[0].destination_id, "0123abcd");

    server
        .report(
            policy.agent,
            &assignment,
            1,
            finished(Outcome::Succeeded, vec![elsewhere]),
        )
        .await
        .expect("it is stored");

    assert_eq!(server.job(assignment.job).await.state, JobState::Failed);
    assert_eq!(server.snapshots().await, []);
}

/// S5
#[tokio::test]
async fn what_is_said_twice_counts_once_after_a_restart_too() {
    let mut server = Server::new().await;
    let policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;
    let results = vec![good(policy.destinations[0].destination_id, "0123abcd")];
    let done = finished(Outcome::Succeeded, results);

    for _ in 0..2 {
        server
            .report(policy.agent, &assignment, 1, done.clone())
            .await
            .expect("it is stored");
        server.restart();
    }

    let job = server.job(assignment.job).await;
    assert_eq!((job.state, job.late_result), (JobState::Succeeded, None));
    assert_eq!(server.snapshots().await.len(), 1);
}

/// S5
#[tokio::test]
async fn a_result_that_comes_late_is_kept_and_its_snapshot_listed() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (mut agent, assignment) = server.received(&policy).await;
    let now = arkeep_core::Clock::now(server.clock.as_ref());
    let cancelled = server.sandbox.store.cancel(assignment.job, now).await;
    cancelled.expect("the store answers");

    server
        .report(policy.agent, &assignment, 1, ReportBody::Started)
        .await
        .expect("it is stored");
    assert_eq!(agent.cancellation().await.job, assignment.job);
    let results = vec![good(policy.destinations[0].destination_id, "0123abcd")];
    server
        .report(
            policy.agent,
            &assignment,
            2,
            finished(Outcome::Succeeded, results),
        )
        .await
        .expect("it is stored");

    let job = server.job(assignment.job).await;
    assert_eq!(job.state, JobState::Cancelled);
    let late = job.late_result.expect("it was kept");
    assert_eq!(late.outcome, Outcome::Succeeded);
    assert_eq!(server.snapshots().await.len(), 1);
}

/// S5
#[tokio::test]
async fn a_result_that_names_what_is_gone_is_taken_in() {
    let server = Server::new().await;
    let mut policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;
    let gone = policy.destinations[0].destination_id;
    let store = &server.sandbox.store;
    let now = arkeep_core::Clock::now(server.clock.as_ref());
    let cancelled = store.cancel(assignment.job, now).await;
    cancelled.expect("the store answers");
    server
        .edit_policy(&mut policy, |edit| edit.destinations.clear())
        .await;
    let removed = DestinationStore::delete(store, gone, None).await;
    removed.expect("nothing names it any more");

    let results = vec![good(gone, "0123abcd")];
    let done = finished(Outcome::Succeeded, results);
    let taken_in = server.report(policy.agent, &assignment, 1, done).await;

    taken_in.expect("the agent may forget it");
    let job = server.job(assignment.job).await;
    let late = job.late_result.expect("it was kept");
    assert_eq!(late.outcome, Outcome::Succeeded);
    assert_eq!(server.snapshots().await, []);
}

/// S4, S8
#[tokio::test]
async fn a_snapshot_is_listed_as_it_was_taken_whatever_the_policy_says_by_then() {
    let server = Server::new().await;
    let mut policy = server.policy(1).await;
    server
        .edit_policy(&mut policy, |edit| {
            edit.destinations[0].path = "old".parse().expect("a plain component");
            edit.settings.tags = vec!["old".to_owned()];
        })
        .await;
    let (_, assignment) = server.received(&policy).await;
    let destination = policy.destinations[0].destination_id;
    server
        .edit_policy(&mut policy, |edit| {
            edit.destinations[0].path = "new".parse().expect("a plain component");
            edit.settings.tags = vec!["new".to_owned()];
            edit.settings.sources = vec![Source::Path("/srv".to_owned())];
        })
        .await;

    let results = vec![good(destination, "0123abcd")];
    let done = finished(Outcome::Succeeded, results);
    let taken_in = server.report(policy.agent, &assignment, 1, done).await;
    taken_in.expect("it is stored");

    let snapshots = server.snapshots().await;
    assert_eq!(snapshots[0].path.as_str(), "old");
    assert_eq!(snapshots[0].paths, ["/etc"]);
    assert_eq!(snapshots[0].tags.last().map(String::as_str), Some("old"));
}

/// T9
#[tokio::test]
async fn what_an_agent_reports_is_stored_within_bounds() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;
    let hook = HookResult {
        name: "dump".to_owned(),
        phase: HookPhase::Before,
        state: HookState::Failed,
        exit_code: Some(1),
        output: format!("first{}last", "ä".repeat(1 << 20)),
        started_at: NOON,
        ended_at: NOON,
    };
    let mut result = good(policy.destinations[0].destination_id, "0123abcd");
    result.error = Some(JobError {
        code: "odd".to_owned(),
        detail: "x".repeat(1 << 20),
    });
    let done = ReportBody::Finished {
        outcome: Outcome::Failed,
        error: None,
        results: vec![result; 100],
        hooks: vec![hook; 100],
    };

    let taken_in = server.report(policy.agent, &assignment, 1, done).await;
    taken_in.expect("it is stored");

    let job = server.job(assignment.job).await;
    let output = &job.hooks[0].output;
    assert!(output.len() <= 65 * 1_024, "{}", output.len());
    assert!(output.starts_with("first") && output.ends_with("last"));
    assert!(job.hooks.len() <= 64 && job.results.len() <= 2);
    let detail = job.results[0]
        .error
        .as_ref()
        .map(|error| error.detail.len());
    assert!(
        detail.is_some_and(|length| length <= 8 * 1_024),
        "{detail:?}"
    );
}

/// T4
#[tokio::test]
async fn another_agents_job_is_as_one_that_does_not_exist() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;
    let stranger = server.sandbox.agent().await.id;
    let results = vec![good(policy.destinations[0].destination_id, "0123abcd")];
    let done = finished(Outcome::Succeeded, results);
    let held = HeldJob::from(&assignment);
    let who = identity(stranger);

    let reported = server.report(stranger, &assignment, 1, done).await;
    assert!(matches!(reported, Err(GatewayError::NotFound)));
    let accepted = server.dispatcher.accepted(&who, held).await;
    assert!(matches!(accepted, Err(GatewayError::NotFound)));
    let logged = server.dispatcher.logs(&who, lines(held)).await;
    assert!(matches!(logged, Err(GatewayError::NotFound)));
    AgentGateway::progress(&server.dispatcher, &who, half(held)).await;

    assert_eq!(Fleet::progress(&server.dispatcher, assignment.job), None);
    assert_eq!(server.job(assignment.job).await.state, JobState::Leased);
    assert_eq!(server.snapshots().await, []);
}

/// S6
#[tokio::test]
async fn lines_of_log_are_stored_before_they_are_acknowledged() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;
    let mut changes = server.dispatcher.changes();

    let through = server
        .dispatcher
        .logs(&identity(policy.agent), lines(HeldJob::from(&assignment)))
        .await
        .expect("they are stored");

    assert_eq!(through, 2);
    let stored = server.sandbox.store.read(assignment.job, 0, 10).await;
    assert_eq!(stored.expect("the store answers").len(), 2);
    let told = changes.recv().await.expect("a change");
    assert_eq!(told, Change::Log(assignment.job));
}

#[tokio::test]
async fn progress_is_shown_until_the_job_ends() {
    let server = Server::new().await;
    let policy = server.policy(1).await;
    let (_, assignment) = server.received(&policy).await;
    let held = HeldJob::from(&assignment);
    assert_eq!(Fleet::progress(&server.dispatcher, assignment.job), None);

    let who = identity(policy.agent);
    AgentGateway::progress(&server.dispatcher, &who, half(held)).await;
    let shown = Fleet::progress(&server.dispatcher, assignment.job);
    assert_eq!(shown, Some(half(held).progress));

    server
        .report(
            policy.agent,
            &assignment,
            1,
            finished(Outcome::Failed, Vec::new()),
        )
        .await
        .expect("it is stored");
    assert_eq!(Fleet::progress(&server.dispatcher, assignment.job), None);
}

fn lines(job: HeldJob) -> LogBatch {
    let line = |seq| LogLine {
        seq,
        at: NOON,
        level: LogLevel::Info,
        source: LogSource::Agent,
        text: "a line".to_owned(),
    };
    LogBatch {
        job,
        lines: vec![line(1), line(2)],
    }
}

fn half(job: HeldJob) -> JobProgress {
    JobProgress {
        job,
        progress: Progress {
            percent: 50.0,
            ..Progress::default()
        },
    }
}
