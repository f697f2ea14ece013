use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Changes, Cursor, Revocation, RevocationSet, RevocationStore, Verdict};
use crate::token::SignedClaims;

/// A copy of a [`RevocationStore`] in memory, for the hot path.
///
/// Each replica has one, loaded before it listens. Call [`refresh`](Self::refresh) whenever the
/// store announces a revocation, and several times a second in any case.
///
/// # Security
///
/// - What is known to be revoked is refused, however old the copy is.
/// - While the copy is younger than [`MAX_AGE`](Self::MAX_AGE), it decides alone, unless a token has
///   a newer epoch than the copy knows: then the store decides.
/// - An older copy decides nothing but refusals: every other token is a question to the store, and
///   when the store does not answer, nobody comes in.
///
/// The age is measured by a clock that does not step.
#[derive(Debug)]
pub struct RevocationCache {
    store: Arc<dyn RevocationStore>,
    copy: RwLock<Copy>,
    // Readings go one after the other: the cursor of an older one must not replace a newer one's.
    reading: Mutex<()>,
}

#[derive(Debug)]
struct Copy {
    set: RevocationSet,
    cursor: Cursor,
    as_of: Instant,
}

impl RevocationCache {
    /// How old the copy may be and still decide alone.
    pub const MAX_AGE: Duration = Duration::from_secs(1);

    /// Reads everything that still counts. Do this before the first request is let in.
    pub async fn load(store: Arc<dyn RevocationStore>) -> Result<Self, StoreError> {
        let as_of = Instant::now();
        let Changes { revoked, cursor } = store.changes(Cursor::START).await?;
        let mut set = RevocationSet::default();
        revoked.iter().for_each(|what| set.add(what));
        Ok(Self {
            store,
            copy: RwLock::new(Copy { set, cursor, as_of }),
            reading: Mutex::new(()),
        })
    }

    /// Takes over what was revoked since the last time.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _turn = self.reading.lock().await;
        // Taken before the store is asked: what is revoked during the answer may be missing in it.
        let as_of = Instant::now();
        let after = self.read(|copy| copy.cursor);
        let Changes { revoked, cursor } = self.store.changes(after).await?;
        self.write(|copy| {
            revoked.iter().for_each(|what| copy.set.add(what));
            copy.cursor = cursor;
            copy.as_of = as_of;
        });
        Ok(())
    }

    /// How long ago the copy was true.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.read(|copy| copy.as_of.elapsed())
    }

    fn read<T>(&self, look: impl FnOnce(&Copy) -> T) -> T {
        look(&self.copy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Copy) -> T) -> T {
        change(&mut self.copy.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl RevocationStore for RevocationCache {
    async fn revoke(&self, what: &Revocation) -> Result<(), StoreError> {
        // First here: a replica may refuse what the store has not heard of, and not the other way.
        self.learn(what);
        self.store.revoke(what).await
    }

    fn learn(&self, what: &Revocation) {
        self.write(|copy| copy.set.add(what));
    }

    async fn is_revoked(&self, claims: &SignedClaims) -> Result<bool, StoreError> {
        let (verdict, age) = self.read(|copy| (copy.set.judge(claims), copy.as_of.elapsed()));
        match verdict {
            Verdict::Revoked => Ok(true),
            Verdict::Live if age <= Self::MAX_AGE => Ok(false),
            Verdict::Live | Verdict::Unknown => self.store.is_revoked(claims).await,
        }
    }

    async fn changes(&self, after: Cursor) -> Result<Changes, StoreError> {
        self.store.changes(after).await
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.write(|copy| copy.set.prune(now));
        self.store.prune(now).await
    }
}
