//! The routes, one file for each kind of thing.

mod agents;
mod auth;
mod destinations;
mod health;
mod job_log;
mod jobs;
mod jwks;
mod metrics;
mod policies;
mod setup;
mod snapshots;
mod users;

use arkeep_auth::Role;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::access::{Needs, Routes};
use crate::store::Listed;
use arkeep_core::JobId;

/// Every route with what it takes: the table of roles.
pub(super) fn all(routes: Routes) -> Routes {
    use Needs::{FreshRole as Fresh, Nothing, Role as Has};
    use Role::{Admin, Operator, Viewer};

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
            Has(Viewer),
            auth::log_out_everywhere,
        )
        .on(POST, "/api/v1/auth/step-up", Has(Viewer), auth::step_up)
        .on(GET, "/api/v1/auth/sessions", Has(Viewer), auth::sessions)
        .on(
            DELETE,
            "/api/v1/auth/sessions/{id}",
            Has(Viewer),
            auth::end_session,
        )
        .on(GET, "/api/v1/users/me", Has(Viewer), users::me)
        .on(PATCH, "/api/v1/users/me", Has(Viewer), users::change_me)
        .on(GET, "/api/v1/users", Has(Admin), users::list)
        .on(POST, "/api/v1/users", Has(Admin), users::create)
        .on(GET, "/api/v1/users/{id}", Has(Admin), users::find)
        .on(PATCH, "/api/v1/users/{id}", Has(Admin), users::change)
        .on(DELETE, "/api/v1/users/{id}", Has(Admin), users::delete)
        .on(
            POST,
            "/api/v1/users/{id}/revoke-sessions",
            Has(Admin),
            users::revoke_sessions,
        )
        .on(GET, "/api/v1/agents", Has(Viewer), agents::list)
        .on(POST, "/api/v1/agents", Has(Admin), agents::create)
        .on(GET, "/api/v1/agents/{id}", Has(Viewer), agents::find)
        .on(PATCH, "/api/v1/agents/{id}", Has(Admin), agents::change)
        .on(DELETE, "/api/v1/agents/{id}", Has(Admin), agents::delete)
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
        .on(GET, "/api/v1/destinations", Has(Viewer), destinations::list)
        .on(
            POST,
            "/api/v1/destinations",
            Has(Admin),
            destinations::create,
        )
        .on(
            GET,
            "/api/v1/destinations/{id}",
            Has(Viewer),
            destinations::find,
        )
        .on(
            PATCH,
            "/api/v1/destinations/{id}",
            Has(Admin),
            destinations::change,
        )
        .on(
            DELETE,
            "/api/v1/destinations/{id}",
            Has(Admin),
            destinations::delete,
        )
        .on(
            POST,
            "/api/v1/destinations/{id}/test",
            Has(Operator),
            destinations::test,
        )
        .on(GET, "/api/v1/policies", Has(Viewer), policies::list)
        .on(POST, "/api/v1/policies", Has(Operator), policies::create)
        .on(GET, "/api/v1/policies/{id}", Has(Viewer), policies::find)
        .on(
            PATCH,
            "/api/v1/policies/{id}",
            Has(Operator),
            policies::change,
        )
        .on(
            DELETE,
            "/api/v1/policies/{id}",
            Has(Operator),
            policies::delete,
        )
        .on(
            POST,
            "/api/v1/policies/{id}/run",
            Has(Operator),
            policies::run,
        )
        .on(
            POST,
            "/api/v1/policies/{id}/verify",
            Has(Operator),
            policies::verify,
        )
        .on(GET, "/api/v1/jobs", Has(Viewer), jobs::list)
        .on(GET, "/api/v1/jobs/{id}", Has(Viewer), jobs::find)
        .on(
            POST,
            "/api/v1/jobs/{id}/cancel",
            Has(Operator),
            jobs::cancel,
        )
        .on(GET, "/api/v1/jobs/{id}/log", Has(Viewer), job_log::show)
        .on(GET, "/api/v1/snapshots", Has(Viewer), snapshots::list)
        .on(GET, "/api/v1/snapshots/{id}", Has(Viewer), snapshots::find)
        .on(
            POST,
            "/api/v1/snapshots/{id}/restore",
            Has(Operator),
            snapshots::restore,
        )
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
    #[derive(Serialize)]
    struct Accepted {
        job_id: JobId,
    }
    (StatusCode::ACCEPTED, axum::Json(Accepted { job_id: job })).into_response()
}
