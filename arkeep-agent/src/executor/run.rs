//! What every kind of work needs while it runs.

use std::sync::Arc;

use arkeep_core::engine::{EngineError, Observer};
use arkeep_core::job::{
    Assignment, DestinationResult, HookResult, JobError, LogLevel, LogSource, Outcome, Progress,
};
use arkeep_core::repository::Repository;
use arkeep_core::{DestinationId, JobId, Timestamp};
use async_trait::async_trait;

use super::stop::{Stop, StopReason};
use super::{ProgressBoard, Tools};
use crate::outbox::{JobLog, OutboxError, SoFar};

/// One job at work.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) tools: &'a Tools,
    pub(super) assignment: &'a Assignment,
    pub(super) board: &'a ProgressBoard,
    pub(super) log: &'a JobLog,
    pub(super) stop: Stop,
    pub(super) done: SoFar,
}

impl Run<'_> {
    pub(super) fn now(&self) -> Timestamp {
        self.tools.clock.now()
    }

    pub(super) fn say(&self, level: LogLevel, text: &str) {
        self.log.say(self.now(), level, LogSource::Agent, text);
    }

    /// Watches the engine at the destination of this place among `of`.
    pub(super) fn observer(&self, place: usize, of: usize) -> Watch<'_> {
        Watch {
            run: self,
            place: place as f64,
            of: of.max(1) as f64,
        }
    }

    /// Keeps what has been done, so that a crash does not forget it.
    pub(super) async fn keep(&self) {
        let (outbox, job, done) = (
            Arc::clone(&self.tools.outbox),
            self.assignment.job,
            self.done.clone(),
        );
        let kept = tokio::task::spawn_blocking(move || outbox.so_far(job, &done)).await;
        if let Ok(Err(error)) = kept {
            // The end of the job holds the same and is tried until it is kept.
            report(job, &error);
        }
    }

    pub(super) async fn keep_result(&mut self, result: DestinationResult) {
        self.done.results.push(result);
        self.keep().await;
    }

    pub(super) async fn keep_hook(&mut self, hook: HookResult) {
        self.done.hooks.push(hook);
        self.keep().await;
    }

    /// Whether this destination was done with before the agent was interrupted.
    pub(super) fn is_done(&self, destination: DestinationId) -> bool {
        let mut results = self.done.results.iter();
        results.any(|result| result.destination_id == destination)
    }

    /// A result without any figure, of now.
    pub(super) fn blank(&self, destination: DestinationId, state: Outcome) -> DestinationResult {
        let now = self.now();
        DestinationResult {
            destination_id: destination,
            state,
            snapshot_id: None,
            bytes_processed: 0,
            bytes_added: 0,
            files_new: 0,
            files_changed: 0,
            files_unmodified: 0,
            started_at: now,
            ended_at: now,
            error: None,
        }
    }

    /// The result of a destination that the engine failed at.
    pub(super) fn failed(
        &self,
        result: DestinationResult,
        error: &EngineError,
    ) -> DestinationResult {
        let stopped = match error {
            EngineError::Cancelled => self.stop.reason(),
            _ => None,
        };
        let state = match (error, stopped) {
            (EngineError::Cancelled, Some(StopReason::Deadline)) => Outcome::Failed,
            (EngineError::Cancelled, _) => Outcome::Cancelled,
            _ => Outcome::Failed,
        };
        let error = stopped.map_or_else(|| job_error(error), StopReason::error);
        self.say(
            LogLevel::Error,
            &format!("destination {}: {}", result.destination_id, error.detail),
        );
        DestinationResult {
            state,
            error: Some(error),
            ended_at: self.now(),
            ..result
        }
    }
}

/// The engine's error, as the server hears it.
pub(super) fn job_error(error: &EngineError) -> JobError {
    JobError {
        code: error.code().to_owned(),
        detail: error.to_string(),
    }
}

pub(crate) fn report(job: JobId, error: &OutboxError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%job, %error, cause, "the job's state could not be kept");
}

/// What the engine says, on its way to the job's log and progress.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    run: &'a Run<'a>,
    place: f64,
    of: f64,
}

#[async_trait]
impl Observer for Watch<'_> {
    fn progress(&self, progress: Progress) {
        let percent = (self.place * 100.0 + progress.percent) / self.of;
        let progress = Progress {
            percent,
            ..progress
        };
        self.run.board.set(self.run.assignment.job, progress);
    }

    fn line(&self, level: LogLevel, text: &str) {
        let run = self.run;
        run.log.say(run.now(), level, LogSource::Restic, text);
    }

    async fn cancelled(&self) {
        self.run.stop.asked().await;
    }
}

/// What may be put right at a repository, each once, before an error is final.
#[derive(Debug)]
pub(super) struct Mending<'a> {
    watch: &'a Watch<'a>,
    at: &'a Repository,
    may_init: bool,
    /// Why no repository was made.
    not_made: Option<EngineError>,
    may_unlock: bool,
}

impl<'a> Mending<'a> {
    pub(super) fn new(watch: &'a Watch<'a>, at: &'a Repository) -> Self {
        Self {
            watch,
            at,
            may_init: false,
            not_made: None,
            may_unlock: true,
        }
    }

    /// Lets a missing repository be made.
    pub(super) fn making(self) -> Self {
        Self {
            may_init: true,
            ..self
        }
    }

    /// `Ok` when something was put right and the work is worth another try.
    ///
    /// # Errors
    ///
    /// The final error.
    pub(super) async fn mend(&mut self, error: EngineError) -> Result<(), EngineError> {
        let run = self.watch.run;
        match error {
            EngineError::RepositoryMissing(_) if std::mem::take(&mut self.may_init) => {
                run.say(LogLevel::Info, "there is no repository yet; making one");
                match run.tools.engine.init(self.at, self.watch).await {
                    // Another one may have made it meanwhile; the next try opens it then.
                    Err(refused @ EngineError::Refused(_)) => {
                        self.not_made = Some(refused);
                        Ok(())
                    }
                    made => made,
                }
            }
            EngineError::RepositoryMissing(_) => Err(self.not_made.take().unwrap_or(error)),
            // The engine removes no lock but its own of processes that are gone.
            EngineError::Locked(_) if std::mem::take(&mut self.may_unlock) => {
                run.say(
                    LogLevel::Warn,
                    "the repository is locked; removing stale locks and trying once more",
                );
                run.tools.engine.unlock(self.at, self.watch).await
            }
            error => Err(error),
        }
    }
}
