//! The routes, one file for each kind of thing.

mod agents;
mod audit;
mod auth;
mod ca;
mod channels;
mod deliveries;
mod destinations;
mod factors;
mod health;
mod job_log;
mod jobs;
mod jwks;
mod metrics;
mod oidc;
mod oidc_providers;
mod policies;
mod setup;
mod snapshots;
mod tokens;
mod users;
mod vault;

use arkeep_auth::{Role, Scope};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::access::{Needs, Routes};
use crate::store::Listed;
use arkeep_core::JobId;

/// Every route with what it takes: the table of roles and scopes.
pub(super) fn all(routes: Routes) -> Routes {
    use Needs::{FreshPerson, FreshRole as Fresh, Nothing, Person, Role as Has};
    use Role::{Admin, Operator, Viewer};
    use Scope::{Admin as Full, Policies, Read, Restore, Run};

    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;

    routes
        .on(GET, "/health/live", Nothing, health::live)
        .on(GET, "/health/ready", Nothing, health::ready)
        .on(GET, "/metrics", Nothing, metrics::show)
        .on(GET, "/.well-known/jwks.json", Nothing, jwks::show)
        .on(GET, "/api/v1/setup", Nothing, setup::show)
        .on(POST, "/api/v1/setup", Nothing, setup::run)
        .on(POST, "/api/v1/auth/login", Nothing, auth::log_in)
        .on(POST, "/api/v1/auth/refresh", Nothing, auth::refresh)
        .on(POST, "/api/v1/auth/logout", Nothing, auth::log_out)
        .on(
            POST,
            "/api/v1/auth/logout-all",
            Person,
            auth::log_out_everywhere,
        )
        .on(POST, "/api/v1/auth/step-up", Person, auth::step_up)
        .on(GET, "/api/v1/auth/sessions", Person, auth::sessions)
        .on(
            DELETE,
            "/api/v1/auth/sessions/{id}",
            Person,
            auth::end_session,
        )
        .on(POST, "/api/v1/auth/totp", FreshPerson, factors::begin)
        .on(
            POST,
            "/api/v1/auth/totp/confirm",
            FreshPerson,
            factors::confirm,
        )
        .on(DELETE, "/api/v1/auth/totp", FreshPerson, factors::remove)
        .on(
            POST,
            "/api/v1/auth/recovery-codes",
            FreshPerson,
            factors::recovery_codes,
        )
        .on(GET, "/api/v1/auth/tokens", Person, tokens::list)
        .on(POST, "/api/v1/auth/tokens", Person, tokens::create)
        .on(DELETE, "/api/v1/auth/tokens/{id}", Person, tokens::revoke)
        .on(GET, "/api/v1/auth/oidc/providers", Nothing, oidc::providers)
        .on(GET, "/api/v1/auth/oidc/callback", Nothing, oidc::callback)
        .on(GET, "/api/v1/auth/oidc/{id}/login", Nothing, oidc::log_in)
        .on(
            GET,
            "/api/v1/oidc-providers",
            Fresh(Admin),
            oidc_providers::list,
        )
        .on(
            POST,
            "/api/v1/oidc-providers",
            Fresh(Admin),
            oidc_providers::create,
        )
        .on(
            GET,
            "/api/v1/oidc-providers/{id}",
            Fresh(Admin),
            oidc_providers::find,
        )
        .on(
            PATCH,
            "/api/v1/oidc-providers/{id}",
            Fresh(Admin),
            oidc_providers::change,
        )
        .on(
            DELETE,
            "/api/v1/oidc-providers/{id}",
            Fresh(Admin),
            oidc_providers::delete,
        )
        .on(GET, "/api/v1/users/me", Has(Viewer, Read), users::me)
        .on(PATCH, "/api/v1/users/me", Person, users::change_me)
        .on(GET, "/api/v1/users", Has(Admin, Full), users::list)
        .on(POST, "/api/v1/users", Has(Admin, Full), users::create)
        .on(GET, "/api/v1/users/{id}", Has(Admin, Full), users::find)
        .on(PATCH, "/api/v1/users/{id}", Has(Admin, Full), users::change)
        .on(
            DELETE,
            "/api/v1/users/{id}",
            Has(Admin, Full),
            users::delete,
        )
        .on(
            POST,
            "/api/v1/users/{id}/revoke-sessions",
            Has(Admin, Full),
            users::revoke_sessions,
        )
        .on(GET, "/api/v1/agents", Has(Viewer, Read), agents::list)
        .on(POST, "/api/v1/agents", Has(Admin, Full), agents::create)
        .on(GET, "/api/v1/agents/{id}", Has(Viewer, Read), agents::find)
        .on(
            PATCH,
            "/api/v1/agents/{id}",
            Has(Admin, Full),
            agents::change,
        )
        .on(
            DELETE,
            "/api/v1/agents/{id}",
            Has(Admin, Full),
            agents::delete,
        )
        .on(
            POST,
            "/api/v1/agents/{id}/join-token",
            Fresh(Admin),
            agents::offer,
        )
        .on(
            POST,
            "/api/v1/agents/{id}/revoke",
            Fresh(Admin),
            agents::revoke,
        )
        .on(
            POST,
            "/api/v1/agents/{id}/approve",
            Fresh(Admin),
            agents::approve,
        )
        .on(
            GET,
            "/api/v1/destinations",
            Has(Viewer, Read),
            destinations::list,
        )
        .on(
            POST,
            "/api/v1/destinations",
            Has(Admin, Full),
            destinations::create,
        )
        .on(
            GET,
            "/api/v1/destinations/{id}",
            Has(Viewer, Read),
            destinations::find,
        )
        .on(
            PATCH,
            "/api/v1/destinations/{id}",
            Has(Admin, Full),
            destinations::change,
        )
        .on(
            DELETE,
            "/api/v1/destinations/{id}",
            Has(Admin, Full),
            destinations::delete,
        )
        .on(
            POST,
            "/api/v1/destinations/{id}/test",
            Has(Operator, Run),
            destinations::test,
        )
        .on(GET, "/api/v1/policies", Has(Viewer, Read), policies::list)
        .on(
            POST,
            "/api/v1/policies",
            Has(Operator, Policies),
            policies::create,
        )
        .on(
            GET,
            "/api/v1/policies/{id}",
            Has(Viewer, Read),
            policies::find,
        )
        .on(
            PATCH,
            "/api/v1/policies/{id}",
            Has(Operator, Policies),
            policies::change,
        )
        .on(
            DELETE,
            "/api/v1/policies/{id}",
            Has(Operator, Policies),
            policies::delete,
        )
        .on(
            POST,
            "/api/v1/policies/{id}/run",
            Has(Operator, Run),
            policies::run,
        )
        .on(
            POST,
            "/api/v1/policies/{id}/verify",
            Has(Operator, Run),
            policies::verify,
        )
        .on(GET, "/api/v1/jobs", Has(Viewer, Read), jobs::list)
        .on(GET, "/api/v1/jobs/{id}", Has(Viewer, Read), jobs::find)
        .on(
            POST,
            "/api/v1/jobs/{id}/cancel",
            Has(Operator, Run),
            jobs::cancel,
        )
        .on(
            GET,
            "/api/v1/jobs/{id}/log",
            Has(Viewer, Read),
            job_log::show,
        )
        .on(GET, "/api/v1/snapshots", Has(Viewer, Read), snapshots::list)
        .on(
            GET,
            "/api/v1/snapshots/{id}",
            Has(Viewer, Read),
            snapshots::find,
        )
        .on(
            POST,
            "/api/v1/snapshots/{id}/restore",
            Has(Operator, Restore),
            snapshots::restore,
        )
        .on(GET, "/api/v1/channels", Has(Admin, Full), channels::list)
        .on(POST, "/api/v1/channels", Has(Admin, Full), channels::create)
        .on(
            GET,
            "/api/v1/channels/{id}",
            Has(Admin, Full),
            channels::find,
        )
        .on(
            PATCH,
            "/api/v1/channels/{id}",
            Has(Admin, Full),
            channels::change,
        )
        .on(
            DELETE,
            "/api/v1/channels/{id}",
            Has(Admin, Full),
            channels::delete,
        )
        .on(
            POST,
            "/api/v1/channels/{id}/test",
            Has(Admin, Full),
            channels::test,
        )
        .on(
            GET,
            "/api/v1/deliveries",
            Has(Admin, Full),
            deliveries::list,
        )
        .on(GET, "/api/v1/audit", Has(Admin, Full), audit::list)
        .on(GET, "/api/v1/vault", Fresh(Admin), vault::show)
        .on(POST, "/api/v1/vault/rotate", Fresh(Admin), vault::rotate)
        .on(GET, "/api/v1/ca", Fresh(Admin), ca::show)
        .on(POST, "/api/v1/ca/rotate", Fresh(Admin), ca::rotate)
}

/// One page, as the API writes it.
#[derive(Debug, Serialize)]
struct PageBody<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

fn page<T, U>(listed: Listed<T>, body: impl FnMut(T) -> U) -> axum::Json<PageBody<U>> {
    let listed = listed.map(body);
    axum::Json(PageBody {
        items: listed.items,
        next_cursor: listed.next.map(|cursor| cursor.to_string()),
    })
}

/// 201, with the address of what was made.
fn created(location: String, body: impl IntoResponse) -> Response {
    let mut headers = HeaderMap::new();
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    (StatusCode::CREATED, headers, body).into_response()
}

/// 202, with the job that does what was asked.
fn accepted(job: JobId) -> Response {
    super::audit::fact("job_id", job);
    #[derive(Serialize)]
    struct Accepted {
        job_id: JobId,
    }
    (StatusCode::ACCEPTED, axum::Json(Accepted { job_id: job })).into_response()
}
