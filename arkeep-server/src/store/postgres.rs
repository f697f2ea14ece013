//! All stores on one PostgreSQL database, for any number of replicas.
//!
//! A step that is one statement is decided by the rows that it locks. A step of several takes one
//! lock that all replicas share, from its first statement to its commit, so that what it read stays
//! true. That is the order in which SQLite works anyway, and both pass the same suites; it bounds
//! the steps of several statements to one at a time, whatever the number of replicas.

mod agents;
mod api_tokens;
mod audit;
mod auth_users;
mod columns;
mod destinations;
mod enrollments;
mod factors;
mod identity;
mod instance;
mod job_queue;
mod jobs;
mod keys;
mod logs;
mod notices;
mod policies;
mod repositories;
mod revocations;
mod schedule;
mod sealed;
mod sessions;
mod snapshots;
mod users;

use std::time::Duration;

use arkeep_core::StoreError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};

pub use notices::PostgresNotices;

use super::OpenStoreError;

/// Stores on one PostgreSQL database, version 15 or later. Clones share its connections.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date inside a lock.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError::Newer`] when a later version of the program has written to it.
    pub async fn open(options: PgConnectOptions) -> Result<Self, OpenStoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(OpenStoreError::Database)?;
        MIGRATIONS.run(&pool).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => OpenStoreError::Newer { version },
            other => OpenStoreError::Migration(other),
        })?;
        Ok(Self { pool })
    }

    /// Waits until every connection is closed.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction, and waits until it is the only one of its kind on any replica.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut transaction = self.pool.begin().await.map_err(columns::failed)?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(WRITERS)
            .execute(&mut *transaction)
            .await
            .map_err(columns::failed)?;
        Ok(transaction)
    }
}

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 10;
/// "arkeep w" in ASCII: the lock of all writers.
const WRITERS: i64 = 0x6172_6b65_6570_2077;
