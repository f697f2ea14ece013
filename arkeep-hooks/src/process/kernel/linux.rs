//! Linux: fork, cgroups, signals, Landlock, descriptors.

use std::ffi::{c_int, c_long};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use super::super::launch::Launch;
use super::super::warden;

/// A pipe that no program of ours inherits: the reading end first.
pub(in crate::process) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

/// Starts the warden and, through it, the hook. Returns once the hook's program has replaced the
/// agent's, with the warden as the child.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place in this crate that starts a process"
)]
pub(in crate::process) fn spawn(launch: Launch, output: OwnedFd) -> io::Result<Child> {
    // The name is never executed: `warden::divide` calls `execve` itself.
    let mut command = Command::new("/proc/self/exe");
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    // SAFETY: `divide` keeps the rule of this module. On success it does not return.
    unsafe { command.pre_exec(move || Err(warden::divide(&launch))) };
    command.spawn()
}

/// Which side of a fork this is.
pub(in crate::process) enum Side {
    Parent(Pid),
    Child {
        /// Whether it was born in the cgroup that was asked for.
        in_cgroup: bool,
    },
}

/// Forks once more, into a cgroup of version 2 if the kernel can do that (Linux 5.7). Moving a
/// process there later makes the kernel wait for all processors.
///
/// The bare calls instead of `libc::fork`: that one runs the handlers that libraries registered,
/// and they may take locks.
pub(in crate::process) fn fork(cgroup: Option<&OwnedFd>) -> io::Result<Side> {
    if let Some(cgroup) = cgroup {
        // SAFETY: all clear is a valid value of every field.
        let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
        // SAFETY: without a stack of its own and without shared memory, the child is a copy, as
        // below; the arguments live through the call.
        let pid = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw const arguments,
                size_of::<libc::clone_args>(),
            )
        };
        if let Ok(side) = side(pid, true) {
            return Ok(side);
        }
    }
    // SAFETY: without flags beside the signal, `clone` copies the process like `fork`; this one
    // has a single thread, and both copies go on under the rule of this module.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    side(pid, false)
}

fn side(pid: c_long, in_cgroup: bool) -> io::Result<Side> {
    match c_int::try_from(pid) {
        Ok(0) => Ok(Side::Child { in_cgroup }),
        Ok(pid) if pid > 0 => Pid::from_raw(pid)
            .map(Side::Parent)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process on the spot, without a destructor.
pub(in crate::process) fn exit(code: c_int) -> ! {
    // SAFETY: always sound; it runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// Puts every signal back to what a fresh process does on it.
///
/// The bare call instead of `libc::signal`: that one leaves out the two signals that the C library
/// keeps for itself, and whoever started the agent may have had them ignored.
pub(in crate::process) fn reset_signals() {
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel's `sigaction` has at most 32 bytes; all clear it says `SIG_DFL`, no
        // flags and an empty mask of 8 bytes. Signals that cannot be set are left as they are.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Blocks every signal, or none.
pub(in crate::process) fn block_signals(block: bool) -> io::Result<()> {
    let set = signal_set(|set| {
        // SAFETY: `set` is a valid place for a signal set.
        unsafe {
            if block {
                libc::sigfillset(set)
            } else {
                libc::sigemptyset(set)
            }
        };
    });
    // SAFETY: `set` is initialised, and the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) })
}

/// A descriptor that is readable when a child has ended. The signal must be blocked.
pub(in crate::process) fn child_signal() -> io::Result<OwnedFd> {
    let set = signal_set(|set| {
        // SAFETY: `set` is a valid place for a signal set, and the number is a signal's.
        unsafe {
            libc::sigemptyset(set);
            libc::sigaddset(set, libc::SIGCHLD);
        }
    });
    // SAFETY: `set` is initialised.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd)?;
    // SAFETY: the descriptor is fresh, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn signal_set(fill: impl FnOnce(*mut libc::sigset_t)) -> libc::sigset_t {
    // SAFETY: all bits clear is a valid, empty set on Linux.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    fill(&raw mut set);
    set
}

/// Gives this process a mount namespace of its own.
pub(in crate::process) fn own_mounts() -> io::Result<()> {
    // SAFETY: no memory and no descriptor is unshared.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Enters a Landlock domain. `no_new_privs` must be set.
pub(in crate::process) fn restrict_by(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: takes a descriptor and flags, and no memory.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    check(c_int::try_from(result).unwrap_or(-1))
}

/// Has the kernel close every descriptor from 3 up when the program starts.
pub(in crate::process) fn close_on_exec_from_3() -> io::Result<()> {
    match close_range(3, c_int::MAX, CLOSE_RANGE_CLOEXEC) {
        Err(error) if too_old(&error) => each_descriptor(|fd| {
            if fd > 2 {
                // SAFETY: a flag on a number; nothing becomes invalid before the program starts.
                unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
        }),
        result => result,
    }
}

/// Closes every descriptor but these, which nobody in this process may own.
pub(in crate::process) fn close_all_but<const N: usize>(
    keep: [Option<&OwnedFd>; N],
) -> io::Result<()> {
    let mut numbers = keep.map(|fd| fd.map_or(-1, AsRawFd::as_raw_fd));
    numbers.sort_unstable();
    let mut from = 0;
    for kept in numbers
        .into_iter()
        .filter(|fd| *fd >= 0)
        .chain([c_int::MAX])
    {
        if kept > from {
            match close_range(from, kept - 1, 0) {
                Err(error) if too_old(&error) => {
                    return each_descriptor(|fd| {
                        if !numbers.contains(&fd) {
                            // SAFETY: as in `close_range`.
                            unsafe { libc::close(fd) };
                        }
                    });
                }
                result => result?,
            }
        }
        from = kept.saturating_add(1);
    }
    Ok(())
}

fn close_range(first: RawFd, last: RawFd, flags: c_int) -> io::Result<()> {
    // SAFETY: closing makes descriptors invalid that values of this process own. The callers are
    // forked copies that never run the destructors of those values.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    check(c_int::try_from(result).unwrap_or(-1))
}

/// `close_range` came with Linux 5.9, its flag with 5.11.
fn too_old(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL))
}

/// What older kernels have instead of `close_range`.
fn each_descriptor(visit: impl Fn(c_int)) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = std::str::from_utf8(entry.file_name().to_bytes()).unwrap_or_default();
        if let Ok(fd) = name.parse()
            && fd != dir.as_raw_fd()
        {
            visit(fd);
        }
    }
    Ok(())
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

const CLOSE_RANGE_CLOEXEC: c_int = 4;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
