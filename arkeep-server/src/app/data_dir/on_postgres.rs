//! The same on PostgreSQL, which replicas share.
//!
//! The ring lies in the database whose secrets it opens, and only its key lies on each machine.
//! Everything is looked at by a connection that cannot write, and those who start take turns, so
//! that one of them makes what a first start makes.
//!
//! | ring | secrets | meaning |
//! |---|---|---|
//! | no | no | the first start, or one that was interrupted: the ring is made |
//! | yes | | every other start: refused unless the key unwraps the ring, and the ring opens a secret |
//! | no | yes | the ring is lost: refused |

use std::path::PathBuf;
use std::sync::Arc;

use arkeep_core::Timestamp;
use arkeep_vault::{RingError, RingFile, RingPlace as _, Vault};
use sqlx::postgres::PgConnectOptions;

use super::{DataDir, DataDirError, Fit, Opened};
use crate::store::postgres::{PostgresLook, PostgresRing, PostgresStore};

/// What a caller wants of a database without a ring or with another server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// A server: made if this is the first start.
    Made(Timestamp),
    /// One that is there already.
    Existing,
    /// The same, whatever is wrong with it.
    WhateverFits,
}

impl DataDir {
    pub(super) async fn open_on(
        &self,
        options: &PgConnectOptions,
        wants: Wants,
    ) -> Result<Opened, DataDirError> {
        let mut look = PostgresLook::begin(options).await?;
        let opened = self.open_by(&mut look, options, wants).await;
        look.close().await;
        opened
    }

    async fn open_by(
        &self,
        look: &mut PostgresLook,
        options: &PgConnectOptions,
        wants: Wants,
    ) -> Result<Opened, DataDirError> {
        let place = Arc::new(self.shared_ring(options)?);
        let seen = look.sample().await?;
        let there = place.generation().map_err(|source| RingError::Io {
            path: place.name().into(),
            source,
        })?;
        let database = PathBuf::from(look.place());
        let ring = match (there, wants) {
            (Some(_), _) => {
                let ring = RingFile::open_in(place, Arc::new(self.key.read()?))?;
                let ring = Arc::new(ring);
                let vault = Vault::shared(Arc::clone(&ring) as Arc<_>);
                let fit = Fit::of(&vault, &seen);
                if wants != Wants::WhateverFits && !matches!(fit, Fit::Nothing | Fit::Well) {
                    return Err(fit.refusal(ring.path().to_owned(), database));
                }
                Some(ring)
            }
            (None, _) if !seen.values.is_empty() => {
                let ring = PathBuf::from(place.name());
                return Err(DataDirError::RingLost { ring, database });
            }
            (None, Wants::Made(_)) => None,
            (None, _) => return Err(DataDirError::Empty { path: database }),
        };
        if let Wants::Made(_) = wants {
            self.make_root()?;
        }
        match (ring, wants) {
            (Some(ring), _) => {
                let store = Arc::new(PostgresStore::open(options.clone()).await?);
                Ok(Opened { ring, store })
            }
            (None, Wants::Made(now)) => self.make_on(options, now).await,
            (None, _) => Err(DataDirError::Empty { path: database }),
        }
    }

    async fn make_on(
        &self,
        options: &PgConnectOptions,
        now: Timestamp,
    ) -> Result<Opened, DataDirError> {
        let key = match self.key_was_named {
            true => self.key.read()?,
            false => self.first_key()?,
        };
        let store = Arc::new(PostgresStore::open(options.clone()).await?);
        let place = Arc::new(self.shared_ring(options)?);
        let ring = RingFile::create_in(place, Arc::new(key), now.as_unix_millis())?;
        let ring = Arc::new(ring);
        Ok(Opened { ring, store })
    }

    pub(super) fn shared_ring(
        &self,
        options: &PgConnectOptions,
    ) -> Result<PostgresRing, DataDirError> {
        PostgresRing::new(options.clone()).map_err(|source| DataDirError::Io {
            path: self.root.clone(),
            source,
        })
    }
}
