use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::policy::HookPhase;
use crate::snapshot::ResticId;
use crate::{DestinationId, JobId, Timestamp};

use super::{Fence, Outcome, UnknownWord};

/// Why something ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A word that programs can match, such as `wrong_password`.
    pub code: String,
    /// A sentence for people: what failed, and what to do next. Never a secret.
    pub detail: String,
}

/// How far a run has come. The latest is all that counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: f64,
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes to read, as far as known.
    pub bytes_total: u64,
    /// Files read so far.
    pub files_done: u64,
    /// Files to read, as far as known.
    pub files_total: u64,
    /// Seconds to go, when restic ventures a guess.
    pub seconds_left: Option<u64>,
    /// A file being read.
    pub current: Option<String>,
}

/// What came of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationResult {
    /// The destination.
    pub destination_id: DestinationId,
    /// What was proven.
    pub state: Outcome,
    /// The snapshot that the repository lists.
    pub snapshot_id: Option<ResticId>,
    /// Bytes read from the sources.
    pub bytes_processed: u64,
    /// Bytes that were new to the repository.
    pub bytes_added: u64,
    /// Files that the last snapshot did not have.
    pub files_new: u64,
    /// Files that differ from the last snapshot.
    pub files_changed: u64,
    /// Files that are as in the last snapshot.
    pub files_unmodified: u64,
    /// When work on the destination began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Why it was not a success.
    pub error: Option<JobError>,
}

/// What came of one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookResult {
    /// The hook's name.
    pub name: String,
    /// When it ran.
    pub phase: HookPhase,
    /// What came of it.
    pub state: HookState,
    /// The program's exit code, when it exited by itself.
    pub exit_code: Option<i32>,
    /// The first and the last of what it printed, without secrets.
    pub output: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// What came of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// It exited with code 0.
    Succeeded,
    /// It exited with another code, or could not be started.
    Failed,
    /// It was killed at its timeout.
    TimedOut,
    /// The agent's owner does not allow it; it was not started.
    Refused,
    /// The job was cancelled while it ran.
    Cancelled,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// For whoever mends the program.
    Debug,
    /// The ordinary course.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
}

/// Who wrote a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The agent.
    Agent,
    /// restic, word for word but for secrets.
    Restic,
    /// A hook.
    Hook,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word that stands for it in JSON and in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord),
                }
            }
        }
    };
}

words!(LogLevel {
    Debug = "debug",
    Info = "info",
    Warn = "warn",
    Error = "error",
});

words!(LogSource {
    Agent = "agent",
    Restic = "restic",
    Hook = "hook",
});

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Counts from 1 within an attempt, without gaps.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// How loud.
    pub level: LogLevel,
    /// Who wrote it.
    pub source: LogSource,
    /// The text, without secrets and without line ends.
    pub text: String,
}

/// One thing an agent says of a job, kept by the agent until the server has acknowledged it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobReport {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u32,
    /// The fence of the assignment.
    pub fence: Fence,
    /// Counts from 1 within an attempt. The server applies each number once.
    pub sequence: u64,
    /// When it happened, by the agent's clock.
    pub at: Timestamp,
    /// What happened.
    pub body: ReportBody,
}

/// What a [`JobReport`] says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ReportBody {
    /// The agent began to work.
    Started,
    /// The work has ended.
    Finished {
        /// What was proven.
        outcome: Outcome,
        /// Why it was not a success.
        error: Option<JobError>,
        /// Destination by destination.
        results: Vec<DestinationResult>,
        /// Hook by hook.
        hooks: Vec<HookResult>,
    },
}
