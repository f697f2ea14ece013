//! The HTTP API.
//!
//! A request passes four layers: `envelope` gives it an id, a limit of time and the headers of
//! its answer; [`audit`] writes down what became of it; [`access`] asks who calls and whether they
//! may; a handler of `routes` does what was asked. Errors become answers in `status`, and nowhere else.

pub mod access;
pub(crate) mod address;
pub mod audit;
mod body;
pub(crate) mod checks;
pub(crate) mod envelope;
pub(crate) mod listen;
pub mod metrics;
mod params;
mod patch;
pub mod problem;
pub mod pulse;
mod routes;
pub mod services;
mod shape;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;

use access::{Routes, Rule};
use envelope::Edge;
use problem::{Code, Problem};
use services::Api;

/// The whole API, and the table of who may do what.
pub fn router(api: Api) -> (Router, Vec<Rule>) {
    let edge = Arc::new(Edge {
        clock: Arc::clone(&api.clock),
        entropy: Arc::clone(&api.entropy),
        metrics: Arc::clone(&api.metrics),
        trusted_proxies: api.facts.trusted_proxies.clone(),
        https: api.facts.https,
    });
    let log = Arc::clone(&api.audit);
    let (router, rules) = routes::all(Routes::new(api.clone())).finish();
    let router = router
        .fallback(async || Problem::not_found())
        .method_not_allowed_fallback(async || {
            Problem::new(Code::MethodNotAllowed, "this address does not do that")
        })
        .layer(DefaultBodyLimit::max(body::MAX_BODY))
        .layer(middleware::from_fn_with_state(log, audit::record))
        .layer(middleware::from_fn_with_state(edge, envelope::envelope))
        .with_state(api);
    (router, rules)
}
