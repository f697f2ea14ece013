//! The data directory: what lies there, and in which order it is opened.
//!
//! The ring of keys is unwrapped before the database is opened, because opening SQLite writes. A
//! wrong key, or a missing ring beside a database that needs it, is found while not one byte has
//! changed. Nothing here ever makes a new ring in that case: it would only hide that the old one is
//! lost.
//!
//! | ring | database | meaning |
//! |---|---|---|
//! | no | no | the first start: both are made |
//! | yes | yes | every other start |
//! | no | yes | the ring is lost: refused |
//! | yes | no | the first start was interrupted if nothing was ever sealed; else the database is lost: refused |

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arkeep_core::Timestamp;
use arkeep_vault::{KeyEncryptionKey, KeyFileError, RingError, RingFile};

use crate::config::serve::{ConfigRefused, DataConfig};
use crate::store::sqlite::{OpenStoreError, SqliteStore};

/// Where things lie.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
    key: PathBuf,
    key_was_named: bool,
    database: PathBuf,
}

/// The state, open.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) ring: Arc<RingFile>,
    pub(crate) store: SqliteStore,
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
    Key(#[from] KeyFileError),

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

    /// There is a ring that was used, and no database. Exit with 3.
    #[error(
        "{database} is missing, and the key ring beside it has sealed secrets before: put the \
         database back from a backup, or name another --data-dir to begin anew",
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
    pub(crate) fn new(config: &DataConfig) -> Result<Self, ConfigRefused> {
        let path = config
            .database_url
            .strip_prefix("sqlite://")
            .ok_or(ConfigRefused::Database)?;
        Ok(Self {
            root: config.data_dir.clone(),
            key: config.vault_key_file(),
            key_was_named: config.vault_key_file.is_some(),
            database: PathBuf::from(path),
        })
    }

    fn ring(&self) -> PathBuf {
        self.root.join("vault.ring")
    }

    pub(crate) fn setup_token(&self) -> PathBuf {
        self.root.join("setup-token")
    }

    /// Opens what is there, or makes everything at the first start.
    pub(crate) async fn open_or_make(&self, now: Timestamp) -> Result<Opened, DataDirError> {
        let (ring_there, database_there) = (exists(&self.ring())?, exists(&self.database)?);
        if ring_there || database_there {
            return self.open(database_there, ring_there).await;
        }
        self.make_root()?;
        let ring = RingFile::create_new(
            self.ring(),
            Arc::new(self.first_key()?),
            now.as_unix_millis(),
        )?;
        let store = SqliteStore::create(&self.database).await?;
        Ok(Opened {
            ring: Arc::new(ring),
            store,
        })
    }

    /// Opens what is there, for a command that works beside the server.
    pub(crate) async fn open_existing(&self) -> Result<Opened, DataDirError> {
        let (ring_there, database_there) = (exists(&self.ring())?, exists(&self.database)?);
        if !ring_there && !database_there {
            return Err(DataDirError::Empty {
                path: self.root.clone(),
            });
        }
        self.open(database_there, ring_there).await
    }

    async fn open(&self, database_there: bool, ring_there: bool) -> Result<Opened, DataDirError> {
        if !ring_there {
            let (ring, database) = (self.ring(), self.database.clone());
            return Err(DataDirError::RingLost { ring, database });
        }
        let ring = self.unlock()?;
        let store = if database_there {
            SqliteStore::open(&self.database).await?
        } else if ring.keys().iter().all(|key| key.messages_sealed == 0) {
            SqliteStore::create(&self.database).await?
        } else {
            return Err(DataDirError::DatabaseLost {
                database: self.database.clone(),
            });
        };
        Ok(Opened { ring, store })
    }

    /// Unwraps the ring. Reads, and writes nothing.
    pub(crate) fn unlock(&self) -> Result<Arc<RingFile>, DataDirError> {
        let key = KeyEncryptionKey::from_file(&self.key)?;
        Ok(Arc::new(RingFile::open(self.ring(), Arc::new(key))?))
    }

    // A key that the operator named is one that exists: making it here would hide that a disk is
    // not mounted.
    fn first_key(&self) -> Result<KeyEncryptionKey, DataDirError> {
        if self.key_was_named || exists(&self.key)? {
            return Ok(KeyEncryptionKey::from_file(&self.key)?);
        }
        Ok(KeyEncryptionKey::generate_file(&self.key)?)
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
