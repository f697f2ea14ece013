use arkeep_agent::outbox::SoFar;
use arkeep_core::engine::EngineError;
use arkeep_core::job::{Assignment, DestinationResult, Outcome, Work};
use arkeep_core::policy::HookPhase::{After, Before};
use arkeep_core::{Clock, SystemClock, Timestamp};

use crate::bench::{
    Bench, ScriptedEngine, TestResult, backup, parts, restore, snapshot, with_hooks,
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// The agent died when the job had begun.
fn begun(bench: &Bench, assignment: &Assignment) -> TestResult {
    bench.outbox.admit(assignment)?;
    bench.outbox.started(assignment.job, NOW)?;
    Ok(())
}

/// G10
#[tokio::test]
async fn a_job_that_had_not_begun_is_run() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a"]);
    bench.outbox.admit(&assignment)?;

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);

    let end = next.end_of(assignment.job).await;
    assert_eq!(parts(&end).outcome, Outcome::Succeeded);
    Ok(())
}

/// G10: the snapshot is told of, and that nobody saw whether it is complete.
#[tokio::test]
async fn a_snapshot_that_is_there_is_partial() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a", "b"]);
    begun(&bench, &assignment)?;
    let left = snapshot(vec![format!("job:{}", assignment.job)]);
    let id = left.id.clone();
    bench
        .engine
        .snapshots
        .lock()
        .unwrap()
        .insert("a".to_owned(), vec![left]);

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);

    let report = next.end_of(assignment.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Partial, Some("destinations_failed"))
    );
    assert_eq!(end.results[0].snapshot_id.as_ref(), Some(&id));
    assert_eq!(end.results[0].state, Outcome::Partial);
    assert_eq!(end.results[1].state, Outcome::Failed);
    for result in end.results {
        assert_eq!(result.error.as_ref().unwrap().code, "interrupted");
    }
    assert_eq!(
        next.engine.calls(),
        ["unlock a", "snapshots a", "unlock b", "snapshots b"],
        "nothing is run again"
    );
    Ok(())
}

/// G10, S5: that its time is over does not keep its snapshot from being found.
#[tokio::test]
async fn a_job_whose_deadline_passed_is_accounted_for() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let mut assignment = backup(&["a"]);
    assignment.deadline = Some(Timestamp::from_unix_millis(1));
    begun(&bench, &assignment)?;
    let left = snapshot(vec![format!("job:{}", assignment.job)]);
    bench
        .engine
        .snapshots
        .lock()
        .unwrap()
        .insert("a".to_owned(), vec![left]);

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);

    let report = next.end_of(assignment.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Partial, Some("interrupted"))
    );
    Ok(())
}

fn left_behind(bench: &Bench, assignment: &Assignment) {
    let left = snapshot(vec![format!("job:{}", assignment.job)]);
    let mut snapshots = bench.engine.snapshots.lock().unwrap();
    snapshots.insert("a".to_owned(), vec![left]);
}

/// G9, G10: cancelling what was interrupted changes nothing of what it left, and somebody waits to
/// hear of it.
#[tokio::test]
async fn a_job_that_is_cancelled_while_it_waits_is_accounted_for() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let interrupted = backup(&["a"]);
    begun(&bench, &interrupted)?;
    left_behind(&bench, &interrupted);
    let (next, held) = bench.restarted()?;
    next.assign(backup(&["a"]))?;
    next.engine.has_called("backup a").await;
    next.executor.resume(held);

    next.executor.cancel(interrupted.job);
    next.engine.gate.add_permits(1);

    let report = next.end_of(interrupted.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Partial, Some("interrupted"))
    );
    Ok(())
}

/// G9, G10: the same, while its snapshot is looked for.
#[tokio::test]
async fn a_job_that_is_cancelled_while_it_is_accounted_for_keeps_its_snapshot() -> TestResult {
    let bench = Bench::new(ScriptedEngine {
        unlocking: tokio::sync::Semaphore::new(0),
        ..ScriptedEngine::default()
    })?;
    let interrupted = backup(&["a"]);
    begun(&bench, &interrupted)?;
    left_behind(&bench, &interrupted);
    let (next, held) = bench.restarted()?;
    next.executor.resume(held);
    next.engine.has_called("unlock a").await;

    next.executor.cancel(interrupted.job);
    next.engine.unlocking.add_permits(1);

    let report = next.end_of(interrupted.job).await;
    let end = parts(&report);
    assert_eq!(end.outcome, Outcome::Partial);
    assert!(end.results[0].snapshot_id.is_some());
    Ok(())
}

/// G10
#[tokio::test]
async fn a_snapshot_that_is_not_there_is_failed() -> TestResult {
    let missing = EngineError::RepositoryMissing("a".to_owned());
    let bench = Bench::new(ScriptedEngine::failing("a", [missing]))?;
    let assignment = backup(&["a"]);
    begun(&bench, &assignment)?;

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);

    let report = next.end_of(assignment.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("interrupted"))
    );
    Ok(())
}

/// G10: what was proven before the agent died stays proven.
#[tokio::test]
async fn what_was_done_before_is_not_forgotten() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a"]);
    begun(&bench, &assignment)?;
    let Work::Backup(work) = &assignment.work else {
        unreachable!("it is a backup");
    };
    let done = DestinationResult {
        destination_id: work.destinations[0].destination,
        state: Outcome::Succeeded,
        snapshot_id: Some("0123abcd".parse()?),
        bytes_processed: 7,
        bytes_added: 0,
        files_new: 0,
        files_changed: 0,
        files_unmodified: 0,
        started_at: NOW,
        ended_at: NOW,
        error: None,
    };
    let so_far = SoFar {
        results: vec![done.clone()],
        hooks: Vec::new(),
    };
    bench.outbox.so_far(assignment.job, &so_far)?;

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);

    let report = next.end_of(assignment.job).await;
    let end = parts(&report);
    assert_eq!(end.outcome, Outcome::Succeeded);
    assert_eq!(end.results, [done]);
    assert!(next.engine.calls().is_empty());
    Ok(())
}

/// H10: a database that a hook stopped is started again, also when the agent died in between.
#[tokio::test]
async fn hooks_that_tidy_up_run() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = with_hooks("a", &[(Before, "true before"), (After, "true after")]);
    begun(&bench, &assignment)?;

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);

    let report = next.end_of(assignment.job).await;
    let names: Vec<_> = parts(&report)
        .hooks
        .iter()
        .map(|hook| hook.name.clone())
        .collect();
    assert_eq!(names, ["true after"]);
    Ok(())
}

/// G10: a restore is not repeated behind anybody's back.
#[tokio::test]
async fn other_work_that_had_begun_is_failed() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = restore("a", "/var/restore");
    begun(&bench, &assignment)?;

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);

    let report = next.end_of(assignment.job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("interrupted"))
    );
    assert_eq!(next.engine.calls(), ["unlock a"]);
    Ok(())
}

/// G10: lines are counted on, so that the server does not take new ones for old.
#[tokio::test]
async fn lines_are_counted_on() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a"]);
    let job = assignment.job;
    begun(&bench, &assignment)?;
    let log = arkeep_agent::outbox::JobLog::after(0);
    log.say(
        SystemClock.now(),
        arkeep_core::job::LogLevel::Info,
        arkeep_core::job::LogSource::Agent,
        "one\ntwo\nthree",
    );
    bench.outbox.append_log(job, &log.take())?;
    bench.outbox.acknowledge_log(job, 1, 3)?;

    let (next, held) = bench.restarted()?;
    next.executor.resume(held);
    next.end_of(job).await;

    let first = next.outbox.unacknowledged_logs()[0];
    assert_eq!(first, (job, 4));
    Ok(())
}
