//! What is backed up, when, and where to.

mod check;
pub(super) mod shape;

use arkeep_auth::Role;
use arkeep_core::job::JobKind;
use arkeep_core::policy::Hooks;
use arkeep_core::{AgentId, ExposeSecret, PolicyId, SecretString, StoreError};
use arkeep_vault::{Sealed, Sealer};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::access::Caller;
use super::super::audit;
use super::super::body::{self, Json, MergePatch, NoBody};
use super::super::params::{Id, Params};
use super::super::patch::{self, IfMatch, Tagged, Tries};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::{PageBody, accepted, created, page};
use crate::parameters::NoParameters;
use crate::store::policies::{NewPolicy, Policy, PolicyEdit, RepositoryPasswords, SealedPassword};
use crate::store::sealed;
use shape::{PolicyBody, Sent, Writable};

/// A policy that was just made, with the password if this server made that too: for safe keeping,
/// since nothing shows it again.
#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    policy: PolicyBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_password: Option<String>,
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    api.may_name_hooks(&caller, &Hooks::default(), body.get("hooks"))?;
    let mut sent: Sent = body::convert(Value::Object(body))?;
    check::policy(&sent)?;
    api.may_set_hooks(&caller, &Hooks::default(), &sent.hooks)?;
    let agent = api.agent_for_work(sent.agent_id).await?;
    let now = api.clock.now();
    let id = PolicyId::mint(now, api.entropy.as_ref());

    let given = sent.repository_password.take();
    let password = given.clone().unwrap_or_else(|| api.new_password());
    let (name, enabled) = (sent.name.clone(), sent.enabled);
    let (destinations, settings) = sent.split(id)?;
    let new = NewPolicy {
        id,
        agent: agent.id,
        name,
        enabled,
        destinations,
        repository_password: api.seal_password(id, &password)?,
        settings,
        created_at: now,
    };
    let policy = api
        .stores
        .policies
        .create(&new, &Opened(api.sealer.as_ref()))
        .await?;
    audit::added(&Writable::from(policy.clone()));
    audit::secret("repository_password");
    let body = Made {
        repository_password: given.is_none().then(|| password.expose_secret().to_owned()),
        policy: PolicyBody::from(policy.clone()),
    };
    Ok(created(
        format!("/api/v1/policies/{id}"),
        Tagged(policy.version, body),
    ))
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<PolicyBody>>, Problem> {
    let agent: Option<AgentId> = params.take("agent_id")?;
    let wanted = params.page()?;
    params.finish()?;
    Ok(page(
        api.stores.policies.list(agent, &wanted).await?,
        PolicyBody::from,
    ))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<PolicyId>,
) -> Result<Tagged<PolicyBody>, Problem> {
    Ok(tagged(api.policy(id).await?))
}

pub(super) async fn change(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<PolicyId>,
    if_match: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<PolicyBody>, Problem> {
    let mut tries = Tries::of(&if_match);
    loop {
        let changed = change_once(&api, &caller, id, &if_match, patch.clone()).await;
        if !tries.again(&changed) {
            return changed;
        }
    }
}

async fn change_once(
    api: &Api,
    caller: &Caller,
    id: PolicyId,
    if_match: &IfMatch,
    patch: MergePatch,
) -> Result<Tagged<PolicyBody>, Problem> {
    let before = api.policy(id).await?;
    if_match.check(before.version)?;
    api.may_name_hooks(caller, &before.settings.hooks, patch.0.get("hooks"))?;
    let mut sent: Sent = patch::merge(Writable::from(before.clone()), patch, &Sent::FIELDS)?;
    check::policy(&sent)?;
    if sent.agent_id != before.agent {
        return Err(Problem::invalid(
            "agent_id",
            "cannot change: make a new policy",
        ));
    }
    api.may_set_hooks(caller, &before.settings.hooks, &sent.hooks)?;

    let old = api.open_password(&before)?;
    let given = sent.repository_password.take();
    if given.is_some() {
        // Before it is compared: the answer would tell whoever guesses when they are right.
        api.may_set_password(caller)?;
    }
    let given = given.filter(|given| given.expose_secret() != old.expose_secret());
    let (name, enabled) = (sent.name.clone(), sent.enabled);
    let (destinations, settings) = sent.split(id)?;
    let repository_password = match &given {
        Some(password) => Some(api.seal_password(id, password)?),
        None => None,
    };
    let edit = PolicyEdit {
        id,
        version: before.version,
        name,
        enabled,
        destinations,
        repository_password,
        settings,
        at: api.clock.now(),
    };
    let after = api
        .stores
        .policies
        .update(&edit, &Opened(api.sealer.as_ref()))
        .await?;
    audit::changed(&Writable::from(before), &Writable::from(after.clone()));
    if given.is_some() {
        audit::secret("repository_password");
    }
    Ok(tagged(after))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id<PolicyId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let policy = api.policy(id).await?;
    if_match.check(policy.version)?;
    let version = if_match.version(policy.version);
    api.stores
        .policies
        .delete(id, version, api.clock.now())
        .await?;
    audit::removed(&Writable::from(policy));
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn run(
    State(api): State<Api>,
    Id(id): Id<PolicyId>,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    api.enqueue_for(id, JobKind::Backup).await
}

pub(super) async fn verify(
    State(api): State<Api>,
    Id(id): Id<PolicyId>,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    api.enqueue_for(id, JobKind::Verify).await
}

impl Api {
    pub(super) async fn policy(&self, id: PolicyId) -> Result<Policy, Problem> {
        self.stores
            .policies
            .find(id)
            .await?
            .ok_or_else(Problem::not_found)
    }

    async fn enqueue_for(&self, id: PolicyId, kind: JobKind) -> Result<Response, Problem> {
        let policy = self.policy(id).await?;
        let agent = self.agent_for_work(policy.agent).await?;
        let (work, deadline) = (NoParameters {}, policy.settings.deadline);
        Ok(accepted(
            self.enqueue(kind, agent.id, Some(id), deadline, &work)
                .await?,
        ))
    }

    // Before the body is judged: to whoever may not set hooks, a malformed one is as forbidden as
    // any other, and the judge answers no questions.
    fn may_name_hooks(
        &self,
        caller: &Caller,
        before: &Hooks,
        sent: Option<&Value>,
    ) -> Result<(), Problem> {
        let Some(sent) = sent else { return Ok(()) };
        match patch::outcome(before, sent)? {
            Some(after) => self.may_set_hooks(caller, before, &after),
            None => self.may_write_hooks(caller),
        }
    }

    // Compared with what is there, not with what was sent: whatever road a hook takes into the
    // request, it is seen here.
    fn may_set_hooks(&self, caller: &Caller, before: &Hooks, after: &Hooks) -> Result<(), Problem> {
        match before == after {
            true => Ok(()),
            false => self.may_write_hooks(caller),
        }
    }

    fn may_write_hooks(&self, caller: &Caller) -> Result<(), Problem> {
        if caller.role() < Role::Admin {
            return Err(Problem::new(
                Code::Forbidden,
                "to change hooks takes the role admin",
            ));
        }
        self.require_fresh(caller)
    }

    // What is overwritten is kept nowhere else.
    fn may_set_password(&self, caller: &Caller) -> Result<(), Problem> {
        if caller.role() < Role::Admin {
            return Err(Problem::new(
                Code::Forbidden,
                "to change the repository password takes the role admin",
            ));
        }
        self.require_fresh(caller)
    }

    fn new_password(&self) -> SecretString {
        let mut random = zeroize::Zeroizing::new([0; 32]);
        self.entropy.fill(random.as_mut_slice());
        SecretString::from(URL_SAFE_NO_PAD.encode(random.as_slice()))
    }

    fn seal_password(&self, id: PolicyId, password: &SecretString) -> Result<Vec<u8>, Problem> {
        let binding = sealed::policy_repository_password(id);
        Ok(self.sealer.seal_str(password, &binding)?.into_bytes())
    }

    fn open_password(&self, policy: &Policy) -> Result<SecretString, Problem> {
        let binding = sealed::policy_repository_password(policy.id);
        let sealed = Sealed::parse(&policy.repository_password).map_err(|error| {
            Problem::new(Code::Internal, "a stored password cannot be read").because(error)
        })?;
        Ok(self.sealer.open_str(&sealed, &binding)?)
    }
}

/// Opens what a store wants compared.
#[derive(Debug)]
pub(super) struct Opened<'a>(pub(super) &'a dyn Sealer);

impl Opened<'_> {
    fn open(&self, password: &SealedPassword) -> Result<SecretString, StoreError> {
        let sealed = Sealed::parse(&password.blob).map_err(StoreError::unavailable)?;
        let binding = sealed::policy_repository_password(password.policy);
        let opened = self.0.open_str(&sealed, &binding);
        opened.map_err(StoreError::unavailable)
    }
}

impl RepositoryPasswords for Opened<'_> {
    fn agree(&self, one: &SealedPassword, other: &SealedPassword) -> Result<bool, StoreError> {
        Ok(self.open(one)?.expose_secret() == self.open(other)?.expose_secret())
    }
}

fn tagged(policy: Policy) -> Tagged<PolicyBody> {
    Tagged(policy.version, PolicyBody::from(policy))
}
