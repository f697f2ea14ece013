//! How far the ticks of each schedule have been seen to.

use std::fmt;

use arkeep_core::job::JobKind;
use arkeep_core::policy::Schedule;
use arkeep_core::{PolicyId, StoreError, Timestamp};
use async_trait::async_trait;

/// Keeps a mark for each schedule: the last tick that has a job, or needs none.
///
/// A tick after the mark that has come is due, also when nobody looked for a day. Whether a tick
/// makes a job is decided by the job queue, once for all replicas; a mark that lags behind costs a
/// look and never a job.
#[async_trait]
pub trait ScheduleStore: fmt::Debug + Send + Sync {
    /// All marks.
    async fn marks(&self) -> Result<Vec<Mark>, StoreError>;

    /// Moves a mark forward, or sets it for another schedule. One that is further already stays.
    async fn advance(&self, mark: &Mark) -> Result<(), StoreError>;

    /// Forgets the mark of a schedule that does not count any more.
    async fn forget(&self, policy: PolicyId, kind: JobKind) -> Result<(), StoreError>;
}

/// How far one schedule has been seen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Whose schedule it is.
    pub policy: PolicyId,
    /// What it makes.
    pub kind: JobKind,
    /// The schedule; the mark is worth nothing for another one.
    pub schedule: Schedule,
    /// Ticks up to and with this moment are done with.
    pub up_to: Timestamp,
}
