//! The port through which backups are made.
//!
//! The reference agent drives restic as a process. A product with another way to make a snapshot
//! implements [`BackupEngine`] and keeps everything else.

use std::fmt;

use async_trait::async_trait;

use crate::job::{LogLevel, Progress};
use crate::policy::{Limits, Retention};
use crate::repository::Repository;
use crate::snapshot::{Entry, RepositorySnapshot, ResticId};

/// Makes, lists and restores snapshots.
///
/// # Security
///
/// Whatever stands in a request (a source, an exclude, a target) is data. An implementation must
/// not let it become a flag, a command or an environment variable.
///
/// # Cancellation
///
/// A method that takes an [`Observer`] ends with [`EngineError::Cancelled`] soon after
/// [`Observer::cancelled`] resolves, and leaves no process and no lock behind. Dropping its future
/// kills what it started.
#[async_trait]
pub trait BackupEngine: fmt::Debug + Send + Sync {
    /// Says what is there, or why it cannot be used.
    async fn probe(&self) -> Result<EngineInfo, EngineError>;

    /// Makes a repository where there is none.
    ///
    /// Call it only after [`EngineError::RepositoryMissing`].
    async fn init(&self, at: &Repository, observer: &dyn Observer) -> Result<(), EngineError>;

    /// Takes a snapshot, and reports it only if the repository lists it.
    async fn backup(
        &self,
        to: &Repository,
        request: &BackupRequest,
        observer: &dyn Observer,
    ) -> Result<BackupReport, EngineError>;

    /// Lists snapshots, oldest first.
    async fn snapshots(
        &self,
        of: &Repository,
        filter: &SnapshotFilter,
        observer: &dyn Observer,
    ) -> Result<Vec<RepositorySnapshot>, EngineError>;

    /// Lists one directory of a snapshot.
    async fn list_entries(
        &self,
        of: &Repository,
        snapshot: &ResticId,
        path: &str,
        observer: &dyn Observer,
    ) -> Result<Vec<Entry>, EngineError>;

    /// Puts files of a snapshot back, under their full paths below the target.
    async fn restore(
        &self,
        from: &Repository,
        request: &RestoreRequest,
        observer: &dyn Observer,
    ) -> Result<RestoreReport, EngineError>;

    /// Applies retention to the snapshots that match, or says what it would remove.
    async fn forget(
        &self,
        at: &Repository,
        request: &ForgetRequest,
        observer: &dyn Observer,
    ) -> Result<ForgetReport, EngineError>;

    /// Checks the repository, reading back `read_data_percent` of its data.
    async fn check(
        &self,
        of: &Repository,
        read_data_percent: u8,
        observer: &dyn Observer,
    ) -> Result<(), EngineError>;

    /// Removes stale locks: those of processes that are gone.
    async fn unlock(&self, at: &Repository, observer: &dyn Observer) -> Result<(), EngineError>;
}

/// Watches a run and may stop it.
#[async_trait]
pub trait Observer: fmt::Debug + Send + Sync {
    /// Called at most twice a second. Silent by default.
    fn progress(&self, progress: Progress) {
        let _ = progress;
    }

    /// One line that the engine printed, without secrets. Silent by default.
    fn line(&self, level: LogLevel, text: &str) {
        let _ = (level, text);
    }

    /// Resolves when the run is to stop; never, by default.
    async fn cancelled(&self) {
        std::future::pending().await
    }
}

/// An observer that is silent and never stops anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

#[async_trait]
impl Observer for Silent {}

/// Which engine is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version, such as `0.18.0`.
    pub version: String,
    /// Where it was found: `bundled`, `configured` or `path`.
    pub source: String,
}

/// What to put into a snapshot.
#[derive(Debug, Clone, Default)]
pub struct BackupRequest {
    /// Absolute paths. Whatever they look like, they are paths.
    pub sources: Vec<String>,
    /// Patterns in restic's syntax.
    pub excludes: Vec<String>,
    /// Leave out files of more bytes.
    pub exclude_larger_than: Option<u64>,
    /// Do not cross mount points.
    pub one_file_system: bool,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// How much of the machine it may take.
    pub limits: Limits,
}

/// A snapshot that the repository lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Its id.
    pub snapshot: ResticId,
    /// Whether every source was there and every file could be read.
    pub complete: bool,
    /// What could not be read, when it is not complete.
    pub unread: Vec<String>,
    /// Bytes read from the sources.
    pub bytes_processed: u64,
    /// Bytes that were new to the repository.
    pub bytes_added: u64,
    /// Files that the last snapshot did not have.
    pub files_new: u64,
    /// Files that differ from the last snapshot.
    pub files_changed: u64,
    /// Files that are as in the last snapshot.
    pub files_unmodified: u64,
}

/// Which snapshots are meant. An empty filter means all.
#[derive(Debug, Clone, Default)]
pub struct SnapshotFilter {
    /// All of these tags.
    pub tags: Vec<String>,
    /// Of this host.
    pub host: Option<String>,
}

/// What to put back, and where.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The snapshot.
    pub snapshot: ResticId,
    /// The directory under which full paths are put.
    pub target: String,
    /// Paths of the snapshot; all when empty.
    pub include: Vec<String>,
    /// Replace files that are there.
    pub overwrite: bool,
    /// How much of the machine it may take.
    pub limits: Limits,
}

/// What a restore did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Files put back, as far as the engine says.
    pub files: u64,
    /// Their bytes, as far as the engine says.
    pub bytes: u64,
}

/// Which snapshots retention applies to, and how.
#[derive(Debug, Clone)]
pub struct ForgetRequest {
    /// What to keep. One that keeps nothing is refused.
    pub retention: Retention,
    /// Which snapshots. One without a tag is refused.
    pub filter: SnapshotFilter,
    /// Remove nothing, only say.
    pub plan_only: bool,
}

/// What retention removed, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForgetReport {
    /// Snapshots that stay.
    pub kept: Vec<ResticId>,
    /// Snapshots that went, or would.
    pub removed: Vec<ResticId>,
}

/// An engine did not do what it was asked to.
///
/// The detail is for people and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no engine, or one that cannot be used. The text says what to do.
    #[error("{0}")]
    Unusable(String),
    /// There is no repository at that place. [`BackupEngine::init`] makes one.
    #[error("there is no repository: {0}")]
    RepositoryMissing(String),
    /// The repository's password is another.
    #[error("wrong repository password")]
    WrongPassword,
    /// Another process holds the repository. Worth a retry later.
    #[error("the repository is locked: {0}")]
    Locked(String),
    /// The directory must be a mounted file system and is not.
    #[error("{0}")]
    NotMounted(String),
    /// None of the sources exists.
    #[error("none of the sources exists: {0}")]
    SourcesMissing(String),
    /// The request was refused before anything was started. The text says why.
    #[error("{0}")]
    Refused(String),
    /// It was stopped.
    #[error("cancelled")]
    Cancelled,
    /// It failed; the text is what the engine said.
    #[error("{0}")]
    Failed(String),
}

impl EngineError {
    /// The word for programs, as in [`JobError::code`](crate::job::JobError::code).
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unusable(_) => "restic_unusable",
            Self::RepositoryMissing(_) => "repository_missing",
            Self::WrongPassword => "wrong_password",
            Self::Locked(_) => "repository_locked",
            Self::NotMounted(_) => "not_mounted",
            Self::SourcesMissing(_) => "sources_missing",
            Self::Refused(_) => "refused",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "restic_failed",
        }
    }
}
