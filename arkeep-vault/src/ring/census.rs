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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Binding, Keyring, Sealer as _, SecretString, Vault};

    /// V7
    #[test]
    fn a_ring_without_a_key_of_the_values_misses_it() -> Result<(), Box<dyn std::error::Error>> {
        let (one, other) = (Keyring::generate(0)?, Keyring::generate(0)?);
        let mut census = Census::default();
        for _ in 0..2 {
            let vault = Vault::new(one.clone());
            let sealed = vault.seal_str(&SecretString::from("s"), &Binding::new("t", "c", "1"))?;
            census.count(&sealed);
        }

        assert_eq!(census.missing_from(&one.keys()), []);
        assert_eq!(census.missing_from(&other.keys()), [(one.primary(), 2)]);
        assert_eq!(Census::default().missing_from(&[]), []);
        Ok(())
    }
}
