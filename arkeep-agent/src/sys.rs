//! What the kernel offers and no safe interface reaches: the one module with `unsafe`.
//!
//! A child needs things done between `fork` and `exec`: a session of its own, the wish to die with
//! its parent, and no descriptor but those it was given. [`Spawner`] does them.

#![expect(
    unsafe_code,
    reason = "what happens between fork and exec has no safe interface"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Starts children that do not outlive this process.
///
/// The kernel ties a death signal to the *thread* that forked (prctl(2), `PR_SET_PDEATHSIG`), and
/// the threads of an async runtime come and go. All children are therefore started on one thread,
/// which ends with the spawner: whoever drops it loses its children too.
///
/// The kernel forgets the wish when it executes a program that is set-user-ID or has file
/// capabilities. Such a child ends at its next write to a closed pipe instead.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

/// What a child is started with, beside its program, arguments and environment.
#[derive(Debug, Default)]
pub(crate) struct Leash {
    /// Descriptors it inherits, under the same numbers. It inherits no other but 0, 1 and 2.
    pub(crate) keep: Vec<OwnedFd>,
    /// Rules of Landlock that it lives under.
    pub(crate) rules: Option<OwnedFd>,
    /// Gives way to every other user of the disks and the processors.
    pub(crate) give_way: bool,
}

#[derive(Debug)]
struct Request {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<(io::Result<Child>, Command)>,
}

impl Spawner {
    /// Starts the thread.
    pub(crate) fn new() -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::Builder::new()
            .name("arkeep-spawn".to_owned())
            .spawn(move || {
                while let Ok(mut request) = inbox.recv() {
                    let started = {
                        let _runtime = request.runtime.enter();
                        request.command.spawn()
                    };
                    // A caller that has gone gets the child back as an error and drops it, which
                    // kills it.
                    drop(request.answer.send((started, request.command)));
                }
            })?;
        Ok(Self { requests })
    }

    /// Starts `command` as the leader of a new session, killed when this process dies.
    pub(crate) async fn start(&self, mut command: Command, leash: Leash) -> io::Result<Child> {
        command.kill_on_drop(true);
        let parent = rustix::process::getpid();
        // SAFETY: the closure runs in the child of a process with threads, where only
        // async-signal-safe calls are allowed. It allocates nothing and takes no lock; each call
        // in it is one system call.
        unsafe {
            command.pre_exec(move || leash.put_on(parent));
        }
        let mut tries = 0;
        loop {
            let (started, again) = self.try_start(command).await?;
            match started {
                // Somewhere in this process a fork is on its way to its exec and still holds the
                // descriptor through which the program was written.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < 100 => {
                    tries += 1;
                    command = again;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                // With the command go the descriptors that the child was given, so that a pipe
                // whose reader has died is seen to be broken.
                started => return started,
            }
        }
    }

    async fn try_start(&self, command: Command) -> io::Result<(io::Result<Child>, Command)> {
        let ended = || io::Error::other("the thread that starts processes has ended");
        let (answer, outcome) = oneshot::channel();
        let request = Request {
            command,
            runtime: Handle::current(),
            answer,
        };
        self.requests.send(request).map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())
    }
}

impl Leash {
    fn put_on(&self, parent: Pid) -> io::Result<()> {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the wish was heard.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(rules) = &self.rules {
            rustix::thread::set_no_new_privs(true)?;
            restrict_self(rules)?;
        }
        close_on_exec_from(3);
        for descriptor in &self.keep {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        if self.give_way {
            give_way();
        }
        Ok(())
    }
}

/// Marks every descriptor from `first` on to be closed at exec. Whatever Rust opens is marked
/// already; this is for what a C library opened. Kernels before 5.11 cannot do it.
fn close_on_exec_from(first: u32) {
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC takes three integers, touches no memory and
    // closes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// Puts this process under rules, for good.
fn restrict_self(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: landlock_restrict_self(2) takes two integers and touches no memory.
    let restricted =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) };
    match restricted {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Nice 10, and the idle class of the disks. Neither can fail for one's own process; where the
/// disks' scheduler knows no classes, the kernel takes no notice.
fn give_way() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_IDLE: libc::c_int = 3;
    const IOPRIO_CLASS_SHIFT: libc::c_int = 13;
    // SAFETY: ioprio_set(2) takes three integers and touches no memory.
    unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            IOPRIO_WHO_PROCESS,
            0,
            IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT,
        );
    }
    let _ = rustix::process::nice(10);
}
