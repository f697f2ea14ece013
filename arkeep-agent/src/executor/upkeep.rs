//! All work but backups.

use arkeep_core::engine::{EngineError, ForgetRequest, RestoreRequest, SnapshotFilter};
use arkeep_core::job::{
    DestinationResult, DestinationWork, ForgetWork, JobError, LogLevel, Outcome, RestoreWork,
    VerifyWork,
};

use super::end::End;
use super::outcome::Proof;
use super::run::{Mending, Run};

/// Puts files back, where the machine's owner lets them be put.
pub(super) async fn restore(run: &mut Run<'_>, work: &RestoreWork) -> End {
    let (targets, target) = (run.tools.targets.clone(), work.target.clone());
    let prepared = tokio::task::spawn_blocking(move || targets.prepare(&target)).await;
    let real = match prepared {
        Ok(Ok(real)) => real,
        Ok(Err(refused)) => return refuse(run, work, &refused.to_string()),
        Err(_) => return refuse(run, work, "the target could not be looked at"),
    };
    let Some(target) = real.to_str().map(ToOwned::to_owned) else {
        return refuse(run, work, "the target's real name is not text");
    };
    run.say(
        LogLevel::Info,
        &format!("restoring {} to {target}", work.snapshot),
    );
    let request = RestoreRequest {
        snapshot: work.snapshot.clone(),
        target,
        include: work.include.clone(),
        overwrite: work.overwrite,
        limits: work.limits.clone(),
    };
    let result = restore_from(run, &work.destination, &request).await;
    run.keep_result(result).await;
    End::of(run, 1, Proof::Word, None)
}

async fn restore_from(
    run: &Run<'_>,
    from: &DestinationWork,
    request: &RestoreRequest,
) -> DestinationResult {
    let begun = run.blank(from.destination, Outcome::Failed);
    let watch = run.observer(0, 1);
    let mut mending = Mending::new(&watch, &from.repository);
    loop {
        let restored = run
            .tools
            .engine
            .restore(&from.repository, request, &watch)
            .await;
        match restored {
            Ok(report) => {
                return DestinationResult {
                    state: Outcome::Succeeded,
                    bytes_processed: report.bytes,
                    files_new: report.files,
                    ended_at: run.now(),
                    ..begun
                };
            }
            Err(error) => {
                if let Err(error) = mending.mend(error).await {
                    return run.failed(begun, &error);
                }
            }
        }
    }
}

fn refuse(run: &mut Run<'_>, work: &RestoreWork, detail: &str) -> End {
    run.say(LogLevel::Error, detail);
    let error = JobError {
        code: "target_refused".to_owned(),
        detail: detail.to_owned(),
    };
    let result = run.blank(work.destination.destination, Outcome::Failed);
    run.done.results.push(DestinationResult {
        error: Some(error),
        ..result
    });
    End::of(run, 1, Proof::Word, None)
}

/// Checks the repositories of a policy.
pub(super) async fn verify(run: &mut Run<'_>, work: &VerifyWork) -> End {
    let of = work.destinations.len();
    for (place, destination) in work.destinations.iter().enumerate() {
        let begun = run.blank(destination.destination, Outcome::Failed);
        let watch = run.observer(place, of);
        let mut mending = Mending::new(&watch, &destination.repository);
        let repository = &destination.repository;
        let percent = work.read_data_percent;
        let checked = loop {
            match run.tools.engine.check(repository, percent, &watch).await {
                Ok(()) => break Ok(()),
                Err(error) => {
                    if let Err(error) = mending.mend(error).await {
                        break Err(error);
                    }
                }
            }
        };
        let result = settle(run, begun, checked);
        run.keep_result(result).await;
    }
    End::of(run, of, Proof::Word, None)
}

/// Applies retention, to the snapshots of this policy on this machine alone.
pub(super) async fn forget(run: &mut Run<'_>, work: &ForgetWork) -> End {
    let of = work.destinations.len();
    let Some(policy) = run.assignment.policy else {
        let error = JobError {
            code: "refused".to_owned(),
            detail: "retention without a policy would apply to every snapshot".to_owned(),
        };
        return End::of(run, of, Proof::Word, Some(error));
    };
    let request = ForgetRequest {
        retention: work.retention.clone(),
        filter: SnapshotFilter {
            tags: vec![format!("policy:{policy}")],
            host: Some(run.tools.hostname.clone()),
        },
        plan_only: work.plan_only,
    };
    for (place, destination) in work.destinations.iter().enumerate() {
        let begun = run.blank(destination.destination, Outcome::Failed);
        let watch = run.observer(place, of);
        let mut mending = Mending::new(&watch, &destination.repository);
        let repository = &destination.repository;
        let forgotten = loop {
            match run.tools.engine.forget(repository, &request, &watch).await {
                Ok(report) => break Ok(report),
                Err(error) => {
                    if let Err(error) = mending.mend(error).await {
                        break Err(error);
                    }
                }
            }
        };
        let forgotten = forgotten.map(|report| {
            let verb = if work.plan_only {
                "would remove"
            } else {
                "removed"
            };
            for snapshot in &report.removed {
                run.say(LogLevel::Info, &format!("{verb} snapshot {snapshot}"));
            }
            let (gone, kept) = (report.removed.len(), report.kept.len());
            run.say(
                LogLevel::Info,
                &format!(
                    "destination {}: {verb} {gone}, kept {kept}",
                    begun.destination_id
                ),
            );
        });
        let result = settle(run, begun, forgotten);
        run.keep_result(result).await;
    }
    End::of(run, of, Proof::Word, None)
}

/// Opens a repository.
pub(super) async fn test(run: &mut Run<'_>, work: &DestinationWork) -> End {
    let begun = run.blank(work.destination, Outcome::Failed);
    let watch = run.observer(0, 1);
    let listed = run
        .tools
        .engine
        .snapshots(&work.repository, &SnapshotFilter::default(), &watch)
        .await;
    let listed = listed.map(|snapshots| {
        let count = snapshots.len();
        run.say(
            LogLevel::Info,
            &format!("the repository opens and lists {count} snapshots"),
        );
    });
    let result = settle(run, begun, listed);
    run.keep_result(result).await;
    End::of(run, 1, Proof::Word, None)
}

fn settle(
    run: &Run<'_>,
    begun: DestinationResult,
    done: Result<(), EngineError>,
) -> DestinationResult {
    match done {
        Ok(()) => DestinationResult {
            state: Outcome::Succeeded,
            ended_at: run.now(),
            ..begun
        },
        Err(error) => run.failed(begun, &error),
    }
}
