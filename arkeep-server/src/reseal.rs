//! Sealing every secret again under the newest key.
//!
//! A rotation makes a new key at once, and then every secret must move to it before the old key
//! can go. [`reseal`] moves them while whoever else goes on reading and writing: it walks the rows
//! by cursor, opens what an older key sealed, seals it again, and writes it back only if the row
//! still holds what was read. No lock is held from one row to the next, and nothing is remembered
//! but the rows themselves: killed anywhere, the next walk finds what is left to do.
//!
//! A secret that does not open is left as it is, and named. It is no reason to stop: the others
//! can still be moved.
//!
//! ```
//! # use std::sync::Arc;
//! # use arkeep_server::reseal;
//! # use arkeep_server::store::SealedValues;
//! # use arkeep_vault::RingFile;
//! # async fn rotate(values: &dyn SealedValues, ring: Arc<RingFile>, now: i64)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! ring.rotate(now)?;
//! let outcome = reseal::reseal(values, &ring, |progress| {
//!     println!("{} of {}", progress.done, progress.total);
//! })
//! .await?;
//! assert!(outcome.unopened.is_empty());
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use arkeep_core::StoreError;
use arkeep_vault::{
    Census, KeyError, OpenError, ResealError as SealAgainError, RingError, RingFile, Sealed,
    Sealer as _, Vault,
};

use crate::failpoint;
use crate::store::sealed::{COLUMNS, RowId, SealedColumn, SealedValue, SealedValues, Walk};

/// How far a walk has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many secrets there were when the walk began.
    pub total: u64,
    /// How many of them it has seen.
    pub done: u64,
    /// How many it sealed again; the others were under the newest key already.
    pub resealed: u64,
    /// How many do not open.
    pub unopened: u64,
}

/// How a walk ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Where it had come in the end.
    pub progress: Progress,
    /// What does not open, and is as it was.
    pub unopened: Vec<Unopened>,
}

/// A secret that does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unopened {
    /// Its column.
    pub column: SealedColumn,
    /// Its row.
    pub id: RowId,
    /// Why, without a part of the secret.
    pub reason: String,
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.column, self.id, self.reason)
    }
}

/// A walk did not come to its end. Every secret opens as before; walk again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResealError {
    /// The store does not answer.
    #[error("the sealed secrets cannot be read or written")]
    Store(#[from] StoreError),

    /// The ring cannot be read or written.
    #[error("the key ring cannot be used")]
    Ring(#[from] RingError),

    /// A key cannot be had now, or nothing can be sealed.
    #[error("a secret cannot be sealed again")]
    Seal(#[source] SealAgainError),
}

/// Moves every secret to the newest key of the ring, and tells how it goes on after each.
///
/// # Errors
///
/// [`ResealError`]. What was moved until then stays moved.
pub async fn reseal(
    values: &dyn SealedValues,
    ring: &Arc<RingFile>,
    mut tell: impl FnMut(&Progress),
) -> Result<Outcome, ResealError> {
    let vault = Vault::shared(Arc::clone(ring) as Arc<_>);
    let mut resealed = 0;
    loop {
        // Another process may have rotated since.
        ring.refresh()?;
        let mut outcome = Outcome::default();
        outcome.progress.total = count(values).await?;
        outcome.progress.resealed = resealed;
        let mut overtaken = false;
        let mut walk = Walk::over(values);
        while let Some((column, value)) = walk.next().await? {
            match move_one(values, ring, &vault, column, &value).await? {
                Step::Kept => {}
                Step::Moved => outcome.progress.resealed += 1,
                Step::Overtaken => overtaken = true,
                Step::Unopened(reason) => {
                    let id = value.id;
                    let unopened = Unopened { column, id, reason };
                    outcome.unopened.push(unopened);
                    outcome.progress.unopened += 1;
                }
            }
            outcome.progress.done += 1;
            tell(&outcome.progress);
        }
        // Whoever wrote in between may have used an older key.
        if !overtaken {
            return Ok(outcome);
        }
        resealed = outcome.progress.resealed;
    }
}

enum Step {
    Kept,
    Moved,
    Overtaken,
    Unopened(String),
}

async fn move_one(
    values: &dyn SealedValues,
    ring: &RingFile,
    vault: &Vault,
    column: SealedColumn,
    value: &SealedValue,
) -> Result<Step, ResealError> {
    let sealed = match Sealed::parse(&value.sealed) {
        Ok(sealed) if sealed.key_id() == ring.primary() => return Ok(Step::Kept),
        Ok(sealed) => sealed,
        Err(error) => return Ok(Step::Unopened(error.to_string())),
    };
    failpoint::hit("reseal.read");
    let again = match vault.reseal(&sealed, &column.binding(&value.id)) {
        Ok(again) => again,
        Err(SealAgainError::Open(error)) if is_final(&error) => {
            return Ok(Step::Unopened(reason(&error)));
        }
        Err(error) => return Err(ResealError::Seal(error)),
    };
    failpoint::hit("reseal.sealed");
    let (old, new) = (&value.sealed, again.as_bytes());
    let replaced = values.replace(column, &value.id, old, new).await?;
    failpoint::hit("reseal.replaced");
    Ok(if replaced {
        Step::Moved
    } else {
        Step::Overtaken
    })
}

/// Opens every secret, writes nothing, and says what does not open.
///
/// # Errors
///
/// [`ResealError`] when not all could be tried.
pub async fn verify(
    values: &dyn SealedValues,
    ring: &Arc<RingFile>,
) -> Result<Outcome, ResealError> {
    let vault = Vault::shared(Arc::clone(ring) as Arc<_>);
    let mut outcome = Outcome::default();
    let mut walk = Walk::over(values);
    while let Some((column, value)) = walk.next().await? {
        outcome.progress.done += 1;
        let opened = Sealed::parse(&value.sealed)
            .map_err(|error| error.to_string())
            .and_then(|sealed| {
                let opened = vault.open(&sealed, &column.binding(&value.id));
                opened.map_err(|error| reason(&error))
            });
        if let Err(reason) = opened {
            let id = value.id;
            outcome.progress.unopened += 1;
            outcome.unopened.push(Unopened { column, id, reason });
        }
    }
    outcome.progress.total = outcome.progress.done;
    Ok(outcome)
}

/// Counts what each key is needed for, to be asked before a key is disabled or removed.
///
/// # Errors
///
/// [`ResealError::Store`]
pub async fn census(values: &dyn SealedValues) -> Result<Census, ResealError> {
    let mut census = Census::default();
    let mut walk = Walk::over(values);
    while let Some((_, value)) = walk.next().await? {
        // What is no blob at all, no key opens.
        if let Ok(sealed) = Sealed::parse(&value.sealed) {
            census.count(&sealed);
        }
    }
    Ok(census)
}

/// How many values were sealed with keys that the ring does not have: it is older than they are, or
/// another server's. What a key of its own seals is lost when the newer one is put back.
///
/// # Errors
///
/// [`ResealError::Store`], [`ResealError::Ring`]
pub async fn missing(values: &dyn SealedValues, ring: &RingFile) -> Result<u64, ResealError> {
    let needed = census(values).await?;
    // A key is in the ring before it seals. Read after the values, the ring has the key of each,
    // also when somebody rotates at the same time.
    ring.refresh()?;
    let missing = needed.missing_from(&ring.keys());
    Ok(missing.iter().map(|(_, values)| values).sum())
}

async fn count(values: &dyn SealedValues) -> Result<u64, StoreError> {
    let mut total = 0;
    for column in COLUMNS {
        total += values.count(*column).await?;
    }
    Ok(total)
}

// A key that cannot be had now may be had later.
fn is_final(error: &OpenError) -> bool {
    !matches!(error, OpenError::Key(KeyError::Unavailable { .. }))
}

fn reason(error: &OpenError) -> String {
    match error {
        OpenError::Key(cause) => format!("{error}: {cause}"),
        _ => error.to_string(),
    }
}
