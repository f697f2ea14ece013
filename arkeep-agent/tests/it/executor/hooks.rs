use std::sync::Arc;

use arkeep_core::engine::EngineError;
use arkeep_core::job::{HookState, Outcome, Work};
use arkeep_core::policy::HookPhase::{After, Before, OnFailure};
use arkeep_hooks::Off;

use crate::bench::{Bench, ScriptedEngine, TestResult, parts, with_hooks};

/// H10
#[tokio::test]
async fn run_in_their_order_around_the_backup() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let hooks = [
        (Before, "true 1"),
        (Before, "true 2"),
        (After, "true 3"),
        (OnFailure, "true 4"),
    ];
    let assignment = with_hooks("a", &hooks);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(end.outcome, Outcome::Succeeded);
    let names: Vec<_> = end.hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(names, ["true 1", "true 2", "true 3"]);
    Ok(())
}

/// H10
#[tokio::test]
async fn one_before_that_fails_stops_the_job_and_the_rest_still_tidies_up() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let hooks = [
        (Before, "exit 7"),
        (Before, "true never"),
        (After, "echo state $BACKUP_STATE"),
        (OnFailure, "true failed"),
    ];
    let assignment = with_hooks("a", &hooks);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("hook_failed"))
    );
    assert!(end.detail.contains("exit code 7"), "{}", end.detail);
    let ran: Vec<_> = end.hooks.iter().map(|hook| hook.name.as_str()).collect();
    assert_eq!(ran, ["exit 7", "echo state $BACKUP_STATE", "true failed"]);
    assert!(
        end.hooks[1].output.contains("state failed"),
        "{:?}",
        end.hooks[1]
    );
    assert!(bench.engine.calls().is_empty());
    Ok(())
}

/// H10
#[tokio::test]
async fn one_after_that_fails_takes_the_green_away() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = with_hooks("a", &[(After, "exit 1")]);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Partial, Some("hook_failed"))
    );
    assert!(end.results[0].snapshot_id.is_some());
    Ok(())
}

/// H6: a server that lies can run nothing that the owner did not allow, and nothing is green.
#[tokio::test]
async fn are_refused_by_default_and_the_job_says_what_to_change() -> TestResult {
    let bench = Bench::with_policy(ScriptedEngine::default(), Arc::new(Off))?;
    let witness = bench.home.path().join("witness");
    let script = format!("touch {}", witness.display());
    let assignment = with_hooks("a", &[(Before, &script), (After, &script)]);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("hook_refused"))
    );
    assert!(
        end.hooks
            .iter()
            .all(|hook| hook.state == HookState::Refused)
    );
    assert!(bench.engine.calls().is_empty());
    assert!(!witness.exists());
    let log = bench.log_of(job).join("\n");
    for words in ["`policy` under `[hooks]`", "/etc/arkeep/agent.toml"] {
        assert!(log.contains(words), "{log}");
    }
    Ok(())
}

/// H2, H6: a server that does not judge changes nothing, and the job names every hook that is not
/// well-formed.
#[tokio::test]
async fn are_all_named_when_they_are_not_well_formed() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let witness = bench.home.path().join("witness");
    let bad = format!("echo $(touch {})", witness.display());
    let hooks = [(Before, "true"), (Before, &bad), (After, "ls ~")];
    let mut assignment = with_hooks("a", &hooks);
    if let Work::Backup(work) = &mut assignment.work {
        for hook in work.hooks.before.iter_mut().chain(&mut work.hooks.after) {
            hook.exec = None;
            hook.shell = Some(hook.name.clone());
        }
    }
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Failed, Some("hook_refused"))
    );
    let refused: Vec<_> = end
        .hooks
        .iter()
        .map(|hook| (hook.name.as_str(), hook.phase, hook.state))
        .collect();
    assert_eq!(
        refused,
        [
            (bad.as_str(), Before, HookState::Refused),
            ("ls ~", After, HookState::Refused),
        ]
    );
    assert!(bench.engine.calls().is_empty());
    assert!(!witness.exists());
    Ok(())
}

/// H9
#[tokio::test]
async fn do_not_tell_the_secrets_of_the_job() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let assignment = with_hooks("a", &[(Before, "echo hunter2-of-the-repository")]);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let told = format!(
        "{:?}{:?}",
        parts(&report).hooks[0].output,
        bench.log_of(job)
    );
    assert!(told.contains("[REDACTED]"), "{told}");
    // The name of the hook is the owner's own text; what it printed is what counts.
    assert!(!parts(&report).hooks[0].output.contains("hunter2"));
    Ok(())
}

/// H10: nothing is stopped for a backup that cannot be made.
#[tokio::test]
async fn do_not_run_when_the_engine_cannot_be_used() -> TestResult {
    let missing = EngineError::Unusable("restic is not there; install it".to_owned());
    let bench = Bench::new(ScriptedEngine::failing("probe", [missing]))?;
    let assignment = with_hooks("a", &[(Before, "true")]);
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(end.code, Some("restic_unusable"));
    assert_eq!(end.detail, "restic is not there; install it");
    assert!(end.hooks.is_empty());
    Ok(())
}

/// G9
#[tokio::test]
async fn one_before_ends_when_the_job_is_cancelled() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let witness = bench.home.path().join("began");
    let script = format!("touch {}; exec sleep 60", witness.display());
    let assignment = with_hooks("a", &[(Before, &script), (After, "true")]);
    let job = assignment.job;
    bench.assign(assignment)?;
    crate::bench::eventually(|| witness.exists()).await;

    bench.executor.cancel(job);

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.code),
        (Outcome::Cancelled, Some("cancelled"))
    );
    assert_eq!(end.hooks[0].state, HookState::Cancelled);
    assert_eq!(end.hooks[1].state, HookState::Succeeded);
    assert!(bench.engine.calls().is_empty());
    Ok(())
}
