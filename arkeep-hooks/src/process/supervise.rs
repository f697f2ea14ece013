//! The agent's side of a running hook: its output, its time, its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::geteuid;

use super::Settings;
use super::clock::now;
use super::completion::Sender;
use super::group::Group;
use super::intake::Intake;
use super::kernel;
use super::launch::Launch;
use super::record::{Record, Step};
use super::sandbox::Sandbox;
use crate::policy::ApprovedHook;
use crate::run::{HookContext, HookReport, HookState, RunError};

/// Runs one hook from beginning to end, on a thread that may block.
pub(super) fn supervise(
    settings: &Settings,
    hook: &ApprovedHook,
    context: &HookContext,
    cancelled: &OwnedFd,
    sender: Sender<Result<HookReport, RunError>>,
) {
    match Running::start(settings, hook, context) {
        Err(error) => sender.send(Err(error)),
        Ok(mut running) => {
            let report = running.watch(hook.spec().timeout(), cancelled);
            sender.send(Ok(report));
            // After the answer: a warden in the middle of a system call that does not end must
            // not hold the job up.
            let _ = running.warden.wait();
            if let Some(group) = running.group {
                group.remove();
            }
        }
    }
}

struct Running {
    warden: Child,
    group: Option<Group>,
    lifeline: Option<OwnedFd>,
    status: OwnedFd,
    output: Intake,
    started: Duration,
    layers: Vec<&'static str>,
    notes: Vec<String>,
}

impl Running {
    fn start(
        settings: &Settings,
        hook: &ApprovedHook,
        context: &HookContext,
    ) -> Result<Self, RunError> {
        let mut notes = Vec::new();
        let group = if settings.cgroup {
            Group::create(settings.limits.processes)
        } else {
            Err(io::Error::other("switched off"))
        };
        let group = group
            .inspect_err(|error| {
                notes.push(format!(
                    "not on this machine: cgroup ({error}); what the hook leaves behind is found \
                     by a walk through /proc"
                ));
            })
            .ok();
        let by_user = settings.account.is_some() || !geteuid().is_root();
        let bounded = by_user || group.as_ref().is_some_and(Group::is_bounded);
        if !bounded {
            notes.push("not on this machine: a bound on the number of processes".to_owned());
        }
        let sandbox = Sandbox::prepare(&settings.hidden, settings.require_sandbox);
        notes.extend(
            sandbox
                .lacking
                .iter()
                .map(|what| format!("not on this machine: {what}")),
        );
        let mut layers: Vec<_> = [(group.is_some(), CGROUP), (bounded, BOUND)]
            .into_iter()
            .filter_map(|(ready, layer)| ready.then_some(layer))
            .collect();
        layers.extend(sandbox.layers());
        if let (true, Some(lacking)) = (settings.require_sandbox, notes.first()) {
            if let Some(group) = &group {
                group.remove();
            }
            return Err(RunError::Sandbox(lacking.clone()));
        }
        let started = now();
        let spawned = spawn(settings, hook, context, group.as_ref(), sandbox);
        match spawned {
            Ok((warden, lifeline, status, output)) => Ok(Self {
                warden,
                group,
                lifeline: Some(lifeline),
                status,
                output,
                started,
                layers,
                notes,
            }),
            Err(error) => {
                if let Some(group) = group {
                    group.remove();
                }
                Err(error)
            }
        }
    }

    fn watch(&mut self, timeout: Duration, cancelled: &OwnedFd) -> HookReport {
        let mut deadline = self.started + timeout;
        let mut ordered = None;
        let mut open = true;
        let ended = loop {
            let left = deadline.saturating_sub(now());
            if left.is_zero() {
                if ordered.is_some() {
                    self.notes
                        .push("the hook's warden did not answer and was killed".to_owned());
                    break None;
                }
                ordered = Some(HookState::TimedOut);
                deadline = self.order_end();
                continue;
            }
            let wait = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let none = PollFlags::empty();
            let mut ends = [
                PollFd::new(&self.status, PollFlags::IN),
                PollFd::new(cancelled, PollFlags::IN),
                PollFd::new(&self.output, PollFlags::IN),
            ];
            // A closed end is always ready, so it is taken out once it has been seen.
            let (watched, _) = match (open, ordered) {
                (true, None) => ends.split_at_mut(3),
                (false, None) => ends.split_at_mut(2),
                (_, Some(_)) => ends.split_at_mut(1),
            };
            let _ = poll(watched, Some(&wait));
            let [status, cancel, output] = ends.map(|end| end.revents());
            if ordered.is_some() || output != none {
                open = self.output.take();
            }
            if cancel != none && ordered.is_none() {
                ordered = Some(HookState::Cancelled);
                deadline = self.order_end();
            }
            if status != none
                && let Some(ended) = self.read_status()
            {
                break ended;
            }
        };
        self.conclude(ended, ordered)
    }

    /// Tells the warden to kill everything; returns how long to wait for it.
    ///
    /// The warden alone kills, as long as it lives: it knows whether the hook ended before that.
    fn order_end(&mut self) -> Duration {
        self.lifeline = None;
        now() + GRACE
    }

    /// The last record, once it is there; `Some(None)` when the warden is gone without one.
    fn read_status(&mut self) -> Option<Option<Record>> {
        match read_record(&self.status) {
            Ok(Some(Record::Lacking(layer))) => {
                self.notes
                    .push(format!("not on this machine: {}", layer.lack()));
                self.layers.retain(|name| *name != layer.name());
                None
            }
            Ok(record) => Some(record),
            Err(_) => None,
        }
    }

    fn conclude(&mut self, ended: Option<Record>, ordered: Option<HookState>) -> HookReport {
        let output = self.output.finish();
        let mut status = None;
        let mut state = ordered.unwrap_or(HookState::Failed);
        if let Some(Record::Ended {
            status: raw,
            by_itself,
            leftovers,
            survivors,
        }) = ended
        {
            let exit = ExitStatus::from_raw(raw);
            if by_itself {
                state = if exit.success() {
                    HookState::Succeeded
                } else {
                    HookState::Failed
                };
            }
            status = Some(exit);
            if leftovers {
                self.notes
                    .push("processes that the hook left behind were killed".to_owned());
            }
            if survivors {
                self.notes
                    .push("some processes of the hook could not be killed".to_owned());
            }
        } else {
            // The warden was killed, by the hook or by the clock: what it guarded goes with it.
            if let Some(group) = &self.group {
                group.kill();
            }
            let _ = self.warden.kill();
            self.notes.push("the hook's warden ended early".to_owned());
        }
        HookReport {
            state,
            exit_code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            output,
            elapsed: now().saturating_sub(self.started),
            layers: std::mem::take(&mut self.layers),
            notes: std::mem::take(&mut self.notes),
        }
    }
}

type Ends = (Child, OwnedFd, OwnedFd, Intake);

fn spawn(
    settings: &Settings,
    hook: &ApprovedHook,
    context: &HookContext,
    group: Option<&Group>,
    sandbox: Sandbox,
) -> Result<Ends, RunError> {
    let (lifeline, our_lifeline) = kernel::pipe().map_err(RunError::System)?;
    let (our_status, status) = kernel::pipe().map_err(RunError::System)?;
    let (our_output, output) = kernel::pipe().map_err(RunError::System)?;
    fcntl_setfl(&our_status, OFlags::NONBLOCK).map_err(|error| RunError::System(error.into()))?;
    let intake = Intake::new(our_output, &context.secrets).map_err(RunError::System)?;
    let launch = Launch::prepare(settings, hook, context, group, sandbox, (lifeline, status))
        .map_err(RunError::System)?;
    match kernel::spawn(launch, output) {
        Ok(warden) => Ok((warden, our_lifeline, our_status, intake)),
        Err(error) => Err(refused(&our_status, error)),
    }
}

/// The error of a hook that did not start, by the step that failed.
fn refused(status: &OwnedFd, error: io::Error) -> RunError {
    let mut lacking = None;
    while let Ok(Some(record)) = read_record(status) {
        match record {
            Record::Lacking(layer) => lacking = Some(layer.lack()),
            Record::Failed(Step::Exec) => return RunError::Start(error),
            Record::Failed(Step::User) => return RunError::User(error.to_string()),
            Record::Failed(Step::Sandbox) => {
                return RunError::Sandbox(lacking.unwrap_or("a layer").to_owned());
            }
            Record::Failed(Step::Group | Step::Session | Step::Limits | Step::Descriptors)
            | Record::Ended { .. } => break,
        }
    }
    RunError::System(error)
}

/// The next record; nothing at the end of the pipe, and an error when it is not there yet.
fn read_record(status: &OwnedFd) -> io::Result<Option<Record>> {
    let mut record = [0; Record::LEN];
    let length = rustix::io::read(status, &mut record)?;
    Ok(if length == Record::LEN {
        Record::decode(record)
    } else {
        None
    })
}

const GRACE: Duration = Duration::from_secs(5);
const CGROUP: &str = "cgroup";
const BOUND: &str = "bound on processes";
