//! This test program, started again to play a part.

use std::io;
use std::process::{Child, Command, Stdio};

/// Starts the test `part` of this program alone, told what to do by `task`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that starts a process, and it is this program"
)]
pub(crate) fn start(part: &str, task: &str) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--exact", part, "--nocapture", "--test-threads=1"])
        .env_clear()
        .env(TASK, task)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// What this process was told to do; nothing in an ordinary run of the tests.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the task"
)]
pub(crate) fn task() -> Option<String> {
    std::env::var(TASK).ok()
}

const TASK: &str = "ARKEEP_VAULT_TEST_TASK";
