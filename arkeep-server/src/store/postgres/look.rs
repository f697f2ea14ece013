//! Looking into a database before it is opened.
//!
//! Opening brings the schema up to date, which writes. Whether the key ring fits must be known
//! before that.

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::sealed::{select, value};
use super::{is_undefined_table, place, prepare};
use crate::store::sample::OF_EACH;
use crate::store::sealed::COLUMNS;
use crate::store::{OpenStoreError, Sample};

/// A connection that reads and cannot write, and the turn of whoever starts.
///
/// Replicas that start at once take turns: until this is dropped or closed, every other waits in
/// [`begin`](Self::begin). The first of them makes what a first start makes, and the others find it.
#[derive(Debug)]
pub struct PostgresLook {
    connection: PgConnection,
    place: String,
}

impl PostgresLook {
    /// Connects, and waits for its turn.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError::Database`], also when the turn does not come within a minute;
    /// [`OpenStoreError::TooOld`] below version 15.
    pub async fn begin(options: &PgConnectOptions) -> Result<Self, OpenStoreError> {
        let place = place(options);
        let mut connection = PgConnection::connect_with(options)
            .await
            .map_err(OpenStoreError::Database)?;
        prepare(&mut connection)
            .await
            .map_err(OpenStoreError::Database)?;
        sqlx::query(
            "SELECT set_config('default_transaction_read_only', 'on', FALSE), \
             set_config('lock_timeout', '60s', FALSE)",
        )
        .execute(&mut connection)
        .await
        .map_err(OpenStoreError::Database)?;
        let version: i32 =
            sqlx::query_scalar("SELECT current_setting('server_version_num')::integer")
                .fetch_one(&mut connection)
                .await
                .map_err(OpenStoreError::Database)?;
        if version < OLDEST * 10_000 {
            let version = version / 10_000;
            return Err(OpenStoreError::TooOld { version });
        }
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(STARTERS)
            .execute(&mut connection)
            .await
            .map_err(OpenStoreError::Database)?;
        Ok(Self { connection, place })
    }

    /// What people call the database: no part of it opens anything.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A few sealed secrets of each column.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError::Database`]. What cannot be read is not taken for absent.
    pub async fn sample(&mut self) -> Result<Sample, OpenStoreError> {
        let mut sample = Sample::default();
        for column in COLUMNS {
            let rows = select(*column)
                .push(" LIMIT ")
                .push(OF_EACH)
                .build()
                .fetch_all(&mut self.connection)
                .await;
            let rows = match rows {
                Ok(rows) => rows,
                // An older schema may not have the table yet.
                Err(error) if is_undefined_table(&error) => continue,
                Err(error) => return Err(OpenStoreError::Database(error)),
            };
            sample.has_tables = true;
            let values = rows.iter().filter_map(|row| value(row).ok());
            sample.values.extend(values.map(|value| (*column, value)));
        }
        Ok(sample)
    }

    /// Lets the next one start.
    pub async fn close(self) {
        // The server ends the turn with the connection, however that ends.
        let _ = self.connection.close().await;
    }
}

/// "arkeep s" in ASCII: the lock of those that start.
const STARTERS: i64 = 0x6172_6b65_6570_2073;
const OLDEST: i32 = 15;
