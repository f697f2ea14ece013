//! The root that vouches for agents, and its rotation.

use arkeep_core::{AgentId, Timestamp};
use arkeep_transport::ca::rotation::Patience;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::super::audit;
use super::super::body::MaybeJson;
use super::super::params::Params;
use super::super::problem::Problem;
use super::super::services::Api;
use crate::authority::{Behind, Root, Status};

#[derive(Serialize)]
struct CaBody {
    phase: &'static str,
    since: Timestamp,
    /// Before then the next step is not taken, whoever asks.
    not_before: Option<Timestamp>,
    roots: Vec<RootBody>,
    /// How many agents do not follow; of more than fit, `behind` holds the first.
    behind_count: usize,
    behind: Vec<BehindBody>,
}

#[derive(Serialize)]
struct RootBody {
    fingerprint: String,
    state: &'static str,
    not_before: Timestamp,
    not_after: Timestamp,
    certificate: String,
}

#[derive(Serialize)]
struct BehindBody {
    agent_id: AgentId,
    name: String,
    lacks: &'static str,
    last_seen_at: Option<Timestamp>,
}

impl From<Status> for CaBody {
    fn from(status: Status) -> Self {
        Self {
            phase: status.rotation.phase.as_str(),
            since: status.rotation.since,
            not_before: status.not_before,
            roots: status.roots.into_iter().map(RootBody::from).collect(),
            behind_count: status.behind.len(),
            behind: status
                .behind
                .into_iter()
                .take(MOST_BEHIND)
                .map(BehindBody::from)
                .collect(),
        }
    }
}

impl From<Root> for RootBody {
    fn from(root: Root) -> Self {
        Self {
            fingerprint: root.fingerprint.to_string(),
            state: root.state.as_str(),
            not_before: root.not_before,
            not_after: root.not_after,
            certificate: root.pem,
        }
    }
}

impl From<Behind> for BehindBody {
    fn from(behind: Behind) -> Self {
        Self {
            agent_id: behind.agent,
            name: behind.name,
            lacks: behind.lacks.as_str(),
            last_seen_at: behind.last_seen_at,
        }
    }
}

/// What of a step is written down.
#[derive(Serialize)]
struct Phase {
    phase: &'static str,
    force: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Go on without the agents that are behind.
    #[serde(default)]
    force: bool,
}

pub(super) async fn show(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    let body = CaBody::from(api.authority.status().await?);
    Ok(axum::Json(body).into_response())
}

/// 202: a step is taken, and the others follow by themselves; `GET /ca` says how far it is.
pub(super) async fn rotate(
    State(api): State<Api>,
    MaybeJson(Wanted { force }): MaybeJson<Wanted>,
) -> Result<Response, Problem> {
    let patience = match force {
        true => Patience::None,
        false => Patience::Full,
    };
    let before = Phase {
        phase: api.authority.rotation().phase.as_str(),
        force: None,
    };
    api.authority.rotate(patience).await?;
    let after = Phase {
        phase: api.authority.rotation().phase.as_str(),
        force: force.then_some(true),
    };
    audit::changed(&before, &after);
    let body = CaBody::from(api.authority.status().await?);
    Ok((StatusCode::ACCEPTED, axum::Json(body)).into_response())
}

const MOST_BEHIND: usize = 1_000;
