//! Looking into a database that is not open.
//!
//! Opening SQLite writes: it makes the shared memory file, recovers the log, removes it at the end.
//! Whether the key ring fits must be known before that, so a few sealed secrets are read from the
//! file as it lies there. What is in the log alone is not seen then; it takes a copy.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::SqliteStore;
use super::sealed::{select, value};
use crate::store::Sample;
use crate::store::sample::OF_EACH;
use crate::store::sealed::COLUMNS;

impl SqliteStore {
    /// A few sealed secrets of each column, from the database file alone. Nothing is written, and
    /// nothing is locked.
    ///
    /// What cannot be read is left out: the answer may be empty, and while another program writes
    /// it may be old.
    pub async fn sample(path: &Path) -> Sample {
        let options = SqliteConnectOptions::new().filename(path);
        // No lock, no log, no shared memory: SQLite takes the file for one that cannot change.
        read(&options.read_only(true).immutable(true))
            .await
            .unwrap_or_default()
    }

    /// The same from a copy of the database and its log, which is made in the directory for
    /// temporary files, or else beside it, and removed. None when there is no log, or nothing in it.
    ///
    /// # Errors
    ///
    /// When there is no room for the copy.
    pub async fn sample_with_log(path: &Path) -> io::Result<Option<Sample>> {
        let log = beside(path, "-wal");
        if !fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Ok(None);
        }
        // A service may have no directory for temporary files that works.
        let private = || {
            let mut builder = tempfile::Builder::new();
            builder.permissions(fs::Permissions::from_mode(0o700));
            builder
        };
        let directory = private().tempdir().or_else(|_| {
            let beside = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            private().tempdir_in(beside.unwrap_or(Path::new(".")))
        })?;
        let copy = directory.path().join("copy.db");
        fs::copy(path, &copy)?;
        fs::copy(&log, beside(&copy, "-wal"))?;
        let options = SqliteConnectOptions::new().filename(copy);
        Ok(Some(read(&options).await.unwrap_or_default()))
    }
}

async fn read(options: &SqliteConnectOptions) -> Result<Sample, sqlx::Error> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    let mut sample = Sample::default();
    for column in COLUMNS {
        let rows = select(*column)
            .push(" LIMIT ")
            .push(OF_EACH)
            .build()
            .fetch_all(&mut connection)
            .await;
        // An older schema may not have the table yet.
        sample.has_tables |= rows.is_ok();
        let values = rows.iter().flatten().filter_map(|row| value(row).ok());
        sample.values.extend(values.map(|value| (*column, value)));
    }
    connection.close().await?;
    Ok(sample)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
