use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::AgentId;
use arkeep_core::job::{
    Assignment, DestinationWork, HookResult, HookState, LogLevel, LogSource, Work,
};
use arkeep_core::policy::{Hook, HookPhase, Hooks};
use arkeep_core::repository::{Credentials, SftpCredentials};
use arkeep_core::secret::ExposeSecret;
use arkeep_hooks::{
    ApprovedHook, CancelSignal, HookContext, HookPolicy, HookRunner, HookSet, Phase, RawHook,
    RawHookSet, Review, Secrets,
};

use super::run::Run;
use crate::failpoint;

/// What stands between a hook that the server sent and this machine.
#[derive(Clone)]
pub struct HookGate {
    /// The owner's decision.
    pub policy: Arc<dyn HookPolicy>,
    /// Runs what was approved.
    pub runner: Arc<dyn HookRunner>,
    /// This agent, as its certificate names it.
    pub agent: AgentId,
    /// The file in which the owner decides, for people to find.
    pub decided_in: String,
}

impl fmt::Debug for HookGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookGate")
            .field("policy", &self.policy)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

/// The hooks of one job, judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    approved: Vec<ApprovedHook>,
    refused: Vec<HookResult>,
}

impl Judged {
    pub(super) fn is_empty(&self) -> bool {
        self.approved.is_empty() && self.refused.is_empty()
    }

    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }
}

/// Has every hook judged, also those that may never run: a job whose hooks are not all allowed is
/// not begun, so that no database is stopped that nothing would start again.
pub(super) fn judge(run: &Run<'_>, hooks: &Hooks) -> Judged {
    let gate = &run.tools.hooks;
    let agent = gate.agent.to_string();
    let policy = policy_name(run.assignment);
    let mut judged = Judged::default();
    let mut refuse = |name: &str, phase, hint: &str| {
        let now = run.now();
        let output = format!("{hint} (the agent's configuration is {})", gate.decided_in);
        run.say(
            LogLevel::Error,
            &format!("the hook \"{name}\" was refused: {output}"),
        );
        judged.refused.push(HookResult {
            name: name.to_owned(),
            phase,
            state: HookState::Refused,
            exit_code: None,
            output,
            started_at: now,
            ended_at: now,
        });
    };
    let set = match HookSet::check(raw(hooks)) {
        Ok(set) => set,
        Err(error) => {
            for fault in error.faults() {
                let hooks = phase_of(hooks, fault.phase);
                let name = hooks.get(fault.index).map_or("", |hook| &hook.name);
                refuse(name, to_core(fault.phase), fault.refusal.hint());
            }
            return judged;
        }
    };
    let mut approved = Vec::new();
    for phase in Phase::ALL {
        for spec in set.phase(phase) {
            let review = Review {
                agent: &agent,
                policy: &policy,
                phase,
                hooks: &set,
                now_unix_millis: run.now().as_unix_millis(),
            };
            match gate.policy.review(spec, &review) {
                Ok(hook) => approved.push(hook),
                Err(refusal) => refuse(spec.name(), to_core(phase), refusal.hint()),
            }
        }
    }
    judged.approved = approved;
    judged
}

/// Runs the hooks of one phase in their order. Before a backup, the first that fails is the last.
///
/// `state` is what the hooks are told of the job. Hooks that ran before the agent was interrupted
/// do not run again.
pub(super) async fn run_phase(run: &mut Run<'_>, judged: &Judged, phase: HookPhase, state: &str) {
    let of_phase =
        |result: &&HookResult| result.phase == phase && result.state != HookState::Refused;
    let ran = run.done.hooks.iter().filter(of_phase).count();
    let hooks = judged
        .approved
        .iter()
        .filter(|hook| to_core(hook.phase()) == phase);
    for hook in hooks.skip(ran) {
        let result = run_one(run, hook, state).await;
        let failed = result.state != HookState::Succeeded;
        run.keep_hook(result).await;
        if failed && phase == HookPhase::Before {
            return;
        }
    }
}

/// Puts the refusals among the results, once.
pub(super) async fn keep_refusals(run: &mut Run<'_>, judged: &Judged) {
    let known = run
        .done
        .hooks
        .iter()
        .any(|hook| hook.state == HookState::Refused);
    if !known {
        run.done.hooks.extend(judged.refused.iter().cloned());
        run.keep().await;
    }
}

async fn run_one(run: &Run<'_>, hook: &ApprovedHook, state: &str) -> HookResult {
    let cancel = CancelSignal::new();
    let context = HookContext {
        policy: policy_name(run.assignment),
        job: run.assignment.job.to_string(),
        phase: hook.phase(),
        state: state.to_owned(),
        attempt: run.assignment.attempt,
        secrets: secrets(run.assignment),
        cancel: cancel.clone(),
    };
    let name = hook.spec().name();
    let started_at = run.now();
    failpoint::hit("hook.before");
    let running = run.tools.hooks.runner.run(hook, &context);
    let report = {
        tokio::pin!(running);
        tokio::select! {
            report = &mut running => report,
            () = patience(run, hook.phase()) => {
                cancel.cancel();
                running.await
            }
        }
    };
    failpoint::hit("hook.after");
    let result = |state, exit_code, output| HookResult {
        name: name.to_owned(),
        phase: to_core(hook.phase()),
        state,
        exit_code,
        output,
        started_at,
        ended_at: run.now(),
    };
    let phase = hook.phase();
    match report {
        Ok(report) => {
            let state = match report.state {
                arkeep_hooks::HookState::Succeeded => HookState::Succeeded,
                arkeep_hooks::HookState::TimedOut => HookState::TimedOut,
                arkeep_hooks::HookState::Cancelled => HookState::Cancelled,
                _ => HookState::Failed,
            };
            let now = run.now();
            run.log
                .say(now, LogLevel::Info, LogSource::Hook, &report.output);
            for note in &report.notes {
                run.log.say(now, LogLevel::Warn, LogSource::Agent, note);
            }
            let level = match state {
                HookState::Succeeded => LogLevel::Info,
                _ => LogLevel::Error,
            };
            let word = report.state.name();
            run.say(level, &format!("{phase} hook \"{name}\": {word}"));
            result(state, report.exit_code, report.output)
        }
        Err(error) => {
            let mut text = error.to_string();
            if let Some(cause) = std::error::Error::source(&error) {
                text = format!("{text}: {cause}");
            }
            run.say(LogLevel::Error, &format!("{phase} hook \"{name}\": {text}"));
            result(HookState::Failed, None, text)
        }
    }
}

/// Resolves when a hook has to end early: one before a backup as soon as the job is to stop; one
/// that tidies up only when the agent itself must end.
async fn patience(run: &Run<'_>, phase: Phase) {
    match phase {
        Phase::Before => run.stop.asked().await,
        Phase::After | Phase::OnFailure => {
            run.stop.closing().await;
            tokio::time::sleep(TIDYING_UP).await;
        }
    }
}

fn raw(hooks: &Hooks) -> RawHookSet {
    let list = |hooks: &[Hook]| -> Vec<RawHook> {
        let raw = |hook: &Hook| RawHook {
            name: hook.name.clone(),
            exec: hook.exec.clone(),
            shell: hook.shell.clone(),
            timeout: u64::from(hook.timeout),
            signature: hook.signature.clone(),
        };
        hooks.iter().map(raw).collect()
    };
    RawHookSet {
        before: list(&hooks.before),
        after: list(&hooks.after),
        on_failure: list(&hooks.on_failure),
    }
}

fn phase_of(hooks: &Hooks, phase: Phase) -> &[Hook] {
    match phase {
        Phase::Before => &hooks.before,
        Phase::After => &hooks.after,
        Phase::OnFailure => &hooks.on_failure,
    }
}

fn to_core(phase: Phase) -> HookPhase {
    match phase {
        Phase::Before => HookPhase::Before,
        Phase::After => HookPhase::After,
        Phase::OnFailure => HookPhase::OnFailure,
    }
}

fn policy_name(assignment: &Assignment) -> String {
    assignment
        .policy
        .map_or_else(String::new, |policy| policy.to_string())
}

/// Every secret that the job came with.
fn secrets(assignment: &Assignment) -> Secrets {
    let mut found: Vec<Vec<u8>> = Vec::new();
    for destination in destinations(&assignment.work) {
        let repository = &destination.repository;
        let mut add = |secret: &arkeep_core::SecretString| {
            found.push(secret.expose_secret().as_bytes().to_owned());
        };
        add(&repository.password);
        match &repository.credentials {
            Some(Credentials::Rest(rest)) => add(&rest.password),
            Some(Credentials::S3(s3)) => {
                add(&s3.secret_access_key);
                s3.session_token.iter().for_each(add);
            }
            Some(Credentials::Sftp(
                SftpCredentials::PrivateKey(secret) | SftpCredentials::Password(secret),
            )) => add(secret),
            Some(Credentials::Rclone(rclone)) => add(&rclone.config),
            None => {}
        }
    }
    Secrets::new(found)
}

/// The destinations that a job touches.
pub(super) fn destinations(work: &Work) -> &[DestinationWork] {
    match work {
        Work::Backup(work) => &work.destinations,
        Work::Restore(work) => std::slice::from_ref(&work.destination),
        Work::Verify(work) => &work.destinations,
        Work::Forget(work) => &work.destinations,
        Work::Test(work) => std::slice::from_ref(work),
        _ => &[],
    }
}

// An agent has 30 s to end; restic may take ten of them.
const TIDYING_UP: Duration = Duration::from_secs(8);
