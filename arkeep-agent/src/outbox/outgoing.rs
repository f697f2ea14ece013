//! What there is to say, and under which lease.

use std::io;
use std::sync::PoisonError;

use arkeep_core::JobId;
use arkeep_core::job::JobReport;
use arkeep_transport::session::{HeldJob, LogBatch};

use super::record::{self, FINISHED_SEQUENCE, Name, STARTED_SEQUENCE};
use super::shelf::TakeError;
use super::{Entry, Held, Outbox, Stage, load, shelf};

impl Outbox {
    /// What the server has not acknowledged: job and sequence, in the order to send them in.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<(JobId, u64)> {
        let jobs = self.lock();
        let mut reports = Vec::new();
        for (job, entry) in jobs.iter() {
            let begun = matches!(entry.stage, Stage::Started | Stage::Finished);
            if begun && !entry.start_acknowledged {
                reports.push((*job, STARTED_SEQUENCE));
            }
            if entry.stage == Stage::Finished {
                reports.push((*job, FINISHED_SEQUENCE));
            }
        }
        reports
    }

    /// One report, to be sent; nothing when it is not held or cannot be read.
    ///
    /// A damaged one is moved to `damaged/`. When it was the end of a job, that job is begun and not
    /// ended from then on, and [`take_lost`](Self::take_lost) has it.
    #[must_use]
    pub fn report(&self, job: JobId, sequence: u64) -> Option<JobReport> {
        let mut jobs = self.lock();
        let entry = jobs.get_mut(&job)?;
        let name = match sequence {
            STARTED_SEQUENCE => Name::Started,
            FINISHED_SEQUENCE => Name::Finished,
            _ => return None,
        };
        let taken = self.shelf.take(job, &name.to_string());
        let (at, body) = match taken.and_then(|content| record::report(&name, &content)) {
            Ok(report) => report,
            Err(TakeError::Disk(error)) => {
                // A job that was stopped before it began has no start to tell of.
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%job, %name, %error, "a report cannot be read; it is tried again");
                }
                return None;
            }
            Err(TakeError::Damaged) => {
                self.lose(job, entry, &name);
                return None;
            }
        };
        Some(JobReport {
            job,
            attempt: entry.attempt,
            fence: entry.fence,
            sequence,
            at,
            body,
        })
    }

    /// The jobs whose ends were damaged while they waited to be said, to be accounted for as if the
    /// agent had been killed before it wrote them. Each is given once.
    #[must_use]
    pub fn take_lost(&self) -> Vec<Held> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lose(&self, job: JobId, entry: &mut Entry, name: &Name) {
        match self.shelf.set_aside(job, Some(&name.to_string())) {
            Ok(moved_to) => {
                let moved_to = moved_to.display();
                tracing::error!(%job, %name, %moved_to, "a damaged entry was set aside");
            }
            Err(error) => {
                tracing::error!(%job, %name, %error, "a damaged entry could not be set aside");
                return;
            }
        }
        if *name == Name::Started {
            // It cannot be said any more when work began; the end says that it did.
            entry.start_acknowledged = true;
            return;
        }
        entry.stage = Stage::Started;
        let assignment = Name::Assignment(entry.attempt, entry.fence);
        let assignment = self.shelf.take(job, &assignment.to_string());
        let so_far = self.shelf.take(job, &Name::SoFar.to_string());
        let lost = Held {
            job,
            stage: Stage::Started,
            assignment: assignment
                .and_then(|content| load::decode(&content))
                .unwrap_or_default(),
            so_far: so_far
                .and_then(|content| shelf::json(&content))
                .unwrap_or_default(),
        };
        let mut all = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(lost);
    }

    /// The batches of log lines that the server has not acknowledged: job and first line, in order.
    #[must_use]
    pub fn unacknowledged_logs(&self) -> Vec<(JobId, u64)> {
        let jobs = self.lock();
        let of = |(job, entry): (&JobId, &Entry)| {
            let job = *job;
            entry
                .logs
                .iter()
                .map(move |(first, _)| (job, *first))
                .collect::<Vec<_>>()
        };
        jobs.iter().flat_map(of).collect()
    }

    /// One batch of log lines, to be sent. A batch that was damaged says so in place of its lines.
    #[must_use]
    pub fn log_batch(&self, job: JobId, first: u64) -> Option<LogBatch> {
        let jobs = self.lock();
        let entry = jobs.get(&job)?;
        let (first, last) = entry
            .logs
            .iter()
            .find(|(begin, _)| *begin == first)
            .copied()?;
        let lines = match self.shelf.take(job, &Name::Log(first, last).to_string()) {
            Ok(content) => shelf::json(&content).ok(),
            Err(_) => None,
        };
        Some(LogBatch {
            job: entry.held(job),
            lines: lines.unwrap_or_else(|| record::lost_lines(first, last)),
        })
    }

    /// The jobs that were accepted and whose end is not acknowledged, under their leases.
    #[must_use]
    pub fn held(&self) -> Vec<HeldJob> {
        let jobs = self.lock();
        jobs.iter()
            .filter(|(_, entry)| entry.stage < Stage::Acknowledged)
            .map(|(job, entry)| entry.held(*job))
            .collect()
    }

    /// The lease that a job is held under.
    #[must_use]
    pub fn lease(&self, job: JobId) -> Option<HeldJob> {
        self.lock().get(&job).map(|entry| entry.held(job))
    }

    /// The last number of a line that is kept for the job, to go on counting from.
    #[must_use]
    pub fn last_line(&self, job: JobId) -> u64 {
        let jobs = self.lock();
        jobs.get(&job).map_or(0, |entry| {
            entry.logs.back().map_or(entry.logged, |(_, last)| *last)
        })
    }
}
