//! People who log in.

use arkeep_auth::session::ChangePasswordError;
use arkeep_auth::{Epoch, Revocation, RevocationStore as _, Role};
use arkeep_core::{SecretString, Timestamp, UserId};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::super::access::Caller;
use super::super::audit;
use super::super::body::{Json, MergePatch, NoBody};
use super::super::checks::Checks;
use super::super::params::{Id, Params};
use super::super::patch::{self, IfMatch, Tagged};
use super::super::problem::Problem;
use super::super::services::Api;
use super::auth::{self, Tokens};
use super::{PageBody, created, page};
use crate::store::users::{Identity, NewUser, User, UserEdit};

#[derive(Serialize)]
pub(super) struct UserBody {
    id: UserId,
    version: u64,
    email: String,
    display_name: String,
    role: Role,
    enabled: bool,
    mfa: bool,
    identities: Vec<Identity>,
    last_login_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            version: user.version,
            email: user.email,
            display_name: user.display_name,
            role: user.role,
            enabled: user.enabled,
            mfa: user.mfa,
            identities: user.identities,
            last_login_at: user.last_login_at,
            created_at: user.created_at,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateUser {
    email: String,
    password: SecretString,
    #[serde(default)]
    display_name: Option<String>,
    role: Role,
}

pub(super) async fn create(
    State(api): State<Api>,
    Json(wanted): Json<CreateUser>,
) -> Result<Response, Problem> {
    let display_name = wanted.display_name.unwrap_or_else(|| wanted.email.clone());
    check(&wanted.email, &display_name)?;
    let now = api.clock.now();
    let new = NewUser {
        id: UserId::mint(now, api.entropy.as_ref()),
        email: wanted.email,
        display_name,
        role: wanted.role,
        password_hash: Some(api.passwords.hash(&wanted.password).await?),
        created_at: now,
    };
    let user = api.stores.users.create(&new).await?;
    audit::added(&Writable::from(&user));
    audit::secret("password");
    let location = format!("/api/v1/users/{}", user.id);
    Ok(created(location, tagged(user)))
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<UserBody>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    Ok(page(api.stores.users.list(&wanted).await?, UserBody::from))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<UserId>,
) -> Result<Tagged<UserBody>, Problem> {
    Ok(tagged(api.user(id).await?))
}

/// What of a user can be written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Writable {
    email: String,
    display_name: String,
    role: Role,
    enabled: bool,
}

impl From<&User> for Writable {
    fn from(user: &User) -> Self {
        Self {
            email: user.email.clone(),
            display_name: user.display_name.clone(),
            role: user.role,
            enabled: user.enabled,
        }
    }
}

pub(super) async fn change(
    State(api): State<Api>,
    Id(id): Id<UserId>,
    if_match: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<UserBody>, Problem> {
    let user = api.user(id).await?;
    if_match.check(user.version)?;
    let before = Writable::from(&user);
    let known = ["email", "display_name", "role", "enabled"];
    let after: Writable = patch::merge(before, patch, &known)?;
    check(&after.email, &after.display_name)?;
    Ok(tagged(api.update_user(&user, after).await?))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id<UserId>,
    if_match: IfMatch,
) -> Result<StatusCode, Problem> {
    let user = api.user(id).await?;
    if_match.check(user.version)?;
    api.stores
        .users
        .delete(id, if_match.version(user.version))
        .await?;
    audit::removed(&Writable::from(&user));
    api.take_back(id, user.epoch.next());
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn revoke_sessions(
    State(api): State<Api>,
    Id(id): Id<UserId>,
    NoBody: NoBody,
) -> Result<StatusCode, Problem> {
    let ended = api.sessions.log_out_everywhere(id, api.clock.now()).await?;
    match ended {
        Some(_) => Ok(StatusCode::NO_CONTENT),
        None => Err(Problem::not_found()),
    }
}

pub(super) async fn me(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Tagged<UserBody>, Problem> {
    Ok(tagged(api.user(caller.user()).await?))
}

/// What users change of themselves.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeMe {
    #[serde(default)]
    display_name: Option<String>,
    #[serde(default)]
    password: Option<SecretString>,
    #[serde(default)]
    current_password: Option<SecretString>,
}

/// The user and, after a change of password, the tokens with which this session goes on.
#[derive(Serialize)]
struct ChangedMe {
    #[serde(flatten)]
    user: UserBody,
    #[serde(flatten)]
    tokens: Option<Tokens>,
}

pub(super) async fn change_me(
    State(api): State<Api>,
    caller: Caller,
    if_match: IfMatch,
    Json(wanted): Json<ChangeMe>,
) -> Result<Response, Problem> {
    let mut user = api.user(caller.user()).await?;
    if_match.check(user.version)?;
    let display_name = wanted
        .display_name
        .unwrap_or_else(|| user.display_name.clone());
    check(&user.email, &display_name)?;

    let pair = match (&wanted.password, &wanted.current_password) {
        (None, None) => None,
        (None, Some(_)) => return Err(Problem::invalid("password", "is required")),
        (Some(_), None) => return Err(Problem::invalid("current_password", "is required")),
        (Some(new), Some(current)) => {
            let now = api.clock.now();
            let changed = api
                .sessions
                .change_password(&caller, current, new, now)
                .await;
            if let Err(ChangePasswordError::Login(_)) = &changed {
                api.metrics.auth_attempt("refused");
            }
            let pair = changed?;
            audit::secret("password");
            user = api.user(caller.user()).await?;
            Some(pair)
        }
    };
    if display_name != user.display_name {
        let after = Writable {
            display_name,
            ..Writable::from(&user)
        };
        user = api.update_user(&user, after).await?;
    }

    let body = ChangedMe {
        tokens: pair.as_ref().map(|pair| auth::tokens(&api, &pair.access)),
        user: UserBody::from(user.clone()),
    };
    let mut response = Tagged(user.version, body).into_response();
    if let Some(pair) = &pair {
        auth::give(&pair.refresh, &mut response)?;
    }
    Ok(response)
}

impl Api {
    pub(super) async fn user(&self, id: UserId) -> Result<User, Problem> {
        self.stores
            .users
            .find(id)
            .await?
            .ok_or_else(Problem::not_found)
    }

    async fn update_user(&self, before: &User, after: Writable) -> Result<User, Problem> {
        let edit = UserEdit {
            id: before.id,
            version: before.version,
            email: after.email,
            display_name: after.display_name,
            role: after.role,
            enabled: after.enabled,
            password_hash: None,
            at: self.clock.now(),
        };
        let user = self.stores.users.update(&edit).await?;
        audit::changed(&Writable::from(before), &Writable::from(&user));
        if user.epoch != before.epoch {
            self.take_back(user.id, user.epoch);
        }
        Ok(user)
    }

    // The store has raised the epoch already; this is for what this process remembers.
    pub(super) fn take_back(&self, user: UserId, epoch: Epoch) {
        self.revocations.learn(&Revocation::Subject { user, epoch });
    }
}

fn check(email: &str, display_name: &str) -> Result<(), Problem> {
    let mut checks = Checks::default();
    checks.email(email, "email");
    checks.title(display_name, "display_name");
    checks.finish()
}

fn tagged(user: User) -> Tagged<UserBody> {
    Tagged(user.version, UserBody::from(user))
}
