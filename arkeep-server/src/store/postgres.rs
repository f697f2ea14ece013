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
mod channels;
mod columns;
mod deliveries;
mod destinations;
mod elsewhere;
mod enrollments;
mod factors;
mod identity;
mod instance;
mod job_queue;
mod jobs;
mod keys;
mod logs;
mod look;
mod notices;
mod policies;
mod repositories;
mod revocations;
mod ring;
mod rotation;
mod schedule;
mod sealed;
mod sessions;
mod snapshots;
mod users;
mod watch;

use std::time::Duration;

use arkeep_core::StoreError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};

pub use elsewhere::PostgresAgentNotices;
pub use look::PostgresLook;
pub use notices::PostgresNotices;
pub use ring::PostgresRing;

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
            .after_connect(|connection, _| Box::pin(prepare(connection)))
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

/// What was answered is on the disk: a server that was told not to wait for its disk is told otherwise
/// here, one that also waits for its standbys goes on to. And a replica whose machine is gone
/// keeps its locks from the others for a minute at most.
async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // Statements, and not options of the connection, which poolers refuse.
    sqlx::query(
        "SELECT set_config('synchronous_commit', \
             CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
             ELSE current_setting('synchronous_commit') END, FALSE), \
         set_config('idle_in_transaction_session_timeout', '60s', FALSE), \
         set_config('tcp_keepalives_idle', '15', FALSE), \
         set_config('tcp_keepalives_interval', '5', FALSE), \
         set_config('tcp_keepalives_count', '3', FALSE)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("42P01")
}

/// What people call the database: no part of it opens anything.
fn place(options: &PgConnectOptions) -> String {
    let name = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(socket) => format!("the database {name} at {}", socket.display()),
        None => format!(
            "the database {name} at {}:{}",
            options.get_host(),
            options.get_port()
        ),
    }
}

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 10;
/// "arkeep w" in ASCII: the lock of all writers.
const WRITERS: i64 = 0x6172_6b65_6570_2077;
