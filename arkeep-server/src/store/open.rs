use std::io;

use sqlx::migrate::MigrateError;

/// A database was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The file could not be made: it is there already, or the directory cannot be written.
    #[error("the database file could not be made")]
    File(#[source] io::Error),

    /// It is not there, is no database, does not answer, or is locked by another program.
    #[error("the database could not be opened")]
    Database(#[source] sqlx::Error),

    /// The database server is older than those that this program knows.
    #[error("PostgreSQL {version} is too old: 15 or later is needed")]
    TooOld {
        /// The server's major version.
        version: i32,
    },

    /// A later version of the program has written to it. Run that version.
    #[error("the database has schema version {version}, which is newer than this program")]
    Newer {
        /// The schema's version.
        version: i64,
    },

    /// The schema could not be brought up to date; nothing of it was changed.
    #[error("the database's schema could not be brought up to date")]
    Migration(#[source] MigrateError),
}
