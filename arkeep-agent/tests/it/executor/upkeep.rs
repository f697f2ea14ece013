use arkeep_core::engine::EngineError;
use arkeep_core::job::{Assignment, BackupWork, ForgetWork, Outcome, VerifyWork, Work};
use arkeep_core::policy::Retention;

use crate::bench::{Bench, ScriptedEngine, TestResult, backup, parts, restore};

fn work(places: &[&str], make: impl FnOnce(&BackupWork) -> Work) -> Assignment {
    let mut assignment = backup(places);
    if let Work::Backup(backup) = &assignment.work {
        assignment.work = make(backup);
    }
    assignment
}

/// G12
#[tokio::test]
async fn a_restore_goes_where_the_owner_allows_and_nowhere_else() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let home = bench.home.path().canonicalize()?;
    std::os::unix::fs::symlink("/etc", home.join("link"))?;
    let allowed = home.join("restore/deep");
    let refused = [
        "/etc".to_owned(),
        "/".to_owned(),
        format!("{}/restore/../x", home.display()),
        format!("{}/link", home.display()),
    ];

    for target in refused {
        let assignment = restore("a", &target);
        let job = assignment.job;
        bench.assign(assignment)?;
        let report = bench.end_of(job).await;
        assert_eq!(parts(&report).code, Some("target_refused"), "{target}");
    }
    assert!(bench.engine.calls().is_empty());

    let assignment = restore("a", &allowed.display().to_string());
    let job = assignment.job;
    bench.assign(assignment)?;
    assert_eq!(parts(&bench.end_of(job).await).outcome, Outcome::Succeeded);
    assert_eq!(
        bench.engine.calls(),
        [format!("restore to {} from a", allowed.display())]
    );
    Ok(())
}

/// G12, H6: two restores from two repositories, the first of which plants a link in the target of
/// the second. The target must not be looked at before the link is there.
#[tokio::test]
async fn a_restore_is_judged_when_no_other_restore_can_change_its_target() -> TestResult {
    let bench = Bench::new(ScriptedEngine::gated())?;
    let home = bench.home.path().canonicalize()?;
    let target = home.join("restore/t");
    let first = restore("a", &target.display().to_string());
    let second = restore("b", &target.display().to_string());
    let third = backup(&["c"]);
    let (first_job, second_job, third_job) = (first.job, second.job, third.job);
    bench.assign(first)?;
    let restoring = format!("restore to {} from a", target.display());
    bench.engine.has_called(&restoring).await;

    bench.assign(second)?;
    bench.assign(third)?;
    // A backup gets its turn beside a restore; the second restore had its chance before it.
    bench.engine.has_called("backup c").await;
    std::os::unix::fs::symlink("/etc", target.join("x"))?;
    bench.engine.gate.add_permits(3);

    assert_eq!(
        parts(&bench.end_of(first_job).await).outcome,
        Outcome::Succeeded
    );
    let report = bench.end_of(second_job).await;
    assert_eq!(parts(&report).code, Some("target_refused"));
    assert_eq!(
        parts(&bench.end_of(third_job).await).outcome,
        Outcome::Succeeded
    );
    assert_eq!(bench.engine.calls(), [restoring.as_str(), "backup c"]);
    Ok(())
}

/// G6: retention never reaches beyond this policy and this machine.
#[tokio::test]
async fn forgetting_is_scoped_by_host_and_policy() -> TestResult {
    let bench = Bench::new(ScriptedEngine::default())?;
    let forget = |work: &BackupWork| {
        Work::Forget(Box::new(ForgetWork {
            destinations: work.destinations.clone(),
            retention: Retention {
                keep_last: Some(1),
                ..Retention::default()
            },
            plan_only: false,
        }))
    };
    let scoped = work(&["a"], forget);
    let mut unscoped = work(&["b"], forget);
    unscoped.policy = None;
    let (scoped_job, unscoped_job) = (scoped.job, unscoped.job);
    let policy = scoped.policy.unwrap();

    bench.assign(scoped)?;
    bench.assign(unscoped)?;

    assert_eq!(
        parts(&bench.end_of(scoped_job).await).outcome,
        Outcome::Succeeded
    );
    assert_eq!(
        parts(&bench.end_of(unscoped_job).await).code,
        Some("refused")
    );
    assert_eq!(
        bench.engine.calls(),
        [format!("forget Some(\"here\") [\"policy:{policy}\"] at a")]
    );
    Ok(())
}

/// G6
#[tokio::test]
async fn a_check_that_fails_in_one_place_is_partial() -> TestResult {
    let broken = EngineError::Failed("pack 1 is damaged".to_owned());
    let bench = Bench::new(ScriptedEngine::failing("a", [broken]))?;
    let assignment = work(&["a", "b"], |work| {
        Work::Verify(Box::new(VerifyWork {
            destinations: work.destinations.clone(),
            read_data_percent: 10,
        }))
    });
    let job = assignment.job;

    bench.assign(assignment)?;

    let report = bench.end_of(job).await;
    let end = parts(&report);
    assert_eq!(
        (end.outcome, end.detail),
        (Outcome::Partial, "pack 1 is damaged")
    );
    Ok(())
}

#[tokio::test]
async fn a_test_opens_the_repository_and_makes_none() -> TestResult {
    let missing = EngineError::RepositoryMissing("a".to_owned());
    let bench = Bench::new(ScriptedEngine::failing("a", [missing]))?;
    for (expected, code) in [
        (Outcome::Failed, Some("repository_missing")),
        (Outcome::Succeeded, None),
    ] {
        let assignment = work(&["a"], |work| {
            Work::Test(Box::new(work.destinations[0].clone()))
        });
        let job = assignment.job;

        bench.assign(assignment)?;

        let report = bench.end_of(job).await;
        let end = parts(&report);
        assert_eq!((end.outcome, end.code), (expected, code));
    }
    assert_eq!(bench.engine.calls(), ["snapshots a", "snapshots a"]);
    Ok(())
}
