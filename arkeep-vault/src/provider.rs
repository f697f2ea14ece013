//! Where the vault's keys come from.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretSlice};

use crate::KeyId;
use crate::xaes::{KEY_LEN, XaesKey};

/// Hands out the keys that seal and open.
///
/// Implement this to keep data keys somewhere of your own. [`RingFile`](crate::RingFile) keeps
/// them in a file, wrapped by a key-encryption key; [`Keyring`](crate::Keyring) keeps them in
/// memory. To let a key management service guard our ring instead, implement the smaller
/// [`KeyWrapper`](crate::KeyWrapper).
///
/// # Security
///
/// - A key stays under its id for ever. An implementation that gives one id to two keys makes
///   every secret of the first unreadable.
/// - A key that [`current`](Self::current) once returned must be had from [`by_id`](Self::by_id)
///   for as long as anything sealed with it is kept, on every machine that reads it.
/// - When a key cannot be had right now, return [`KeyError::Unavailable`]. Do not answer
///   [`KeyError::Unknown`] for a key that may exist: callers take it for final.
///
/// # Cost
///
/// `current` runs once for each secret sealed and `by_id` once for each secret opened, and both
/// may wait for nothing. Fetch keys ahead and hand out clones of an [`Arc`].
pub trait KeyProvider: fmt::Debug + Send + Sync {
    /// The key to seal the next secret with. One call is one secret, so that it can be counted.
    fn current(&self) -> Result<Arc<DataKey>, KeyError>;

    /// The key of this id, to open with.
    fn by_id(&self, id: KeyId) -> Result<Arc<DataKey>, KeyError>;
}

/// A key that seals secrets, ready for use.
///
/// It cannot be taken apart again: what it holds is the schedule of the key, wiped when dropped.
pub struct DataKey {
    id: KeyId,
    cipher: Box<XaesKey>,
}

impl DataKey {
    /// Takes a key of your own: 32 bytes, uniformly random, used for nothing else.
    ///
    /// # Errors
    ///
    /// When the key is not 32 bytes long.
    pub fn new(id: KeyId, key: &SecretSlice<u8>) -> Result<Self, KeyLengthError> {
        let key = key.expose_secret();
        let length = key.len();
        let key = key.try_into().map_err(|_| KeyLengthError { length })?;
        Ok(Self::from_array(id, key))
    }

    pub(crate) fn from_array(id: KeyId, key: &[u8; KEY_LEN]) -> Self {
        let cipher = XaesKey::new(key);
        Self { id, cipher }
    }

    /// The name under which blobs refer to it.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn cipher(&self) -> &XaesKey {
        &self.cipher
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({}, [REDACTED])", self.id)
    }
}

/// A key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No key has this id, and none will have it later.
    #[error("key {id} is not in the ring")]
    Unknown {
        /// The id that was asked for.
        id: KeyId,
    },

    /// The key is there and was taken out of use. Enable it again to open what it sealed.
    #[error("key {id} is disabled")]
    Disabled {
        /// The id that was asked for.
        id: KeyId,
    },

    /// The key may exist and cannot be had now. Worth a retry.
    #[error("the key cannot be had now")]
    Unavailable {
        /// What stands in the way.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A key that is not 256 bits long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has {length} bytes; it must have exactly {KEY_LEN}")]
pub struct KeyLengthError {
    pub(crate) length: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    mod data_key {
        use super::*;

        const ID: KeyId = KeyId::from_bytes([1; 8]);

        /// V8
        #[test]
        fn keeps_its_bytes_out_of_debug() -> Result<(), KeyLengthError> {
            let key = DataKey::new(ID, &vec![0x41; 32].into())?;

            assert_eq!(format!("{key:?}"), "DataKey(0101010101010101, [REDACTED])");
            Ok(())
        }

        /// V5
        #[test]
        fn has_exactly_thirty_two_bytes() {
            for length in [0, 16, 31, 33, 64] {
                let made = DataKey::new(ID, &vec![0; length].into()).map(|_| ());

                assert_eq!(made, Err(KeyLengthError { length }));
            }
        }
    }
}
