//! The public keys of access tokens.

use axum::extract::State;
use axum::response::IntoResponse;

use super::super::services::Api;

pub(super) async fn show(State(api): State<Api>) -> impl IntoResponse {
    axum::Json(api.tokens.jwks(api.clock.now()))
}
