//! Second factors of whoever is logged in.

use arkeep_auth::factor::RecoveryCode;
use arkeep_core::{ExposeSecret, SecretString};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::access::Caller;
use super::super::audit;
use super::super::body::{Json, NoBody};
use super::super::problem::Problem;
use super::super::services::Api;

/// What the user's authenticator is told, once.
#[derive(Serialize)]
pub(super) struct Begun {
    secret: String,
    otpauth_uri: String,
}

pub(super) async fn begin(
    State(api): State<Api>,
    caller: Caller,
    NoBody: NoBody,
) -> Result<axum::Json<Begun>, Problem> {
    let user = api.user(caller.user()).await?;
    let secret = api.factors.begin(user.id, api.clock.now()).await?;
    Ok(axum::Json(Begun {
        secret: secret.to_base32().to_string(),
        otpauth_uri: secret.uri("Arkeep", &user.email).to_string(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shown {
    code: SecretString,
}

/// Codes for the day the authenticator is lost, shown once.
#[derive(Serialize)]
pub(super) struct Codes {
    recovery_codes: Vec<String>,
}

/// From here on a login takes a code. The first recovery codes come with the answer.
pub(super) async fn confirm(
    State(api): State<Api>,
    caller: Caller,
    Json(shown): Json<Shown>,
) -> Result<axum::Json<Codes>, Problem> {
    let (user, now) = (caller.user(), api.clock.now());
    let code = shown.code.expose_secret();
    if !api.factors.confirm(user, code, now).await? {
        return Err(Problem::invalid(
            "code",
            "is not the code that the authenticator shows now",
        ));
    }
    tracing::info!(%user, "a second factor was set up");
    audit::fact("mfa", true);
    Ok(axum::Json(codes(
        &api.factors.new_recovery_codes(user).await?,
    )))
}

pub(super) async fn remove(State(api): State<Api>, caller: Caller) -> Result<StatusCode, Problem> {
    let user = caller.user();
    match api.factors.remove(user).await? {
        true => {
            tracing::info!(%user, "a second factor was removed");
            audit::fact("mfa", false);
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(Problem::not_found()),
    }
}

pub(super) async fn recovery_codes(
    State(api): State<Api>,
    caller: Caller,
    NoBody: NoBody,
) -> Result<axum::Json<Codes>, Problem> {
    let made = api.factors.new_recovery_codes(caller.user()).await?;
    audit::secret("recovery_codes");
    Ok(axum::Json(codes(&made)))
}

fn codes(made: &[RecoveryCode]) -> Codes {
    Codes {
        recovery_codes: made.iter().map(|code| code.expose().to_string()).collect(),
    }
}
