//! What there is to say, and under which lease.

use arkeep_core::JobId;
use arkeep_core::job::JobReport;
use arkeep_transport::session::{HeldJob, LogBatch};

use super::record::{self, FINISHED_SEQUENCE, Name, STARTED_SEQUENCE};
use super::{Entry, Outbox, Stage, shelf};

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
    #[must_use]
    pub fn report(&self, job: JobId, sequence: u64) -> Option<JobReport> {
        let jobs = self.lock();
        let entry = jobs.get(&job)?;
        let name = match sequence {
            STARTED_SEQUENCE => Name::Started,
            FINISHED_SEQUENCE => Name::Finished,
            _ => return None,
        };
        let content = self.shelf.take(job, &name.to_string()).ok()?;
        let (at, body) = record::report(&name, &content).ok()?;
        Some(JobReport {
            job,
            attempt: entry.attempt,
            fence: entry.fence,
            sequence,
            at,
            body,
        })
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
