//! The keys that seal credentials, and their rotation.

use arkeep_core::Timestamp;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::super::body::NoBody;
use super::super::params::Params;
use super::super::problem::Problem;
use super::super::services::Api;
use crate::keeper::{Status, word};
use crate::reseal::Progress;

#[derive(Serialize)]
struct VaultBody {
    keys: Vec<KeyBody>,
    unlocked_by: Vec<String>,
    resealing: ResealingBody,
}

#[derive(Serialize)]
struct KeyBody {
    id: String,
    state: &'static str,
    created_at: Timestamp,
    changed_at: Timestamp,
    messages_sealed: u64,
    /// How many sealed values need it.
    needed_by: u64,
}

#[derive(Serialize)]
struct ResealingBody {
    state: &'static str,
    done: u64,
    total: u64,
    resealed: u64,
    unopened: u64,
    ended_at: Option<Timestamp>,
}

impl From<Status> for VaultBody {
    fn from(status: Status) -> Self {
        let keys = status.keys.iter().map(|key| KeyBody {
            id: key.id.to_string(),
            state: word(key.state),
            created_at: Timestamp::from_unix_millis(key.created_at),
            changed_at: Timestamp::from_unix_millis(key.changed_at),
            messages_sealed: key.messages_sealed,
            needed_by: status.needed.sealed_by(key.id),
        });
        let (state, progress, ended_at) = match (status.resealing, status.last) {
            (Some(progress), _) => ("running", progress, None),
            (None, Some(last)) if !last.complete => ("failed", last.progress, Some(last.ended_at)),
            (None, Some(last)) => ("idle", last.progress, Some(last.ended_at)),
            (None, None) => ("idle", Progress::default(), None),
        };
        Self {
            keys: keys.collect(),
            unlocked_by: status.guards,
            resealing: ResealingBody {
                state,
                done: progress.done,
                total: progress.total,
                resealed: progress.resealed,
                unopened: progress.unopened,
                ended_at,
            },
        }
    }
}

pub(super) async fn show(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    let body = VaultBody::from(api.keeper.status().await?);
    Ok(axum::Json(body).into_response())
}

/// 202: every sealed value moves to the new key, and `GET /vault` says how far it is.
pub(super) async fn rotate(State(api): State<Api>, NoBody: NoBody) -> Result<Response, Problem> {
    api.keeper.rotate().await?;
    // The key is made, whether or not it can be told what needs it: an error would ask for another.
    let body = api.keeper.status().await.ok().map(VaultBody::from);
    Ok((StatusCode::ACCEPTED, axum::Json(body)).into_response())
}
