//! Backups by restic, driven as a process.
//!
//! [`ResticEngine`] is the [`BackupEngine`] of the reference agent. It trusts neither what it is
//! asked (a source, a tag or an address is data, whatever it looks like) nor what restic answers
//! (of any size, in any form), and it calls nothing a success that the repository does not show.
//!
//! restic 0.14 to 0.19 differ in their exit codes and in what they say. The differences end in
//! this module: an error has the same [`EngineError`] whatever the version.
//!
//! # What others can see
//!
//! The arguments of a process are public, so they hold verbs, flags, tags, patterns to restore and
//! numbers: no secret and no address. The repository's password and the sources go through pipes,
//! and the address and keys of the back-end through an environment that starts empty. An SSH key
//! or password and an rclone remote must be files while restic runs; they lie in a private
//! directory below [`ResticConfig::runtime_dir`], which belongs on a file system in memory.
//!
//! # What is left behind
//!
//! Nothing. A run that is cancelled or overdue gets SIGINT, then, after
//! [`Deadlines::grace`], SIGKILL for everything that it started, and its lock is removed. A future
//! that is dropped kills at once. A process that is killed takes restic with it.
//!
//! # Example
//!
//! ```no_run
//! use arkeep_agent::restic::{BinarySource, ResticConfig, ResticEngine};
//! use arkeep_core::engine::BackupEngine;
//!
//! # async fn run() -> Result<(), arkeep_core::engine::EngineError> {
//! let source = BinarySource::Configured("/usr/bin/restic".into());
//! let config = ResticConfig::new(source, "/var/cache/arkeep", "/run/arkeep");
//! let engine = ResticEngine::new(config)?;
//! println!("restic {}", engine.probe().await?.version);
//! # Ok(())
//! # }
//! ```

mod backup;
mod binary;
mod bundled;
mod cage;
mod call;
mod check;
mod forget;
mod founding;
mod ledger;
mod lines;
mod list;
mod listen;
mod locks;
mod message;
mod mounts;
mod place;
mod probe;
mod process;
mod rclone;
mod redact;
mod restore;
mod session;
mod sftp;
mod stream;
mod version;
mod words;
mod workdir;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use arkeep_core::engine::{
    BackupEngine, BackupReport, BackupRequest, EngineError, EngineInfo, ForgetReport,
    ForgetRequest, Observer, RestoreReport, RestoreRequest, SnapshotFilter,
};
use arkeep_core::repository::Repository;
use arkeep_core::snapshot::{Entry, RepositorySnapshot, ResticId};
use async_trait::async_trait;

pub use binary::BinarySource;
pub use bundled::BundledRestic;

use crate::sys::Spawner;

/// How restic is found and run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResticConfig {
    /// Where restic comes from.
    pub binary: BinarySource,
    /// Where restic keeps its cache and its temporary files. Made if it is not there.
    pub cache_dir: PathBuf,
    /// Where each run has a private directory while it lasts; best on a file system in memory,
    /// such as systemd's `RuntimeDirectory`. For SFTP with a password it must allow execution.
    pub runtime_dir: PathBuf,
    /// Where restic finds ssh and rclone, written as `PATH` is.
    pub helpers_path: OsString,
    /// The host that snapshots are taken of; the machine's name when absent.
    pub host: Option<String>,
    /// How long restic may take.
    pub deadlines: Deadlines,
}

/// How long restic may take before it is stopped.
///
/// restic tries for up to fifteen minutes to reach a back-end that is away, and for ever to hear
/// from one that has fallen silent.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For a command that only asks: listing, opening, making a repository.
    pub answer: Duration,
    /// For a command that works, between two signs that it has come further: what it says, or a
    /// megabyte read or written. A limit of bandwidth stretches it.
    pub silence: Duration,
    /// Between SIGINT and SIGKILL.
    pub grace: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(5 * 60),
            silence: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

impl ResticConfig {
    /// Takes these three, and the usual for the rest.
    #[must_use]
    pub fn new(
        binary: BinarySource,
        cache_dir: impl Into<PathBuf>,
        runtime_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            binary,
            cache_dir: cache_dir.into(),
            runtime_dir: runtime_dir.into(),
            helpers_path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            host: None,
            deadlines: Deadlines::default(),
        }
    }
}

/// Drives restic.
///
/// # Cost
///
/// Each method starts restic at least once, and restic takes half a second to open a repository,
/// on purpose: its key is derived with scrypt. A backup opens the repository twice, the second
/// time to see that the snapshot is listed.
#[derive(Debug)]
pub struct ResticEngine {
    config: ResticConfig,
    host: String,
    spawner: Spawner,
    ledger: ledger::Ledger,
    known: Mutex<Option<probe::Known>>,
}

impl ResticEngine {
    /// Prepares an engine; looks for restic only when it is first needed.
    ///
    /// # Errors
    ///
    /// [`EngineError::Refused`] when the configured host is not a name, and
    /// [`EngineError::Unusable`] when this process can start no thread.
    pub fn new(config: ResticConfig) -> Result<Self, EngineError> {
        let host = match &config.host {
            Some(host) => host.clone(),
            None => rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
        };
        backup::check_word("host", &host)?;
        let spawner = Spawner::new()
            .map_err(|error| EngineError::Unusable(format!("no thread can be started: {error}")))?;
        workdir::sweep(&config.runtime_dir);
        workdir::sweep(&config.cache_dir);
        Ok(Self {
            ledger: ledger::Ledger::open(&config.cache_dir),
            config,
            host,
            spawner,
            known: Mutex::new(None),
        })
    }
}

#[async_trait]
impl BackupEngine for ResticEngine {
    async fn probe(&self) -> Result<EngineInfo, EngineError> {
        let (_, version) = self.program().await?;
        Ok(EngineInfo {
            version: version.to_string(),
            source: self.config.binary.word().to_owned(),
        })
    }

    async fn init(&self, at: &Repository, observer: &dyn Observer) -> Result<(), EngineError> {
        self.make_repository(at, observer).await
    }

    async fn backup(
        &self,
        to: &Repository,
        request: &BackupRequest,
        observer: &dyn Observer,
    ) -> Result<BackupReport, EngineError> {
        self.take_snapshot(to, request, observer).await
    }

    async fn snapshots(
        &self,
        of: &Repository,
        filter: &SnapshotFilter,
        observer: &dyn Observer,
    ) -> Result<Vec<RepositorySnapshot>, EngineError> {
        self.list_snapshots(of, filter, None, observer).await
    }

    async fn list_entries(
        &self,
        of: &Repository,
        snapshot: &ResticId,
        path: &str,
        observer: &dyn Observer,
    ) -> Result<Vec<Entry>, EngineError> {
        self.list_directory(of, snapshot, path, observer).await
    }

    async fn restore(
        &self,
        from: &Repository,
        request: &RestoreRequest,
        observer: &dyn Observer,
    ) -> Result<RestoreReport, EngineError> {
        self.put_back(from, request, observer).await
    }

    async fn forget(
        &self,
        at: &Repository,
        request: &ForgetRequest,
        observer: &dyn Observer,
    ) -> Result<ForgetReport, EngineError> {
        self.apply_retention(at, request, observer).await
    }

    async fn check(
        &self,
        of: &Repository,
        read_data_percent: u8,
        observer: &dyn Observer,
    ) -> Result<(), EngineError> {
        self.check_repository(of, read_data_percent, observer).await
    }

    async fn unlock(&self, at: &Repository, observer: &dyn Observer) -> Result<(), EngineError> {
        self.remove_stale_locks(at, observer).await
    }
}
