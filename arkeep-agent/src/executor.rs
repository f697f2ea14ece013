//! Doing the work.
//!
//! An assignment that the [outbox](crate::outbox) keeps comes here and leaves as a kept result.
//! Between the two it waits for its turn: one job at a time for each repository, one restore at a
//! time on this machine, and no more at once than the machine's owner wants. What was begun is kept before it is begun, so that an
//! agent that was killed knows at its next start which jobs it has to account for.
//!
//! | when the agent starts, a job that was | is                                              |
//! |---------------------------------------|-------------------------------------------------|
//! | accepted, a backup                    | run now: backups go on while the server is away |
//! | accepted, other work                  | kept back until the server wants it again, since it may have been cancelled meanwhile |
//! | begun                                 | ended: its locks are removed, a snapshot of it is looked for, the hooks that tidy up run, and it is never run again |
//! | ended                                 | reported                                        |

mod backup;
mod end;
mod fit;
mod hooks;
mod outcome;
mod progress;
mod repositories;
mod run;
mod stop;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arkeep_core::engine::BackupEngine;
use arkeep_core::job::{Assignment, LogLevel, ReportBody, Work};
use arkeep_core::{Clock, JobId, Timestamp};
use tokio::sync::{Notify, Semaphore};

use crate::failpoint;
use crate::guard::{DeniedSources, RestoreTargets};
use crate::outbox::{Held, JobLog, Outbox, OutboxError, SoFar, Stage};
use end::End;
use repositories::Repositories;
use run::Run;
use stop::{Stop, Stopper};

pub(crate) use run::report;

pub use hooks::HookGate;
pub use outcome::{Proof, error, outcome};
pub use progress::ProgressBoard;
pub use stop::StopReason;

/// What the work is done with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Makes, lists and restores snapshots.
    pub engine: Arc<dyn BackupEngine>,
    /// Keeps what must not be forgotten.
    pub outbox: Arc<Outbox>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Judges and runs hooks.
    pub hooks: HookGate,
    /// Where files may be put back.
    pub targets: RestoreTargets,
    /// What may not be backed up.
    pub denied: DeniedSources,
    /// This machine's name, as its snapshots carry it.
    pub hostname: String,
}

/// Runs jobs.
#[derive(Debug, Clone)]
pub struct Executor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    tools: Tools,
    board: Arc<ProgressBoard>,
    repositories: Repositories,
    /// Held from the look at a restore's target to the last byte: what one restore puts there, the
    /// look of the next one must see.
    restoring: tokio::sync::Mutex<()>,
    slots: Semaphore,
    jobs: Mutex<Jobs>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Jobs {
    closing: bool,
    running: BTreeMap<JobId, Arc<Stopper>>,
    /// Accepted by an earlier run of the agent, and not known to be wanted still.
    kept_back: BTreeMap<JobId, Assignment>,
}

impl Executor {
    /// Runs at most `at_once` jobs at the same time.
    #[must_use]
    pub fn new(tools: Tools, at_once: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                tools,
                board: Arc::default(),
                repositories: Repositories::default(),
                restoring: tokio::sync::Mutex::default(),
                slots: Semaphore::new(at_once.max(1)),
                jobs: Mutex::default(),
                ended: Notify::new(),
            }),
        }
    }

    /// How far the running jobs have come.
    #[must_use]
    pub fn progress(&self) -> Arc<ProgressBoard> {
        Arc::clone(&self.inner.board)
    }

    /// Runs an assignment that the outbox keeps. One that is at work already is left alone, and
    /// one that comes while the agent ends waits in the outbox for its next start.
    pub fn submit(&self, assignment: Assignment) {
        self.spawn(assignment, None);
    }

    /// Takes up what the outbox held when it was opened.
    pub fn resume(&self, held: Vec<Held>) {
        for held in held {
            match (held.stage, held.assignment) {
                (Stage::Accepted, Some(assignment))
                    if !matches!(assignment.work, Work::Backup(_)) =>
                {
                    self.inner.lock().kept_back.insert(held.job, assignment);
                }
                (Stage::Accepted, Some(assignment)) => self.spawn(assignment, None),
                (Stage::Started, Some(assignment)) => self.spawn(assignment, Some(held.so_far)),
                (Stage::Accepted | Stage::Started, None) => {
                    let inner = Arc::clone(&self.inner);
                    let lost = End::lost();
                    tokio::spawn(async move { inner.finish(held.job, lost, held.so_far).await });
                }
                (Stage::Finished | Stage::Acknowledged, _) => {}
            }
        }
    }

    /// The jobs that are kept back until the server has said whether it still wants them. Whoever
    /// greets it leaves them out of what is held: those that it wants it assigns again.
    #[must_use]
    pub fn kept_back(&self) -> Vec<JobId> {
        self.inner.lock().kept_back.keys().copied().collect()
    }

    /// Runs a job that was kept back: the server wants it.
    pub fn release(&self, job: JobId) {
        let assignment = self.inner.lock().kept_back.remove(&job);
        if let Some(assignment) = assignment {
            self.spawn(assignment, None);
        }
    }

    /// Whether no more jobs are taken.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.inner.lock().closing
    }

    /// Stops a job, wherever it is. Its end says so.
    pub fn cancel(&self, job: JobId) {
        let mut jobs = self.inner.lock();
        if let Some(stopper) = jobs.running.get(&job) {
            stopper.stop(StopReason::Cancelled);
        }
        if jobs.kept_back.remove(&job).is_some() {
            let inner = Arc::clone(&self.inner);
            tokio::spawn(async move {
                let cancelled = End::stopped(StopReason::Cancelled);
                inner.finish(job, cancelled, SoFar::default()).await;
            });
        }
    }

    /// Takes no more jobs, stops those that run, and waits for their ends to be kept.
    ///
    /// Jobs that had not begun stay in the outbox for the next start. Returns whether all others
    /// ended within `patience`.
    pub async fn shut_down(&self, patience: Duration) -> bool {
        {
            let mut jobs = self.inner.lock();
            jobs.closing = true;
            for stopper in jobs.running.values() {
                stopper.stop(StopReason::Shutdown);
            }
        }
        let all_ended = async {
            loop {
                let ended = self.inner.ended.notified();
                if self.inner.lock().running.is_empty() {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(patience, all_ended).await.is_ok()
    }

    fn spawn(&self, assignment: Assignment, past: Option<SoFar>) {
        let inner = Arc::clone(&self.inner);
        let job = assignment.job;
        let (stopper, stop) = stop::stop();
        let stopper = Arc::new(stopper);
        {
            let mut jobs = self.inner.lock();
            if jobs.closing || jobs.running.contains_key(&job) {
                return;
            }
            jobs.running.insert(job, Arc::clone(&stopper));
        }
        tokio::spawn(async move {
            let so_far = past.clone().unwrap_or_default();
            let working = Arc::clone(&inner).work(assignment, past, stopper, stop);
            if tokio::spawn(working).await.is_err() {
                tracing::error!(%job, "the work on the job ended by a fault of the agent");
                inner.finish(job, End::fault(), so_far).await;
            }
            inner.lock().running.remove(&job);
            inner.ended.notify_waiters();
        });
    }
}

impl Inner {
    /// One job from its turn to its kept end.
    async fn work(
        self: Arc<Self>,
        assignment: Assignment,
        past: Option<SoFar>,
        stopper: Arc<Stopper>,
        stop: Stop,
    ) {
        let job = assignment.job;
        // What was interrupted only has to be accounted for, and that has no deadline.
        let deadline = assignment.deadline.filter(|_| past.is_none());
        let deadline = self.past_deadline(deadline, &stopper);
        let worked = Box::pin(self.work_in_turn(&assignment, past, stop));
        let (end, done) = tokio::select! {
            worked = worked => match worked {
                Some(worked) => worked,
                None => return,
            },
            () = deadline => return,
        };
        self.finish(job, end, done).await;
    }

    /// Asks the job to stop when its time has passed; never resolves.
    async fn past_deadline(&self, deadline: Option<Timestamp>, stopper: &Stopper) {
        if let Some(deadline) = deadline {
            tokio::time::sleep(deadline.since(self.tools.clock.now())).await;
            stopper.stop(StopReason::Deadline);
        }
        std::future::pending().await
    }

    /// Nothing when the job is left for the agent's next start.
    async fn work_in_turn(
        &self,
        assignment: &Assignment,
        past: Option<SoFar>,
        stop: Stop,
    ) -> Option<(End, SoFar)> {
        let job = assignment.job;
        let interrupted = past.is_some();
        let stop = match interrupted {
            true => stop.at_shutdown_alone(),
            false => stop,
        };
        let repositories = hooks::destinations(&assignment.work)
            .iter()
            .map(|destination| &destination.repository);
        let turn = async {
            // First of all, so that a restore that waits for another keeps no repository waiting.
            let alone = match &assignment.work {
                Work::Restore(_) => Some(self.restoring.lock().await),
                _ => None,
            };
            let held = self.repositories.take(repositories).await;
            (alone, held, self.slots.acquire().await)
        };
        let turn = tokio::select! {
            biased;
            () = stop.asked() => None,
            turn = turn => Some(turn),
        };
        if turn.is_none() || (!interrupted && !self.begin(job, &stop).await) {
            let reason = stop
                .reason()
                .filter(|reason| *reason != StopReason::Shutdown)?;
            return Some((End::stopped(reason), SoFar::default()));
        }
        failpoint::hit("work.before");

        let log = Arc::new(JobLog::after(self.tools.outbox.last_line(job)));
        let spool = tokio::spawn(spool(Arc::clone(&self.tools.outbox), job, Arc::clone(&log)));
        let mut run = Run {
            tools: &self.tools,
            assignment,
            board: &self.board,
            log: &log,
            stop: stop.clone(),
            done: past.unwrap_or_default(),
        };
        let end = match interrupted {
            false => perform(&mut run).await,
            true => account(&mut run).await,
        };
        let done = std::mem::take(&mut run.done);
        if let Some(error) = &end.error {
            run.say(LogLevel::Error, &error.detail);
        }
        log.close(self.tools.clock.now());
        self.board.clear(job);
        // It ends: the log was closed, and a full disk makes it give up.
        let _ = spool.await;
        failpoint::hit("work.after");
        if interrupted && stop.reason() == Some(StopReason::Shutdown) {
            return None;
        }
        Some((end, done))
    }

    /// Keeps that the job begins; false when it is to stop before that succeeded.
    async fn begin(&self, job: JobId, stop: &Stop) -> bool {
        let at = self.tools.clock.now();
        let kept = self.keep(job, move |outbox| outbox.started(job, at));
        tokio::select! {
            kept = kept => kept,
            () = stop.asked() => false,
        }
    }

    /// Keeps the end of a job, however long the disk takes to have room for it.
    async fn finish(&self, job: JobId, mut end: End, mut done: SoFar) {
        fit::fit(&mut end, &mut done);
        let at = self.tools.clock.now();
        tracing::info!(%job, outcome = end.state(), "job ended");
        let body = Arc::new(ReportBody::Finished {
            outcome: end.outcome,
            error: end.error,
            results: done.results,
            hooks: done.hooks,
        });
        self.keep(job, move |outbox| outbox.finished(job, at, &body))
            .await;
    }

    /// Writes to the outbox until it succeeds; false when it never can.
    async fn keep(
        &self,
        job: JobId,
        write: impl Fn(&Outbox) -> Result<(), OutboxError> + Clone + Send + 'static,
    ) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let (outbox, write) = (Arc::clone(&self.tools.outbox), write.clone());
            match tokio::task::spawn_blocking(move || write(&outbox)).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => {
                    run::report(job, &error);
                    if !error.is_worth_a_retry() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn perform(run: &mut Run<'_>) -> End {
    let assignment = run.assignment;
    match &assignment.work {
        Work::Backup(work) => backup::backup(run, work).await,
        Work::Restore(work) => upkeep::restore(run, work).await,
        Work::Verify(work) => upkeep::verify(run, work).await,
        Work::Forget(work) => upkeep::forget(run, work).await,
        Work::Test(work) => upkeep::test(run, work).await,
        _ => End::failed("unsupported", "this agent is too old for this kind of job"),
    }
}

/// Ends a job that was begun before the agent was interrupted.
async fn account(run: &mut Run<'_>) -> End {
    let assignment = run.assignment;
    run.say(
        LogLevel::Warn,
        "the agent was interrupted while this job ran; it is not run again",
    );
    if let Work::Backup(work) = &assignment.work {
        return backup::look_back(run, work).await;
    }
    for destination in hooks::destinations(&assignment.work) {
        let watch = run.observer(0, 1);
        if let Err(error) = run
            .tools
            .engine
            .unlock(&destination.repository, &watch)
            .await
        {
            run.say(
                LogLevel::Warn,
                &format!("stale locks were not removed: {error}"),
            );
        }
    }
    End::failed(
        "interrupted",
        "the agent was interrupted while the job ran; run it again",
    )
}

/// Carries a job's lines to the outbox until the log is closed and empty.
async fn spool(outbox: Arc<Outbox>, job: JobId, log: Arc<JobLog>) {
    loop {
        let lines = log.take();
        if lines.is_empty() {
            if log.is_done() {
                return;
            }
            log.woken().await;
            // Lines come in bursts: one file for a burst, not one for a line.
            tokio::time::sleep(BURST).await;
            continue;
        }
        let (kept, outbox) = (lines.clone(), Arc::clone(&outbox));
        let written = tokio::task::spawn_blocking(move || outbox.append_log(job, &kept)).await;
        if let Ok(Err(error)) = written {
            run::report(job, &error);
            if log.is_closed() {
                return;
            }
            log.put_back(lines);
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const BURST: Duration = Duration::from_millis(100);
