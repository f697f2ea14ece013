//! What jobs had to say.

use std::fmt;

use arkeep_core::job::{LogLevel, LogLine, LogSource};
use arkeep_core::{AgentId, JobId, StoreError, Timestamp};
use async_trait::async_trait;

/// Keeps the log of each job, within bounds.
///
/// # Security
///
/// A line that was acknowledged is kept until the bound of its job pushes it out. An agent that
/// writes without end costs the store [`LOG_BOUND`] bytes for each job.
#[async_trait]
pub trait JobLogStore: fmt::Debug + Send + Sync {
    /// Adds lines of one attempt of an agent's job, all or none, each sequence number once.
    ///
    /// Returns the highest sequence number of the attempt that is kept: what the agent may forget.
    /// None when the agent has no such job.
    async fn append(&self, lines: &LogBatch) -> Result<Option<u64>, StoreError>;

    /// The lines after `after`, at most `limit`, in order.
    async fn read(&self, job: JobId, after: u64, limit: u32)
    -> Result<Vec<StoredLine>, StoreError>;
}

/// Bytes of text that are kept of one job: half from its start, half from its end.
pub const LOG_BOUND: u64 = 10 << 20;

/// Lines of one attempt.
#[derive(Debug, Clone)]
pub struct LogBatch {
    /// Who speaks.
    pub agent: AgentId,
    /// Of which job.
    pub job: JobId,
    /// In which attempt.
    pub attempt: u32,
    /// What, in order of `seq`.
    pub lines: Vec<LogLine>,
}

/// A line as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLine {
    /// Counts from 1 within the job, over all attempts. A gap is where lines were pushed out.
    pub seq: u64,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// When it was written.
    pub at: Timestamp,
    /// How loud.
    pub level: LogLevel,
    /// Who wrote it.
    pub source: LogSource,
    /// The text.
    pub text: String,
}
