//! Running what was approved.
//!
//! The port and its words. [`ProcessRunner`](crate::ProcessRunner), behind feature `process`, is
//! the real one.

use std::fmt;
use std::io;
use std::time::Duration;

use async_trait::async_trait;

use crate::cancel::CancelSignal;
use crate::hook::Phase;
use crate::policy::ApprovedHook;
use crate::redact::Secrets;

/// Runs approved hooks.
///
/// Implement this to run hooks elsewhere, in a container for example.
///
/// # Security
///
/// The approval answers "may this run here", not "is this harmless". An implementation gives the
/// hook an environment made of [`HookContext::variables`] and little else, lets nothing the hook
/// started outlive the call, and redacts [`HookContext::secrets`] from what it reports.
///
/// # Cost
///
/// A call lasts as long as the hook, and at most its timeout and six seconds. Dropping the future
/// kills the hook and everything that it started.
#[async_trait]
pub trait HookRunner: fmt::Debug + Send + Sync {
    /// Runs the hook to its end.
    ///
    /// A hook that fails is a report, not an error: an error means that it never started.
    async fn run(&self, hook: &ApprovedHook, context: &HookContext)
    -> Result<HookReport, RunError>;
}

/// What a hook is told, and what its output must not tell.
#[derive(Debug, Clone)]
pub struct HookContext {
    /// `BACKUP_POLICY`: the policy's id.
    pub policy: String,
    /// `BACKUP_JOB`: the job's id.
    pub job: String,
    /// `BACKUP_PHASE`: `before`, `after` or `on_failure`.
    pub phase: Phase,
    /// `BACKUP_STATE`: the job's state so far.
    pub state: String,
    /// `BACKUP_ATTEMPT`: 1 for the first.
    pub attempt: u32,
    /// Redacted from the output, in every form it may take there.
    pub secrets: Secrets,
    /// Raised by the caller to end the hook early.
    pub cancel: CancelSignal,
}

impl HookContext {
    /// The documented variables. None of them is a secret.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("BACKUP_POLICY", self.policy.clone()),
            ("BACKUP_JOB", self.job.clone()),
            ("BACKUP_PHASE", self.phase.name().to_owned()),
            ("BACKUP_STATE", self.state.clone()),
            ("BACKUP_ATTEMPT", self.attempt.to_string()),
        ]
    }
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HookReport {
    /// What became of it.
    pub state: HookState,
    /// The exit code; nothing when a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The first and the last 32 KiB of what it wrote, cleaned and redacted.
    pub output: String,
    /// From its start to the death of its last process.
    pub elapsed: Duration,
    /// The layers between it and the machine, by name.
    pub layers: Vec<&'static str>,
    /// What the reader of the job log should know: processes that it left behind and that were
    /// killed, and protections that this machine could not give.
    pub notes: Vec<String>,
}

impl HookReport {
    /// A report of a runner of your own.
    pub fn new(state: HookState, exit_code: Option<i32>, output: String) -> Self {
        Self {
            state,
            exit_code,
            signal: None,
            output,
            elapsed: Duration::ZERO,
            layers: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// What became of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HookState {
    /// It exited with 0.
    Succeeded,
    /// It exited with something else, or a signal ended it.
    Failed,
    /// Its time was up, and it was killed with everything that it had started.
    TimedOut,
    /// Its caller ended it.
    Cancelled,
}

impl HookState {
    /// The name in answers of the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A hook that never started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The approval is for another policy or another phase.
    ///
    /// Have the hook reviewed where it is to run.
    #[error("the hook was approved for another policy or phase")]
    OtherContext,

    /// The program could not be started: it is missing, or may not be executed.
    ///
    /// Somebody has to look at the hook or the machine; a retry will not help.
    #[error("the hook's program could not be started")]
    Start(#[source] io::Error),

    /// The user that hooks run as does not exist, or cannot be switched to.
    ///
    /// Somebody has to look at `run_as` in the agent's configuration.
    #[error("the user that hooks run as cannot be used: {0}")]
    User(String),

    /// A protection that the configuration requires is not to be had on this machine.
    #[error("this machine cannot give the sandbox that the configuration requires: {0}")]
    Sandbox(String),

    /// The system has no descriptors, memory or processes left.
    ///
    /// Worth a retry later.
    #[error("the system could not set the hook up")]
    System(#[source] io::Error),
}
