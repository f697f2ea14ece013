//! Machines that back up.

use std::collections::BTreeMap;

use arkeep_core::{AgentId, ExposeSecret, Timestamp};
use arkeep_transport::token::{DEFAULT_VALIDITY, JoinToken, TokenTerms};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::super::audit;
use super::super::body::{Json, MergePatch, NoBody};
use super::super::checks::{Checks, is_plain};
use super::super::params::{Id, Params};
use super::super::patch::{self, IfMatch, Tagged, Tries};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::{PageBody, created, page};
use crate::store::agents::{Agent, AgentEdit, AgentState, NewAgent, NewJoinToken, ResticFacts};

#[derive(Serialize)]
pub(super) struct AgentBody {
    id: AgentId,
    version: u64,
    name: String,
    labels: BTreeMap<String, String>,
    state: AgentState,
    hostname: Option<String>,
    os: Option<String>,
    arch: Option<String>,
    agent_version: Option<String>,
    restic: Option<ResticFacts>,
    restic_problem: Option<String>,
    hook_policy: Option<String>,
    sandbox: Option<String>,
    docker: Option<bool>,
    last_seen_at: Option<Timestamp>,
    certificate: Option<CertificateBody>,
    created_at: Timestamp,
}

#[derive(Serialize)]
struct CertificateBody {
    serial: String,
    not_after: Timestamp,
}

impl AgentBody {
    fn of(agent: Agent, now: Timestamp) -> Self {
        Self {
            id: agent.id,
            version: agent.version,
            state: agent.state(now),
            name: agent.name,
            labels: agent.labels,
            hostname: agent.facts.hostname,
            os: agent.facts.os,
            arch: agent.facts.arch,
            agent_version: agent.facts.agent_version,
            restic: agent.facts.restic,
            restic_problem: agent.facts.restic_problem,
            hook_policy: agent.facts.hook_policy,
            sandbox: agent.facts.sandbox,
            docker: agent.facts.docker,
            last_seen_at: agent.last_seen_at,
            certificate: agent.certificate.map(|certificate| CertificateBody {
                serial: certificate.serial,
                not_after: certificate.not_after,
            }),
            created_at: agent.created_at,
        }
    }
}

/// What of an agent can be written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Writable {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl From<&Agent> for Writable {
    fn from(agent: &Agent) -> Self {
        Self {
            name: agent.name.clone(),
            labels: agent.labels.clone(),
        }
    }
}

impl Writable {
    fn check(&self) -> Result<(), Problem> {
        let mut checks = Checks::default();
        checks.title(&self.name, "name");
        checks.that(
            self.labels.len() <= MAX_LABELS,
            "labels",
            "may have 64 entries at most",
        );
        for (key, value) in &self.labels {
            let fine = !key.is_empty() && key.len() <= 64 && is_plain(key);
            checks.that(fine, "labels", "must have names of 1 to 64 bytes");
            let fine = value.len() <= 256 && is_plain(value);
            checks.that(fine, format!("labels.{key}"), "must have 256 bytes at most");
        }
        checks.finish()
    }
}

#[derive(Serialize)]
struct Offered {
    agent: AgentBody,
    join_token: String,
}

#[derive(Serialize)]
pub(super) struct OfferedAgain {
    join_token: String,
    expires_at: Timestamp,
}

pub(super) async fn create(
    State(api): State<Api>,
    Json(wanted): Json<Writable>,
) -> Result<Response, Problem> {
    wanted.check()?;
    let now = api.clock.now();
    let id = AgentId::mint(now, api.entropy.as_ref());
    let (token, kept) = api.join_token(id)?;
    let new = NewAgent {
        id,
        name: wanted.name,
        labels: wanted.labels,
        created_at: now,
    };
    let agent = api.stores.agents.create(&new, &kept).await?;
    audit::added(&Writable::from(&agent));
    audit::secret("join_token");
    let version = agent.version;
    let body = Offered {
        agent: AgentBody::of(agent, now),
        join_token: token.encode().expose_secret().to_owned(),
    };
    Ok(created(
        format!("/api/v1/agents/{id}"),
        Tagged(version, body),
    ))
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<AgentBody>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    let now = api.clock.now();
    let listed = api.stores.agents.list(&wanted).await?;
    Ok(page(listed, |agent| AgentBody::of(agent, now)))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
) -> Result<Tagged<AgentBody>, Problem> {
    api.agent_body(id).await
}

pub(super) async fn change(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
    if_match: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<AgentBody>, Problem> {
    let mut tries = Tries::of(&if_match);
    loop {
        let changed = change_once(&api, id, &if_match, patch.clone()).await;
        if !tries.again(&changed) {
            return changed;
        }
    }
}

async fn change_once(
    api: &Api,
    id: AgentId,
    if_match: &IfMatch,
    patch: MergePatch,
) -> Result<Tagged<AgentBody>, Problem> {
    let agent = api.agent(id).await?;
    if_match.check(agent.version)?;
    let before = Writable::from(&agent);
    let after: Writable = patch::merge(&before, patch, &["name", "labels"])?;
    after.check()?;
    let edit = AgentEdit {
        id,
        version: agent.version,
        name: after.name,
        labels: after.labels,
    };
    let agent = api.stores.agents.update(&edit).await?;
    audit::changed(&before, &Writable::from(&agent));
    Ok(Tagged(agent.version, AgentBody::of(agent, api.clock.now())))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let agent = api.agent(id).await?;
    if_match.check(agent.version)?;
    api.stores
        .agents
        .delete(id, if_match.version(agent.version))
        .await?;
    audit::removed(&Writable::from(&agent));
    api.fleet.hang_up(id);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn offer(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
    NoBody: NoBody,
) -> Result<axum::Json<OfferedAgain>, Problem> {
    if api.agent(id).await?.state(api.clock.now()) == AgentState::Revoked {
        return Err(revoked());
    }
    let (token, kept) = api.join_token(id)?;
    api.stores.agents.offer(id, &kept).await?;
    audit::secret("join_token");
    Ok(axum::Json(OfferedAgain {
        join_token: token.encode().expose_secret().to_owned(),
        expires_at: token.expires_at(),
    }))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
    NoBody: NoBody,
) -> Result<Tagged<AgentBody>, Problem> {
    api.agent(id).await?;
    api.stores.enrollments.withdraw(id, api.clock.now()).await?;
    api.fleet.hang_up(id);
    tracing::info!(agent = %id, "an agent was revoked");
    api.abandon().await?;
    api.agent_body(id).await
}

pub(super) async fn approve(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
    NoBody: NoBody,
) -> Result<Tagged<AgentBody>, Problem> {
    api.agent(id).await?;
    if !api.stores.enrollments.approve(id, api.clock.now()).await? {
        return Err(Problem::new(
            Code::Conflict,
            "the agent does not wait for an approval",
        ));
    }
    api.agent_body(id).await
}

impl Api {
    pub(super) async fn agent(&self, id: AgentId) -> Result<Agent, Problem> {
        self.stores
            .agents
            .find(id)
            .await?
            .ok_or_else(Problem::not_found)
    }

    /// The agent that a request's body names, if it can be given work.
    pub(super) async fn agent_for_work(&self, id: AgentId) -> Result<Agent, Problem> {
        let found = self.stores.agents.find(id).await?;
        let agent = found.ok_or_else(|| Problem::invalid("agent_id", "names no agent"))?;
        match agent.state(self.clock.now()) {
            AgentState::Revoked => Err(revoked()),
            _ => Ok(agent),
        }
    }

    async fn agent_body(&self, id: AgentId) -> Result<Tagged<AgentBody>, Problem> {
        let agent = self.agent(id).await?;
        Ok(Tagged(
            agent.version,
            AgentBody::of(agent, self.clock.now()),
        ))
    }

    fn join_token(&self, agent: AgentId) -> Result<(JoinToken, NewJoinToken), Problem> {
        let now = self.clock.now();
        let terms = TokenTerms {
            server: self.facts.agent_address.clone(),
            fingerprint: self.authority.root(),
            validity: DEFAULT_VALIDITY,
        };
        let token = JoinToken::mint(terms, now, self.entropy.as_ref())?;
        let offered = token.offered_to(agent);
        let kept = NewJoinToken {
            id: offered.id.as_uuid(),
            secret_digest: *offered.digest.as_bytes(),
            created_at: now,
            expires_at: offered.expires_at,
        };
        Ok((token, kept))
    }
}

fn revoked() -> Problem {
    Problem::new(
        Code::Conflict,
        "the agent was revoked, and ids are not used again: make a new agent",
    )
}

const MAX_LABELS: usize = 64;
