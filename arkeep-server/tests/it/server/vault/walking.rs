//! Moving secrets to the newest key while others change them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arkeep_core::StoreError;
use arkeep_server::reseal::{self, ResealError};
use arkeep_server::store::sealed::{
    COLUMNS, DESTINATION_CREDENTIALS, RowId, SealedColumn, SealedValue, SealedValues,
};
use arkeep_vault::{
    DataKey, ExposeSecret as _, KeyEncryptionKey, KeyError, KeyId, KeyProvider, RingFile, Sealed,
    Sealer as _, SecretString, Vault,
};
use async_trait::async_trait;

use super::super::Fallible;

type Meddling = Box<dyn FnMut(&mut Rows) -> Result<(), StoreError> + Send>;
type Rows = BTreeMap<(&'static str, String), Vec<u8>>;

/// Secrets in memory, and somebody who changes them each time before one is replaced.
struct Shelf {
    rows: Mutex<Rows>,
    meddling: Mutex<Option<Meddling>>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shelf")
    }
}

#[async_trait]
impl SealedValues for Shelf {
    async fn count(&self, column: SealedColumn) -> Result<u64, StoreError> {
        Ok(self.of(column).len() as u64)
    }

    async fn page(
        &self,
        column: SealedColumn,
        after: Option<&RowId>,
        limit: u32,
    ) -> Result<Vec<SealedValue>, StoreError> {
        let mut values = self.of(column);
        values.retain(|value| after.is_none_or(|after| value.id > *after));
        values.truncate(limit as usize);
        Ok(values)
    }

    async fn replace(
        &self,
        column: SealedColumn,
        id: &RowId,
        old: &[u8],
        new: &[u8],
    ) -> Result<bool, StoreError> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meddling = self.meddling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meddle) = meddling.as_mut() {
            meddle(&mut rows)?;
        }
        match rows.get_mut(&(column.table(), id.to_string())) {
            Some(held) if held == old => {
                *held = new.to_owned();
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

impl Shelf {
    fn of(&self, column: SealedColumn) -> Vec<SealedValue> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.iter()
            .filter(|((table, _), _)| *table == column.table())
            .map(|((_, id), sealed)| SealedValue {
                id: id.as_str().into(),
                sealed: sealed.clone(),
            })
            .collect()
    }

    fn meddle(
        &self,
        with: impl FnMut(&mut Rows) -> Result<(), StoreError> + Send + 'static,
    ) -> Fallible {
        *self.meddling.lock().map_err(|_| "poisoned")? = Some(Box::new(with));
        Ok(())
    }
}

struct Place {
    _dir: tempfile::TempDir,
    ring: Arc<RingFile>,
    vault: Vault,
    shelf: Arc<Shelf>,
}

const COLUMN: SealedColumn = DESTINATION_CREDENTIALS;

impl Place {
    /// A ring that was rotated twice, and a secret of each key in every column.
    fn new() -> Fallible<Self> {
        let dir = tempfile::tempdir()?;
        let guard = KeyEncryptionKey::from_bytes(&vec![7; 32].into())?;
        let ring = RingFile::create_new(dir.path().join("vault.ring"), Arc::new(guard), 0)?;
        let ring = Arc::new(ring);
        let vault = Vault::shared(Arc::clone(&ring) as Arc<_>);
        let mut rows = Rows::new();
        for time in 0..3 {
            for column in COLUMNS {
                let id = format!("row {time}");
                let sealed = vault.seal_str(&secret(&id), &column.binding(&id))?;
                rows.insert((column.table(), id), sealed.into_bytes());
            }
            if time < 2 {
                ring.rotate(time)?;
            }
        }
        let shelf = Arc::new(Shelf {
            rows: Mutex::new(rows),
            meddling: Mutex::new(None),
        });
        Ok(Self {
            _dir: dir,
            ring,
            vault,
            shelf,
        })
    }

    /// Fails unless every secret is the one that belongs there, under the newest key.
    fn all_moved(&self, but: &[(&str, &str)]) -> Fallible {
        for column in COLUMNS {
            for value in self.shelf.of(*column) {
                let sealed = Sealed::parse(&value.sealed)?;
                let opened = self.vault.open_str(&sealed, &column.binding(&value.id))?;
                let changed = but
                    .iter()
                    .find(|(id, _)| *column == COLUMN && RowId::from(*id) == value.id);
                let own = value.id.to_string();
                let wanted = changed.map_or(own.as_str(), |(_, secret)| *secret);
                assert_eq!(opened.expose_secret(), wanted, "{column} {}", value.id);
                assert_eq!(
                    sealed.key_id(),
                    self.ring.primary(),
                    "{column} {}",
                    value.id
                );
            }
        }
        Ok(())
    }
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

/// V7
#[tokio::test]
async fn moves_what_any_older_key_sealed_and_nothing_else() -> Fallible {
    let place = Place::new()?;
    let total = 3 * COLUMNS.len() as u64;
    let mut told = Vec::new();

    let outcome = reseal::reseal(&*place.shelf, &place.ring, |progress| {
        told.push((progress.done, progress.total));
    })
    .await?;
    let again = reseal::reseal(&*place.shelf, &place.ring, |_| {}).await?;

    place.all_moved(&[])?;
    assert_eq!(outcome.progress.resealed, total - COLUMNS.len() as u64);
    assert_eq!(
        told,
        (1..=total).map(|done| (done, total)).collect::<Vec<_>>()
    );
    assert_eq!(again.progress.resealed, 0);
    Ok(())
}

/// V7: what its owner writes between the reading and the writing is not undone, and is moved too
/// when the owner had not noticed that the key is a new one.
#[tokio::test]
async fn never_undoes_what_the_owner_writes_meanwhile() -> Fallible {
    let place = Place::new()?;
    let id = "row 0".to_owned();
    // Sealed by a process that still has the second key.
    let keys = place.ring.keys();
    let second = keys.get(1).map(|key| key.id).ok_or("no second key")?;
    let by_owner = Vault::shared(Arc::new(Only(place.ring.clone(), second)));
    let new = by_owner.seal_str(&secret("changed"), &COLUMN.binding(&id))?;
    let mut once = Some(new.into_bytes());
    let row = (COLUMN.table(), id.clone());
    place.shelf.meddle(move |rows| {
        if let Some(new) = once.take() {
            rows.insert(row.clone(), new);
        }
        Ok(())
    })?;

    let outcome = reseal::reseal(&*place.shelf, &place.ring, |_| {}).await?;

    assert!(outcome.unopened.is_empty());
    place.all_moved(&[(&id, "changed")])
}

/// V7
#[tokio::test]
async fn passes_over_a_row_that_is_removed_meanwhile() -> Fallible {
    let place = Place::new()?;
    let row = (COLUMN.table(), "row 1".to_owned());
    place.shelf.meddle(move |rows| {
        rows.remove(&row);
        Ok(())
    })?;

    let outcome = reseal::reseal(&*place.shelf, &place.ring, |_| {}).await?;

    assert!(outcome.unopened.is_empty());
    assert_eq!(place.shelf.of(COLUMN).len(), 2);
    place.all_moved(&[])
}

/// V7
#[tokio::test]
async fn goes_on_where_a_store_that_failed_stopped_it() -> Fallible {
    let place = Place::new()?;
    let mut left = 2;
    place.shelf.meddle(move |_| {
        left -= 1;
        match left >= 0 {
            true => Ok(()),
            false => Err(StoreError::unavailable("the disk is full")),
        }
    })?;

    let failed = reseal::reseal(&*place.shelf, &place.ring, |_| {}).await;
    let between = reseal::verify(&*place.shelf, &place.ring).await?;
    place.shelf.meddle(|_| Ok(()))?;
    let outcome = reseal::reseal(&*place.shelf, &place.ring, |_| {}).await?;

    assert!(matches!(failed, Err(ResealError::Store(_))));
    assert!(between.unopened.is_empty());
    let moved = 2 * COLUMNS.len() as u64 - 2;
    assert_eq!(outcome.progress.resealed, moved);
    place.all_moved(&[])
}

/// V7: what a disabled key sealed is named, and not lost.
#[tokio::test]
async fn names_what_a_disabled_key_sealed() -> Fallible {
    let place = Place::new()?;
    let first = place
        .ring
        .keys()
        .first()
        .map(|key| key.id)
        .ok_or("no key")?;
    place.ring.disable(first, 3)?;

    let outcome = reseal::reseal(&*place.shelf, &place.ring, |_| {}).await?;
    let census = reseal::census(&*place.shelf).await?;
    place.ring.enable(first, 4)?;
    reseal::reseal(&*place.shelf, &place.ring, |_| {}).await?;

    assert_eq!(outcome.unopened.len(), COLUMNS.len());
    let reason = outcome.unopened.first().map(|one| one.reason.clone());
    assert!(reason.is_some_and(|reason| reason.contains("is disabled")));
    assert_eq!(census.sealed_by(first), COLUMNS.len() as u64);
    place.all_moved(&[])
}

/// Seals with one key of a ring, as a process that has not looked at the file for a while.
#[derive(Debug)]
struct Only(Arc<RingFile>, KeyId);

impl KeyProvider for Only {
    fn current(&self) -> Result<Arc<DataKey>, KeyError> {
        self.0.by_id(self.1)
    }

    fn by_id(&self, id: KeyId) -> Result<Arc<DataKey>, KeyError> {
        self.0.by_id(id)
    }
}
