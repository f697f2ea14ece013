//! Running a hook where there is no Linux: with what every Unix has.
//!
//! A session of its own, limits, an empty environment, no descriptors, another user, a deadline.
//! There is no cage, and what leaves the hook's process group is not found again. Each report says
//! so, and where a sandbox is required, no hook runs.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, kill_process_group, waitid};

use super::clock::now;
use super::completion::Sender;
use super::intake::Intake;
use super::kernel::{self, Plain};
use super::{Settings, given};
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
    let report = Running::start(settings, hook, context)
        .map(|mut running| running.watch(hook.spec().timeout(), cancelled));
    sender.send(report);
}

/// What these systems do not give, one line each.
fn lacking(settings: &Settings) -> Vec<String> {
    let mut lacking = vec![
        "a cage: a hook reaches every file and every process that its user can, the agent's own \
         among them unless it runs as another user",
        "a filter of system calls, and no_new_privs",
        "an end for what leaves the hook's process group: it lives on",
        "an end for hooks when the agent is killed",
    ];
    if !settings.hidden.is_empty() {
        lacking.push("hiding: the agent's own files are as open to a hook as their mode says");
    }
    if settings.cgroup && settings.account.is_none() && geteuid().is_root() {
        lacking.push("a bound on the number of processes of root");
    }
    let said = |what| format!("not on this machine: {what}");
    lacking.into_iter().map(said).collect()
}

struct Running {
    child: Child,
    group: Pid,
    /// Readable when the hook's first process has ended.
    ended: OwnedFd,
    intake: Intake,
    started: Duration,
    notes: Vec<String>,
}

impl Running {
    fn start(
        settings: &Settings,
        hook: &ApprovedHook,
        context: &HookContext,
    ) -> Result<Self, RunError> {
        let notes = lacking(settings);
        if let (true, Some(lacking)) = (settings.require_sandbox, notes.first()) {
            return Err(RunError::Sandbox(lacking.clone()));
        }
        let exec = given::vectors(settings, hook, context).map_err(RunError::System)?;
        let (intake, output) = io::pipe().map_err(RunError::System)?;
        let intake = Intake::new(intake.into(), &context.secrets).map_err(RunError::System)?;
        let (ended, ends) = io::pipe().map_err(RunError::System)?;
        let plain = Plain {
            exec,
            account: settings.account.clone(),
            processes: settings.limits.processes,
            open_files: settings.limits.open_files,
        };
        let started = now();
        let mut child = kernel::start(plain, output.into()).map_err(RunError::Start)?;
        // A new session is a new process group, named for its leader.
        let group = Pid::from_child(&child);
        let waiting = std::thread::Builder::new()
            .name("hook-wait".to_owned())
            .spawn(move || {
                // It is left to be collected: as long as it is not, its number is nobody else's.
                let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                let _ = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(group), how));
                drop(ends);
            });
        if let Err(error) = waiting {
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
            return Err(RunError::System(error));
        }
        Ok(Self {
            child,
            group,
            ended: ended.into(),
            intake,
            started,
            notes,
        })
    }

    fn watch(&mut self, timeout: Duration, cancelled: &OwnedFd) -> HookReport {
        let mut deadline = self.started + timeout;
        let mut ordered = None;
        let mut open = true;
        let ended = loop {
            let left = deadline.saturating_sub(now());
            if left.is_zero() {
                if ordered.is_some() {
                    break false;
                }
                ordered = Some(HookState::TimedOut);
                deadline = self.end();
                continue;
            }
            let wait = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let none = PollFlags::empty();
            let mut ends = [
                PollFd::new(&self.ended, PollFlags::IN),
                PollFd::new(cancelled, PollFlags::IN),
                PollFd::new(&self.intake, PollFlags::IN),
            ];
            // A closed end is always ready, so it is taken out once it has been seen.
            let (watched, _) = match (open, ordered) {
                (true, None) => ends.split_at_mut(3),
                (false, None) => ends.split_at_mut(2),
                (_, Some(_)) => ends.split_at_mut(1),
            };
            let _ = poll(watched, Some(&wait));
            let [ended, cancel, output] = ends.map(|end| end.revents());
            if output != none {
                open = self.intake.take();
            }
            if ended != none {
                break true;
            }
            if cancel != none && ordered.is_none() {
                ordered = Some(HookState::Cancelled);
                deadline = self.end();
            }
        };
        self.conclude(ended, ordered)
    }

    /// Kills the hook's process group; returns how long to wait for its first process.
    fn end(&self) -> Duration {
        let _ = kill_process_group(self.group, Signal::KILL);
        now() + GRACE
    }

    fn conclude(&mut self, ended: bool, ordered: Option<HookState>) -> HookReport {
        let mut status = None;
        if ended {
            // What the first process left behind, before its number is free again.
            self.end();
            status = self.child.wait().ok();
        } else {
            self.notes
                .push("some processes of the hook could not be killed".to_owned());
        }
        let killed = status.is_none_or(|status| status.signal() == Some(Signal::KILL.as_raw()));
        let state = match (ordered, status) {
            (Some(ordered), _) if killed => ordered,
            (_, Some(status)) if status.success() => HookState::Succeeded,
            _ => HookState::Failed,
        };
        HookReport {
            state,
            exit_code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            output: self.intake.finish(),
            elapsed: now().saturating_sub(self.started),
            layers: vec![SESSION, LIMITS],
            notes: std::mem::take(&mut self.notes),
        }
    }
}

const GRACE: Duration = Duration::from_secs(5);
const SESSION: &str = "session";
const LIMITS: &str = "limits on processes and descriptors";

#[cfg(test)]
mod tests {
    use super::super::ProcessRunner;
    use super::super::completion::completion;
    use super::*;
    use crate::cancel::CancelSignal;
    use crate::hook::{HookSet, HookSpec, Phase, RawHook};
    use crate::policy::{Any, HookPolicy as _, Review};
    use crate::redact::Secrets;

    fn run(argv: &[&str], timeout: u64, runner: &ProcessRunner) -> Result<HookReport, RunError> {
        let spec = HookSpec::check(RawHook {
            name: "hook".to_owned(),
            exec: Some(argv.iter().map(|arg| (*arg).to_owned()).collect()),
            shell: None,
            timeout,
            signature: None,
        })
        .unwrap();
        let at = Review {
            agent: "a",
            policy: "p",
            phase: Phase::Before,
            hooks: &HookSet::default(),
            now_unix_millis: 0,
        };
        let context = HookContext {
            policy: "p".to_owned(),
            job: "j".to_owned(),
            phase: Phase::Before,
            state: "running".to_owned(),
            attempt: 1,
            secrets: Secrets::new(["hunter2!"]),
            cancel: CancelSignal::new(),
        };
        let hook = Any.review(&spec, &at).unwrap();
        let (cancelled, _not_cancelled) = io::pipe().unwrap();
        let (sender, receiver) = completion();
        supervise(&runner.shared, &hook, &context, &cancelled.into(), sender);
        receiver.now().unwrap()
    }

    fn script(text: &str, timeout: u64) -> HookReport {
        run(&["/bin/sh", "-c", text], timeout, &ProcessRunner::new()).unwrap()
    }

    /// H7
    #[test]
    fn gives_a_hook_what_it_gets_elsewhere() {
        let report = script(
            "env | cut -d= -f1 | sort; cat; ls /proc/self/fd; umask; pwd",
            10,
        );

        let lines: Vec<_> = report.output.lines().collect();
        let names = "BACKUP_ATTEMPT BACKUP_JOB BACKUP_PHASE BACKUP_POLICY BACKUP_STATE HOME LANG \
                     PATH PWD";
        assert_eq!(lines[..9].join(" "), names);
        // 3 is the directory that `ls` itself reads.
        assert_eq!(lines[9..], ["0", "1", "2", "3", "0077", "/"]);
    }

    /// H7
    #[test]
    fn keeps_a_session_and_limits_of_its_own() {
        let report = script(
            "echo $$; cut -d' ' -f6 /proc/$$/stat; ulimit -c; ulimit -n",
            10,
        );

        let lines: Vec<_> = report.output.lines().collect();
        assert_eq!(lines[0], lines[1]);
        assert_eq!(lines[2..], ["0", "1024"]);
    }

    /// H8
    #[test]
    fn ends_the_process_group_at_the_timeout() {
        let report = script("sleep 1000 & echo $!; wait", 1);

        assert_eq!(report.state, HookState::TimedOut);
        assert!(report.elapsed < Duration::from_secs(1 + 6));
        let pid: i32 = report.output.trim().parse().unwrap();
        // Its parent is gone as well, so it may be waiting to be collected by somebody else.
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(status.is_empty() || status.contains(") Z "), "{status}");
    }

    /// H8
    #[test]
    fn does_not_wait_for_a_pipe_that_somebody_holds_open() {
        let report = script("(sleep 1000 &) ; echo done", 100);

        assert_eq!(report.state, HookState::Succeeded);
        assert_eq!(report.output, "done\n");
        assert!(report.elapsed < Duration::from_secs(6));
    }

    /// H9, H10
    #[test]
    fn reports_how_it_ended_without_secrets() {
        let bad = script("echo hunter2!; exit 7", 10);
        let shot = script("kill -9 $$", 10);

        assert_eq!((bad.state, bad.exit_code), (HookState::Failed, Some(7)));
        assert_eq!(bad.output, "[REDACTED]\n");
        assert_eq!((shot.state, shot.signal), (HookState::Failed, Some(9)));
        let missing = run(&["/nonexistent"], 10, &ProcessRunner::new());
        assert!(matches!(missing, Err(RunError::Start(_))), "{missing:?}");
    }

    /// H7: said aloud in each report, and a refusal where the owner wants one.
    #[test]
    fn says_what_it_cannot_give() {
        let report = script("true", 10);
        let required = ProcessRunner::new().require_sandbox(true);
        let refused = run(&["/bin/true"], 10, &required);

        for what in [
            "a cage",
            "system calls",
            "process group",
            "when the agent is killed",
        ] {
            let says = |note: &String| note.contains(what);
            assert!(report.notes.iter().any(says), "{what}: {:?}", report.notes);
        }
        assert!(matches!(refused, Err(RunError::Sandbox(_))), "{refused:?}");
    }
}
