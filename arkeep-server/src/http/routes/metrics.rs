//! `/metrics`, for those who may read it.

use arkeep_auth::bearer_token;
use arkeep_core::ExposeSecret;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::super::address::ClientAddress;
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use crate::store::Page;
use crate::store::agents::AgentState;
use arkeep_core::job::JobState;

pub(super) async fn show(
    State(api): State<Api>,
    Extension(client): Extension<ClientAddress>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let near = api
        .facts
        .metrics_allow
        .iter()
        .any(|network| network.contains(client.0));
    if !near && !shows_token(&api, &headers) {
        return Err(Problem::new(
            Code::Forbidden,
            "this address may not read the metrics",
        ));
    }
    look(&api).await?;
    let text = api.metrics.text().map_err(|error| {
        Problem::new(Code::Internal, "the metrics cannot be written").because(error)
    })?;
    let kind = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    Ok((kind, text).into_response())
}

fn shows_token(api: &Api, headers: &HeaderMap) -> bool {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(bearer_token);
    match (shown, &api.facts.metrics_token) {
        (Some(shown), Some(token)) => {
            // Of hashes, so that not even the length of the token shows in the time.
            let shown = digest(&SHA256, shown.as_bytes());
            let token = digest(&SHA256, token.expose_secret().as_bytes());
            verify_slices_are_equal(shown.as_ref(), token.as_ref()).is_ok()
        }
        _ => false,
    }
}

// What has a level and not a count is looked up when somebody asks.
async fn look(api: &Api) -> Result<(), Problem> {
    let now = api.clock.now();
    let mut counts = STATES.map(|(state, word)| (state, word, 0));
    let mut page = Page::first(Page::MAX_LIMIT).unwrap_or_default();
    loop {
        let listed = api.stores.agents.list(&page).await?;
        for agent in &listed.items {
            let state = agent.state(now);
            for (known, _, count) in &mut counts {
                if *known == state {
                    *count += 1;
                }
            }
        }
        match listed.next {
            Some(cursor) => page = page.after(cursor),
            None => break,
        }
    }
    for (_, word, count) in counts {
        api.metrics.agents(word, count);
    }
    let pending = api.stores.jobs.pending().await?;
    let queued = pending.iter().find(|(state, _)| *state == JobState::Queued);
    let depth = queued.map_or(0, |(_, count)| i64::try_from(*count).unwrap_or(i64::MAX));
    api.metrics.queue_depth(depth);
    Ok(())
}

const STATES: [(AgentState, &str); 5] = [
    (AgentState::Pending, "pending"),
    (AgentState::Online, "online"),
    (AgentState::Offline, "offline"),
    (AgentState::AwaitingApproval, "awaiting_approval"),
    (AgentState::Revoked, "revoked"),
];
