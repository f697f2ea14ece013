//! Work for agents.

use std::time::Duration;

use arkeep_core::job::{
    DestinationResult, HookResult, HookState, JobError, JobKind, JobSource, JobState, Progress,
};
use arkeep_core::policy::HookPhase;
use arkeep_core::queue::{CancelOutcome, NewJob};
use arkeep_core::{AgentId, JobId, PolicyId, StoreError, Timestamp};
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::super::body::NoBody;
use super::super::params::{Id, Params};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::{PageBody, accepted, page};
use crate::store::jobs::{Job, JobFilter, LateResult};

#[derive(Serialize)]
pub(super) struct JobBody {
    id: JobId,
    kind: JobKind,
    state: JobState,
    policy_id: Option<PolicyId>,
    agent_id: AgentId,
    scheduled_for: Timestamp,
    deadline: Option<Timestamp>,
    attempt: u32,
    folded: u32,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    cancel_requested_at: Option<Timestamp>,
    error: Option<JobError>,
    progress: Option<Progress>,
    results: Vec<DestinationResult>,
    hooks: Vec<HookBody>,
    late_result: Option<LateResult>,
    source: JobSource,
}

/// What came of a hook. What it printed is in the job alone, not in a list.
#[derive(Serialize)]
struct HookBody {
    name: String,
    phase: HookPhase,
    state: HookState,
    exit_code: Option<i32>,
    output: Option<String>,
    started_at: Timestamp,
    ended_at: Timestamp,
}

impl From<HookResult> for HookBody {
    fn from(hook: HookResult) -> Self {
        Self {
            name: hook.name,
            phase: hook.phase,
            state: hook.state,
            exit_code: hook.exit_code,
            output: Some(hook.output),
            started_at: hook.started_at,
            ended_at: hook.ended_at,
        }
    }
}

impl JobBody {
    fn in_a_list(job: Job, api: &Api) -> Self {
        let mut body = Self::of(job, api);
        for hook in &mut body.hooks {
            hook.output = None;
        }
        body
    }

    fn of(job: Job, api: &Api) -> Self {
        let progress = match job.state {
            JobState::Running => api.fleet.progress(job.id),
            _ => None,
        };
        Self {
            id: job.id,
            kind: job.kind,
            state: job.state,
            policy_id: job.policy,
            agent_id: job.agent,
            scheduled_for: job.scheduled_for,
            deadline: job.deadline,
            attempt: job.attempt,
            folded: job.folded,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            cancel_requested_at: job.cancel_requested_at,
            error: job.error,
            progress,
            results: job.results,
            hooks: job.hooks.into_iter().map(HookBody::from).collect(),
            late_result: job.late_result,
            source: job.source,
        }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<JobBody>>, Problem> {
    let filter = JobFilter {
        state: params.take("state")?,
        kind: params.take("kind")?,
        agent: params.take("agent_id")?,
        policy: params.take("policy_id")?,
        since: params.take("since")?,
    };
    let wanted = params.page()?;
    params.finish()?;
    let listed = api.stores.jobs.list(&filter, &wanted).await?;
    Ok(page(listed, |job| JobBody::in_a_list(job, &api)))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<JobId>,
) -> Result<axum::Json<JobBody>, Problem> {
    let found = api.stores.jobs.find(id).await?;
    let job = found.ok_or_else(Problem::not_found)?;
    Ok(axum::Json(JobBody::of(job, &api)))
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Id(id): Id<JobId>,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    match api.stores.queue.cancel(id, api.clock.now()).await? {
        CancelOutcome::Cancelled => {
            // It may have been sent already: its agent is told before it begins.
            if let Some(job) = api.stores.jobs.find(id).await? {
                api.metrics.job_ended(&job);
                api.fleet.wake(job.agent);
            }
            Ok(accepted(id))
        }
        CancelOutcome::Requested(agent, fence) => {
            api.fleet.cancel(agent, id, fence);
            // An agent that is away hears of it when it comes back, if ever.
            api.abandon().await?;
            Ok(accepted(id))
        }
        CancelOutcome::AlreadyEnded(state) => Err(Problem::new(
            Code::Conflict,
            format!("the job has ended: {state}"),
        )),
        CancelOutcome::NotFound => Err(Problem::not_found()),
    }
}

impl Api {
    /// Ends the jobs that nobody will ever end.
    pub(crate) async fn abandon(&self) -> Result<(), StoreError> {
        for job in self.stores.jobs.abandon(self.clock.now()).await? {
            tracing::info!(%job, "a job was ended without its agent");
            if let Some(job) = self.stores.jobs.find(job).await? {
                self.metrics.job_ended(&job);
            }
        }
        Ok(())
    }

    /// Puts work into the agent's queue, and tells the agent.
    pub(super) async fn enqueue(
        &self,
        kind: JobKind,
        agent: AgentId,
        policy: Option<PolicyId>,
        deadline: Option<u64>,
        parameters: &impl Serialize,
    ) -> Result<JobId, Problem> {
        let now = self.clock.now();
        let parameters = serde_json::to_string(parameters).map_err(|error| {
            Problem::new(Code::Internal, "the job cannot be written").because(error)
        })?;
        let job = NewJob {
            id: JobId::mint(now, self.entropy.as_ref()),
            kind,
            agent,
            policy,
            scheduled_for: now,
            deadline: deadline.map(|seconds| now.plus(Duration::from_secs(seconds))),
            source: JobSource::Manual,
            parameters,
            created_at: now,
        };
        let enqueued = self.stores.queue.enqueue(&job).await?;
        self.fleet.wake(agent);
        // Looked up before, and removed since.
        enqueued.job().ok_or_else(Problem::not_found)
    }
}
