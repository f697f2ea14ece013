//! Snapshots that repositories list, and putting them back.

use std::path::Path;

use arkeep_auth::Role;
use arkeep_core::job::JobKind;
use arkeep_core::snapshot::ResticId;
use arkeep_core::{AgentId, DestinationId, JobId, PolicyId, SnapshotId, Timestamp};
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::super::access::Caller;
use super::super::audit;
use super::super::body::Json;
use super::super::checks::Checks;
use super::super::params::{Id, Params};
use super::super::problem::{Code, Problem};
use super::super::services::Api;
use super::{PageBody, accepted, page};
use crate::parameters::RestoreParameters;
use crate::store::snapshots::{Snapshot, SnapshotFilter};

#[derive(Serialize)]
pub(super) struct SnapshotBody {
    id: SnapshotId,
    restic_id: ResticId,
    policy_id: PolicyId,
    agent_id: AgentId,
    destination_id: DestinationId,
    job_id: Option<JobId>,
    taken_at: Timestamp,
    hostname: String,
    paths: Vec<String>,
    tags: Vec<String>,
    bytes_processed: u64,
    bytes_added: u64,
    files: u64,
    verified_at: Option<Timestamp>,
    present: bool,
}

impl From<Snapshot> for SnapshotBody {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            id: snapshot.id,
            restic_id: snapshot.restic_id,
            policy_id: snapshot.policy,
            agent_id: snapshot.agent,
            destination_id: snapshot.destination,
            job_id: snapshot.job,
            taken_at: snapshot.taken_at,
            hostname: snapshot.hostname,
            paths: snapshot.paths,
            tags: snapshot.tags,
            bytes_processed: snapshot.bytes_processed,
            bytes_added: snapshot.bytes_added,
            files: snapshot.files,
            verified_at: snapshot.verified_at,
            present: snapshot.present,
        }
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<SnapshotBody>>, Problem> {
    let filter = SnapshotFilter {
        policy: params.take("policy_id")?,
        agent: params.take("agent_id")?,
        destination: params.take("destination_id")?,
    };
    let wanted = params.page()?;
    params.finish()?;
    Ok(page(
        api.stores.snapshots.list(&filter, &wanted).await?,
        SnapshotBody::from,
    ))
}

pub(super) async fn find(
    State(api): State<Api>,
    Id(id): Id<SnapshotId>,
) -> Result<axum::Json<SnapshotBody>, Problem> {
    Ok(axum::Json(api.snapshot(id).await?.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restore {
    agent_id: AgentId,
    target: String,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    overwrite: bool,
}

pub(super) async fn restore(
    State(api): State<Api>,
    caller: Caller,
    Id(id): Id<SnapshotId>,
    Json(wanted): Json<Restore>,
) -> Result<Response, Problem> {
    let snapshot = api.snapshot(id).await?;
    let mut checks = Checks::default();
    checks.absolute_path(&wanted.target, "target");
    let climbs = wanted.target.split('/').any(|part| part == "..");
    checks.that(!climbs, "target", "must not climb with `..`");
    checks.that(
        wanted.include.len() <= MAX_INCLUDES,
        "include",
        "may have 1000 entries at most",
    );
    for (index, path) in wanted.include.iter().enumerate() {
        checks.absolute_path(path, format!("include[{index}]"));
    }
    checks.finish()?;
    if is_root(&wanted.target) {
        if caller.role() < Role::Admin {
            return Err(Problem::new(
                Code::Forbidden,
                "to restore in place takes the role admin",
            ));
        }
        api.require_fresh(&caller)?;
    }
    if !snapshot.present {
        return Err(Problem::new(
            Code::Conflict,
            "the repository does not list the snapshot any more",
        ));
    }
    let agent = api.agent_for_work(wanted.agent_id).await?;
    audit::fact("agent_id", agent.id);
    audit::fact("target", &wanted.target);
    let parameters = RestoreParameters {
        snapshot_id: id,
        target: wanted.target,
        include: wanted.include,
        overwrite: wanted.overwrite,
    };
    let job = api
        .enqueue(
            JobKind::Restore,
            agent.id,
            Some(snapshot.policy),
            None,
            &parameters,
        )
        .await?;
    Ok(accepted(job))
}

// Full paths are put under the target, so in place is the root and nothing else.
fn is_root(target: &str) -> bool {
    Path::new(target).parent().is_none()
}

impl Api {
    async fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, Problem> {
        self.stores
            .snapshots
            .find(id)
            .await?
            .ok_or_else(Problem::not_found)
    }
}

const MAX_INCLUDES: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_is_the_root_however_it_is_written() {
        for target in ["/", "//", "/./", "/.", "///."] {
            assert!(is_root(target), "{target}");
        }
        for target in ["/a", "/a/", "//a", "/.a"] {
            assert!(!is_root(target), "{target}");
        }
    }
}
