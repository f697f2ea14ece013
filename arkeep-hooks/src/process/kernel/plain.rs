//! Any Unix: what a forked copy can do to itself before it becomes the hook.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid, umask};

use super::ExecVectors;
use crate::process::account::Account;

/// What the copy works from.
pub(in crate::process) struct Plain {
    pub(in crate::process) exec: ExecVectors,
    pub(in crate::process) account: Option<Account>,
    pub(in crate::process) processes: u64,
    pub(in crate::process) open_files: u64,
}

/// Starts the hook. Returns once its program has replaced the agent's.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place in this crate that starts a process on these systems"
)]
pub(in crate::process) fn start(plain: Plain, output: OwnedFd) -> io::Result<Child> {
    // The name is never executed: `become_hook` calls `execve` itself.
    let mut command = Command::new("/");
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    // SAFETY: `become_hook` keeps the rule of this module. On success it does not return.
    unsafe { command.pre_exec(move || Err(become_hook(&plain))) };
    command.spawn()
}

fn become_hook(plain: &Plain) -> io::Error {
    match prepare(plain) {
        Ok(()) => plain.exec.execute(),
        Err(error) => error,
    }
}

fn prepare(plain: &Plain) -> io::Result<()> {
    setsid()?;
    umask(Mode::RWXG | Mode::RWXO);
    reset_signals();
    close_on_exec_from_3();
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Nofile, plain.open_files),
        (Resource::Nproc, plain.processes),
    ] {
        let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let most = Some(most.min(hard));
        setrlimit(
            resource,
            Rlimit {
                current: most,
                maximum: most,
            },
        )?;
    }
    switch_user(plain)
}

fn switch_user(plain: &Plain) -> io::Result<()> {
    let Some(account) = &plain.account else {
        return Ok(());
    };
    let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
    // SAFETY: `Gid` is one number, as `gid_t` is, and the list lives through the call. The length
    // has another type on each system and is far below any of them.
    check(unsafe { libc::setgroups(account.groups.len() as _, account.groups.as_ptr().cast()) })?;
    // SAFETY: these take a number each. The user comes last: it gives up the right to the others.
    check(unsafe { libc::setgid(gid) })?;
    // SAFETY: as above.
    check(unsafe { libc::setuid(uid) })
}

fn reset_signals() {
    for signal in 1..32 {
        // SAFETY: sets a disposition of this copy; signals that cannot be set are left as they are.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Has the kernel close every descriptor from 3 up when the program starts.
///
/// One by one, up to the limit on descriptors: these systems have no call in common that does it at
/// once. One beyond a limit that was lowered after it was opened stays open.
fn close_on_exec_from_3() {
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    for fd in 3..i32::try_from(most)
        .unwrap_or(i32::MAX)
        .min(MOST_DESCRIPTORS)
    {
        // SAFETY: a flag on a number; nothing becomes invalid before the program starts.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where the limit is "none", systems still have one; this is beyond the usual ones.
const MOST_DESCRIPTORS: i32 = 1 << 20;
