//! The first administrator, once.

use std::fs;

use arkeep_auth::{Role, SetupDigest};
use arkeep_core::{ExposeSecret, SecretString, UserId};
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::super::audit;
use super::super::body::Json;
use super::super::checks::Checks;
use super::super::patch::Tagged;
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::created;
use super::users::{self, UserBody};
use crate::store::users::{NewUser, SetUp};

#[derive(Serialize)]
pub(super) struct SetupState {
    completed: bool,
}

pub(super) async fn show(State(api): State<Api>) -> Result<axum::Json<SetupState>, Problem> {
    let completed = api.stores.instance.set_up_at().await?.is_some();
    Ok(axum::Json(SetupState { completed }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setup {
    setup_token: SecretString,
    email: String,
    password: SecretString,
    #[serde(default)]
    display_name: Option<String>,
}

pub(super) async fn run(
    State(api): State<Api>,
    Json(setup): Json<Setup>,
) -> Result<Response, Problem> {
    // Before a password is hashed: whoever comes later must not cost anything.
    if api.stores.instance.set_up_at().await?.is_some() {
        return Err(already_done());
    }
    let display_name = setup.display_name.unwrap_or_else(|| setup.email.clone());
    let mut checks = Checks::default();
    checks.email(&setup.email, "email");
    checks.title(&display_name, "display_name");
    checks.finish()?;

    let now = api.clock.now();
    let first = NewUser {
        id: UserId::mint(now, api.entropy.as_ref()),
        email: setup.email,
        display_name,
        role: Role::Admin,
        password_hash: Some(api.passwords.hash(&setup.password).await?),
        created_at: now,
    };
    let digest = SetupDigest::of(setup.setup_token.expose_secret());
    match api.stores.users.set_up(&first, digest.as_bytes()).await? {
        SetUp::AlreadyDone => Err(already_done()),
        SetUp::WrongToken => Err(Problem::new(
            Code::Unauthorized,
            "the setup token is another",
        )),
        SetUp::Done(user) => {
            tracing::info!(user = %user.id, "the server is set up");
            audit::by(user.id);
            audit::added(&users::Writable::from(&user));
            audit::secret("password");
            // It opens nothing any more; only its trace is removed.
            if let Err(error) = fs::remove_file(&api.facts.setup_token_file) {
                tracing::warn!(%error, "the file of the setup token could not be removed");
            }
            let location = format!("/api/v1/users/{}", user.id);
            Ok(created(
                location,
                Tagged(user.version, UserBody::from(user)),
            ))
        }
    }
}

fn already_done() -> Problem {
    Problem::new(Code::Conflict, "the server is set up already")
}
