//! Everything a process started, found by its session.
//!
//! restic puts its own children, ssh and rclone, into process groups of their own, where a signal
//! to restic's group does not reach them. They stay in its session, which this crate made for it.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

/// A session that this process started, named by its leader.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session(Pid);

impl Session {
    pub(super) const fn of(leader: Pid) -> Self {
        Self(leader)
    }

    /// Kills every member until there is none.
    pub(super) async fn end(self) {
        for _ in 0..ROUNDS {
            if self.kill() == 0 {
                return;
            }
            tokio::time::sleep(BETWEEN_ROUNDS).await;
        }
    }

    /// Kills every member there is now; says how many there were.
    pub(super) fn kill(self) -> usize {
        let Ok(processes) = fs::read_dir("/proc") else {
            return 0;
        };
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .filter(|&pid| self.kill_member(pid))
            .count()
    }

    fn kill_member(self, pid: Pid) -> bool {
        if !self.has(pid) {
            return false;
        }
        let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
            return false;
        };
        // Asked again behind the descriptor: the number may have gone to another in between.
        self.has(pid) && rustix::process::pidfd_send_signal(&process, Signal::KILL).is_ok()
    }

    fn has(self, pid: Pid) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .ok()
            .and_then(|stat| session(&stat))
            == Some(self.0.as_raw_nonzero().get())
    }
}

/// The session in a line of `/proc/<pid>/stat`, unless the process is a zombie.
fn session(stat: &str) -> Option<i32> {
    // proc_pid_stat(5): the second field is the program's name in parentheses and may hold any.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let session = fields.nth(2)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(session)
}

const ROUNDS: usize = 200;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// G9
    #[test]
    fn a_name_in_parentheses_fools_nobody() {
        assert_eq!(session("7 (a) S 1 2 3) S 1 7 7 0 -1"), Some(7));
        assert_eq!(session("7 (restic) Z 1 7 7 0 -1"), None);
        assert_eq!(session("7 (restic"), None);
    }
}
