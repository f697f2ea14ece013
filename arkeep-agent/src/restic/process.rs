//! One process, from its start to its last child's end.
//!
//! The run ends in one of four ways, and in each of them nothing that was started is left: it
//! exits, it is told to stop, it is overdue, or the future that watches it is dropped.

use std::ffi::OsString;
use std::fs;
use std::future::pending;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use arkeep_core::engine::Observer;
use arkeep_core::{ExposeSecret, SecretSlice};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::ledger::{Entered, Ledger};
use super::lines::Lines;
use super::session::Session;
use crate::sys::{Leash, Spawner};

/// What is to be run.
#[derive(Debug)]
pub(super) struct Order<'a> {
    /// A link to the program's open file, so that the process is called by the link's name.
    pub(super) program: &'a Path,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(&'static str, OsString)>,
    pub(super) leash: Leash,
    pub(super) patience: Patience,
    /// Between being told to stop and being killed.
    pub(super) grace: Duration,
    /// Where a run that may leave a lock is noted, and for which repository.
    pub(super) entry: Option<(Ledger, String)>,
}

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// From start to end.
    Whole(Duration),
    /// Without news: a run that goes on may go on for days.
    Silence(Duration),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Exited(i32),
    Killed(i32),
    Cancelled,
    Overdue(Duration),
}

/// Listens to a process.
pub(super) trait Ears: Send {
    /// A line of standard output. Answers whether it is news: a sign that the run moves on.
    fn out(&mut self, line: &str) -> bool;
    /// A line of standard error. It is never news: a back-end that is away makes restic talk.
    fn err(&mut self, line: &str);
}

/// A pipe that is filled for the process to read under a name of its own.
#[derive(Debug)]
pub(super) struct Feed {
    reader: OwnedFd,
}

impl Feed {
    /// Makes a pipe and fills it in the background, however little fits into it at a time.
    pub(super) fn new(content: SecretSlice<u8>) -> io::Result<Self> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let mut writer = tokio::net::unix::pipe::Sender::from_owned_fd(writer)?;
        tokio::spawn(async move {
            // A reader that goes away early has its reasons and tells them elsewhere.
            let _ = writer.write_all(content.expose_secret()).await;
        });
        Ok(Self { reader })
    }

    /// Where the process finds it.
    pub(super) fn path(&self) -> String {
        format!("/dev/fd/{}", self.reader.as_raw_fd())
    }

    pub(super) fn into_reader(self) -> OwnedFd {
        self.reader
    }
}

/// Runs a process to its end. With `stream`, standard output goes there instead of to `ears`.
pub(super) async fn run(
    spawner: &Spawner,
    order: Order<'_>,
    observer: &dyn Observer,
    ears: &mut dyn Ears,
    stream: Option<mpsc::Sender<Vec<u8>>>,
) -> io::Result<Ending> {
    let mut command = command(order.program);
    command
        .args(order.args)
        .env_clear()
        .envs(order.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = spawner.start(command, order.leash).await?;
    let mut running = Running::new(child)?;
    running.entered = note(order.entry, running.pid).await;
    let ending = running
        .watch(order.patience, order.grace, observer, ears, stream)
        .await?;
    running.session.end().await;
    running.ended = true;
    Ok(ending)
}

/// Without its entry a run goes on; the lock that it may leave is taken for another one's.
async fn note(entry: Option<(Ledger, String)>, pid: Pid) -> Option<Entered> {
    let (ledger, place) = entry?;
    let process = pid.as_raw_nonzero().get().unsigned_abs();
    let entered = tokio::task::spawn_blocking(move || ledger.enter(process, place));
    match entered.await.ok()? {
        Ok(entered) => Some(entered),
        Err(error) => {
            tracing::warn!(%error, "a run of restic was not noted");
            None
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this crate that starts processes, with an empty environment"
)]
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0("restic");
    command
}

/// A process and all that it started, killed when this is dropped.
#[derive(Debug)]
struct Running {
    child: Child,
    pid: Pid,
    session: Session,
    traffic: u64,
    ended: bool,
    entered: Option<Entered>,
}

impl Running {
    fn new(child: Child) -> io::Result<Self> {
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| io::Error::other("a process without a number"))?;
        Ok(Self {
            child,
            pid,
            session: Session::of(pid),
            traffic: 0,
            ended: false,
            entered: None,
        })
    }

    async fn watch(
        &mut self,
        patience: Patience,
        grace: Duration,
        observer: &dyn Observer,
        ears: &mut dyn Ears,
        mut stream: Option<mpsc::Sender<Vec<u8>>>,
    ) -> io::Result<Ending> {
        let mut out = Pipe::new(self.child.stdout.take());
        let mut err = Pipe::new(self.child.stderr.take());
        let mut cancelled = observer.cancelled();
        let mut status: Option<ExitStatus> = None;
        let mut stopped: Option<Ending> = None;
        let mut killed = false;
        let mut deadline = Instant::now() + patience.limit();

        while status.is_none() || out.is_open() || err.is_open() {
            tokio::select! {
                () = &mut cancelled, if stopped.is_none() && status.is_none() => {
                    stopped = Some(Ending::Cancelled);
                    deadline = Instant::now() + grace;
                    self.interrupt();
                }
                () = sleep_until(deadline) => {
                    if status.is_some() || killed {
                        // Whoever still holds the pipes is killed with the session.
                        break;
                    }
                    if stopped.is_none() && patience.is_renewed() && self.has_moved_on() {
                        deadline = Instant::now() + patience.limit();
                    } else if stopped.is_none() {
                        stopped = Some(Ending::Overdue(patience.limit()));
                        deadline = Instant::now() + grace;
                        self.interrupt();
                    } else {
                        killed = true;
                        deadline = Instant::now() + LAST_WORDS;
                        let _ = self.child.start_kill();
                        self.session.kill();
                    }
                }
                chunk = out.read() => {
                    let mut news = false;
                    match (&mut stream, chunk) {
                        (Some(stream), Some(chunk)) => {
                            news = true;
                            // A reader that has heard enough is gone; the rest is nobody's.
                            let _ = stream.send(chunk).await;
                        }
                        (Some(_), None) => stream = None,
                        (None, chunk) => out.lines(chunk, |line| news |= ears.out(line)),
                    }
                    if news && stopped.is_none() && status.is_none() && patience.is_renewed() {
                        deadline = Instant::now() + patience.limit();
                    }
                }
                chunk = err.read() => err.lines(chunk, |line| ears.err(line)),
                ended = self.child.wait(), if status.is_none() => {
                    status = Some(ended?);
                    deadline = Instant::now() + LAST_WORDS;
                }
            }
        }
        let status = match (status, stopped) {
            (Some(status), _) => status,
            // The kernel holds it until a file system answers. It is as good as gone.
            (None, Some(stopped)) => return Ok(stopped),
            (None, None) => self.child.wait().await?,
        };
        Ok(match (stopped, status.code(), status.signal()) {
            (Some(stopped), _, _) => stopped,
            (None, Some(code), _) => Ending::Exited(code),
            (None, None, signal) => Ending::Killed(signal.unwrap_or(0)),
        })
    }

    /// Whether it has read and written more than talk since it was last asked: not every version
    /// and command says how far it has come.
    fn has_moved_on(&mut self) -> bool {
        let traffic = traffic(self.pid).unwrap_or(self.traffic);
        let moved = traffic.saturating_sub(self.traffic) > TALK;
        self.traffic = traffic;
        moved
    }

    /// Asks restic itself to end; it ends what it started.
    fn interrupt(&self) {
        let _ = rustix::process::kill_process(self.pid, Signal::INT);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let _ = self.child.start_kill();
        let session = self.session;
        if session.kill() > 0
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(session.end());
        }
    }
}

/// Bytes that a process has read and written, through files, pipes and sockets (proc_pid_io(5)).
fn traffic(pid: Pid) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{}/io", pid.as_raw_nonzero())).ok()?;
    io.lines()
        .filter_map(|line| {
            let (name, count) = line.split_once(": ")?;
            matches!(name, "rchar" | "wchar").then(|| count.parse::<u64>().ok())?
        })
        .reduce(u64::saturating_add)
}

impl Patience {
    const fn limit(self) -> Duration {
        match self {
            Self::Whole(limit) | Self::Silence(limit) => limit,
        }
    }

    const fn is_renewed(self) -> bool {
        matches!(self, Self::Silence(_))
    }
}

/// One end of a pipe, and the line that is being read from it.
#[derive(Debug)]
struct Pipe<R> {
    source: Option<R>,
    buffer: Vec<u8>,
    lines: Lines,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(source: Option<R>) -> Self {
        Self {
            source,
            buffer: Vec::with_capacity(CHUNK),
            lines: Lines::default(),
        }
    }

    const fn is_open(&self) -> bool {
        self.source.is_some()
    }

    /// The next bytes; `None` at the end, once. Loses nothing when it is dropped.
    async fn read(&mut self) -> Option<Vec<u8>> {
        let Some(source) = &mut self.source else {
            return pending().await;
        };
        self.buffer.clear();
        match source.read_buf(&mut self.buffer).await {
            Ok(read) if read > 0 => Some(std::mem::replace(
                &mut self.buffer,
                Vec::with_capacity(CHUNK),
            )),
            _ => {
                self.source = None;
                None
            }
        }
    }

    fn lines(&mut self, chunk: Option<Vec<u8>>, each: impl FnMut(&str)) {
        match chunk {
            Some(chunk) => self.lines.take(&chunk, each),
            None => self.lines.finish(each),
        }
    }
}

const CHUNK: usize = 16 * 1024;

/// More than restic says of a back-end that is away in any time that it is waited for.
const TALK: u64 = 1 << 20;

/// For reading what a process that has ended left in its pipes.
const LAST_WORDS: Duration = Duration::from_secs(2);
