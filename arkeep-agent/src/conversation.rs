//! What the agent says to its server, and does when it is spoken to.
//!
//! A connection may end at any word. Everything that matters is in the outbox, so a conversation
//! begins by saying again what the last one did not get acknowledged, and forgets nothing by
//! ending. Two halves run side by side: one listens, one speaks; neither waits for the other, so
//! that a server that is slow to listen is still heard.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arkeep_core::JobId;
use arkeep_core::engine::{BackupEngine, Silent};
use arkeep_core::job::{Assignment, JobError, Progress};
use arkeep_transport::session::{
    Ack, AgentSaying, Answer, Cancel, Heartbeat, JobProgress, ListEntries, LogAck, Query,
    QueryAnswer, Question, ServerSaying,
};
use arkeep_transport::trust::{TrustBundle, TrustDigest};
use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::executor::Executor;
use crate::outbox::{Admission, Outbox, OutboxError, Stage};

/// The agent's end of a stream.
#[async_trait]
pub trait Mouth: fmt::Debug + Send {
    /// Says one thing; waits while the server is slow.
    async fn say(&mut self, saying: AgentSaying) -> Result<(), Ended>;
}

/// The other end of the same stream.
#[async_trait]
pub trait Ear: fmt::Debug + Send {
    /// The next thing the server says.
    async fn hear(&mut self) -> Result<ServerSaying, Ended>;
}

/// The conversation is over. Another one takes up where it ended.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Ended(pub String);

/// Keeps whom the agent trusts, and who it is.
pub trait TrustKeeper: fmt::Debug + Send + Sync {
    /// The roots that are trusted now.
    fn digest(&self) -> TrustDigest;

    /// Trusts these roots from now on. They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// When they could not be kept: the old ones stay.
    fn replace(&self, bundle: &TrustBundle) -> std::io::Result<()>;

    /// Sees to it that the certificate is renewed soon. Does not wait for it.
    fn renew_soon(&self);
}

/// What the agent needs to hold a conversation.
#[derive(Debug, Clone)]
pub struct Conversation {
    /// What must be said, and what has been.
    pub outbox: Arc<Outbox>,
    /// Does what is asked.
    pub executor: Executor,
    /// Answers questions.
    pub engine: Arc<dyn BackupEngine>,
    /// Whom to trust.
    pub trust: Arc<dyn TrustKeeper>,
}

impl Conversation {
    /// Speaks and listens until the stream ends.
    ///
    /// # Errors
    ///
    /// Always: [`Ended`] says why.
    pub async fn hold(&self, mouth: &mut dyn Mouth, ear: &mut dyn Ear) -> Result<(), Ended> {
        let (answers, mut questions) = mpsc::channel(WAITING);
        let said = Arc::new(Said::default());
        let listening = self.listen(ear, answers, &said);
        let speaking = self.speak(mouth, &mut questions, &said);
        tokio::select! {
            ended = listening => ended,
            ended = speaking => ended,
        }
    }

    async fn speak(
        &self,
        mouth: &mut dyn Mouth,
        answers: &mut mpsc::Receiver<AgentSaying>,
        said: &Said,
    ) -> Result<(), Ended> {
        let board = self.executor.progress();
        // The greeting was the first sign of life.
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let mut latest: BTreeMap<JobId, Progress> = BTreeMap::new();
        let mut next_progress = Instant::now();
        loop {
            self.say_what_is_kept(mouth, said).await?;
            tokio::select! {
                Some(answer) = answers.recv() => mouth.say(answer).await?,
                () = self.outbox.changed() => {}
                () = said.freed.notified() => {}
                _ = heartbeat.tick() => mouth.say(self.heartbeat().await?).await?,
                () = board.changed() => latest.append(&mut board.take()),
                () = tokio::time::sleep_until(next_progress), if !latest.is_empty() => {
                    next_progress = Instant::now() + BETWEEN_PROGRESS;
                    for (job, progress) in std::mem::take(&mut latest) {
                        self.say_progress(mouth, job, progress).await?;
                    }
                }
            }
        }
    }

    /// Says every report, then as many lines of logs as may wait for an answer.
    async fn say_what_is_kept(&self, mouth: &mut dyn Mouth, said: &Said) -> Result<(), Ended> {
        let reports = self.with_outbox(Outbox::unacknowledged).await?;
        for (job, sequence) in reports {
            let report = self
                .with_outbox(move |outbox| outbox.report(job, sequence))
                .await?;
            if report.is_none() {
                // One that cannot be read is lost; what is still known of its job is said instead.
                let lost = self.with_outbox(Outbox::take_lost).await?;
                self.executor.resume(lost);
            }
            if let Some(report) = report
                && said.once(What::Report(job, report.attempt, sequence))
            {
                mouth.say(AgentSaying::Report(report)).await?;
            }
        }
        let batches = self.with_outbox(Outbox::unacknowledged_logs).await?;
        for (job, first) in batches {
            if said.unanswered_logs() >= MOST_BATCHES {
                break;
            }
            if said.has(&What::Log(job, first)) {
                continue;
            }
            let batch = self
                .with_outbox(move |outbox| outbox.log_batch(job, first))
                .await?;
            if let Some(batch) = batch
                && said.once(What::Log(job, first))
            {
                mouth.say(AgentSaying::Logs(batch)).await?;
            }
        }
        Ok(())
    }

    async fn say_progress(
        &self,
        mouth: &mut dyn Mouth,
        job: JobId,
        progress: Progress,
    ) -> Result<(), Ended> {
        match self.with_outbox(move |outbox| outbox.lease(job)).await? {
            Some(job) => {
                let progress = JobProgress { job, progress };
                mouth.say(AgentSaying::Progress(progress)).await
            }
            None => Ok(()),
        }
    }

    async fn heartbeat(&self) -> Result<AgentSaying, Ended> {
        Ok(AgentSaying::Heartbeat(Heartbeat {
            held: self.with_outbox(Outbox::held).await?,
            trust: self.trust.digest(),
        }))
    }

    async fn listen(
        &self,
        ear: &mut dyn Ear,
        answers: mpsc::Sender<AgentSaying>,
        said: &Arc<Said>,
    ) -> Result<(), Ended> {
        let questions = Arc::new(Semaphore::new(QUESTIONS_AT_ONCE));
        loop {
            match ear.hear().await? {
                ServerSaying::Assignment(assignment) => {
                    // A task of its own: the stream may end between the two halves of taking a
                    // job on, and a job that is kept and not run would wait for a restart.
                    let (this, said) = (self.clone(), Arc::clone(said));
                    let taking = async move { this.take_on(*assignment, &said).await };
                    if let Ok(Some(accepted)) = tokio::spawn(taking).await {
                        say(&answers, accepted).await?;
                    }
                }
                ServerSaying::Cancel(cancel) => self.cancel(cancel).await?,
                ServerSaying::Ack(ack) => self.acknowledge(ack).await?,
                ServerSaying::LogAck(ack) => self.acknowledge_log(ack, said).await?,
                ServerSaying::Query(query) => {
                    self.answer(query, answers.clone(), Arc::clone(&questions));
                }
                ServerSaying::Trust(bundle) => {
                    if self.trust_in(bundle).await? {
                        say(&answers, self.heartbeat().await?).await?;
                    }
                }
                ServerSaying::Renew => self.trust.renew_soon(),
                _ => tracing::warn!("the server said something that this agent is too old for"),
            }
        }
    }

    /// Keeps an assignment and has it run. Answers with what to say, if anything.
    async fn take_on(&self, assignment: Assignment, said: &Said) -> Option<AgentSaying> {
        let job = assignment.job;
        if self.executor.is_closing() {
            // Not accepted, so that the server knows to give it again.
            return None;
        }
        let held = (&assignment).into();
        let kept = assignment.clone();
        let admission = self.with_outbox(move |outbox| outbox.admit(&kept)).await;
        match admission.ok()? {
            Ok(Admission::New) => {
                tracing::info!(%job, attempt = assignment.attempt, "job accepted");
                self.executor.submit(assignment);
            }
            Ok(Admission::Known(Stage::Accepted | Stage::Started)) => self.executor.release(job),
            Ok(Admission::Known(Stage::Finished)) => {
                // The server did not hear how it ended.
                said.forget_reports(job);
            }
            Ok(Admission::Known(Stage::Acknowledged)) => {
                tracing::warn!(%job, "the server assigned a job whose end it has acknowledged");
                return None;
            }
            Ok(Admission::Renewed(stage)) => {
                tracing::warn!(%job, ?stage, "the job was leased again and goes on");
                self.executor.release(job);
            }
            Ok(Admission::Stale) => {
                tracing::warn!(%job, "an assignment under an old lease was ignored");
                return None;
            }
            Ok(Admission::Full) => {
                tracing::error!(%job, "the outbox is full; the job was not accepted");
                return None;
            }
            Err(error) => {
                crate::executor::report(job, &error);
                return None;
            }
        }
        Some(AgentSaying::Accepted(held))
    }

    async fn cancel(&self, cancel: Cancel) -> Result<(), Ended> {
        let job = cancel.job;
        let lease = self.with_outbox(move |outbox| outbox.lease(job)).await?;
        if lease.is_some_and(|lease| lease.fence == cancel.fence) {
            tracing::info!(%job, "job cancelled by the server");
            self.executor.cancel(job);
        }
        Ok(())
    }

    // What the server does not know of, it will never ask for again: both receipts let it go.
    async fn acknowledge(&self, ack: Ack) -> Result<(), Ended> {
        let done = self
            .with_outbox(move |outbox| outbox.acknowledge(ack.job, ack.attempt, ack.sequence))
            .await?;
        note(ack.job, done);
        Ok(())
    }

    async fn acknowledge_log(&self, ack: LogAck, said: &Said) -> Result<(), Ended> {
        let done = self
            .with_outbox(move |outbox| outbox.acknowledge_log(ack.job, ack.attempt, ack.through))
            .await?;
        note(ack.job, done);
        said.answered_log(ack.job, ack.through);
        Ok(())
    }

    fn answer(&self, query: Query, answers: mpsc::Sender<AgentSaying>, turns: Arc<Semaphore>) {
        let engine = Arc::clone(&self.engine);
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire().await else {
                return;
            };
            let answer = match query.question {
                Question::ListEntries(asked) => {
                    match tokio::time::timeout(ANSWER_WITHIN, entries(&*engine, &asked)).await {
                        Ok(answer) => answer,
                        Err(_) => failed("timed_out", "the repository took too long to answer"),
                    }
                }
                Question::DockerVolumes => {
                    failed("docker_unavailable", "this agent does not reach Docker")
                }
                _ => failed("unsupported", "this agent is too old for this question"),
            };
            let answer = QueryAnswer {
                id: query.id,
                answer,
            };
            // The stream may have ended meanwhile; then nobody waits for the answer.
            let _ = answers.send(AgentSaying::Answer(answer)).await;
        });
    }

    async fn trust_in(&self, bundle: TrustBundle) -> Result<bool, Ended> {
        let trust = Arc::clone(&self.trust);
        let kept = tokio::task::spawn_blocking(move || trust.replace(&bundle)).await;
        match kept {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => {
                tracing::error!(%error, "the new trust bundle could not be kept");
                Ok(false)
            }
            Err(_) => Err(Ended("the agent is ending".to_owned())),
        }
    }

    async fn with_outbox<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Outbox) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let outbox = Arc::clone(&self.outbox);
        tokio::task::spawn_blocking(move || ask(&outbox))
            .await
            .map_err(|_| Ended("the agent is ending".to_owned()))
    }
}

/// What was said in this conversation and waits for its acknowledgement.
#[derive(Debug, Default)]
struct Said {
    what: Mutex<HashSet<What>>,
    freed: tokio::sync::Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Report(JobId, u32, u64),
    Log(JobId, u64),
}

impl Said {
    /// Whether this has not been said yet; from now on it has.
    fn once(&self, what: What) -> bool {
        self.lock().insert(what)
    }

    fn has(&self, what: &What) -> bool {
        self.lock().contains(what)
    }

    fn unanswered_logs(&self) -> usize {
        let said = self.lock();
        said.iter()
            .filter(|what| matches!(what, What::Log(..)))
            .count()
    }

    fn answered_log(&self, job: JobId, through: u64) {
        self.lock().retain(|what| match what {
            What::Log(of, first) => *of != job || *first > through,
            What::Report(..) => true,
        });
        self.freed.notify_one();
    }

    fn forget_reports(&self, job: JobId) {
        self.lock().retain(|what| match what {
            What::Report(of, ..) => *of != job,
            What::Log(..) => true,
        });
        self.freed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<What>> {
        self.what.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn say(answers: &mpsc::Sender<AgentSaying>, saying: AgentSaying) -> Result<(), Ended> {
    answers
        .send(saying)
        .await
        .map_err(|_| Ended("the agent has stopped speaking".to_owned()))
}

async fn entries(engine: &dyn BackupEngine, asked: &ListEntries) -> Answer {
    let listed = engine
        .list_entries(&asked.repository, &asked.snapshot, &asked.path, &Silent)
        .await;
    match listed {
        Ok(mut entries) => {
            let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
            let mut room = LONGEST_ANSWER;
            let fit = entries.iter().take(limit).take_while(|entry| {
                let size = entry.name.len() + entry.path.len() + ENTRY_COST;
                room = room.saturating_sub(size);
                room > 0
            });
            let fit = fit.count();
            let truncated = entries.len() > fit;
            entries.truncate(fit);
            Answer::Entries { entries, truncated }
        }
        Err(error) => failed(error.code(), &error.to_string()),
    }
}

fn failed(code: &str, detail: &str) -> Answer {
    Answer::Failed(JobError {
        code: code.to_owned(),
        detail: detail.to_owned(),
    })
}

fn note(job: JobId, done: Result<(), OutboxError>) {
    if let Err(error) = done {
        crate::executor::report(job, &error);
    }
}

const HEARTBEAT: Duration = Duration::from_secs(30);
const BETWEEN_PROGRESS: Duration = Duration::from_millis(500);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
// A message has 4 MiB.
const LONGEST_ANSWER: usize = 3 << 20;
const ENTRY_COST: usize = 64;
const QUESTIONS_AT_ONCE: usize = 4;
const MOST_BATCHES: usize = 8;
const WAITING: usize = 64;
