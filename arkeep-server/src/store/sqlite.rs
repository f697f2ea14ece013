//! All stores on one SQLite file.
//!
//! One connection writes and a few others read beside it (WAL). SQLite lets one writer in at a
//! time anyway; a queue in this process is fair, where several writing connections wait and retry
//! against each other, and whoever has bad luck waits long. Every commit is on the disk before it
//! is answered (`synchronous = FULL`): an agent forgets what was acknowledged.
//!
//! [`SqliteStore::open`] never makes a file. A server that finds its data directory without the
//! database it expects must stop, not start empty; [`SqliteStore::create`] is for the first start.

mod agents;
mod api_tokens;
mod audit;
mod auth_users;
mod channels;
mod columns;
mod deliveries;
mod destinations;
mod enrollments;
mod factors;
mod identity;
mod instance;
mod job_queue;
mod jobs;
mod keys;
mod logs;
mod policies;
mod repositories;
mod revocations;
mod rotation;
mod sample;
mod schedule;
mod sealed;
mod sessions;
mod snapshots;
mod users;
mod watch;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use arkeep_core::StoreError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, Transaction};

pub use super::open::OpenStoreError;

/// Stores on one SQLite file. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    reader: SqlitePool,
    writer: SqlitePool,
}

impl SqliteStore {
    /// Makes the file, which must not be there, readable to its owner alone.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError::File`] when it is there or cannot be made.
    pub async fn create(path: &Path) -> Result<Self, OpenStoreError> {
        // Made here, before SQLite sees it: SQLite would make it with the process's umask.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(OpenStoreError::File)?;
        Self::open(path).await
    }

    /// Opens a file that is there and brings its schema up to date.
    ///
    /// This writes. Whatever must be checked while nothing has changed yet is checked before.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError::Newer`] when a later version of the program has written to it.
    pub async fn open(path: &Path) -> Result<Self, OpenStoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // When the disk is full SQLite rolls back by itself, and the connection goes on to
            // count a transaction that is none. Such a one is closed, and the next one begins anew.
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(options.clone())
            .await
            .map_err(OpenStoreError::Database)?;
        migrate(&writer).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(OpenStoreError::Database)?;
        Ok(Self { reader, writer })
    }

    /// Waits until every connection is closed. What was answered is on the disk with or without
    /// this; it leaves no WAL file behind.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Begins a transaction that holds the write lock from its first statement on, so that what it
    /// reads stays true until it commits, also against other processes.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(columns::failed)
    }
}

async fn migrate(writer: &SqlitePool) -> Result<(), OpenStoreError> {
    // Exclusive before the first look: of two programs that start at once, one migrates and the
    // other finds it done. The steps nest in it as savepoints, so all are applied or none.
    let mut transaction = writer
        .begin_with("BEGIN EXCLUSIVE")
        .await
        .map_err(OpenStoreError::Database)?;
    MIGRATIONS
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(version) => OpenStoreError::Newer { version },
            other => OpenStoreError::Migration(other),
        })?;
    transaction.commit().await.map_err(OpenStoreError::Database)
}

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const READERS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// A3: a commit that revokes is on the disk, also when the power goes.
    #[tokio::test]
    async fn commits_wait_for_the_disk() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let store = SqliteStore::create(&directory.path().join("arkeep.db")).await?;

        let level: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(&store.writer)
            .await?;

        assert!(level >= 2, "FULL is 2, EXTRA is 3: {level}");
        Ok(())
    }
}
