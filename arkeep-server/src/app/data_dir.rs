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
use crate::store::sealed::{
    AUTHORITY_PRIVATE_KEY, SealedColumn, SealedValue, TOKEN_KEY_PRIVATE_KEY,
};
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
         server, or older than they are; put back the newest ring that belongs to this database, \
         and its key",
        ring = ring.display(), database = database.display()
    )]
    Foreign {
        /// The ring.
        ring: PathBuf,
        /// The database.
        database: PathBuf,
    },

    /// The ring opens some of the secrets, and not the server's own. Exit with 4.
    #[error(
        "the key ring {ring} is older than the server's own keys in {database}, and does not open \
         them: put back the newest ring; `vault verify` names what this one does not open",
        ring = ring.display(), database = database.display()
    )]
    Outdated {
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
            let ring = self.unlock_if(database, ring_there)?;
            if database_there {
                // No server writes now, so that a copy is whole.
                let log = Log::IfSmall;
                self.judge_database(database, &ring, log).await?;
            }
            return self.open_database(database, ring, database_there).await;
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
            match self.judge_database(database, &ring, Log::InDoubt).await {
                // Which values do not open is what the command says.
                Ok(()) | Err(DataDirError::Foreign { .. } | DataDirError::Outdated { .. }) => {}
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
                    self.judge_database(path, &ring, Log::InDoubt).await?;
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
            self.judge_database(database, &ring, Log::InDoubt).await?;
        }
        self.open_database(database, ring, database_there).await
    }

    /// Refuses a database none of whose secrets the ring opens, or whose own keys it does not, and
    /// one without tables beside a ring that was used. Reads, and writes nothing.
    async fn judge_database(
        &self,
        database: &Path,
        ring: &Arc<RingFile>,
        log: Log,
    ) -> Result<(), DataDirError> {
        let vault = Vault::shared(Arc::clone(ring) as Arc<_>);
        let seen = SqliteStore::sample(database).await;
        let fit = Fit::of(&vault, &seen);
        if fit == Fit::Well && !log.is_read(database) {
            return Ok(());
        }
        let (fit, seen) = match SqliteStore::sample_with_log(database).await {
            Ok(Some(with_log)) => (Fit::of(&vault, &with_log), with_log),
            Ok(None) => (fit, seen),
            // No room for the copy. What the file says has to do.
            Err(_) if fit != Fit::Nothing => (fit, seen),
            Err(source) => {
                let path = database.to_owned();
                return Err(DataDirError::Io { path, source });
            }
        };
        let (ring_at, database) = (self.ring(), database.to_owned());
        match fit {
            Fit::Nothing if !seen.has_tables && was_used(ring) => {
                Err(DataDirError::DatabaseLost { database })
            }
            Fit::Nothing | Fit::Well => Ok(()),
            unfit => Err(unfit.refusal(ring_at, database)),
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

/// When the log is read too, which takes a copy of it and of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// When the database alone would be refused: in the first minute of a server, or right before
    /// the refusal, when nobody minds.
    InDoubt,
    /// Also when nobody waits for it. After a kill, what was sealed last lies there alone.
    IfSmall,
}

impl Log {
    fn is_read(self, database: &Path) -> bool {
        let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
        self == Self::IfSmall && length(database) + length(&log(database)) <= SMALL
    }
}

/// What a ring is to the secrets of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// There are none.
    Nothing,
    /// It opens none.
    Foreign,
    /// It opens none of those that the server cannot start without.
    Outdated,
    Well,
}

impl Fit {
    fn of(vault: &Vault, seen: &Sample) -> Self {
        let opens_any = |of: &dyn Fn(SealedColumn) -> bool| {
            let mut values = seen.values.iter().filter(|(column, _)| of(*column));
            let first = values.next()?;
            Some(fits(vault, first) || values.any(|value| fits(vault, value)))
        };
        match opens_any(&|_| true) {
            None => Self::Nothing,
            Some(false) => Self::Foreign,
            Some(true) => {
                let lacks = |own: SealedColumn| opens_any(&|column| column == own) == Some(false);
                match lacks(AUTHORITY_PRIVATE_KEY) || lacks(TOKEN_KEY_PRIVATE_KEY) {
                    true => Self::Outdated,
                    false => Self::Well,
                }
            }
        }
    }

    fn refusal(self, ring: PathBuf, database: PathBuf) -> DataDirError {
        match self {
            Self::Outdated => DataDirError::Outdated { ring, database },
            _ => DataDirError::Foreign { ring, database },
        }
    }
}

/// Where SQLite keeps what is not in the database yet.
fn log(database: &Path) -> PathBuf {
    let mut name = database.to_owned().into_os_string();
    name.push("-wal");
    name.into()
}

/// Copied in a small part of the second that a start may take.
const SMALL: u64 = 32 << 20;

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
