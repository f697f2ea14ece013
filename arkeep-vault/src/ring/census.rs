//! Counting what each key is needed for.

use std::collections::BTreeMap;

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
}

impl<'a> Extend<&'a Sealed> for Census {
    fn extend<I: IntoIterator<Item = &'a Sealed>>(&mut self, values: I) {
        values.into_iter().for_each(|sealed| self.count(sealed));
    }
}
