//! What a process knows of a ring file, and how it learned it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::{RingKey, Slot};
use super::place::{Place, Seen};
use super::{Keyring, RingError, UnlockError, WrappedRing};
use crate::{DataKey, KeyWrapper};

#[derive(Debug)]
pub(super) struct State {
    pub(super) guard: Arc<dyn KeyWrapper>,
    pub(super) key: Arc<RingKey>,
    pub(super) ring: Keyring,
    pub(super) wrapped: WrappedRing,
    pub(super) seen: Seen,
    pub(super) block: Block,
}

impl State {
    /// The key for one more message, if one more is already counted.
    pub(super) fn take_current(&self) -> Option<Arc<DataKey>> {
        self.block.take().then(|| self.ring.primary_key())
    }

    pub(super) fn replace(&mut self, loaded: Loaded, block: Option<u64>) {
        if let Some(size) = block {
            self.block = Block::new(size);
        } else if loaded.ring.primary() != self.ring.primary() {
            self.block = Block::default();
        }
        self.key = loaded.key;
        self.ring = loaded.ring;
        self.wrapped = loaded.wrapped;
        self.seen = loaded.seen;
    }
}

/// A change in the making.
pub(super) struct Draft {
    pub(super) guard: Arc<dyn KeyWrapper>,
    pub(super) key: Arc<RingKey>,
    pub(super) ring: Keyring,
    pub(super) slots: Vec<Slot>,
    pub(super) block: Option<u64>,
}

impl Draft {
    /// The slot that this guard opens.
    pub(super) fn slot_of(&self, path: &Path, guard: &dyn KeyWrapper) -> Result<Slot, RingError> {
        let refused = |error| RingError::unlock(path, kinds(&self.slots), guard, error);
        for slot in &self.slots {
            if slot.holds(&self.key, guard).map_err(refused)? {
                return Ok(slot.clone());
            }
        }
        Err(refused(UnlockError::WrongKey))
    }
}

pub(super) fn kinds(slots: &[Slot]) -> Vec<String> {
    slots.iter().map(|slot| slot.kind().to_owned()).collect()
}

/// What the file says.
pub(super) struct Loaded {
    pub(super) wrapped: WrappedRing,
    pub(super) key: Arc<RingKey>,
    pub(super) ring: Keyring,
    pub(super) seen: Seen,
}

impl Loaded {
    /// Reads what is kept, with a ring key that is already known if it still fits.
    pub(super) fn read(
        place: &Place,
        guard: &dyn KeyWrapper,
        known: Option<&Arc<RingKey>>,
    ) -> Result<Self, RingError> {
        let path = place.path();
        let (bytes, seen) = place.read()?;
        let wrapped = WrappedRing::parse(&bytes).map_err(RingError::damaged(path))?;
        let by_known = known.and_then(|key| Some((Arc::clone(key), wrapped.open(key).ok()?)));
        let (key, ring) = match by_known {
            Some(unlocked) => unlocked,
            None => {
                let key = wrapped.ring_key(guard).map_err(|error| {
                    RingError::unlock(path, kinds(&wrapped.slots), guard, error)
                })?;
                let ring = wrapped.open(&key).map_err(RingError::damaged(path))?;
                (Arc::new(key), ring)
            }
        };
        Ok(Self {
            wrapped,
            key,
            ring,
            seen,
        })
    }

    /// What is older than what this process has seen must not become the base of a change.
    pub(super) fn is_not_older(&self, path: &Path, revision: u64) -> Result<(), RingError> {
        match self.ring.revision < revision {
            true => Err(RingError::RolledBack { path: path.into() }),
            false => Ok(()),
        }
    }
}

/// What this process may still seal before it must write the count again.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) size: u64,
    used: AtomicU64,
}

impl Block {
    pub(super) fn new(size: u64) -> Self {
        let used = AtomicU64::new(0);
        Self { size, used }
    }

    fn take(&self) -> bool {
        self.used.fetch_add(1, Ordering::Relaxed) < self.size
    }

    pub(super) fn is_left(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.size
    }

    pub(super) fn next_size(&self) -> u64 {
        (self.size * 2).clamp(SMALLEST_BLOCK, LARGEST_BLOCK)
    }
}

const SMALLEST_BLOCK: u64 = 64;
const LARGEST_BLOCK: u64 = 1 << 16;

/// More than two slots and 256 keys take.
pub(super) const LONGEST_FILE: usize = 64 << 10;
