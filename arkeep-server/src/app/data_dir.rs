//! The data directory: what lies there, and in which order it is opened; on PostgreSQL, too.
//!
//! The ring of keys is unwrapped before the database is opened, because opening SQLite writes. A
//! wrong key, or a missing ring beside a database that needs it, is found while not one byte has
//! changed. Nothing here ever makes a new ring in that case: it would only hide that the old one is
//! lost. A ring that unwraps well may still be another server's, so a few secrets are read from the
//! database file and tried before it is opened.
//!
//! | ring | database | meaning |
//! |---|---|---|
//! | no | no | the first start: both are made |
//! | yes | yes | every other start |
//! | no | yes | the ring is lost: refused |
//! | yes | no | the first start was interrupted if nothing was ever sealed; else the database is lost: refused |
//!
//! A database without tables beside a ring that was used counts as lost, and a log without its
//! database as the rest of one.

mod on_postgres;

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arkeep_core::Timestamp;
use arkeep_vault::{KeyEncryptionKey, OpenError, RingError, RingFile, Sealer as _, Vault};

use crate::config::key::{KeySource, KeySourceError};
use crate::config::serve::{ConfigRefused, DataConfig, DatabaseAddress};
use crate::store::postgres::PostgresStore;
use crate::store::sealed::{SealedColumn, SealedValue};
use crate::store::sqlite::SqliteStore;
use crate::store::{Database, OpenStoreError, Sample};
use on_postgres::Wants;

/// Where things lie.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
    key: KeySource,
    key_was_named: bool,
    database: DatabaseAddress,
}

/// The state, open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) ring: Arc<RingFile>,
    pub(crate) store: Arc<dyn Database>,
}

/// The state cannot be opened. Nothing of it has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The options name no database that this program knows. Exit with 3.
    #[error(transparent)]
    Config(#[from] ConfigRefused),

    /// The key-encryption key is missing, readable to others, or no key. Exit with 4.
    #[error("the vault key is refused")]
    Key(#[from] KeySourceError),

    /// The ring is missing, damaged, or wrapped by another key. Exit with 4.
    #[error("the key ring is refused")]
    Ring(#[from] RingError),

    /// There is a database and no ring. Exit with 4.
    #[error(
        "{ring} is missing beside {database}, whose secrets it opens: put the ring back from a \
         backup; a new one would open nothing",
        ring = ring.display(), database = database.display()
    )]
    RingLost {
        /// Where the ring should be.
        ring: PathBuf,
        /// The database that needs it.
        database: PathBuf,
    },

    /// The ring opens, and none of the secrets in the database does. Exit with 4.
    #[error(
        "the key ring {ring} opens none of the secrets in {database}: it is that of another \
         server; put back the ring and the key that belong to this database",
        ring = ring.display(), database = database.display()
    )]
    Foreign {
        /// The ring.
        ring: PathBuf,
        /// The database.
        database: PathBuf,
    },

    /// There is a ring that was used, and no database, or an empty one. Exit with 3.
    #[error(
        "{database} is missing or empty, and the key ring beside it has sealed secrets before: put \
         the database back from a backup, with its -wal file if there is one, or name another \
         --data-dir to begin anew",
        database = database.display()
    )]
    DatabaseLost {
        /// Where the database should be.
        database: PathBuf,
    },

    /// There is nothing yet, and this command makes nothing. Exit with 3.
    #[error("{0} holds no Arkeep server: start `arkeep-server serve` first, or name its --data-dir", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },

    /// The directory cannot be read or made. Exit with 1.
    #[error("{0}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// The database cannot be opened. Exit with 1.
    #[error("the database cannot be opened")]
    Store(#[from] OpenStoreError),
}

impl DataDir {
    pub(crate) fn new(config: &DataConfig) -> Self {
        Self {
            root: config.data_dir.clone(),
            key: match &config.vault_key {
                Some(source) => source.clone(),
                None => KeySource::File(config.data_dir.join("vault.key")),
            },
            key_was_named: config.vault_key.is_some(),
            database: config.database.clone(),
        }
    }

    fn ring(&self) -> PathBuf {
        self.root.join("vault.ring")
    }

    pub(crate) fn setup_token(&self) -> PathBuf {
        self.root.join("setup-token")
    }

    /// Opens what is there, or makes everything at the first start.
    pub(crate) async fn open_or_make(&self, now: Timestamp) -> Result<Opened, DataDirError> {
        let database = match &self.database {
            DatabaseAddress::Sqlite(path) => path,
            DatabaseAddress::Postgres(options) => {
                return self.open_on(options, Wants::Made(now)).await;
            }
        };
        let (ring_there, database_there) = (exists(&self.ring())?, exists(database)?);
        // A log without its database is what is left of one.
        if ring_there || database_there || exists(&log(database))? {
            return self.open(database, database_there, ring_there).await;
        }
        let named = self.key_was_named.then(|| self.key.read()).transpose()?;
        self.make_root()?;
        let key = match named {
            Some(key) => key,
            None => self.first_key()?,
        };
        let ring = RingFile::create_new(self.ring(), Arc::new(key), now.as_unix_millis())?;
        let store = SqliteStore::create(database).await?;
        Ok(Opened {
            ring: Arc::new(ring),
            store: Arc::new(store),
        })
    }

    /// Opens what is there, for a command that works beside the server.
    pub(crate) async fn open_existing(&self) -> Result<Opened, DataDirError> {
        let database = match &self.database {
            DatabaseAddress::Sqlite(path) => path,
            DatabaseAddress::Postgres(options) => {
                return self.open_on(options, Wants::Existing).await;
            }
        };
        let (ring_there, database_there) = self.look(database)?;
        self.open(database, database_there, ring_there).await
    }

    /// The same for a command that says what is wrong: the ring may be another server's.
    pub(crate) async fn open_whatever_fits(&self) -> Result<Opened, DataDirError> {
        let database = match &self.database {
            DatabaseAddress::Sqlite(path) => path,
            DatabaseAddress::Postgres(options) => {
                return self.open_on(options, Wants::WhateverFits).await;
            }
        };
        let (ring_there, database_there) = self.look(database)?;
        let ring = self.unlock_if(database, ring_there)?;
        if database_there {
            match self.judge_database(database, &ring).await {
                // Which values do not open is what the command says.
                Ok(()) | Err(DataDirError::Foreign { .. }) => {}
                Err(lost) => return Err(lost),
            }
        }
        self.open_database(database, ring, database_there).await
    }

    /// The same with a ring that is unwrapped already.
    pub(crate) async fn open_with(&self, ring: Arc<RingFile>) -> Result<Opened, DataDirError> {
        match &self.database {
            DatabaseAddress::Sqlite(path) => {
                let there = exists(path)?;
                if there {
                    self.judge_database(path, &ring).await?;
                }
                self.open_database(path, ring, there).await
            }
            DatabaseAddress::Postgres(options) => {
                let store = Arc::new(PostgresStore::open(*options.clone()).await?);
                Ok(Opened { ring, store })
            }
        }
    }

    fn look(&self, database: &Path) -> Result<(bool, bool), DataDirError> {
        match (exists(&self.ring())?, exists(database)?) {
            (false, false) => Err(DataDirError::Empty {
                path: self.root.clone(),
            }),
            there => Ok(there),
        }
    }

    async fn open(
        &self,
        database: &Path,
        database_there: bool,
        ring_there: bool,
    ) -> Result<Opened, DataDirError> {
        let ring = self.unlock_if(database, ring_there)?;
        if database_there {
            self.judge_database(database, &ring).await?;
        }
        self.open_database(database, ring, database_there).await
    }

    /// Refuses a database none of whose secrets the ring opens, and one without tables beside a
    /// ring that was used. Reads, and writes nothing.
    async fn judge_database(
        &self,
        database: &Path,
        ring: &Arc<RingFile>,
    ) -> Result<(), DataDirError> {
        let vault = Vault::shared(Arc::clone(ring) as Arc<_>);
        let opens_any = |seen: &Sample| seen.values.iter().any(|value| fits(&vault, value));
        let seen = SqliteStore::sample(database).await;
        if opens_any(&seen) {
            return Ok(());
        }
        // What was sealed since may lie in the log alone. This is the first minute of a server, or
        // the refusal is near: nobody waits for a copy at an ordinary start.
        let foreign = || DataDirError::Foreign {
            ring: self.ring(),
            database: database.to_owned(),
        };
        let seen = match SqliteStore::sample_with_log(database).await {
            Ok(with_log) => with_log.unwrap_or(seen),
            Err(_) if !seen.values.is_empty() => return Err(foreign()),
            Err(source) => {
                let path = database.to_owned();
                return Err(DataDirError::Io { path, source });
            }
        };
        let database = database.to_owned();
        if opens_any(&seen) {
            Ok(())
        } else if !seen.values.is_empty() {
            Err(foreign())
        } else if !seen.has_tables && was_used(ring) {
            Err(DataDirError::DatabaseLost { database })
        } else {
            Ok(())
        }
    }

    fn unlock_if(&self, database: &Path, ring_there: bool) -> Result<Arc<RingFile>, DataDirError> {
        if !ring_there {
            let (ring, database) = (self.ring(), database.to_owned());
            return Err(DataDirError::RingLost { ring, database });
        }
        self.unlock()
    }

    async fn open_database(
        &self,
        database: &Path,
        ring: Arc<RingFile>,
        database_there: bool,
    ) -> Result<Opened, DataDirError> {
        let store = if database_there {
            SqliteStore::open(database).await?
        } else if !was_used(&ring) && !exists(&log(database))? {
            SqliteStore::create(database).await?
        } else {
            return Err(DataDirError::DatabaseLost {
                database: database.to_owned(),
            });
        };
        let store = Arc::new(store);
        Ok(Opened { ring, store })
    }

    /// Unwraps the ring. Reads, and writes nothing.
    pub(crate) fn unlock(&self) -> Result<Arc<RingFile>, DataDirError> {
        self.unlock_with(self.key.read()?)
    }

    /// The same with a key of the caller's choice.
    pub(crate) fn unlock_with(&self, key: KeyEncryptionKey) -> Result<Arc<RingFile>, DataDirError> {
        let key = Arc::new(key);
        Ok(Arc::new(match &self.database {
            DatabaseAddress::Sqlite(_) => RingFile::open(self.ring(), key)?,
            DatabaseAddress::Postgres(options) => {
                RingFile::open_in(Arc::new(self.shared_ring(options)?), key)?
            }
        }))
    }

    /// Whether programs on other machines share the state.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.database, DatabaseAddress::Postgres(_))
    }

    /// Where the key comes from.
    pub(crate) const fn key(&self) -> &KeySource {
        &self.key
    }

    // A key that the operator named is one that exists, and is never made: it would hide that a
    // disk is not mounted. This one is our own.
    fn first_key(&self) -> Result<KeyEncryptionKey, DataDirError> {
        match &self.key {
            KeySource::File(path) if !exists(path)? => {
                Ok(KeyEncryptionKey::generate_file(path).map_err(KeySourceError::from)?)
            }
            source => Ok(source.read()?),
        }
    }

    fn make_root(&self) -> Result<(), DataDirError> {
        let failed = |source| DataDirError::Io {
            path: self.root.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(failed)?;
        // It may have been there, made by somebody with another umask.
        fs::set_permissions(&self.root, Permissions::from_mode(0o700)).map_err(failed)
    }
}

/// Where SQLite keeps what is not in the database yet.
fn log(database: &Path) -> PathBuf {
    let mut name = database.to_owned().into_os_string();
    name.push("-wal");
    name.into()
}

fn was_used(ring: &RingFile) -> bool {
    ring.keys().iter().any(|key| key.messages_sealed > 0)
}

// A key that is disabled, or that cannot be had now, is one of this ring all the same.
fn fits(vault: &Vault, (column, value): &(SealedColumn, SealedValue)) -> bool {
    let opened = vault.open_bytes(&value.sealed, &column.binding(&value.id));
    matches!(opened, Ok(_) | Err(OpenError::Key(_)))
}

// A link that leads nowhere is something, too.
fn exists(path: &Path) -> Result<bool, DataDirError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(DataDirError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
