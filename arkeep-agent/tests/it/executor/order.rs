use std::time::Duration;

use arkeep_core::Timestamp;
use arkeep_core::engine::EngineError;
use arkeep_core::job::{Outcome, Work};
use arkeep_core::policy::Source;

use crate::bench::{Bench, ScriptedEngine, TestResult, backup, parts};

#[tokio::test]
async fn a_snapshot_in_every_destination_is_a_success() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a", "b"]);
    let job = assignment.job;
    let policy = assignment.policy.unwrap();

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!((end.outcome, end.code), (Outcome::Succeeded, None));
    assert!(
        end.results
            .iter()
            .all(|result| result.snapshot_id.is_some())
    );
    let snapshots = bench.engine.snapshots.lock().unwrap();
    let tags = [format!("policy:{policy}"), format!("job:{job}")];
    assert_eq!(snapshots["b"][0].tags, tags);
    Ok(())
}

/// G10
#[tokio::test]
async fn a_job_is_kept_as_begun_before_the_engine_is_asked() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let assignment = backup(&["a"]);
    let job = assignment.job;

    bench.assign(assignment)?;
    bench.engine.has_called("backup a").await;

    assert!(bench.outbox.report(job, 1).is_some());
    assert_eq!(bench.outbox.unacknowledged(), [(job, 1)]);
    Ok(())
}

/// G5
#[tokio::test]
async fn a_missing_repository_is_made() -> TestResult {
    let missing = EngineError::RepositoryMissing("a".to_owned());
    let bench = Bench::new(ScriptedEngine::failing("a", [missing]))?;
    let assignment = backup(&["a"]);
    let job = assignment.job;

    bench.assign(assignment)?;

    assert_eq!(parts(&bench.end_of(job).await).outcome, Outcome::Succeeded);
    assert_eq!(bench.engine.calls(), ["backup a", "init a", "backup a"]);
    Ok(())
}

/// G5: another one makes the repository between the look and the making.
#[tokio::test]
async fn a_repository_that_another_one_made_is_used() -> TestResult {
    let missing = || EngineError::RepositoryMissing("a".to_owned());
    let refused = || EngineError::Refused("it is there already".to_owned());
    for (errors, expected) in [
        (vec![missing()], (Outcome::Succeeded, None)),
        (
            vec![missing(), missing()],
            (Outcome::Failed, Some("refused")),
        ),
    ] {
        let engine = ScriptedEngine::failing("a", errors);
        let refusal = [refused()].into_iter().collect();
        engine
            .script
            .lock()
            .unwrap()
            .insert("init a".to_owned(), refusal);
        let bench = Bench::new(engine)?;
        let assignment = backup(&["a"]);
        let job = assignment.job;

        bench.assign(assignment)?;

        let report = bench.end_of(job).await;
        let end = parts(&report);
        assert_eq!((end.outcome, end.code), expected);
        assert_eq!(bench.engine.calls(), ["backup a", "init a", "backup a"]);
    }
    Ok(())
}

/// G6
#[tokio::test]
async fn stale_locks_are_removed_once() -> TestResult {
    let locked = || EngineError::Locked("by another".to_owned());
    let bench = Bench::new(ScriptedEngine::failing("a", [locked(), locked()]))?;
    let assignment = backup(&["a"]);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("repository_locked"))
    );
    assert_eq!(bench.engine.calls(), ["backup a", "unlock a", "backup a"]);
    Ok(())
}

/// S4
#[tokio::test]
async fn one_destination_of_two_is_partial_and_says_why() -> TestResult {
    let full = EngineError::Failed("no space left on device".to_owned());
    let bench = Bench::new(ScriptedEngine::failing("a", [full]))?;
    let assignment = backup(&["a", "b"]);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(end.outcome, Outcome::Partial);
    assert_eq!(end.detail, "no space left on device");
    assert_eq!(end.results[0].state, Outcome::Failed);
    assert!(end.results[1].snapshot_id.is_some());
    Ok(())
}

/// S4
#[tokio::test]
async fn an_unreadable_file_is_partial_with_its_snapshot() -> TestResult {
    let bench = Bench::new(ScriptedEngine {
        incomplete: true,
        ..ScriptedEngine::default()
    })?;
    let assignment = backup(&["a"]);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Partial, Some("incomplete"))
    );
    assert!(end.detail.contains("/root/secret"));
    assert!(end.results[0].snapshot_id.is_some());
    Ok(())
}

#[tokio::test]
async fn a_denied_source_is_not_read() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let mut assignment = backup(&["a"]);
    if let Work::Backup(work) = &mut assignment.work {
        work.sources.push(Source::Path("/etc/shadow".to_owned()));
    }
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("source_denied"))
    );
    assert!(bench.engine.calls().is_empty());
    Ok(())
}

/// G14
#[tokio::test]
async fn a_repository_has_one_writer() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let (first, second, elsewhere) = (backup(&["a"]), backup(&["a"]), backup(&["b"]));
    let jobs = [first.job, second.job, elsewhere.job];

    for assignment in [first, second, elsewhere] {
        bench.assign(assignment)?;
    }
    // Either may be first.
    bench.engine.has_called("backup a").await;
    bench.engine.has_called("backup b").await;
    assert_eq!(bench.engine.calls().len(), 2, "{:?}", bench.engine.calls());
    bench.engine.gate.add_permits(3);

    for job in jobs {
        assert_eq!(parts(&bench.end_of(job).await).outcome, Outcome::Succeeded);
    }
    Ok(())
}

/// G9
#[tokio::test]
async fn a_cancelled_job_says_so() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let (running, waiting) = (backup(&["a", "b"]), backup(&["a"]));
    let (runs, waits) = (running.job, waiting.job);
    bench.assign(running)?;
    bench.engine.has_called("backup a").await;
    bench.assign(waiting)?;

    bench.executor.cancel(waits);
    bench.executor.cancel(runs);

    for job in [waits, runs] {
        let report = bench.end_of(job).await;
        let end = parts(&report);
        assert_eq!(
            (end.outcome, end.code),
            (Outcome::Cancelled, Some("cancelled"))
        );
    }
    assert_eq!(bench.engine.calls(), ["backup a", "stopped a"]);
    Ok(())
}

/// G9
#[tokio::test]
async fn at_the_end_what_runs_is_stopped_and_what_waits_is_left_for_later() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let (running, waiting) = (backup(&["a"]), backup(&["a"]));
    let (runs, waits) = (running.job, waiting.job);
    bench.assign(running)?;
    bench.engine.has_called("backup a").await;
    bench.assign(waiting)?;

    assert!(bench.executor.shut_down(Duration::from_secs(10)).await);

    let report = bench.end_of(runs).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Cancelled, Some("agent_stopped"))
    );
    assert!(bench.outbox.report(waits, 2).is_none());

    let (next, held) = bench.restarted()?;
    next.engine.gate.add_permits(1);
    next.executor.resume(held);
    assert_eq!(parts(&next.end_of(waits).await).outcome, Outcome::Succeeded);
    Ok(())
}

/// S5
#[tokio::test]
async fn a_job_whose_deadline_passed_is_not_begun() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let mut assignment = backup(&["a"]);
    assignment.deadline = Some(Timestamp::from_unix_millis(1));
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("deadline_passed"))
    );
    Ok(())
}

#[tokio::test]
async fn lines_of_the_engine_are_kept_until_they_are_acknowledged() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = backup(&["a"]);
    let job = assignment.job;
    bench.assign(assignment)?;
    bench.end_of(job).await;

    let lines = bench.log_of(job);
    assert!(
        lines.iter().any(|line| line == "reading for a"),
        "{lines:?}"
    );

    bench.outbox.acknowledge(job, 1, 2)?;
    assert_eq!(bench.log_of(job), lines);
    let (_, held, _) = bench.reopened()?;
    assert_eq!(held.len(), 1);
    bench.outbox.acknowledge_log(job, 1, lines.len() as u64)?;
    assert!(bench.reopened()?.1.is_empty());
    Ok(())
}
