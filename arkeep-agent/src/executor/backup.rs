use arkeep_core::engine::{BackupReport, BackupRequest, EngineError, SnapshotFilter};
use arkeep_core::job::{
    BackupWork, DestinationResult, DestinationWork, HookState, JobError, LogLevel, Outcome,
};
use arkeep_core::policy::{HookPhase, Source};

use super::end::End;
use super::hooks::{self, Judged};
use super::outcome::Proof;
use super::run::{Mending, Run, job_error};

/// Takes a snapshot in each destination, with the hooks around.
pub(super) async fn backup(run: &mut Run<'_>, work: &BackupWork) -> End {
    let judged = hooks::judge(run, &work.hooks);
    let obstacle = run_up(run, work, &judged).await;
    wind_down(run, work, &judged, obstacle).await
}

/// Ends a backup that was interrupted: what is there is reported, nothing is taken again.
///
/// The hooks that tidy up run, since those before may have run.
pub(super) async fn look_back(run: &mut Run<'_>, work: &BackupWork) -> End {
    for destination in &work.destinations {
        if !run.is_done(destination.destination) {
            let result = left_behind(run, destination).await;
            run.keep_result(result).await;
        }
    }
    let judged = hooks::judge(run, &work.hooks);
    wind_down(run, work, &judged, None).await
}

/// All up to the snapshots. Answers with what stood in the way of beginning.
async fn run_up(run: &mut Run<'_>, work: &BackupWork, judged: &Judged) -> Option<JobError> {
    let request = match request(run, work) {
        Ok(request) => request,
        Err(error) => {
            run.say(LogLevel::Error, &error.detail);
            return Some(error);
        }
    };
    if judged.has_refused() {
        hooks::keep_refusals(run, judged).await;
        return None;
    }
    if !judged.is_empty() {
        // No hook stops a database for a backup that cannot be made.
        if let Err(error) = run.tools.engine.probe().await {
            run.say(LogLevel::Error, &error.to_string());
            return Some(job_error(&error));
        }
        hooks::run_phase(run, judged, HookPhase::Before, "running").await;
        if run
            .done
            .hooks
            .iter()
            .any(|hook| hook.state != HookState::Succeeded)
        {
            return None;
        }
    }
    let of = work.destinations.len();
    for (place, destination) in work.destinations.iter().enumerate() {
        let result = match run.stop.reason() {
            Some(_) => {
                let blank = run.blank(destination.destination, Outcome::Cancelled);
                run.failed(blank, &EngineError::Cancelled)
            }
            None => take_snapshot(run, destination, &request, place, of).await,
        };
        run.keep_result(result).await;
    }
    None
}

async fn wind_down(
    run: &mut Run<'_>,
    work: &BackupWork,
    judged: &Judged,
    obstacle: Option<JobError>,
) -> End {
    let asked = work.destinations.len();
    let end = End::of(run, asked, Proof::Snapshot, obstacle.clone());
    let state = end.state();
    hooks::run_phase(run, judged, HookPhase::After, state).await;
    if end.outcome == Outcome::Failed {
        hooks::run_phase(run, judged, HookPhase::OnFailure, state).await;
    }
    End::of(run, asked, Proof::Snapshot, obstacle)
}

async fn take_snapshot(
    run: &Run<'_>,
    destination: &DestinationWork,
    request: &BackupRequest,
    place: usize,
    of: usize,
) -> DestinationResult {
    let begun = run.blank(destination.destination, Outcome::Failed);
    let watch = run.observer(place, of);
    let repository = &destination.repository;
    let mut mending = Mending::new(&watch, repository).making();
    let taken = loop {
        match run.tools.engine.backup(repository, request, &watch).await {
            Ok(report) => break Ok(report),
            Err(error) => {
                if let Err(error) = mending.mend(error).await {
                    break Err(error);
                }
            }
        }
    };
    match taken {
        Ok(report) => proven(run, begun, report),
        Err(error) => run.failed(begun, &error),
    }
}

fn proven(run: &Run<'_>, begun: DestinationResult, report: BackupReport) -> DestinationResult {
    let error = (!report.complete).then(|| incomplete(&report));
    let (level, how) = match &error {
        Some(error) => (LogLevel::Warn, error.detail.as_str()),
        None => (LogLevel::Info, "complete"),
    };
    run.say(
        level,
        &format!(
            "destination {}: snapshot {}, {how}",
            begun.destination_id, report.snapshot
        ),
    );
    DestinationResult {
        state: match report.complete {
            true => Outcome::Succeeded,
            false => Outcome::Partial,
        },
        snapshot_id: Some(report.snapshot),
        bytes_processed: report.bytes_processed,
        bytes_added: report.bytes_added,
        files_new: report.files_new,
        files_changed: report.files_changed,
        files_unmodified: report.files_unmodified,
        ended_at: run.now(),
        error,
        ..begun
    }
}

fn incomplete(report: &BackupReport) -> JobError {
    let mut detail = "not everything is in the snapshot".to_owned();
    for (number, unread) in report.unread.iter().enumerate() {
        if number == MOST_NAMED {
            let more = report.unread.len() - MOST_NAMED;
            detail.push_str(&format!("; and {more} more, see the job's log"));
            break;
        }
        detail.push_str(if number == 0 { ": " } else { "; " });
        detail.push_str(unread);
    }
    JobError {
        code: "incomplete".to_owned(),
        detail,
    }
}

/// What an interrupted backup left in a destination.
async fn left_behind(run: &Run<'_>, destination: &DestinationWork) -> DestinationResult {
    let begun = run.blank(destination.destination, Outcome::Failed);
    let watch = run.observer(0, 1);
    let engine = &run.tools.engine;
    let repository = &destination.repository;
    let filter = SnapshotFilter {
        tags: vec![job_tag(run)],
        host: None,
    };
    let unlocked = engine.unlock(repository, &watch).await;
    let found = match unlocked {
        // Listing takes no lock, so that of another one is not in the way.
        Ok(()) | Err(EngineError::Locked(_)) => engine.snapshots(repository, &filter, &watch).await,
        Err(error) => Err(error),
    };
    let (snapshot, how) = match found {
        Ok(mut snapshots) => match snapshots.pop() {
            Some(snapshot) => (
                Some(snapshot.id),
                "its snapshot is there, but nobody saw whether it is complete".to_owned(),
            ),
            None => (None, "no snapshot of it is there".to_owned()),
        },
        Err(EngineError::RepositoryMissing(_)) => (None, "no repository is there".to_owned()),
        Err(error) => (
            None,
            format!("the repository could not be asked for its snapshot: {error}"),
        ),
    };
    let detail = format!("the agent was interrupted while the job ran; {how}");
    run.say(
        LogLevel::Warn,
        &format!("destination {}: {detail}", destination.destination),
    );
    DestinationResult {
        state: match snapshot {
            Some(_) => Outcome::Partial,
            None => Outcome::Failed,
        },
        snapshot_id: snapshot,
        ended_at: run.now(),
        error: Some(JobError {
            code: "interrupted".to_owned(),
            detail,
        }),
        ..begun
    }
}

/// What restic is asked for, once the owner's denials are applied.
fn request(run: &Run<'_>, work: &BackupWork) -> Result<BackupRequest, JobError> {
    let mut sources = Vec::new();
    let mut denied = Vec::new();
    for source in &work.sources {
        match source {
            Source::Path(path) => {
                let excludes = run.tools.denied.judge(path).map_err(|refused| JobError {
                    code: "source_denied".to_owned(),
                    detail: format!("the source {path} cannot be backed up: {refused}"),
                })?;
                denied.extend(excludes);
                sources.push(path.clone());
            }
            Source::DockerVolume(name) => {
                return Err(JobError {
                    code: "docker_unavailable".to_owned(),
                    detail: format!(
                        "the Docker volume {name} cannot be backed up: this agent does not reach \
                         Docker; name the volume's directory as a path instead"
                    ),
                });
            }
        }
    }
    let mut tags = work.tags.clone();
    tags.extend(
        run.assignment
            .policy
            .map(|policy| format!("policy:{policy}")),
    );
    tags.push(job_tag(run));
    // The owner's denials come last: of two patterns that disagree, restic follows the last.
    let excludes = work.excludes.iter().cloned().chain(denied).collect();
    Ok(BackupRequest {
        sources,
        excludes,
        exclude_larger_than: work.exclude_larger_than,
        one_file_system: work.one_file_system,
        tags,
        limits: work.limits.clone(),
    })
}

fn job_tag(run: &Run<'_>) -> String {
    format!("job:{}", run.assignment.job)
}

const MOST_NAMED: usize = 5;
