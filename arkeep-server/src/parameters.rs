//! What a job must know beside its policy.
//!
//! Routes write these into [`NewJob::parameters`](arkeep_core::queue::NewJob::parameters), and the
//! dispatcher reads them when the job's turn comes. They hold names and never secrets: whatever
//! opens a repository is looked up, and opened, at the last moment.

use arkeep_core::{DestinationId, SnapshotId};
use serde::{Deserialize, Serialize};

/// Of a job of the kind `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreParameters {
    /// What is put back. The snapshot names its policy, destination and id in the repository.
    pub snapshot_id: SnapshotId,
    /// The directory under which full paths are put.
    pub target: String,
    /// Paths of the snapshot to put back; all when empty.
    pub include: Vec<String>,
    /// Replace files that are there.
    pub overwrite: bool,
}

/// Of a job of the kind `test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestParameters {
    /// What is opened.
    pub destination_id: DestinationId,
}

/// Of a job that needs to know nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}
