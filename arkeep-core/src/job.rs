//! The life of a job.
//!
//! A job is one piece of work for one agent. Many hands touch it: a replica that leases it, an
//! agent that runs it, an administrator who cancels it, a lease that runs out. What may follow
//! what is decided here, in one pure function, [`JobState::after`]; stores only make it atomic.
//!
//! ```text
//! queued ─→ leased ─→ running ─→ succeeded | partial | failed | cancelled
//!    │  ╲      │ ╲
//!    │   ╲     │  → cancelled          (and leased → queued when the lease is lost)
//!    │    → cancelled
//!    → missed | expired
//! ```

mod assignment;
mod report;
mod state;

pub use assignment::{
    Assignment, BackupWork, DestinationWork, ForgetWork, RestoreWork, VerifyWork, Work,
};
pub use report::{
    DestinationResult, HookResult, HookState, JobError, JobReport, LogLevel, LogLine, LogSource,
    Progress, ReportBody,
};
pub use state::{IllegalTransition, JobEvent, JobKind, JobSource, JobState, Outcome, UnknownWord};

use serde::{Deserialize, Serialize};

/// Which holder of a job speaks. A job that is leased again gets a higher number, and whoever
/// still holds a lower one is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);
