//! A bench to run hooks on.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that breaks is a failed test"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arkeep_hooks::{
    Any, ApprovedHook, CancelSignal, HookContext, HookPolicy as _, HookReport, HookRunner as _,
    HookSet, HookSpec, Phase, ProcessRunner, RawHook, Review, RunError, Secrets,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A directory that every user may write to, and hooks that work in it.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runner: ProcessRunner,
    pub(crate) context: HookContext,
}

impl Bench {
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
        let context = HookContext {
            policy: "nightly".to_owned(),
            job: "job-1".to_owned(),
            phase: Phase::Before,
            state: "running".to_owned(),
            attempt: 1,
            secrets: Secrets::default(),
            cancel: CancelSignal::new(),
        };
        Ok(Self {
            dir,
            runner: ProcessRunner::new(),
            context,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a program. `@` in an argument stands for the bench's directory.
    pub(crate) async fn run(&self, argv: &[&str], timeout: u64) -> Result<HookReport, RunError> {
        let hook = self.approve(argv, timeout);
        self.runner.run(&hook, &self.context).await
    }

    /// Runs a script. The hook is `/bin/sh` with arguments, so this shell is the hook's own wish.
    pub(crate) async fn script(&self, text: &str, timeout: u64) -> Result<HookReport, RunError> {
        self.run(&["/bin/sh", "-c", text], timeout).await
    }

    pub(crate) fn approve(&self, argv: &[&str], timeout: u64) -> ApprovedHook {
        let dir = self.dir.path().display().to_string();
        let spec = HookSpec::check(RawHook {
            name: "hook".to_owned(),
            exec: Some(argv.iter().map(|arg| arg.replace('@', &dir)).collect()),
            shell: None,
            timeout,
            signature: None,
        })
        .unwrap();
        let at = Review {
            agent: "agent",
            policy: "nightly",
            phase: Phase::Before,
            hooks: &HookSet::default(),
            now_unix_millis: 0,
        };
        Any.review(&spec, &at).unwrap()
    }

    /// The number that a hook wrote to a file.
    pub(crate) fn pid(&self, name: &str) -> Result<i32, Box<dyn std::error::Error>> {
        Ok(fs::read_to_string(self.path(name))?.trim().parse()?)
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Waits until a process is gone, and says whether it went.
pub(crate) fn dies(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready == 1)
}

/// Waits for a condition that something outside this process brings about.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("the condition came true");
}
