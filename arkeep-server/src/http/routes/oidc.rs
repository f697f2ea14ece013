//! Logins through identity providers.

use arkeep_auth::OidcProviderId;
use arkeep_auth::cookie::CookieError;
use arkeep_auth::oidc::{Answer, LoginSecret, ProvenIdentity, RelyingParty};
use arkeep_core::UserId;
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::super::access::logged_out;
use super::super::address::ClientAddress;
use super::super::audit;
use super::super::checks::Checks;
use super::super::params::{Id, Params};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::auth::{client, give};
use super::{PageBody, page};
use crate::store::identity::{NewIdentity, StoredProvider};
use crate::store::users::{NewUser, User, UserEdit};
use crate::store::{Refusal, WriteError};

/// A button of the login page.
#[derive(Serialize)]
pub(super) struct Offered {
    id: OidcProviderId,
    name: String,
}

pub(super) async fn providers(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<Offered>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    let mut listed = api.stores.identities.providers(&wanted).await?;
    listed.items.retain(|provider| provider.enabled);
    Ok(page(listed, |provider: StoredProvider| Offered {
        id: provider.id,
        name: provider.name,
    }))
}

/// Sends the browser to the provider.
pub(super) async fn log_in(
    State(api): State<Api>,
    Id(id): Id<OidcProviderId>,
) -> Result<Response, Problem> {
    let party = api.relying_party()?;
    let provider = api.live_provider(id).await?;
    let begun = party.begin(&provider, api.clock.now()).await?;
    away(&begun.location, &[sensitive(begun.secret.cookie())?])
}

/// Takes the browser back. The tokens are not in an address: the refresh token is in its cookie, and
/// the page exchanges it.
pub(super) async fn callback(
    State(api): State<Api>,
    Extension(address): Extension<ClientAddress>,
    headers: HeaderMap,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Response {
    audit::always();
    let answered = async {
        let Query(pairs) =
            query.map_err(|_| Problem::new(Code::BadRequest, "the query cannot be read"))?;
        let answer = answer(pairs)?;
        api.come_back(address, &headers, answer).await
    };
    let mut response = answered.await.unwrap_or_else(|problem| {
        api.metrics.auth_attempt(match problem.code() {
            Code::Unavailable | Code::Internal => "failed",
            _ => "refused",
        });
        tracing::info!(address = %address.0, "a login through a provider was refused");
        problem.into_response()
    });
    // Its one use is over, however it ended.
    if let Ok(cleared) = HeaderValue::try_from(LoginSecret::clear()) {
        response.headers_mut().append(header::SET_COOKIE, cleared);
    }
    response
}

impl Api {
    fn relying_party(&self) -> Result<&RelyingParty, Problem> {
        self.relying_party.as_ref().ok_or_else(|| {
            let detail = "the server does not know its own address: start it with --public-url";
            Problem::new(Code::Conflict, detail)
        })
    }

    async fn come_back(
        &self,
        address: ClientAddress,
        headers: &HeaderMap,
        answer: Answer,
    ) -> Result<Response, Problem> {
        let party = self.relying_party()?;
        let now = self.clock.now();
        let secret = login_secret(headers)?;
        let pending = party.resume(secret, answer, now).await?;
        let provider = self.live_provider(pending.provider()).await?;
        audit::fact("provider", provider.id);
        let who = party.finish(pending, &provider, now).await?;
        audit::fact("subject", who.subject());
        let user = self.user_for(&who).await?;

        let client = client(address, headers);
        let pair = self.sessions.open_for(user, &client, now).await?;
        self.metrics.auth_attempt("ok");
        audit::by(user);
        audit::fact("session", pair.session.grant.session);
        tracing::info!(%user, address = %address.0, provider = %who.provider(), "logged in");
        if let Err(error) = self.stores.users.logged_in(user, now).await {
            tracing::warn!(%error, "the time of the login was not noted");
        }
        let home = self.facts.public_url.as_deref().unwrap_or_default();
        let mut response = away(&format!("{home}/"), &[])?;
        give(&pair.refresh, &mut response)?;
        Ok(response)
    }

    /// The user that an identity leads to, with the role that the provider gives them today.
    async fn user_for(&self, who: &ProvenIdentity) -> Result<UserId, Problem> {
        let identities = &self.stores.identities;
        let known = identities.user_of(who.issuer(), who.subject()).await?;
        let now = self.clock.now();
        let Some(role) = who.role() else {
            if let Some(user) = known {
                audit::upon(user.id);
                audit::fact("sessions", "[ended]");
                audit::fact("api_tokens", "[revoked]");
                if let Some(epoch) = identities.shut_out(user.id, now).await? {
                    self.take_back(user.id, epoch);
                }
            }
            return Err(Problem::new(
                Code::Forbidden,
                "none of your groups has a role here",
            ));
        };
        match known {
            Some(user) if user.role == role => Ok(user.id),
            Some(user) => self.follow_role(user, role).await,
            None => {
                let new = NewUser {
                    id: UserId::mint(now, self.entropy.as_ref()),
                    email: email(who)?,
                    display_name: display_name(who)?,
                    role,
                    password_hash: None,
                    created_at: now,
                };
                let identity = NewIdentity {
                    provider: who.provider(),
                    issuer: who.issuer().to_owned(),
                    subject: who.subject().to_owned(),
                };
                match identities.admit(&new, &identity).await {
                    Ok(user) => {
                        tracing::info!(user = %user.id, "came in for the first time");
                        audit::fact("admitted", &user.email);
                        audit::fact("role", user.role);
                        Ok(user.id)
                    }
                    // Never joined: whoever holds the address there need not be who holds it here.
                    Err(WriteError::Refused(Refusal::Taken { .. })) => Err(Problem::new(
                        Code::Conflict,
                        "another account has this e-mail address",
                    )),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    async fn follow_role(&self, user: User, role: arkeep_auth::Role) -> Result<UserId, Problem> {
        audit::fact(
            "role",
            serde_json::json!({"before": user.role, "after": role}),
        );
        let edit = UserEdit {
            id: user.id,
            version: user.version,
            email: user.email,
            display_name: user.display_name,
            role,
            enabled: user.enabled,
            password_hash: None,
            at: self.clock.now(),
        };
        let user = self.stores.users.update(&edit).await?;
        self.take_back(user.id, user.epoch);
        Ok(user.id)
    }
}

fn email(who: &ProvenIdentity) -> Result<String, Problem> {
    let text = who.email().unwrap_or_default();
    let mut checks = Checks::default();
    checks.email(text, "email");
    match checks.finish() {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err(Problem::new(
            Code::Forbidden,
            "the identity provider gives no e-mail address",
        )),
    }
}

fn display_name(who: &ProvenIdentity) -> Result<String, Problem> {
    let name = who.name().unwrap_or_default();
    let mut checks = Checks::default();
    checks.title(name, "name");
    match checks.finish() {
        Ok(()) => Ok(name.to_owned()),
        Err(_) => email(who),
    }
}

fn login_secret(headers: &HeaderMap) -> Result<LoginSecret, CookieError> {
    let cookies = headers.get_all(header::COOKIE).iter();
    LoginSecret::find(cookies.filter_map(|value| value.to_str().ok()))
}

// RFC 6749 §4.1.2: what is not known is ignored; and §3.1: what comes twice is refused.
fn answer(pairs: Vec<(String, String)>) -> Result<Answer, Problem> {
    let mut answer = Answer::default();
    for (name, value) in pairs {
        let place = match name.as_str() {
            "state" => &mut answer.state,
            "code" => &mut answer.code,
            "iss" => &mut answer.iss,
            "error" => &mut answer.error,
            _ => continue,
        };
        let problem = || Problem::new(Code::BadRequest, "the query cannot be read");
        if value.len() > MOST {
            return Err(problem().at(name, "is too long"));
        }
        if place.replace(value).is_some() {
            return Err(problem().at(name, "comes twice"));
        }
    }
    if answer.state.is_none() {
        return Err(logged_out().at("state", "is required"));
    }
    Ok(answer)
}

/// Sends the browser elsewhere.
fn away(location: &str, cookies: &[HeaderValue]) -> Result<Response, Problem> {
    let location = HeaderValue::try_from(location)
        .map_err(|error| Problem::new(Code::Internal, "nowhere to go").because(error))?;
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    for cookie in cookies {
        let cookie = cookie.clone();
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn sensitive(text: String) -> Result<HeaderValue, Problem> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|error| Problem::new(Code::Internal, "no cookie could be made").because(error))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A code or a state is shorter.
const MOST: usize = 4_096;
