//! Running hooks as processes of this machine.
//!
//! Between the agent and the hook stands a *warden*: a copy of the agent's process that does
//! nothing but wait, made for one hook and gone with it.
//!
//! ```text
//! agent ──fork──▶ warden ──fork──▶ hook ──▶ whatever it starts
//!   │  lifeline ──▶ │                 cgroup of its own ───────┘
//!   │ ◀── status    │ child subreaper: every orphan comes to the warden
//! ```
//!
//! The agent stays an ordinary process: it is no subreaper, and it never waits for a process that
//! it did not start itself, so other children of the program that embeds it are left alone. The
//! warden kills everything when the hook's first process ends, when it is told to, and when the
//! agent dies, however that happens: the lifeline is a pipe, and the kernel closes it.
//!
//! A hook that starts a daemon loses it at its end. Ask the service manager instead.
//!
//! All this is Linux. On other Unix systems a hook is a plain process in a session of its own; see
//! [`ProcessRunner::inspect`] for what it then has not.

mod account;
mod clock;
mod completion;
#[cfg(target_os = "linux")]
mod confine;
#[cfg(target_os = "linux")]
mod filter;
mod given;
#[cfg(target_os = "linux")]
mod group;
mod intake;
mod kernel;
#[cfg(target_os = "linux")]
mod launch;
#[cfg(any(test, not(target_os = "linux")))]
mod plain;
#[cfg(target_os = "linux")]
mod record;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod supervise;
#[cfg(target_os = "linux")]
mod warden;

use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

pub use account::Account;
use completion::completion;
#[cfg(not(target_os = "linux"))]
use plain::supervise;
#[cfg(target_os = "linux")]
use supervise::supervise;

use crate::policy::ApprovedHook;
use crate::run::{HookContext, HookReport, HookRunner, RunError};

/// Runs hooks as processes of this machine, in a cage.
///
/// What a hook gets: an environment of `PATH`, `HOME`, `LANG` and the `BACKUP_*` variables; an
/// empty standard input; no other descriptor of ours; a session of its own; `/` as its directory
/// and 077 as its file mode mask; resource limits; and no way to gain privileges by executing a
/// file.
///
/// # Security
///
/// An approved program can do what its user can. Give hooks a user of their own with
/// [`run_as`](Self::run_as) where you can.
#[derive(Debug, Clone)]
pub struct ProcessRunner {
    shared: Arc<Settings>,
}

#[derive(Debug, Clone)]
struct Settings {
    account: Option<Account>,
    limits: Limits,
    path: String,
    cgroup: bool,
    hidden: Vec<PathBuf>,
    require_sandbox: bool,
}

/// What a hook may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads at one time.
    pub processes: u64,
    /// Open descriptors for each process.
    pub open_files: u64,
}

/// What stands between a hook and this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The layers that are there, by name.
    pub layers: Vec<&'static str>,
    /// What cannot be had, one line each.
    pub lacking: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 1024,
            open_files: 1024,
        }
    }
}

impl ProcessRunner {
    /// A runner that starts hooks as the user that it runs as itself.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Settings {
                account: None,
                limits: Limits::default(),
                path: DEFAULT_PATH.to_owned(),
                cgroup: true,
                hidden: Vec::new(),
                require_sandbox: false,
            }),
        }
    }

    /// Starts hooks as another user. Only root can do that.
    #[must_use]
    pub fn run_as(mut self, account: Account) -> Self {
        Arc::make_mut(&mut self.shared).account = Some(account);
        self
    }

    /// Sets what a hook may use up.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        Arc::make_mut(&mut self.shared).limits = limits;
        self
    }

    /// Hides a directory or a file from hooks: the agent's state, its keys, its configuration.
    #[must_use]
    pub fn hide(mut self, path: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.shared).hidden.push(path.into());
        self
    }

    /// Refuses to run a hook where a protection cannot be had, instead of saying so in its report.
    #[must_use]
    pub fn require_sandbox(mut self, required: bool) -> Self {
        Arc::make_mut(&mut self.shared).require_sandbox = required;
        self
    }

    /// What this machine gives to a hook and what it cannot give, as every report of a hook says it.
    ///
    /// Runs `/bin/true` as a hook to find out.
    pub async fn inspect(&self) -> Result<Inspection, RunError> {
        let mut trial = self.clone();
        Arc::make_mut(&mut trial.shared).require_sandbox = false;
        let (hook, context) = ApprovedHook::trial().map_err(RunError::System)?;
        let report = trial.run(&hook, &context).await?;
        Ok(Inspection {
            layers: report.layers,
            lacking: report.notes,
        })
    }

    /// Makes no cgroups, where somebody else manages them.
    ///
    /// What a hook started is then found by its parents. A process that forks faster than it can
    /// be found may escape that.
    #[must_use]
    pub fn without_cgroup(mut self) -> Self {
        Arc::make_mut(&mut self.shared).cgroup = false;
        self
    }

    /// Sets the `PATH` that hooks see.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.shared).path = path.into();
        self
    }
}

impl Default for ProcessRunner {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl HookRunner for ProcessRunner {
    async fn run(
        &self,
        hook: &ApprovedHook,
        context: &HookContext,
    ) -> Result<HookReport, RunError> {
        if hook.policy() != context.policy || hook.phase() != context.phase {
            return Err(RunError::OtherContext);
        }
        let (settings, hook) = (Arc::clone(&self.shared), hook.clone());
        let (told, cancel) = (context.clone(), context.cancel.clone());
        let (cancelled, until_cancelled) = io::pipe().map_err(RunError::System)?;
        let (sender, receiver) = completion();
        // A thread of its own for each hook: it blocks until the last process is dead, also when
        // nobody waits for the report any more.
        std::thread::Builder::new()
            .name("hook".to_owned())
            .spawn(move || supervise(&settings, &hook, &told, &cancelled.into(), sender))
            .map_err(RunError::System)?;

        // Closing this end is the order to stop: by hand, or by dropping this future.
        let mut until_cancelled = Some(until_cancelled);
        poll_fn(|cx| {
            if until_cancelled.is_some() && cancel.poll_cancelled(cx).is_ready() {
                until_cancelled = None;
            }
            receiver.poll(cx)
        })
        .await
        .unwrap_or_else(|| {
            Err(RunError::System(io::Error::other(
                "the supervisor ended early",
            )))
        })
    }
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
