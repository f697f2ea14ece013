//! Changing the key-encryption key.
//!
//! The ring file has room for two slots, each with the ring key wrapped by one guard. A rekey
//! fills the second, lets the caller put the new key where the program will look for it, and then
//! empties the first:
//!
//! | step | the ring opens with |
//! |---|---|
//! | before | the old key |
//! | after [`RingFile::begin_rekey`] | the old key or the new one |
//! | after [`RingFile::finish_rekey`] | the new key |
//!
//! Each step replaces the file in one go, so whichever key the program finds after a crash, there
//! is a slot for it. [`RingFile::rekey_file`] makes all the steps for a key in a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::RingKey;
use super::{RingError, RingFile};
use crate::crash::crash_point;
use crate::files::{self, Lock};
use crate::{KeyEncryptionKey, KeyFileError, KeyWrapper};

impl RingFile {
    /// Lets a second key-encryption key open the ring.
    ///
    /// A second slot that is there already, from an attempt that was given up, is replaced.
    ///
    /// # Errors
    ///
    /// [`RingError`]. The ring then opens with the old key, as before.
    pub fn begin_rekey(&self, new: &dyn KeyWrapper) -> Result<(), RingError> {
        let lock = self.lock()?;
        self.begin_under(&lock, new)
    }

    /// Lets only `new` open the ring from now on.
    ///
    /// The ring key is changed too: what is written from now on, nobody can read who has the old
    /// key and an old copy of the file. The data keys stay, and whoever had the old key may have
    /// them; rotate after a rekey that was made because a key leaked.
    ///
    /// # Errors
    ///
    /// [`RingError::WrongKey`] when `new` does not open the ring, so that the last key that does is
    /// never thrown away. Otherwise the ring opens with either key, as before.
    pub fn finish_rekey(&self, new: Arc<dyn KeyWrapper>) -> Result<(), RingError> {
        let lock = self.lock()?;
        self.finish_under(&lock, new)
    }

    /// Goes back to the key that this process opened the ring with, alone.
    ///
    /// # Errors
    ///
    /// [`RingError`]. The ring is then as it was.
    pub fn abandon_rekey(&self) -> Result<(), RingError> {
        let guard = Arc::clone(&self.read().guard);
        self.finish_rekey(guard)
    }

    /// Whether two keys open the ring: a rekey is under way, or was interrupted.
    #[must_use]
    pub fn is_rekeying(&self) -> bool {
        self.read().wrapped.slots.len() > 1
    }

    /// Replaces the key in `key_file`, which this ring was opened with, by a new one.
    ///
    /// The new key is first written to `<key_file>.new`. When an earlier attempt was interrupted,
    /// this one takes up where it stopped. Killed at any point, the key in `key_file` opens the
    /// ring.
    ///
    /// # Errors
    ///
    /// [`RekeyError`]. The key that is then in `key_file` opens the ring.
    /// [`RekeyError::NotInAFile`] for a ring that programs on other machines may share.
    pub fn rekey_file(&self, key_file: impl AsRef<Path>) -> Result<(), RekeyError> {
        let key_file = key_file.as_ref();
        if !self.is_in_a_file() {
            return Err(RekeyError::NotInAFile);
        }
        let waiting = files::beside(key_file, ".new");
        // Held throughout: two rekeys at once would each take the other's slot.
        let lock = self.lock()?;
        for of in [key_file, &waiting] {
            files::sweep(of).map_err(RingError::io(of))?;
        }
        let new = match KeyEncryptionKey::from_file(&waiting) {
            Ok(key) => key,
            Err(KeyFileError::Missing { .. }) => {
                KeyEncryptionKey::generate_file_like(&waiting, key_file)?
            }
            Err(error) => return Err(error.into()),
        };
        crash_point!("rekey-key-made");
        self.begin_under(&lock, &new)?;
        crash_point!("rekey-begun");
        if let Err(source) = files::rename(&waiting, key_file) {
            self.take_back(&lock, &waiting)?;
            let key_file = key_file.to_owned();
            return Err(RekeyError::Rename { key_file, source });
        }
        crash_point!("rekey-renamed");
        let new = KeyEncryptionKey::from_file(key_file)?;
        self.finish_under(&lock, Arc::new(new))?;
        Ok(())
    }

    /// Forgets a new key that cannot take the old one's place.
    fn take_back(&self, lock: &Option<Lock>, waiting: &Path) -> Result<(), RekeyError> {
        // After a rename that was made and not made durable the new key lies where the old one was.
        if waiting.exists() {
            let guard = Arc::clone(&self.read().guard);
            self.finish_under(lock, guard)?;
            std::fs::remove_file(waiting).map_err(RingError::io(waiting))?;
        }
        Ok(())
    }

    fn begin_under(&self, lock: &Option<Lock>, new: &dyn KeyWrapper) -> Result<(), RingError> {
        self.update_under(lock, |draft| {
            let kept = draft.slot_of(self.path(), &*draft.guard)?;
            if kept.holds(&draft.key, new).is_ok_and(|same| same) {
                return Err(RingError::SameKey);
            }
            let added = draft.key.slot(new).map_err(RingError::wrap(self.path()))?;
            draft.slots = vec![kept, added];
            Ok(())
        })
    }

    fn finish_under(&self, lock: &Option<Lock>, new: Arc<dyn KeyWrapper>) -> Result<(), RingError> {
        self.update_under(lock, |draft| {
            draft.slot_of(self.path(), &*new)?;
            let wrap = RingError::wrap(self.path());
            let (key, slot) = RingKey::generate()
                .and_then(|key| key.slot(&*new).map(|slot| (key, slot)))
                .map_err(wrap)?;
            draft.key = Arc::new(key);
            draft.slots = vec![slot];
            draft.guard = Arc::clone(&new);
            Ok(())
        })
    }
}

/// A key file was not replaced. The ring opens with the key that is now in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// The ring is shared by programs that would not find a new key on this machine. Give each the
    /// new key, and then use [`RingFile::begin_rekey`] and [`RingFile::finish_rekey`].
    #[error(
        "the key ring is shared with other machines, which would not find a key that is made here"
    )]
    NotInAFile,

    /// The ring could not be read or written.
    #[error("the key ring was not rekeyed")]
    Ring(#[from] RingError),

    /// The new key file could not be made or read.
    #[error("the new key was not made")]
    KeyFile(#[from] KeyFileError),

    /// Nothing can take the place of the key file, for instance because it is mounted. The ring
    /// opens with the old key alone, as before, if the disk did not fail.
    #[error(
        "a new key could not take the place of {}: put the new key at another path, and rekey to \
         that",
        .key_file.display()
    )]
    Rename {
        /// The key file.
        key_file: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::KeyProvider;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    struct Place {
        _directory: tempfile::TempDir,
        ring: PathBuf,
        key: PathBuf,
        waiting: PathBuf,
    }

    impl Place {
        fn new() -> Result<Self, Box<dyn std::error::Error>> {
            let directory = tempfile::tempdir()?;
            let path = |name| directory.path().join(name);
            let place = Self {
                ring: path("vault.ring"),
                key: path("vault.key"),
                waiting: path("vault.key.new"),
                _directory: directory,
            };
            let key = Arc::new(KeyEncryptionKey::generate_file(&place.key)?);
            RingFile::create_new(&place.ring, key, 0)?;
            Ok(place)
        }

        /// As a program that starts would do it.
        fn open(&self) -> Result<RingFile, Box<dyn std::error::Error>> {
            let key = KeyEncryptionKey::from_file(&self.key)?;
            Ok(RingFile::open(&self.ring, Arc::new(key))?)
        }
    }

    fn other(byte: u8) -> Arc<KeyEncryptionKey> {
        Arc::new(KeyEncryptionKey::from_bytes(&vec![byte; 32].into()).unwrap())
    }

    mod begin {
        use super::*;

        /// V7
        #[test]
        fn lets_either_key_open_the_ring() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;

            ring.begin_rekey(&*other(1))?;

            assert!(ring.is_rekeying());
            assert_eq!(ring.guards(), ["key", "key"]);
            assert_eq!(place.open()?.keys(), ring.keys());
            assert_eq!(RingFile::open(&place.ring, other(1))?.keys(), ring.keys());
            Ok(())
        }

        /// V7
        #[test]
        fn takes_the_place_of_an_attempt_that_was_given_up() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            ring.begin_rekey(&*other(1))?;

            ring.begin_rekey(&*other(2))?;

            assert!(place.open().is_ok());
            assert!(RingFile::open(&place.ring, other(2)).is_ok());
            let given_up = RingFile::open(&place.ring, other(1));
            assert!(matches!(given_up, Err(RingError::WrongKey { .. })));
            Ok(())
        }

        /// V7: whatever changes meanwhile is seen with either key.
        #[test]
        fn does_not_stop_other_changes() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            ring.begin_rekey(&*other(1))?;

            let new = ring.rotate(1)?;

            assert_eq!(place.open()?.primary(), new);
            assert_eq!(RingFile::open(&place.ring, other(1))?.primary(), new);
            Ok(())
        }
    }

    mod finish {
        use super::*;

        /// V7
        #[test]
        fn leaves_only_the_new_key() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            let keys = ring.keys();
            ring.begin_rekey(&*other(1))?;

            ring.finish_rekey(other(1))?;

            assert!(!ring.is_rekeying());
            assert!(place.open().is_err());
            assert_eq!(RingFile::open(&place.ring, other(1))?.keys(), keys);
            assert!(
                ring.rotate(1).is_ok(),
                "this process goes on with the new key"
            );
            Ok(())
        }

        /// V7
        #[test]
        fn keeps_the_last_key_that_opens() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            ring.begin_rekey(&*other(1))?;
            let before = fs::read(&place.ring)?;

            let refused = ring.finish_rekey(other(2));

            assert!(matches!(refused, Err(RingError::WrongKey { .. })));
            assert_eq!(fs::read(&place.ring)?, before);
            Ok(())
        }

        /// V7: the old key with an old copy of the file opens nothing that is written later.
        #[test]
        fn changes_the_ring_key() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            let old_copy = crate::WrappedRing::parse(&fs::read(&place.ring)?)?;
            let old_guard = KeyEncryptionKey::from_file(&place.key)?;
            let old_key = old_copy.ring_key(&old_guard)?;
            ring.begin_rekey(&*other(1))?;

            ring.finish_rekey(other(1))?;

            let written = crate::WrappedRing::parse(&fs::read(&place.ring)?)?;
            assert!(written.open(&old_key).is_err());
            Ok(())
        }

        /// V7
        #[test]
        fn can_be_done_by_a_program_that_started_with_the_new_key() -> TestResult {
            let place = Place::new()?;
            place.open()?.begin_rekey(&*other(1))?;

            RingFile::open(&place.ring, other(1))?.finish_rekey(other(1))?;

            assert!(place.open().is_err());
            Ok(())
        }
    }

    mod abandon {
        use super::*;

        /// V7
        #[test]
        fn leaves_only_the_old_key() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            ring.begin_rekey(&*other(1))?;

            ring.abandon_rekey()?;

            assert!(!ring.is_rekeying());
            assert!(place.open().is_ok());
            assert!(RingFile::open(&place.ring, other(1)).is_err());
            Ok(())
        }
    }

    mod rekey_file {
        use super::*;

        /// V7
        #[test]
        fn changes_the_key_and_nothing_else() -> TestResult {
            let place = Place::new()?;
            let (ring, before) = (place.open()?, fs::read(&place.key)?);

            ring.rekey_file(&place.key)?;

            assert_ne!(fs::read(&place.key)?, before);
            assert!(!place.waiting.exists());
            assert!(!place.open()?.is_rekeying());
            assert_eq!(place.open()?.keys(), ring.keys());
            fs::write(&place.key, before)?;
            assert!(place.open().is_err());
            Ok(())
        }

        /// V7: stopped after the new key was written, and again after it was let in.
        #[test]
        fn takes_up_an_attempt_where_it_stopped() -> TestResult {
            let place = Place::new()?;
            let waiting = KeyEncryptionKey::generate_file(&place.waiting)?;
            let new = fs::read(&place.waiting)?;
            place.open()?.begin_rekey(&waiting)?;

            place.open()?.rekey_file(&place.key)?;

            assert_eq!(fs::read(&place.key)?, new);
            assert!(!place.open()?.is_rekeying());
            Ok(())
        }

        /// V7: stopped after the new key took the old one's place.
        #[test]
        fn ends_an_attempt_that_stopped_at_the_last_step() -> TestResult {
            let place = Place::new()?;
            let waiting = KeyEncryptionKey::generate_file(&place.waiting)?;
            place.open()?.begin_rekey(&waiting)?;
            fs::rename(&place.waiting, &place.key)?;
            assert!(place.open()?.is_rekeying());

            place.open()?.rekey_file(&place.key)?;

            assert!(!place.open()?.is_rekeying());
            Ok(())
        }

        /// V7: a server that is running goes on.
        #[test]
        fn is_followed_by_other_processes_that_read_the_key_from_the_file() -> TestResult {
            let place = Place::new()?;
            let server = place.open()?;

            place.open()?.rekey_file(&place.key)?;

            assert!(server.refresh()?);
            assert!(server.current().is_ok());
            assert!(server.rotate(1).is_ok());
            assert_eq!(place.open()?.primary(), server.primary());
            Ok(())
        }

        /// V7: a rekey to the same key would say that the old one opens nothing any more.
        #[test]
        fn refuses_the_key_that_the_ring_has() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            fs::copy(&place.key, &place.waiting)?;
            let before = fs::read(&place.ring)?;

            let refused = ring.rekey_file(&place.key);

            assert!(matches!(refused, Err(RekeyError::Ring(RingError::SameKey))));
            assert_eq!(fs::read(&place.ring)?, before);
            Ok(())
        }

        /// V7: a key file that is mounted cannot be replaced, and the rekey is taken back.
        #[test]
        fn leaves_the_old_key_alone_when_nothing_can_take_its_place() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            // A directory cannot be replaced by a file, as a mount cannot.
            fs::rename(&place.key, place.key.with_extension("old"))?;
            fs::create_dir(&place.key)?;

            let refused = ring.rekey_file(&place.key);

            let error = refused.err().ok_or("a directory was replaced")?;
            assert!(matches!(error, RekeyError::Rename { .. }), "{error:?}");
            assert!(error.to_string().contains("another path"), "{error}");
            assert!(!ring.is_rekeying());
            assert!(!place.waiting.exists());
            fs::remove_dir(&place.key)?;
            fs::rename(place.key.with_extension("old"), &place.key)?;
            assert!(place.open().is_ok());
            Ok(())
        }

        #[test]
        fn refuses_a_waiting_key_that_is_none() -> TestResult {
            let place = Place::new()?;
            let ring = place.open()?;
            fs::write(&place.waiting, b"short")?;
            let before = fs::read(&place.ring)?;

            let refused = ring.rekey_file(&place.key);

            assert!(matches!(refused, Err(RekeyError::KeyFile(_))));
            assert_eq!(fs::read(&place.ring)?, before);
            assert!(place.open().is_ok());
            Ok(())
        }

        #[test]
        fn many_at_once_leave_a_key_that_opens() -> TestResult {
            let place = Place::new()?;

            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| place.open().unwrap().rekey_file(&place.key));
                }
            });

            assert!(place.open().is_ok());
            Ok(())
        }
    }
}
