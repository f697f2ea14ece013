//! What the agent must not forget.
//!
//! A job lives on two machines that die at different moments. The server may take a job for given
//! only when the agent cannot forget it any more, and the agent may forget a result only when the
//! server has it. The outbox is the agent's half of that: a directory with one sealed file for
//! each thing that was received or is to be said, written before anything is done about it.
//!
//! | file of a job                    | written before                           |
//! |----------------------------------|------------------------------------------|
//! | `assignment.<attempt>.<fence>`   | the assignment is accepted               |
//! | `started`                        | the first hook or restic runs            |
//! | `so-far`                         | the next destination is begun            |
//! | `finished`                       | the result is sent                       |
//! | `acked`                          | anything is forgotten of a job with log lines to send |
//! | `log.<first>.<last>`             | these lines are sent                     |
//! | `logged.<last>`                  | more lines are counted                   |
//!
//! Beside the jobs lies `reserve`, room that is given back when the disk is full: the end of a job
//! that filled it has to be kept too.
//!
//! All of a job goes at once when the server has acknowledged its result and its log. The fence
//! and the attempt of a report are those of the newest assignment of its job, so that work that
//! goes on under a new lease is reported under the new lease.

mod load;
mod log;
mod outgoing;
mod record;
mod shelf;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arkeep_core::job::{Assignment, Fence, LogLine, ReportBody};
use arkeep_core::{JobId, Timestamp};
use arkeep_transport::session::HeldJob;
use arkeep_transport::wire;
use arkeep_vault::{KeyError, SealError, Sealer};
use tokio::sync::Notify;

use crate::failpoint;
use record::{FINISHED_SEQUENCE, Name, STARTED_SEQUENCE};
use shelf::{PutError, Shelf};

pub use log::JobLog;
pub use record::SoFar;

/// The agent's durable memory of its jobs.
///
/// Every method that writes returns when the disk has it. They block: call them from
/// [`spawn_blocking`](tokio::task::spawn_blocking) where that matters.
#[derive(Debug)]
pub struct Outbox {
    shelf: Shelf,
    most_jobs: usize,
    jobs: Mutex<BTreeMap<JobId, Entry>>,
    /// Jobs whose ends could not be read when they were to be said.
    lost: Mutex<Vec<Held>>,
    changed: Notify,
}

/// A job that was in the outbox when it was opened.
#[derive(Debug)]
pub struct Held {
    /// The job.
    pub job: JobId,
    /// How far it had come.
    pub stage: Stage,
    /// What was asked for; nothing when that entry was damaged, or is not needed any more.
    pub assignment: Option<Assignment>,
    /// What had been done of it.
    pub so_far: SoFar,
}

/// How far a job has come on this agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Received; nothing was done.
    Accepted,
    /// Something may have been done.
    Started,
    /// It has ended, and the server does not know it yet.
    Finished,
    /// The server knows; log lines are left to send.
    Acknowledged,
}

/// What became of an assignment that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It was not known and is kept now.
    New,
    /// This very assignment is held already.
    Known(Stage),
    /// Its job is held under an older lease; all that is said of it is said under this one now.
    Renewed(Stage),
    /// Its job is held under a newer lease. It must not be answered.
    Stale,
    /// There is no room. It must not be accepted.
    Full,
}

/// An entry that could not be used and was moved away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Whose it was.
    pub job: JobId,
    /// The entry's name; nothing when it is the whole job.
    pub entry: Option<String>,
    /// Where it lies now.
    pub moved_to: std::path::PathBuf,
}

/// The outbox did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The disk failed or is full. Nothing changed; try again when there is room.
    #[error("the outbox could not be read or written")]
    Disk(#[from] io::Error),
    /// The key to seal with cannot be had now. Most often its ring, which counts what it seals,
    /// has no room on the disk. Nothing changed; try again when there is room.
    #[error("the key that seals the outbox could not be had")]
    Key(#[source] SealError),
    /// What is to be kept is too long, or there is no key for it. A retry changes nothing.
    #[error("an entry of the outbox could not be sealed")]
    Seal(#[source] SealError),
    /// What is to be kept cannot be written down. A retry changes nothing.
    #[error("an assignment could not be written down")]
    Encode(#[from] wire::EncodeError),
    /// The outbox does not hold the job.
    #[error("the outbox does not hold this job")]
    Unknown,
}

impl OutboxError {
    /// Whether the same may succeed later.
    #[must_use]
    pub const fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Disk(_) | Self::Key(_))
    }
}

impl From<PutError> for OutboxError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Disk(error) => Self::Disk(error),
            PutError::Seal(error @ SealError::Key(KeyError::Unavailable { .. })) => {
                Self::Key(error)
            }
            PutError::Seal(error) => Self::Seal(error),
        }
    }
}

#[derive(Debug)]
struct Entry {
    attempt: u32,
    fence: Fence,
    stage: Stage,
    /// The server has the start. Known for this run of the agent only: to say it twice is harmless.
    start_acknowledged: bool,
    /// First and last line of each batch.
    logs: VecDeque<(u64, u64)>,
    /// The last line that the server has.
    logged: u64,
}

impl Outbox {
    /// Opens the outbox in `root`, which is made when it is not there.
    ///
    /// Returns with it what it held, in the order of the jobs, and what of that was damaged.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Disk`]: the outbox itself cannot be read. Entries that are damaged or cannot
    /// be read are no error: they are moved to `damaged/`.
    pub fn open(
        root: &Path,
        sealer: Arc<dyn Sealer>,
        most_jobs: usize,
    ) -> Result<(Self, Vec<Held>, Vec<Damage>), OutboxError> {
        let shelf = Shelf::open(root, sealer)?;
        let mut jobs = BTreeMap::new();
        let mut held = Vec::new();
        let mut damage = Vec::new();
        for (job, names) in shelf.jobs()? {
            let loading = load::Loading {
                shelf: &shelf,
                job,
                damage: &mut damage,
            };
            match names
                .map_err(OutboxError::from)
                .and_then(|names| loading.load(&names))
            {
                Ok(Some((entry, found))) => {
                    jobs.insert(job, entry);
                    held.push(found);
                }
                Ok(None) => {}
                Err(OutboxError::Disk(error)) if !load::is_of_the_process(&error) => {
                    tracing::error!(%job, %error, "a job cannot be read");
                    // Where it cannot be moved to, it stays, and keeps nothing else from going on.
                    let moved_to = shelf.set_aside(job, None);
                    damage.push(Damage {
                        job,
                        entry: None,
                        moved_to: moved_to.unwrap_or_else(|_| shelf.directory(job)),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        shelf.reserve();
        let outbox = Self {
            shelf,
            most_jobs,
            jobs: Mutex::new(jobs),
            lost: Mutex::default(),
            changed: Notify::new(),
        };
        Ok((outbox, held, damage))
    }

    /// Keeps an assignment. It may be accepted when this has answered.
    ///
    /// # Errors
    ///
    /// [`OutboxError`]: it is not kept and must not be accepted.
    pub fn admit(&self, assignment: &Assignment) -> Result<Admission, OutboxError> {
        let mut jobs = self.lock();
        let job = assignment.job;
        let name = Name::Assignment(assignment.attempt, assignment.fence);
        let content = wire::encode_assignment(assignment)?;
        failpoint::hit("admit.before");
        let full = jobs.len() >= self.most_jobs;
        let admission = match jobs.get_mut(&job) {
            Some(entry) if entry.stage == Stage::Acknowledged && entry.fence < assignment.fence => {
                // The server wants it again, and says so with a new lease; what is left is log.
                self.shelf.discard(job)?;
                jobs.remove(&job);
                self.shelf.create(job, &name.to_string(), &content)?;
                jobs.insert(job, Entry::accepted(assignment));
                Admission::New
            }
            Some(entry) if entry.fence > assignment.fence => Admission::Stale,
            Some(entry)
                if (entry.attempt, entry.fence) == (assignment.attempt, assignment.fence) =>
            {
                Admission::Known(entry.stage)
            }
            Some(entry) => {
                let old = Name::Assignment(entry.attempt, entry.fence);
                self.shelf.put(job, &name.to_string(), &content)?;
                (entry.attempt, entry.fence) = (assignment.attempt, assignment.fence);
                entry.start_acknowledged = false;
                self.shelf.remove(job, &old.to_string())?;
                Admission::Renewed(entry.stage)
            }
            None if full => Admission::Full,
            None => {
                self.shelf.create(job, &name.to_string(), &content)?;
                jobs.insert(job, Entry::accepted(assignment));
                Admission::New
            }
        };
        failpoint::hit("admit.after");
        drop(jobs);
        self.changed.notify_one();
        Ok(admission)
    }

    /// Keeps that work on the job begins. Work may begin when this has returned.
    ///
    /// # Errors
    ///
    /// [`OutboxError`]: work must not begin.
    pub fn started(&self, job: JobId, at: Timestamp) -> Result<(), OutboxError> {
        failpoint::hit("started.before");
        self.advance(job, Stage::Started, &Name::Started, &record::started(at))?;
        failpoint::hit("started.after");
        Ok(())
    }

    /// Keeps what has been done of a job, in place of what was kept before.
    ///
    /// # Errors
    ///
    /// [`OutboxError`]: a crash would forget the part, not the job.
    pub fn so_far(&self, job: JobId, done: &SoFar) -> Result<(), OutboxError> {
        failpoint::hit("so-far.before");
        self.advance(job, Stage::Started, &Name::SoFar, &record::so_far(done))?;
        failpoint::hit("so-far.after");
        Ok(())
    }

    /// Keeps the end of a job. It is sent, again and again, from the moment this returns.
    ///
    /// # Errors
    ///
    /// [`OutboxError`]: it is not kept and will not be sent.
    pub fn finished(
        &self,
        job: JobId,
        at: Timestamp,
        body: &ReportBody,
    ) -> Result<(), OutboxError> {
        let Some(content) = record::finished(at, body) else {
            return Ok(());
        };
        failpoint::hit("finished.before");
        self.advance(job, Stage::Finished, &Name::Finished, &content)?;
        failpoint::hit("finished.after");
        Ok(())
    }

    /// Keeps lines of the job's log, which follow those kept before.
    ///
    /// # Errors
    ///
    /// [`OutboxError`]: the lines are not kept.
    pub fn append_log(&self, job: JobId, lines: &[LogLine]) -> Result<(), OutboxError> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
            return Ok(());
        };
        let (first, last) = (first.seq, last.seq);
        let mut jobs = self.lock();
        let entry = jobs.get_mut(&job).ok_or(OutboxError::Unknown)?;
        let name = Name::Log(first, last).to_string();
        self.shelf.put(job, &name, &record::log(lines))?;
        entry.logs.push_back((first, last));
        drop(jobs);
        self.changed.notify_one();
        Ok(())
    }

    /// Forgets what the server has: with the end of a job all of it, once its log is sent too.
    ///
    /// An acknowledgement of another attempt, or of what is not held, changes nothing.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Disk`]: it will be sent again.
    pub fn acknowledge(&self, job: JobId, attempt: u32, sequence: u64) -> Result<(), OutboxError> {
        let mut jobs = self.lock();
        let Some(entry) = jobs.get_mut(&job).filter(|entry| entry.attempt == attempt) else {
            return Ok(());
        };
        match (sequence, entry.stage) {
            (STARTED_SEQUENCE, _) => entry.start_acknowledged = true,
            (FINISHED_SEQUENCE, Stage::Finished) => {
                failpoint::hit("acknowledge.before");
                if entry.logs.is_empty() {
                    self.shelf.discard(job)?;
                    jobs.remove(&job);
                    self.shelf.reserve();
                } else {
                    let marker = shelf::bytes(Vec::new());
                    self.shelf.put(job, &Name::Acked.to_string(), &marker)?;
                    entry.stage = Stage::Acknowledged;
                    let assignment = Name::Assignment(entry.attempt, entry.fence);
                    for name in [Name::Finished, Name::SoFar, Name::Started] {
                        self.shelf.remove(job, &name.to_string())?;
                    }
                    self.forget_secrets(job, &assignment)?;
                }
                failpoint::hit("acknowledge.after");
            }
            _ => {}
        }
        Ok(())
    }

    /// Forgets log lines that the server has: those up to `through`.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Disk`]: they will be sent again.
    pub fn acknowledge_log(
        &self,
        job: JobId,
        attempt: u32,
        through: u64,
    ) -> Result<(), OutboxError> {
        let mut jobs = self.lock();
        let Some(entry) = jobs.get_mut(&job).filter(|entry| entry.attempt == attempt) else {
            return Ok(());
        };
        while let Some((first, last)) = entry.logs.front().copied().filter(|(_, l)| *l <= through) {
            // The name stays for its number: lines of this job are counted on after a restart.
            self.shelf
                .rename(job, &Name::Log(first, last), &Name::Logged(last))?;
            self.shelf
                .remove(job, &Name::Logged(entry.logged).to_string())?;
            entry.logged = last;
            entry.logs.pop_front();
        }
        if entry.stage == Stage::Acknowledged && entry.logs.is_empty() {
            self.shelf.discard(job)?;
            jobs.remove(&job);
        }
        Ok(())
    }

    /// Resolves when there may be something new to send.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn advance(
        &self,
        job: JobId,
        stage: Stage,
        name: &Name,
        content: &[u8],
    ) -> Result<(), OutboxError> {
        let mut jobs = self.lock();
        let entry = jobs
            .get_mut(&job)
            .filter(|entry| entry.stage <= stage && entry.stage < Stage::Finished)
            .ok_or(OutboxError::Unknown)?;
        let content = shelf::bytes(content.to_owned());
        let name = name.to_string();
        match self.shelf.put(job, &name, &content) {
            // The end of a job that filled the disk must not wait until somebody makes room.
            Err(error) if error.is_for_want_of_room() && self.shelf.release() => {
                self.shelf.put(job, &name, &content)?;
            }
            put => put?,
        }
        entry.stage = stage;
        drop(jobs);
        self.changed.notify_one();
        Ok(())
    }

    /// Replaces the assignment by nothing, under the same name: the name still says the lease.
    fn forget_secrets(&self, job: JobId, assignment: &Name) -> Result<(), OutboxError> {
        let nothing = shelf::bytes(Vec::new());
        Ok(self.shelf.put(job, &assignment.to_string(), &nothing)?)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        // Each change of the map is one assignment; a panic elsewhere leaves it whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn held(&self, job: JobId) -> HeldJob {
        HeldJob {
            job,
            attempt: self.attempt,
            fence: self.fence,
        }
    }

    fn accepted(assignment: &Assignment) -> Self {
        Self {
            attempt: assignment.attempt,
            fence: assignment.fence,
            stage: Stage::Accepted,
            start_acknowledged: false,
            logs: VecDeque::new(),
            logged: 0,
        }
    }
}
