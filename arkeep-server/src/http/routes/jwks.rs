//! The public keys of access tokens.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::super::services::Api;

pub(super) async fn show(State(api): State<Api>) -> impl IntoResponse {
    let keys = axum::Json(api.tokens.jwks(api.clock.now()));
    ([(header::CACHE_CONTROL, MAY_BE_KEPT)], keys)
}

/// Far below the shortest overlap of two keys, which is a quarter of an hour.
const MAY_BE_KEPT: &str = "public, max-age=300";
