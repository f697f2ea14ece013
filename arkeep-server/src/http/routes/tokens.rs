//! Tokens for programs, of whoever is logged in.

use arkeep_auth::api_token::{ApiTokenInfo, Owner, Wanted};
use arkeep_auth::{ApiTokenId, Scopes};
use arkeep_core::Timestamp;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::super::access::Caller;
use super::super::audit;
use super::super::body::Json;
use super::super::params::{Id, Params};
use super::super::problem::Problem;
use super::super::services::Api;
use super::{PageBody, created, page};
use crate::store::Listed;

#[derive(Serialize)]
pub(super) struct TokenBody {
    id: ApiTokenId,
    name: String,
    scopes: Scopes,
    created_at: Timestamp,
    expires_at: Timestamp,
    last_used_at: Option<Timestamp>,
}

impl From<ApiTokenInfo> for TokenBody {
    fn from(info: ApiTokenInfo) -> Self {
        Self {
            id: info.id,
            name: info.name,
            scopes: info.scopes,
            created_at: info.created_at,
            expires_at: info.expires_at,
            last_used_at: info.last_used_at,
        }
    }
}

/// A token that was just made, with the text that nothing shows again.
#[derive(Serialize)]
struct Made {
    #[serde(flatten)]
    body: TokenBody,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateToken {
    name: String,
    scopes: Scopes,
    expires_at: Timestamp,
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Json(wanted): Json<CreateToken>,
) -> Result<Response, Problem> {
    let wanted = Wanted {
        name: wanted.name,
        scopes: wanted.scopes,
        expires_at: wanted.expires_at,
    };
    let (user, now) = (caller.user(), api.clock.now());
    let owner = Owner::from(&*caller);
    let (token, info) = api.api_tokens.create(owner, wanted, now).await?;
    tracing::info!(%user, token = %info.id, "a token for a program was made");
    let body = TokenBody::from(info);
    audit::added(&body);
    let made = Made {
        body,
        token: token.expose().to_string(),
    };
    let location = format!("/api/v1/auth/tokens/{}", made.body.id);
    Ok(created(location, axum::Json(made)))
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    mut params: Params,
) -> Result<axum::Json<PageBody<TokenBody>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    let all = api.api_tokens.list(caller.user()).await?;
    // A user has few of them; ids made later are larger.
    let rest = all.into_iter().filter(|info| {
        wanted
            .cursor()
            .is_none_or(|after| info.id.as_uuid() < after.id())
    });
    let listed = Listed::cut(rest.collect(), &wanted, |info: &ApiTokenInfo| {
        info.id.as_uuid()
    });
    Ok(page(listed, TokenBody::from))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<ApiTokenId>,
) -> Result<StatusCode, Problem> {
    let user = caller.user();
    match api.api_tokens.revoke(user, id).await? {
        true => {
            tracing::info!(%user, token = %id, "a token for a program was revoked");
            Ok(StatusCode::NO_CONTENT)
        }
        false => Err(Problem::not_found()),
    }
}
