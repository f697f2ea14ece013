use crate::policy::{Hooks, Limits, Retention, Source};
use crate::repository::Repository;
use crate::snapshot::ResticId;
use crate::{DestinationId, JobId, PolicyId, Timestamp};

use super::{Fence, JobKind};

/// A job as its agent receives it: all that it takes to do the work without asking again.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The job.
    pub job: JobId,
    /// Counts from 1; a job that is run again says so.
    pub attempt: u32,
    /// Shown with everything the agent says of the job.
    pub fence: Fence,
    /// The policy that it serves.
    pub policy: Option<PolicyId>,
    /// When the work must have ended.
    pub deadline: Option<Timestamp>,
    /// What to do.
    pub work: Work,
}

/// What an [`Assignment`] asks for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Work {
    /// Take a snapshot in each destination.
    Backup(Box<BackupWork>),
    /// Put files back.
    Restore(Box<RestoreWork>),
    /// Check a repository.
    Verify(Box<VerifyWork>),
    /// Apply retention, then prune.
    Forget(Box<ForgetWork>),
    /// Open a repository.
    Test(Box<DestinationWork>),
}

impl Work {
    /// The kind of job that carries it.
    #[must_use]
    pub const fn kind(&self) -> JobKind {
        match self {
            Self::Backup(_) => JobKind::Backup,
            Self::Restore(_) => JobKind::Restore,
            Self::Verify(_) => JobKind::Verify,
            Self::Forget(_) => JobKind::Forget,
            Self::Test(_) => JobKind::Test,
        }
    }
}

/// A repository and the destination it belongs to.
#[derive(Debug, Clone)]
pub struct DestinationWork {
    /// The destination, as results name it.
    pub destination: DestinationId,
    /// The repository there.
    pub repository: Repository,
}

/// A backup.
#[derive(Debug, Clone)]
pub struct BackupWork {
    /// Where to. Each gets a snapshot of its own.
    pub destinations: Vec<DestinationWork>,
    /// What.
    pub sources: Vec<Source>,
    /// Patterns of what to leave out, in restic's syntax.
    pub excludes: Vec<String>,
    /// Leave out files of more bytes.
    pub exclude_larger_than: Option<u64>,
    /// Do not cross mount points.
    pub one_file_system: bool,
    /// Tags beside those by which we find our own snapshots.
    pub tags: Vec<String>,
    /// Commands around it.
    pub hooks: Hooks,
    /// How much of the machine it may take.
    pub limits: Limits,
}

/// A restore.
#[derive(Debug, Clone)]
pub struct RestoreWork {
    /// Where from.
    pub destination: DestinationWork,
    /// Which snapshot.
    pub snapshot: ResticId,
    /// The directory under which full paths are put.
    pub target: String,
    /// Paths of the snapshot to put back; all when empty.
    pub include: Vec<String>,
    /// Replace files that are there.
    pub overwrite: bool,
    /// How much of the machine it may take.
    pub limits: Limits,
}

/// A check of a repository.
#[derive(Debug, Clone)]
pub struct VerifyWork {
    /// Where.
    pub destinations: Vec<DestinationWork>,
    /// How much of the data to read back, 0 to 100.
    pub read_data_percent: u8,
}

/// Retention, applied.
#[derive(Debug, Clone)]
pub struct ForgetWork {
    /// Where.
    pub destinations: Vec<DestinationWork>,
    /// What to keep.
    pub retention: Retention,
    /// Say what would be removed, and remove nothing.
    pub plan_only: bool,
}
