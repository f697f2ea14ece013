//! Snapshots that repositories list.

use std::fmt;

use arkeep_core::repository::RelativePath;
use arkeep_core::snapshot::ResticId;
use arkeep_core::{AgentId, DestinationId, JobId, PolicyId, SnapshotId, StoreError, Timestamp};
use async_trait::async_trait;

use super::{Listed, Page};

/// Keeps what is known of snapshots.
#[async_trait]
pub trait SnapshotStore: fmt::Debug + Send + Sync {
    /// Notes a snapshot. One that is known already, by policy, destination and restic's id, keeps
    /// its id and is present again.
    ///
    /// None when its policy, agent or destination is gone: nothing here would open its repository.
    async fn record(&self, snapshot: &Snapshot) -> Result<Option<SnapshotId>, StoreError>;

    /// The snapshot of this id.
    async fn find(&self, id: SnapshotId) -> Result<Option<Snapshot>, StoreError>;

    /// Snapshots that match, newest first.
    async fn list(
        &self,
        filter: &SnapshotFilter,
        page: &Page,
    ) -> Result<Listed<Snapshot>, StoreError>;

    /// Makes the list of a policy's repository agree with what restic says is there: those that
    /// are not in `present` are marked absent. Returns the ones that were thought present.
    async fn reconcile(
        &self,
        policy: PolicyId,
        destination: DestinationId,
        present: &[ResticId],
    ) -> Result<Vec<SnapshotId>, StoreError>;
}

/// Which snapshots are wanted. An absent field matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Of this policy.
    pub policy: Option<PolicyId>,
    /// Of this agent.
    pub agent: Option<AgentId>,
    /// At this destination.
    pub destination: Option<DestinationId>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id here.
    pub id: SnapshotId,
    /// Its id in the repository.
    pub restic_id: ResticId,
    /// The policy that it belongs to.
    pub policy: PolicyId,
    /// The machine that it shows.
    pub agent: AgentId,
    /// Where it lies.
    pub destination: DestinationId,
    /// The repository's path below the destination's place, as it was when the snapshot was taken.
    pub path: RelativePath,
    /// The job that took it, while that is remembered.
    pub job: Option<JobId>,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// The machine's name in it.
    pub hostname: String,
    /// What it holds.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Bytes that were read for it.
    pub bytes_processed: u64,
    /// Bytes that were new to the repository.
    pub bytes_added: u64,
    /// Files in it.
    pub files: u64,
    /// When its repository was last checked without a fault.
    pub verified_at: Option<Timestamp>,
    /// Whether the repository still listed it when last asked.
    pub present: bool,
    /// The [`address`](super::address::address) of its repository when it was taken, where known.
    pub repository: Option<String>,
}
