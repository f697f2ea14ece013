//! `/health/live` and `/health/ready`.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::Instant;

use super::super::envelope::OWN_DOCUMENT;
use super::super::services::Api;

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok"
}

/// Whether requests can be served. Strangers learn which part fails, and nothing of why.
pub(super) async fn ready(State(api): State<Api>, headers: HeaderMap) -> Response {
    let asked = Instant::now();
    let database = tokio::time::timeout(PATIENCE, api.stores.instance.ping()).await;
    let took = asked.elapsed();
    let database = match database {
        Ok(Ok(_)) => Status::Ok,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database is not healthy");
            Status::Failed
        }
        Err(_) => {
            tracing::warn!("the database did not answer in time");
            Status::Failed
        }
    };
    let scheduler = match api.pulse.is_alive() {
        true => Status::Ok,
        false => Status::Failed,
    };
    let known = api.identify(&headers).await.is_ok();
    let healthy = database == Status::Ok && scheduler == Status::Ok;

    let body = Health {
        status: if healthy { "healthy" } else { "unhealthy" },
        checks: Parts {
            database: Part {
                status: database,
                latency_ms: known.then_some(took.as_secs_f64() * 1_000.0),
            },
            scheduler: Part {
                status: scheduler,
                latency_ms: None,
            },
        },
    };
    if healthy {
        return axum::Json(body).into_response();
    }
    let own = [(OWN_DOCUMENT, HeaderValue::from_static("health"))];
    (StatusCode::SERVICE_UNAVAILABLE, own, axum::Json(body)).into_response()
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    checks: Parts,
}

#[derive(Serialize)]
struct Parts {
    database: Part,
    scheduler: Part,
}

#[derive(Serialize)]
struct Part {
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Failed,
}

const PATIENCE: Duration = Duration::from_secs(2);
