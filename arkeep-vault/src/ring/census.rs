//! Counting what each key is needed for.

use std::collections::BTreeMap;

use super::KeyInfo;
use crate::{KeyId, Sealed};

/// How many sealed values each key has, counted by walking all of them.
///
/// It is what [`Keyring::remove`](crate::Keyring::remove) asks for, so that a key is not removed
/// on a guess. Walk every column of every table that holds sealed values; a value that was left
/// out is a value that may be lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    counts: BTreeMap<KeyId, u64>,
}

impl Census {
    /// Counts one value.
    pub fn count(&mut self, sealed: &Sealed) {
        *self.counts.entry(sealed.key_id()).or_default() += 1;
    }

    /// How many values `id` sealed.
    #[must_use]
    pub fn sealed_by(&self, id: KeyId) -> u64 {
        self.counts.get(&id).copied().unwrap_or_default()
    }

    /// The keys of values that none of `keys` sealed, with how many each has.
    ///
    /// When there are any, the ring is older than the values, or another's, or the values were
    /// altered. Do not change such a ring: what it seals from then on is lost when the right one is
    /// put back.
    #[must_use]
    pub fn missing_from(&self, keys: &[KeyInfo]) -> Vec<(KeyId, u64)> {
        let counts = self.counts.iter().map(|(id, count)| (*id, *count));
        counts
            .filter(|(id, _)| keys.iter().all(|key| key.id != *id))
            .collect()
    }
}

impl<'a> Extend<&'a Sealed> for Census {
    fn extend<I: IntoIterator<Item = &'a Sealed>>(&mut self, values: I) {
        values.into_iter().for_each(|sealed| self.count(sealed));
    }
}
