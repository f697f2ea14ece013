//! The keys that seal, and what becomes of them.
//!
//! ```text
//!            rotate               disable              remove
//!  primary ─────────▶  decrypt  ◀─────────▶  disabled ─────────▶  gone
//!                               enable
//! ```
//!
//! One key is primary and seals. When it is replaced it still opens what it sealed. Once
//! everything was sealed again it can be disabled, which is the rehearsal of its removal: nothing
//! opens with it, and it can be enabled again when something turns out to be missing.

mod census;
mod entry;
mod error;
mod file;
mod format;
mod list;
mod place;
mod rekey;
mod state;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use secrecy::SecretSlice;

use crate::{DataKey, KeyError, KeyId, KeyLengthError, KeyProvider};
use entry::RingEntry;

pub use census::Census;
pub use error::{RingError, RingFormatError, UnlockError};
pub use file::RingFile;
pub use format::WrappedRing;
#[cfg(feature = "testing")]
pub(crate) use list::decode;
pub use place::RingPlace;
pub use rekey::RekeyError;

/// Data keys in memory.
///
/// A [`Vault`](crate::Vault) can use it as it is. To keep it, put it into a
/// [`RingFile`](crate::RingFile), or store a [`WrappedRing`] where you like.
///
/// Times are milliseconds since 1970, as the caller's clock has them.
#[derive(Clone)]
pub struct Keyring {
    /// Oldest first. Exactly one is primary, and no two have the same id.
    keys: Vec<RingEntry>,
    /// How often the ring was written. A copy with a lower number is an old one.
    revision: u64,
}

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// Seals and opens. There is always exactly one.
    Primary,
    /// Opens what it sealed before, and seals nothing more.
    Decrypt,
    /// Neither seals nor opens, and is kept.
    Disabled,
}

/// What may be known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its name in blobs.
    pub id: KeyId,
    /// What it is used for.
    pub state: KeyState,
    /// When it was made.
    pub created_at: i64,
    /// When its state last changed.
    pub changed_at: i64,
    /// How many secrets it sealed: never less than the truth. A ring in a file rounds up, see
    /// [`RingFile`].
    pub messages_sealed: u64,
}

impl Keyring {
    /// Makes a ring with one key.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoRandomness`].
    pub fn generate(now: i64) -> Result<Self, ChangeError> {
        let entry = RingEntry::generate(now, &[])?;
        Ok(Self {
            keys: vec![entry],
            revision: 0,
        })
    }

    /// A ring with one key of your own: 32 bytes, uniformly random, used for nothing else.
    ///
    /// # Errors
    ///
    /// When the key is not 32 bytes long.
    pub fn single(id: KeyId, key: &SecretSlice<u8>, now: i64) -> Result<Self, KeyLengthError> {
        let info = KeyInfo {
            id,
            state: KeyState::Primary,
            created_at: now,
            changed_at: now,
            messages_sealed: 0,
        };
        let ready = Arc::new(DataKey::new(id, key)?);
        Ok(Self {
            keys: vec![RingEntry::new(info, key.clone(), ready)],
            revision: 0,
        })
    }

    /// The key that seals.
    #[must_use]
    pub fn primary(&self) -> KeyId {
        self.primary_entry().id
    }

    /// All keys, oldest first.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.keys.iter().map(RingEntry::info).collect()
    }

    /// Makes a new primary key. The old one opens what it sealed.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NoRandomness`], and [`ChangeError::Full`] after 256 keys.
    pub fn rotate(&mut self, now: i64) -> Result<KeyId, ChangeError> {
        if self.keys.len() >= MOST_KEYS {
            return Err(ChangeError::Full);
        }
        let new = RingEntry::generate(now, &self.keys)?;
        let id = new.id;
        for entry in &mut self.keys {
            if entry.state == KeyState::Primary {
                entry.move_to(KeyState::Decrypt, now);
            }
        }
        self.keys.push(new);
        Ok(id)
    }

    /// Takes a key out of use without losing it.
    ///
    /// Disabling a key that is disabled changes nothing, and keeps its date.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`]; [`ChangeError::Primary`] for the one that seals.
    pub fn disable(&mut self, id: KeyId, now: i64) -> Result<(), ChangeError> {
        let entry = self.entry_mut(id)?;
        match entry.state {
            KeyState::Primary => Err(ChangeError::Primary { id }),
            KeyState::Decrypt => {
                entry.move_to(KeyState::Disabled, now);
                Ok(())
            }
            KeyState::Disabled => Ok(()),
        }
    }

    /// Lets a disabled key open again.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Unknown`].
    pub fn enable(&mut self, id: KeyId, now: i64) -> Result<(), ChangeError> {
        let entry = self.entry_mut(id)?;
        if entry.state == KeyState::Disabled {
            entry.move_to(KeyState::Decrypt, now);
        }
        Ok(())
    }

    /// Removes a key for good.
    ///
    /// `census` is the count of everything that is sealed, taken now. The key must have been
    /// disabled for [`REMOVAL_DELAY_MILLIS`], so that every process that shares the ring has
    /// stopped sealing with it before the count was taken.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Needed`] when anything still needs the key, [`ChangeError::NotDisabled`],
    /// [`ChangeError::TooSoon`], [`ChangeError::Unknown`].
    pub fn remove(&mut self, id: KeyId, census: &Census, now: i64) -> Result<(), ChangeError> {
        let entry = self.entry_mut(id)?;
        if entry.state != KeyState::Disabled {
            return Err(ChangeError::NotDisabled { id });
        }
        let rows = census.sealed_by(id);
        if rows > 0 {
            return Err(ChangeError::Needed { id, rows });
        }
        let allowed_at = entry.changed_at.saturating_add(REMOVAL_DELAY_MILLIS);
        if now < allowed_at {
            return Err(ChangeError::TooSoon { id, allowed_at });
        }
        self.keys.retain(|entry| entry.id != id);
        Ok(())
    }

    /// Adds to the count of the primary key.
    fn count(&mut self, messages: u64) {
        let count = &self.primary_entry().messages_sealed;
        let sealed = count.load(Ordering::Relaxed).saturating_add(messages);
        count.store(sealed, Ordering::Relaxed);
    }

    fn primary_key(&self) -> Arc<DataKey> {
        Arc::clone(&self.primary_entry().ready)
    }

    fn entry_mut(&mut self, id: KeyId) -> Result<&mut RingEntry, ChangeError> {
        self.keys
            .iter_mut()
            .find(|entry| entry.id == id)
            .ok_or(ChangeError::Unknown { id })
    }

    #[expect(
        clippy::expect_used,
        reason = "a ring is made with a primary key, and no change leaves it without one"
    )]
    fn primary_entry(&self) -> &RingEntry {
        // The newest key is the primary one unless the file was written by another program.
        self.keys
            .iter()
            .rfind(|entry| entry.state == KeyState::Primary)
            .expect("a ring has a primary key")
    }
}

impl KeyProvider for Keyring {
    fn current(&self) -> Result<Arc<DataKey>, KeyError> {
        let entry = self.primary_entry();
        entry.messages_sealed.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::clone(&entry.ready))
    }

    fn by_id(&self, id: KeyId) -> Result<Arc<DataKey>, KeyError> {
        match self.keys.iter().find(|entry| entry.id == id) {
            None => Err(KeyError::Unknown { id }),
            Some(entry) if entry.state == KeyState::Disabled => Err(KeyError::Disabled { id }),
            Some(entry) => Ok(Arc::clone(&entry.ready)),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("keys", &self.keys())
            .field("revision", &self.revision)
            .finish()
    }
}

/// A change of the ring was refused. The ring is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// No key has this id.
    #[error("key {id} is not in the ring")]
    Unknown {
        /// The id that was given.
        id: KeyId,
    },

    /// The key seals. Rotate first.
    #[error("key {id} is the primary key: rotate first")]
    Primary {
        /// The primary key.
        id: KeyId,
    },

    /// The key is in use. Disable it first, and see that nothing is missed.
    #[error("key {id} is not disabled: disable it before it is removed")]
    NotDisabled {
        /// The key.
        id: KeyId,
    },

    /// Something is sealed with the key and would be lost. Seal it again first.
    #[error("key {id} is needed by {rows} sealed values: seal them again first")]
    Needed {
        /// The key.
        id: KeyId,
        /// How many values it sealed.
        rows: u64,
    },

    /// Another process may still be sealing with the key. Wait, and count again.
    #[error("key {id} was disabled less than a day ago: remove it later")]
    TooSoon {
        /// The key.
        id: KeyId,
        /// When it may be removed.
        allowed_at: i64,
    },

    /// The ring has as many keys as it can. Remove one that nothing needs.
    #[error("the ring has {MOST_KEYS} keys: remove one that nothing needs")]
    Full,

    /// The operating system gave no random bytes. Do not go on without them.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// How long a key is disabled before it can be removed: a day.
///
/// A process that shares the ring file learns of a change when it next reads the file, which is
/// at the latest when it calls [`RingFile::refresh`].
pub const REMOVAL_DELAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

const MOST_KEYS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sealed;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    const DAY: i64 = REMOVAL_DELAY_MILLIS;

    fn states(ring: &Keyring) -> Vec<KeyState> {
        ring.keys().iter().map(|key| key.state).collect()
    }

    /// A ring whose first key is disabled since `now`, and that key.
    fn with_disabled(now: i64) -> Result<(Keyring, KeyId), ChangeError> {
        let mut ring = Keyring::generate(0)?;
        let old = ring.primary();
        ring.rotate(now)?;
        ring.disable(old, now)?;
        Ok((ring, old))
    }

    mod rotate {
        use super::*;

        /// V7
        #[test]
        fn keeps_the_old_key_for_opening() -> TestResult {
            let mut ring = Keyring::generate(1_000)?;
            let old = ring.primary();

            let new = ring.rotate(2_000)?;

            assert_ne!(old, new);
            assert_eq!(ring.primary(), new);
            assert_eq!(ring.current()?.id(), new);
            assert_eq!(ring.by_id(old)?.id(), old);
            assert_eq!(states(&ring), [KeyState::Decrypt, KeyState::Primary]);
            let [first, second] = ring.keys()[..] else {
                return Err("not two keys".into());
            };
            assert_eq!((first.created_at, first.changed_at), (1_000, 2_000));
            assert_eq!((second.created_at, second.changed_at), (2_000, 2_000));
            Ok(())
        }

        #[test]
        fn leaves_disabled_keys_disabled() -> TestResult {
            let (mut ring, old) = with_disabled(1)?;

            ring.rotate(2)?;

            assert!(matches!(ring.by_id(old), Err(KeyError::Disabled { .. })));
            assert_eq!(ring.keys()[0].changed_at, 1);
            Ok(())
        }

        #[test]
        fn stops_when_the_ring_is_full() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            for _ in 1..MOST_KEYS {
                ring.rotate(0)?;
            }
            let last = ring.primary();

            let refused = ring.rotate(0);

            assert_eq!(refused, Err(ChangeError::Full));
            assert_eq!(ring.primary(), last);
            Ok(())
        }
    }

    mod disable {
        use super::*;

        /// V7
        #[test]
        fn can_be_taken_back() -> TestResult {
            let (mut ring, old) = with_disabled(1)?;
            assert!(matches!(ring.by_id(old), Err(KeyError::Disabled { id }) if id == old));

            ring.enable(old, 2)?;

            assert!(ring.by_id(old).is_ok());
            assert_eq!(states(&ring), [KeyState::Decrypt, KeyState::Primary]);
            Ok(())
        }

        #[test]
        fn spares_the_primary_key() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            let id = ring.primary();

            assert_eq!(ring.disable(id, 0), Err(ChangeError::Primary { id }));
            assert!(ring.current().is_ok());
            Ok(())
        }

        #[test]
        fn keeps_the_date_of_a_key_that_is_disabled() -> TestResult {
            let (mut ring, old) = with_disabled(1)?;

            ring.disable(old, 9)?;

            assert_eq!(ring.keys()[0].changed_at, 1);
            Ok(())
        }

        #[test]
        fn knows_only_keys_of_the_ring() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            let id = KeyId::from_bytes([0; 8]);

            assert_eq!(ring.disable(id, 0), Err(ChangeError::Unknown { id }));
            assert_eq!(ring.enable(id, 0), Err(ChangeError::Unknown { id }));
            Ok(())
        }

        #[test]
        fn enabling_a_key_that_opens_changes_nothing() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            let old = ring.primary();
            let new = ring.rotate(1)?;

            ring.enable(old, 5)?;
            ring.enable(new, 5)?;

            assert_eq!(states(&ring), [KeyState::Decrypt, KeyState::Primary]);
            assert_eq!(ring.keys()[0].changed_at, 1);
            Ok(())
        }
    }

    mod remove {
        use super::*;

        /// V7
        #[test]
        fn takes_a_key_that_nothing_needs() -> TestResult {
            let (mut ring, old) = with_disabled(1)?;

            ring.remove(old, &Census::default(), DAY + 1)?;

            assert_eq!(states(&ring), [KeyState::Primary]);
            assert!(matches!(ring.by_id(old), Err(KeyError::Unknown { .. })));
            Ok(())
        }

        /// V7
        #[test]
        fn spares_a_key_that_one_row_needs() -> TestResult {
            let (mut ring, old) = with_disabled(1)?;
            let mut census = Census::default();
            census.extend(&[Sealed::foreign(128, old, &[])?]);

            let refused = ring.remove(old, &census, DAY + 1);

            assert_eq!(refused, Err(ChangeError::Needed { id: old, rows: 1 }));
            assert_eq!(ring.keys().len(), 2);
            Ok(())
        }

        /// V7
        #[test]
        fn waits_a_day_after_the_key_was_disabled() -> TestResult {
            let (mut ring, old) = with_disabled(1)?;

            let refused = ring.remove(old, &Census::default(), DAY);

            let allowed_at = 86_400_001;
            assert_eq!(
                refused,
                Err(ChangeError::TooSoon {
                    id: old,
                    allowed_at
                })
            );
            assert_eq!(ring.keys().len(), 2);
            Ok(())
        }

        /// V7
        #[test]
        fn spares_a_key_that_is_not_disabled() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            let old = ring.primary();
            let new = ring.rotate(0)?;

            for id in [old, new] {
                let refused = ring.remove(id, &Census::default(), 2 * DAY);

                assert_eq!(refused, Err(ChangeError::NotDisabled { id }));
            }
            assert_eq!(ring.keys().len(), 2);
            Ok(())
        }
    }

    mod count {
        use super::*;

        /// V5
        #[test]
        fn rises_with_each_message_of_the_primary_key() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            ring.current()?;
            ring.current()?;
            ring.rotate(1)?;
            ring.current()?;

            let counts: Vec<_> = ring.keys().iter().map(|key| key.messages_sealed).collect();

            assert_eq!(counts, [2, 1]);
            Ok(())
        }
    }

    mod debug {
        use super::*;

        /// V8
        #[test]
        fn shows_no_byte_of_a_key() -> TestResult {
            let ring = Keyring::single(KeyId::from_bytes([1; 8]), &vec![0xee; 32].into(), 0)?;

            let text = format!("{ring:?}");

            assert!(text.contains("0101010101010101"));
            assert!(
                !text.contains("238") && !text.to_lowercase().contains("ee, "),
                "{text}"
            );
            Ok(())
        }
    }
}
