//! A hook's output, taken from its pipe.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::output::Capture;
use crate::redact::Secrets;

/// The reading end, which never makes its reader wait.
pub(super) struct Intake {
    pipe: File,
    capture: Capture,
}

impl Intake {
    pub(super) fn new(pipe: OwnedFd, secrets: &Secrets) -> io::Result<Self> {
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok(Self {
            pipe: pipe.into(),
            capture: Capture::new(secrets),
        })
    }

    /// Takes one helping, so that a hook that never stops writing cannot keep us from the clock.
    /// Says whether there may be more.
    pub(super) fn take(&mut self) -> bool {
        let mut buffer = [0; HELPING];
        match self.pipe.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.capture.push(buffer.get(..length).unwrap_or_default());
                true
            }
            Err(error) => {
                matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                )
            }
        }
    }

    /// What is kept, with what the dead left in the pipe; not to its end, which a survivor could
    /// hold open.
    pub(super) fn finish(&mut self) -> String {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        for _ in 0..LAST_HELPINGS {
            let mut end = [PollFd::new(&self.pipe, PollFlags::IN)];
            let ready = poll(&mut end, Some(&at_once));
            if !ready.is_ok_and(|ready| ready > 0) || !self.take() {
                break;
            }
        }
        std::mem::replace(&mut self.capture, Capture::new(&Secrets::default())).finish()
    }
}

impl AsFd for Intake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

const HELPING: usize = 64 * 1024;
/// A pipe holds 64 KiB, or 1 MiB when the hook enlarged it.
const LAST_HELPINGS: usize = 17;
