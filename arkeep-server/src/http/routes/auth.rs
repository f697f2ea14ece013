//! Logging in and out.

use arkeep_auth::cookie::{self, CookieError};
use arkeep_auth::session::{Client, LogOut, Login, LoginError, RefreshError, TokenPair};
use arkeep_auth::token::AccessToken;
use arkeep_auth::{RefreshToken, SessionId};
use arkeep_core::{ExposeSecret, SecretString, Timestamp};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::super::access::{Caller, logged_out};
use super::super::address::ClientAddress;
use super::super::audit;
use super::super::body::{Json, NoBody};
use super::super::checks::Checks;
use super::super::params::Id;
use super::super::problem::{Code, Problem};
use super::super::services::Api;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    email: String,
    password: SecretString,
    /// Of the second factor, for those who have one.
    #[serde(default)]
    code: Option<SecretString>,
}

pub(super) async fn log_in(
    State(api): State<Api>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
    Json(shown): Json<Credentials>,
) -> Result<Response, Problem> {
    audit::tried_account(&shown.email);
    let mut checks = Checks::default();
    checks.that(shown.email.len() <= 254, "email", "has 254 bytes at most");
    checks.password(Some(&shown.password), "password");
    checks.code(shown.code.as_ref(), "code");
    checks.finish()?;
    let now = api.clock.now();
    let client = client(address, &headers);
    let login = Login {
        email: &shown.email,
        password: &shown.password,
        client: &client,
    };
    let code = shown.code.as_ref().map(ExposeSecret::expose_secret);
    match api.sessions.log_in_with_code(&login, code, now).await {
        Ok(pair) => {
            api.metrics.auth_attempt("ok");
            let user = pair.session.grant.user;
            audit::by(user);
            audit::fact("session", pair.session.grant.session);
            tracing::info!(%user, address = %address.0, "logged in");
            if let Err(error) = api.stores.users.logged_in(user, now).await {
                tracing::warn!(%error, "the time of the login was not noted");
            }
            answer(&api, &pair)
        }
        Err(error) => {
            api.metrics.auth_attempt(outcome(&error));
            tracing::info!(address = %address.0, %error, "a login was refused");
            Err(error.into())
        }
    }
}

pub(super) async fn refresh(
    State(api): State<Api>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    api.own_origin(&headers)?;
    let presented = refresh_token(&headers)?;
    let client = client(address, &headers);
    match api
        .sessions
        .refresh(&presented, &client, api.clock.now())
        .await
    {
        Ok(pair) => {
            audit::by(pair.session.grant.user);
            audit::upon(pair.session.grant.session);
            answer(&api, &pair)
        }
        Err(error) => {
            if let RefreshError::Reused { user, session } = &error {
                audit::called(audit::TOKEN_REUSE);
                audit::upon(user);
                audit::fact("session", session);
                tracing::warn!(%user, %session, address = %address.0, "a spent refresh token was shown: everything of this user's is revoked");
            }
            let gone = matches!(error, RefreshError::Refused | RefreshError::Reused { .. });
            let mut response = Problem::from(error).into_response();
            if gone {
                response.headers_mut().insert(header::SET_COOKIE, cleared());
            }
            Ok(response)
        }
    }
}

pub(super) async fn log_out(
    State(api): State<Api>,
    headers: HeaderMap,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    let refresh = match refresh_token(&headers) {
        Ok(token) => {
            api.own_origin(&headers)?;
            Some(token)
        }
        Err(_) => None,
    };
    let caller = match api.identify(&headers).await {
        // A program has no session that could end.
        Ok(caller) => Some(caller).filter(|caller| caller.session().is_some()),
        // The cookie alone will do; but whether the bearer is good must be known.
        Err(problem) if problem.code() == Code::Unauthorized => None,
        Err(problem) => return Err(problem),
    };
    if refresh.is_none() && caller.is_none() {
        return Err(logged_out());
    }
    let shown = LogOut {
        refresh: refresh.as_ref(),
        principal: caller.as_ref(),
    };
    for (user, session) in api.sessions.log_out(&shown, api.clock.now()).await? {
        audit::by(user);
        audit::upon(session);
    }
    Ok(gone())
}

pub(super) async fn log_out_everywhere(
    State(api): State<Api>,
    caller: Caller,
    NoBody: NoBody,
) -> Result<Response, Problem> {
    let now = api.clock.now();
    api.sessions.log_out_everywhere(caller.user(), now).await?;
    Ok(gone())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUp {
    #[serde(default)]
    password: Option<SecretString>,
    /// Of the second factor, in the password's place.
    #[serde(default)]
    code: Option<SecretString>,
}

pub(super) async fn step_up(
    State(api): State<Api>,
    caller: Caller,
    Json(shown): Json<StepUp>,
) -> Result<Response, Problem> {
    let mut checks = Checks::default();
    checks.password(shown.password.as_ref(), "password");
    checks.code(shown.code.as_ref(), "code");
    checks.finish()?;
    let now = api.clock.now();
    let stepped = match (&shown.password, &shown.code) {
        (Some(password), None) => api.sessions.step_up(&caller, password, now).await,
        (None, Some(code)) => {
            let code = code.expose_secret();
            api.sessions.step_up_with_code(&caller, code, now).await
        }
        (None, None) => return Err(Problem::invalid("password", "is required, or a code")),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("code", "comes in the password's place"));
        }
    };
    match stepped {
        Ok(access) => {
            api.metrics.auth_attempt("ok");
            Ok(axum::Json(tokens(&api, &access)).into_response())
        }
        Err(error) => {
            api.metrics.auth_attempt(outcome(&error));
            tracing::info!(user = %caller.user(), %error, "a step-up was refused");
            Err(error.into())
        }
    }
}

/// How the metrics count it.
fn outcome(error: &LoginError) -> &'static str {
    match error {
        LoginError::Refused | LoginError::CodeRequired | LoginError::CodeRefused => "refused",
        LoginError::Throttled { .. } => "throttled",
        _ => "failed",
    }
}

#[derive(Serialize)]
pub(super) struct SessionBody {
    id: SessionId,
    created_at: Timestamp,
    last_used_at: Timestamp,
    ends_at: Timestamp,
    address: Option<String>,
    user_agent: Option<String>,
    current: bool,
}

#[derive(Serialize)]
pub(super) struct Sessions {
    items: Vec<SessionBody>,
    next_cursor: Option<String>,
}

pub(super) async fn sessions(
    State(api): State<Api>,
    caller: Caller,
) -> Result<axum::Json<Sessions>, Problem> {
    let listed = api.sessions.list(caller.user(), api.clock.now()).await?;
    let items = listed
        .into_iter()
        .map(|session| SessionBody {
            id: session.id,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            ends_at: session.ends_at,
            address: session.client.address.map(|address| address.to_string()),
            user_agent: session.client.user_agent().map(str::to_owned),
            current: Some(session.id) == caller.session(),
        })
        .collect();
    Ok(axum::Json(Sessions {
        items,
        next_cursor: None,
    }))
}

pub(super) async fn end_session(
    State(api): State<Api>,
    caller: Caller,
    Id(session): Id<SessionId>,
) -> Result<StatusCode, Problem> {
    match api
        .sessions
        .end_one(caller.user(), session, api.clock.now())
        .await?
    {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found()),
    }
}

impl Api {
    /// Refuses a request that another site's page has made. Programs send no `Origin`.
    fn own_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(());
        };
        let own = match (&self.facts.public_url, headers.get(header::HOST)) {
            (Some(public), _) => origin.as_bytes() == public.as_bytes(),
            (None, Some(host)) => {
                let scheme = if self.facts.https {
                    "https://"
                } else {
                    "http://"
                };
                origin.as_bytes().strip_prefix(scheme.as_bytes()) == Some(host.as_bytes())
            }
            (None, None) => false,
        };
        match own {
            true => Ok(()),
            false => Err(Problem::new(
                Code::Forbidden,
                "this site's pages may not do that",
            )),
        }
    }
}

pub(super) fn client(address: ClientAddress, headers: &HeaderMap) -> Client {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    Client::new(Some(address.0), agent)
}

fn refresh_token(headers: &HeaderMap) -> Result<RefreshToken, CookieError> {
    let cookies = headers.get_all(header::COOKIE).iter();
    cookie::find(cookies.filter_map(|value| value.to_str().ok()))
}

#[derive(Serialize)]
pub(super) struct Tokens {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
}

pub(super) fn tokens(api: &Api, access: &AccessToken) -> Tokens {
    Tokens {
        access_token: access.expose().to_owned(),
        token_type: "Bearer",
        expires_in: api.tokens.lifetime().as_secs(),
    }
}

fn answer(api: &Api, pair: &TokenPair) -> Result<Response, Problem> {
    let mut response = axum::Json(tokens(api, &pair.access)).into_response();
    give(&pair.refresh, &mut response)?;
    Ok(response)
}

/// Puts the refresh token into the answer's cookie.
pub(super) fn give(token: &RefreshToken, response: &mut Response) -> Result<(), Problem> {
    let lifetime = arkeep_auth::session::Lifetimes::default().refresh;
    let mut value = HeaderValue::try_from(cookie::set(token, lifetime))
        .map_err(|error| Problem::new(Code::Internal, "no cookie could be made").because(error))?;
    value.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(())
}

fn gone() -> Response {
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cleared())]).into_response()
}

fn cleared() -> HeaderValue {
    HeaderValue::try_from(cookie::clear()).unwrap_or(HeaderValue::from_static(""))
}
