//! Behind the fork: the warden, and the last steps of the hook before its program starts.
//!
//! Everything here keeps the rule of [`kernel`]: calls to the kernel, and nothing that allocates.

use std::io;
use std::mem::MaybeUninit;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, openat, unlinkat};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper,
    set_dumpable_behavior, setsid, wait,
};
use rustix::time::{ClockId, clock_gettime};

use super::confine;
use super::kernel::{self, Side};
use super::launch::Launch;
use super::record::{Record, Step};

/// Splits the forked copy into warden and hook. Comes back only when the hook could not start.
pub(super) fn divide(launch: &Launch) -> io::Error {
    match prepare_warden(launch) {
        Ok((warden, Side::Parent(leader))) => guard(launch, warden, leader),
        Ok((warden, Side::Child { in_cgroup })) => become_hook(launch, warden, in_cgroup),
        Err(error) => report(launch, Step::Session, error),
    }
}

fn prepare_warden(launch: &Launch) -> io::Result<(Pid, Side)> {
    kernel::block_signals(true)?;
    kernel::reset_signals();
    // The copy holds the agent's memory, with its secrets, for as long as the hook runs.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // Out of the agent's session, so that Ctrl-C at a terminal is the agent's business alone.
    setsid()?;
    let warden = getpid();
    set_child_subreaper(Some(warden))?;
    Ok((
        warden,
        kernel::fork(launch.group.as_ref().map(|group| &group.directory))?,
    ))
}

fn report(launch: &Launch, step: Step, error: io::Error) -> io::Error {
    tell(launch, Record::Failed(step));
    error
}

/// When nobody reads it any more, there is nobody to tell.
pub(super) fn tell(launch: &Launch, record: Record) {
    let _ = rustix::io::write(&launch.status, &record.encode());
}

fn become_hook(launch: &Launch, warden: Pid, in_cgroup: bool) -> io::Error {
    match confine::enter(launch, warden, in_cgroup) {
        Ok(()) => report(launch, Step::Exec, launch.exec.execute()),
        Err((step, error)) => report(launch, step, error),
    }
}

/// Waits for the hook's end or for the order to end it, kills what is left, and says how it went.
fn guard(launch: &Launch, warden: Pid, leader: Pid) -> ! {
    let _ = rustix::thread::set_name(c"hook-warden");
    let group = launch.group.as_ref();
    let keep = [
        Some(&launch.lifeline),
        Some(&launch.status),
        group.map(|group| &group.kill),
    ];
    let Ok(children) = kernel::close_all_but(keep).and_then(|()| kernel::child_signal()) else {
        // Without descriptors closed the agent would wait for this process: better no hook.
        let _ = kill_process(leader, Signal::KILL);
        kernel::exit(1);
    };

    let mut family = Family {
        leader,
        status: None,
    };
    let mut by_itself = true;
    loop {
        family.reap();
        if family.status.is_some() {
            break;
        }
        let mut ends = [
            PollFd::new(&launch.lifeline, PollFlags::IN),
            PollFd::new(&children, PollFlags::IN),
        ];
        let _ = poll(&mut ends, None);
        let [lifeline, _] = ends;
        if !lifeline.revents().is_empty() {
            family.reap();
            by_itself = family.status.is_some();
            break;
        }
        drain(&children);
    }

    let leftovers = family.reap();
    let survivors = !family.kill(launch, warden, &children);
    let ended = Record::Ended {
        status: family.status.unwrap_or(SIGKILLED),
        by_itself,
        leftovers: leftovers && by_itself,
        survivors,
    };
    if let Some(group) = group {
        for directory in &group.to_remove {
            let _ = unlinkat(CWD, &**directory, AtFlags::REMOVEDIR);
        }
    }
    tell(launch, ended);
    kernel::exit(0)
}

/// Everything the hook started: orphans come to the warden, so all of it is waited for here.
struct Family {
    leader: Pid,
    status: Option<i32>,
}

impl Family {
    /// Buries the dead, and says whether anybody is left.
    ///
    /// Waiting for any child is right here and nowhere else: this process has no children but the
    /// hook's.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if pid == self.leader {
                        self.status = Some(status.as_raw());
                    }
                }
                Ok(None) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Kills until nobody is left, and says whether that came to pass.
    fn kill(&mut self, launch: &Launch, warden: Pid, children: &impl std::os::fd::AsFd) -> bool {
        let started = clock_gettime(ClockId::Monotonic).tv_sec;
        while self.reap() {
            if clock_gettime(ClockId::Monotonic).tv_sec - started > PATIENCE {
                return false;
            }
            if let Some(group) = &launch.group {
                let _ = rustix::io::write(&group.kill, b"1");
            }
            // Also with a cgroup: root can leave one.
            let _ = kill_children(warden);
            let soon = Timespec {
                tv_sec: 0,
                tv_nsec: 5_000_000,
            };
            let _ = poll(&mut [PollFd::new(children, PollFlags::IN)], Some(&soon));
            drain(children);
        }
        true
    }
}

/// Kills every child of this process. Their children become ours and are met in the next round.
///
/// A child's number cannot be given to another process before we wait for it, so nobody else is
/// ever hit.
fn kill_children(parent: Pid) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = openat(CWD, c"/proc", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&proc, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let Some(pid) = number(entry.file_name().to_bytes()).and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(dir) = openat(&proc, entry.file_name(), flags, Mode::empty()) else {
            continue;
        };
        let Ok(stat) = openat(
            &dir,
            c"stat",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) else {
            continue;
        };
        let mut text = [0; 512];
        let length = rustix::io::read(&stat, &mut text).unwrap_or(0);
        if parent_of(text.get(..length).unwrap_or_default()) == Some(parent.as_raw_nonzero().get())
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

/// The fourth field of `/proc/<pid>/stat`. The second is a name that may contain anything.
fn parent_of(stat: &[u8]) -> Option<i32> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    stat.get(after_name..)?
        .split(|byte| *byte == b' ')
        .nth(2)
        .and_then(number)
}

fn number(digits: &[u8]) -> Option<i32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn drain(signals: &impl std::os::fd::AsFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(signals, &mut buffer).is_ok_and(|length| length > 0) {}
}

/// Seconds. The agent waits one longer before it kills the warden too.
const PATIENCE: i64 = 4;
const SIGKILLED: i32 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    /// H8
    #[test]
    fn finds_the_parent_of_a_process_with_a_hostile_name() {
        assert_eq!(parent_of(b"71 (a) R 1 (b) S 42 71 71 0 -1"), Some(42));
        assert_eq!(parent_of(b"71 (sh) S 9"), Some(9));
        assert_eq!(parent_of(b""), None);
    }
}
