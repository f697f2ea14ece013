//! The ring in a file that several processes share.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::place::{Place, RingPlace};
use super::state::{Block, Draft, Loaded, State, kinds};
use super::{Census, KeyInfo, Keyring, RingError, WrappedRing};
use crate::files::{self, Lock, Stamp};
use crate::{DataKey, KeyError, KeyId, KeyProvider, KeyWrapper};

/// A key ring in a file, wrapped by a key-encryption key.
///
/// Opening it only reads. Every change is written to a new file that takes the old one's place in
/// one step, so at any moment, and after any crash, the path holds a whole ring: the one before
/// the change or the one after.
///
/// Several processes may use one file, such as a server and a command beside it. Each change is
/// made under a lock (`<path>.lock`) to what the file says at that moment, so none undoes
/// another's. A key that another process added is found when it is asked for; that this process
/// should seal with it, it learns from [`refresh`](Self::refresh), or when it next writes.
///
/// Programs on several machines keep the ring where all of them find it, in a [`RingPlace`] of
/// theirs. There each change is made by comparison instead of under a lock, and made again when
/// another came first.
///
/// # Counting
///
/// A key's count of sealed messages is written in advance, for a block of messages: 64 at first,
/// twice as many each time, up to 65,536. A process that ends early leaves the rest of its block
/// counted. The count is therefore never less than the truth, and more by one block at most for
/// each time that a process started to seal. It also means that the first secret sealed by a
/// process, and then one in very many, waits for a write to the disk.
///
/// # Security
///
/// An attacker who can replace the file with an older copy takes back later changes. A process
/// that has seen the newer one refuses the older; a process that starts later cannot know.
#[derive(Debug)]
pub struct RingFile {
    place: Place,
    state: RwLock<State>,
}

impl RingFile {
    /// Makes a ring with one key where there is none.
    ///
    /// Whether there *should* be none is for the caller to know: beside secrets that are sealed
    /// already, a new ring only hides that the old one is lost.
    ///
    /// # Errors
    ///
    /// [`RingError::Exists`] when anything is at the path; it is never overwritten.
    pub fn create_new(
        path: impl AsRef<Path>,
        guard: Arc<dyn KeyWrapper>,
        now: i64,
    ) -> Result<Self, RingError> {
        let path = path.as_ref();
        if Stamp::of(path).is_ok() {
            return Err(RingError::Exists { path: path.into() });
        }
        let ring = Keyring::generate(now)?;
        let wrapped = WrappedRing::lock(&ring, &*guard).map_err(RingError::wrap(path))?;
        let made = files::create_new(path, &wrapped.to_bytes(), files::directory(path));
        made.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => RingError::Exists { path: path.into() },
            _ => RingError::io(path)(source),
        })?;
        Self::open(path, guard)
    }

    /// Opens a ring that exists. Nothing is written, whatever is found.
    ///
    /// # Errors
    ///
    /// [`RingError`] names the file, and keeps a missing ring, a damaged one and a wrong key
    /// apart. Do not answer any of them by making a new ring.
    pub fn open(path: impl AsRef<Path>, guard: Arc<dyn KeyWrapper>) -> Result<Self, RingError> {
        Self::open_at(Place::File(path.as_ref().into()), guard)
    }

    /// Makes a ring with one key in a place that has none, as [`create_new`](Self::create_new) does.
    ///
    /// # Errors
    ///
    /// [`RingError::Exists`] when there is one, also when another made it in this moment.
    pub fn create_in(
        place: Arc<dyn RingPlace>,
        guard: Arc<dyn KeyWrapper>,
        now: i64,
    ) -> Result<Self, RingError> {
        let name = PathBuf::from(place.name());
        let ring = Keyring::generate(now)?;
        let wrapped = WrappedRing::lock(&ring, &*guard).map_err(RingError::wrap(&name))?;
        let kept = place.replace(None, &wrapped.to_bytes());
        match kept.map_err(RingError::io(&name))? {
            Some(_) => Self::open_in(place, guard),
            None => Err(RingError::Exists { path: name }),
        }
    }

    /// Opens a ring that exists somewhere else than in a file. Nothing is written.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); errors say the place's name where they say a path.
    pub fn open_in(
        place: Arc<dyn RingPlace>,
        guard: Arc<dyn KeyWrapper>,
    ) -> Result<Self, RingError> {
        Self::open_at(Place::kept(place), guard)
    }

    fn open_at(place: Place, guard: Arc<dyn KeyWrapper>) -> Result<Self, RingError> {
        let loaded = Loaded::read(&place, &*guard, None)?;
        Ok(Self {
            place,
            state: RwLock::new(State {
                guard,
                key: loaded.key,
                ring: loaded.ring,
                wrapped: loaded.wrapped,
                seen: loaded.seen,
                block: Block::default(),
            }),
        })
    }

    /// Where the ring is; the name of a place that is no file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// The key that this process seals with.
    #[must_use]
    pub fn primary(&self) -> KeyId {
        self.read().ring.primary()
    }

    /// All keys, oldest first.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyInfo> {
        self.read().ring.keys()
    }

    /// The kinds of guards that can unlock the ring.
    ///
    /// Two while it is being rekeyed, or when a rekey was interrupted.
    #[must_use]
    pub fn guards(&self) -> Vec<String> {
        kinds(&self.read().wrapped.slots)
    }

    /// A copy in memory, for a process that must not write to the file.
    ///
    /// It counts what it seals for itself and does not see later changes.
    #[must_use]
    pub fn to_keyring(&self) -> Keyring {
        self.read().ring.clone()
    }

    /// Reads the file again if it changed, and says whether it had.
    ///
    /// Call it every minute or so in a process that seals while others may rotate.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`RingError::RolledBack`]. What was known before is kept.
    pub fn refresh(&self) -> Result<bool, RingError> {
        let (seen, revision, guard, key) = {
            let state = self.read();
            let key = Arc::clone(&state.key);
            (
                state.seen,
                state.ring.revision,
                Arc::clone(&state.guard),
                key,
            )
        };
        if self.place.look().is_ok_and(|now| now == seen) {
            return Ok(false);
        }
        let loaded = Loaded::read(&self.place, &*guard, Some(&key))?;
        loaded.is_not_older(self.path(), revision)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // A change that was made here in the meantime is newer than what was read.
        if loaded.ring.revision >= state.ring.revision {
            state.replace(loaded, None);
        }
        Ok(true)
    }

    /// Makes a new primary key, see [`Keyring::rotate`].
    ///
    /// # Errors
    ///
    /// [`RingError`]. The file is then as it was, unless it is [`RingError::Io`]: a disk that fails
    /// at the last moment may have kept the change, and the next reading tells.
    pub fn rotate(&self, now: i64) -> Result<KeyId, RingError> {
        self.update(|draft| Ok(draft.ring.rotate(now)?))
    }

    /// Takes a key out of use without losing it, see [`Keyring::disable`].
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate).
    pub fn disable(&self, id: KeyId, now: i64) -> Result<(), RingError> {
        self.update(|draft| Ok(draft.ring.disable(id, now)?))
    }

    /// Lets a disabled key open again, see [`Keyring::enable`].
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate).
    pub fn enable(&self, id: KeyId, now: i64) -> Result<(), RingError> {
        self.update(|draft| Ok(draft.ring.enable(id, now)?))
    }

    /// Removes a key that nothing needs, for good, see [`Keyring::remove`].
    ///
    /// # Errors
    ///
    /// As [`rotate`](Self::rotate).
    pub fn remove(&self, id: KeyId, census: &Census, now: i64) -> Result<(), RingError> {
        self.update(|draft| Ok(draft.ring.remove(id, census, now)?))
    }

    /// Makes one change to what the file says now.
    fn update<T>(
        &self,
        change: impl FnMut(&mut Draft) -> Result<T, RingError>,
    ) -> Result<T, RingError> {
        let lock = self.lock()?;
        self.update_under(&lock, change)
    }

    /// Nothing when the place is one where who comes second loses.
    pub(super) fn lock(&self) -> Result<Option<Lock>, RingError> {
        self.place.lock()
    }

    pub(super) fn is_in_a_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    pub(super) fn update_under<T>(
        &self,
        _lock: &Option<Lock>,
        mut change: impl FnMut(&mut Draft) -> Result<T, RingError>,
    ) -> Result<T, RingError> {
        // Whoever was first has changed it; only one that never ends can keep this from its turn.
        for _ in 0..MOST_TRIES {
            if let Some(result) = self.try_update(&mut change)? {
                return Ok(result);
            }
        }
        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "others keep changing it");
        Err(RingError::io(self.path())(busy))
    }

    /// Returns nothing when another change came first.
    fn try_update<T>(
        &self,
        change: &mut impl FnMut(&mut Draft) -> Result<T, RingError>,
    ) -> Result<Option<T>, RingError> {
        let path = self.path();
        let (revision, guard, key) = {
            let state = self.read();
            let key = Arc::clone(&state.key);
            (state.ring.revision, Arc::clone(&state.guard), key)
        };
        let loaded = Loaded::read(&self.place, &*guard, Some(&key))?;
        let seen = loaded.seen;
        loaded.is_not_older(path, revision)?;
        let mut draft = Draft {
            guard,
            key: loaded.key,
            ring: loaded.ring,
            slots: loaded.wrapped.slots,
            block: None,
        };
        let result = change(&mut draft)?;
        let next = draft.ring.revision.checked_add(1);
        draft.ring.revision = next.ok_or_else(|| {
            let spent = io::Error::other("its revision cannot grow any more");
            RingError::io(path)(spent)
        })?;
        let wrapped = WrappedRing::seal(&draft.ring, &draft.key, draft.slots)
            .map_err(RingError::wrap(path))?;
        let Some(seen) = self.place.replace(seen, &wrapped.to_bytes())? else {
            return Ok(None);
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Without a lock another thread may have made a later change meanwhile, from this one.
        if draft.ring.revision > state.ring.revision {
            state.guard = draft.guard;
            let loaded = Loaded {
                wrapped,
                key: draft.key,
                ring: draft.ring,
                seen,
            };
            state.replace(loaded, draft.block);
        }
        Ok(Some(result))
    }

    /// Writes down, before they are sealed, that the primary key seals more messages.
    fn reserve(&self) -> Result<(), RingError> {
        let lock = self.lock()?;
        let size = {
            let state = self.read();
            if state.block.is_left() {
                // Another thread was here while this one waited for the lock.
                return Ok(());
            }
            state.block.next_size()
        };
        self.update_under(&lock, |draft| {
            draft.ring.count(size);
            draft.block = Some(size);
            Ok(())
        })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyProvider for RingFile {
    fn current(&self) -> Result<Arc<DataKey>, KeyError> {
        loop {
            if let Some(key) = self.read().take_current() {
                return Ok(key);
            }
            self.reserve()?;
        }
    }

    fn by_id(&self, id: KeyId) -> Result<Arc<DataKey>, KeyError> {
        let known = self.read().ring.by_id(id);
        match known {
            Ok(key) => Ok(key),
            // Another process may have added or enabled it.
            Err(_) if self.refresh()? => self.read().ring.by_id(id),
            Err(error) => Err(error),
        }
    }
}

const MOST_TRIES: u32 = 100;

/// A key may well exist in a ring that cannot be read now.
impl From<RingError> for KeyError {
    fn from(error: RingError) -> Self {
        Self::Unavailable {
            source: Box::new(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::ring::KeyState;
    use crate::ring::state::LONGEST_FILE;
    use crate::{Binding, KeyEncryptionKey, OpenError, Sealer, SecretString, Vault};

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    struct Place {
        directory: tempfile::TempDir,
        ring: PathBuf,
    }

    impl Place {
        fn new() -> io::Result<Self> {
            let directory = tempfile::tempdir()?;
            let ring = directory.path().join("vault.ring");
            Ok(Self { directory, ring })
        }

        fn create(&self) -> Result<RingFile, RingError> {
            RingFile::create_new(&self.ring, guard(1), 1_000)
        }

        fn open(&self) -> Result<RingFile, RingError> {
            RingFile::open(&self.ring, guard(1))
        }

        /// Every file with its content, to see that nothing was touched.
        fn content(&self) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
            let mut files = fs::read_dir(self.directory.path())?
                .map(|entry| entry.map(|entry| entry.path()))
                .map(|path| path.and_then(|path| Ok((path.clone(), fs::read(path)?))))
                .collect::<Result<Vec<_>, _>>()?;
            files.sort();
            Ok(files)
        }
    }

    fn guard(byte: u8) -> Arc<dyn KeyWrapper> {
        Arc::new(KeyEncryptionKey::from_bytes(&vec![byte; 32].into()).unwrap())
    }

    fn counts(ring: &RingFile) -> Vec<u64> {
        ring.keys().iter().map(|key| key.messages_sealed).collect()
    }

    /// V3: whatever a ring says, nothing panics.
    #[test]
    fn a_revision_at_its_end_refuses_the_next_change() -> TestResult {
        let place = Place::new()?;
        let ring = place.create()?;
        let key = Arc::clone(&ring.read().key);
        let mut last = ring.to_keyring();
        last.revision = u64::MAX;
        last.count(u64::MAX);
        last.count(1);
        let slots = ring.read().wrapped.slots.clone();
        let written = WrappedRing::seal(&last, &key, slots)?.to_bytes();
        fs::write(&place.ring, &written)?;

        let refused = place.open()?.rotate(1);

        assert!(matches!(refused, Err(RingError::Io { .. })), "{refused:?}");
        assert_eq!(fs::read(&place.ring)?, written);
        assert_eq!(counts(&place.open()?), [u64::MAX]);
        Ok(())
    }

    mod create_new {
        use super::*;

        /// V5
        #[test]
        fn makes_a_file_that_only_its_owner_can_read() -> TestResult {
            let place = Place::new()?;

            let made = place.create()?;

            assert_eq!(
                fs::metadata(&place.ring)?.permissions().mode() & 0o777,
                0o600
            );
            assert_eq!(place.content()?.len(), 1);
            assert_eq!(place.open()?.keys(), made.keys());
            assert_eq!(made.keys()[0].created_at, 1_000);
            Ok(())
        }

        /// V6
        #[test]
        fn never_overwrites_anything() -> TestResult {
            let place = Place::new()?;
            place.create()?;
            let before = place.content()?;

            let again = RingFile::create_new(&place.ring, guard(2), 0);
            let link = place.directory.path().join("dangling");
            std::os::unix::fs::symlink("/nonexistent/ring", &link)?;
            let through_link = RingFile::create_new(&link, guard(2), 0);

            assert!(matches!(again, Err(RingError::Exists { .. })));
            assert!(matches!(through_link, Err(RingError::Exists { .. })));
            fs::remove_file(&link)?;
            assert_eq!(place.content()?, before);
            Ok(())
        }

        #[test]
        fn has_one_winner_among_many() -> TestResult {
            let place = Place::new()?;

            let made: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| place.create())).collect();
                threads.into_iter().map(|made| made.join()).collect()
            });

            let winners = made.iter().filter(|made| matches!(made, Ok(Ok(_))));
            let losers = made
                .iter()
                .filter(|made| matches!(made, Ok(Err(RingError::Exists { .. }))));
            assert_eq!((winners.count(), losers.count()), (1, 7));
            assert_eq!(place.content()?.len(), 1);
            Ok(())
        }
    }

    mod open {
        use super::*;

        /// V6
        #[test]
        fn names_the_file_and_changes_nothing_whatever_is_wrong() -> TestResult {
            let place = Place::new()?;
            place.create()?;
            let genuine = fs::read(&place.ring)?;
            let missing = place.directory.path().join("no-vault.ring");
            let link = place.directory.path().join("link-vault.ring");
            std::os::unix::fs::symlink(&place.ring, &link)?;
            let cut = place.directory.path().join("cut-vault.ring");
            fs::write(&cut, &genuine[..genuine.len() / 2])?;
            let long = place.directory.path().join("long-vault.ring");
            fs::write(&long, vec![0; LONGEST_FILE + 1])?;
            let empty = place.directory.path().join("empty-vault.ring");
            fs::write(&empty, b"")?;
            let before = place.content()?;

            let errors = [
                RingFile::open(&place.ring, guard(2)).unwrap_err(),
                RingFile::open(&missing, guard(1)).unwrap_err(),
                RingFile::open(&link, guard(1)).unwrap_err(),
                RingFile::open(&cut, guard(1)).unwrap_err(),
                RingFile::open(&long, guard(1)).unwrap_err(),
                RingFile::open(&empty, guard(1)).unwrap_err(),
                RingFile::open("/proc", guard(1)).unwrap_err(),
            ];

            assert_eq!(place.content()?, before);
            for error in &errors[..6] {
                assert!(error.to_string().contains("vault.ring"), "{error}");
            }
            assert!(matches!(errors[0], RingError::WrongKey { .. }));
            assert!(errors[0].to_string().contains("locked with: key"));
            assert!(matches!(errors[1], RingError::Missing { .. }));
            assert!(errors[1].to_string().contains("restore it from a backup"));
            assert!(matches!(errors[2], RingError::SymbolicLink { .. }));
            assert!(matches!(errors[3], RingError::Damaged { .. }));
            assert!(matches!(errors[4], RingError::Damaged { .. }));
            assert!(matches!(errors[5], RingError::Damaged { .. }));
            assert!(matches!(errors[6], RingError::NotAFile { .. }));
            Ok(())
        }

        /// V6
        #[test]
        fn writes_nothing_when_all_is_well() -> TestResult {
            let place = Place::new()?;
            place.create()?;
            let before = place.content()?;

            let ring = place.open()?;
            let sealed = ring.by_id(ring.primary())?;

            assert_eq!(sealed.id(), ring.primary());
            assert_eq!(place.content()?, before);
            Ok(())
        }
    }

    mod count {
        use super::*;

        /// V5
        #[test]
        fn is_written_before_the_messages_are_sealed() -> TestResult {
            let place = Place::new()?;
            let ring = place.create()?;

            for sealed in 1..=200 {
                ring.current()?;

                assert!(counts(&place.open()?)[0] >= sealed);
            }
            assert_eq!(counts(&ring), [64 + 128 + 256]);
            Ok(())
        }

        /// V5: a write is for a block of messages, and a process wastes one block at most.
        #[test]
        fn costs_one_write_for_a_block() -> TestResult {
            let place = Place::new()?;
            let ring = place.create()?;
            ring.current()?;
            let written = fs::read(&place.ring)?;

            for _ in 1..64 {
                ring.current()?;
            }

            assert_eq!(fs::read(&place.ring)?, written);
            ring.current()?;
            assert_ne!(fs::read(&place.ring)?, written);
            place.open()?.current()?;
            assert_eq!(counts(&place.open()?), [64 + 128 + 64]);
            Ok(())
        }

        /// V5
        #[test]
        fn misses_none_of_what_threads_seal_at_once() -> TestResult {
            let place = Place::new()?;
            let ring = place.create()?;

            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..1_000).for_each(|_| drop(ring.current().unwrap())));
                }
            });

            assert!(counts(&place.open()?)[0] >= 4_000);
            assert!(counts(&place.open()?)[0] <= 8_192);
            Ok(())
        }

        #[test]
        fn blocks_stop_growing() {
            let mut block = Block::default();
            for _ in 0..20 {
                block = Block::new(block.next_size());
            }

            assert_eq!(block.size, 65_536);
        }

        #[test]
        fn a_ring_that_cannot_be_written_seals_nothing() -> TestResult {
            let place = Place::new()?;
            let ring = place.create()?;
            fs::remove_file(&place.ring)?;

            let key = ring.current();

            assert!(matches!(key, Err(KeyError::Unavailable { .. })));
            assert_eq!(
                fs::read_dir(place.directory.path())?.count(),
                1,
                "only the lock"
            );
            assert!(ring.to_keyring().current().is_ok());
            Ok(())
        }
    }

    mod sharing {
        use super::*;

        fn here() -> Binding {
            Binding::new("table", "column", "row")
        }

        /// V7
        #[test]
        fn a_key_that_another_process_added_opens_at_once() -> TestResult {
            let place = Place::new()?;
            let server = Arc::new(place.create()?);
            let command = Arc::new(place.open()?);
            command.rotate(2)?;
            let secret = SecretString::from("hunter2");
            let sealed = Vault::shared(command).seal_str(&secret, &here())?;

            let opened = Vault::shared(server.clone()).open_str(&sealed, &here());

            assert!(opened.is_ok());
            assert_eq!(server.primary(), sealed.key_id());
            Ok(())
        }

        /// V7
        #[test]
        fn one_process_never_undoes_what_another_did() -> TestResult {
            let place = Place::new()?;
            let server = place.create()?;
            let command = place.open()?;
            let rotated = command.rotate(2)?;

            server.current()?;

            assert_eq!(place.open()?.primary(), rotated);
            assert_eq!(server.primary(), rotated);
            assert_eq!(counts(&place.open()?), [0, 64]);
            assert_eq!(server.current()?.id(), rotated);
            Ok(())
        }

        /// V7
        #[test]
        fn refresh_learns_of_the_new_primary_key() -> TestResult {
            let place = Place::new()?;
            let server = place.create()?;
            server.current()?;
            assert!(!server.refresh()?);
            let rotated = place.open()?.rotate(2)?;

            assert!(server.refresh()?);

            assert!(!server.refresh()?);
            assert_eq!(server.current()?.id(), rotated);
            assert_eq!(counts(&server), [64, 64]);
            Ok(())
        }

        #[test]
        fn refresh_keeps_a_block_that_is_not_used_up() -> TestResult {
            let place = Place::new()?;
            let server = place.create()?;
            server.current()?;
            let command = place.open()?;
            command.current()?;
            let written = fs::read(&place.ring)?;

            server.refresh()?;
            server.current()?;

            assert_eq!(fs::read(&place.ring)?, written);
            assert_eq!(counts(&server), [128]);
            Ok(())
        }

        #[test]
        fn a_key_that_another_process_enabled_opens_again() -> TestResult {
            let place = Place::new()?;
            let server = place.create()?;
            let old = server.primary();
            server.rotate(1)?;
            server.disable(old, 2)?;
            assert!(matches!(server.by_id(old), Err(KeyError::Disabled { .. })));

            place.open()?.enable(old, 3)?;

            assert!(server.by_id(old).is_ok());
            Ok(())
        }

        #[test]
        fn an_unknown_key_stays_rejected_while_the_file_is_the_same() -> TestResult {
            let place = Place::new()?;
            let sealed =
                Vault::new(Keyring::generate(0)?).seal_str(&SecretString::from("x"), &here())?;

            let opened = Vault::new(place.create()?).open(&sealed, &here());

            assert!(matches!(opened, Err(OpenError::Rejected)));
            Ok(())
        }

        #[test]
        fn an_older_copy_is_refused_and_what_is_known_is_kept() -> TestResult {
            let place = Place::new()?;
            let server = place.create()?;
            let backup = fs::read(&place.ring)?;
            let rotated = server.rotate(2)?;
            fs::write(&place.ring, &backup)?;

            let refreshed = server.refresh();
            let changed = server.rotate(3);

            assert!(matches!(refreshed, Err(RingError::RolledBack { .. })));
            assert!(matches!(changed, Err(RingError::RolledBack { .. })));
            assert_eq!(server.primary(), rotated);
            assert_eq!(fs::read(&place.ring)?, backup);
            Ok(())
        }

        #[test]
        fn a_ring_that_was_damaged_underneath_does_not_hide_a_key() -> TestResult {
            let place = Place::new()?;
            let server = place.create()?;
            fs::write(&place.ring, b"damaged")?;

            let unknown = server.by_id(KeyId::from_bytes([0; 8]));
            let known = server.by_id(server.primary());

            assert!(matches!(unknown, Err(KeyError::Unavailable { .. })));
            assert!(known.is_ok());
            Ok(())
        }

        /// V7
        #[test]
        fn changes_by_many_at_once_all_happen() -> TestResult {
            let place = Place::new()?;
            let ring = place.create()?;

            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let ring = place.open().unwrap();
                        (0..8).for_each(|now| assert!(ring.rotate(now).is_ok()));
                    });
                }
            });

            ring.refresh()?;
            assert_eq!(ring.keys().len(), 33);
            Ok(())
        }
    }

    mod change {
        use super::*;

        /// V7
        #[test]
        fn is_on_disk_when_it_returns() -> TestResult {
            let place = Place::new()?;
            let ring = place.create()?;
            let old = ring.primary();
            let new = ring.rotate(1)?;
            assert_eq!(place.open()?.primary(), new);

            ring.disable(old, 2)?;
            assert_eq!(place.open()?.keys()[0].state, KeyState::Disabled);
            ring.enable(old, 3)?;
            assert_eq!(place.open()?.keys()[0].state, KeyState::Decrypt);
            ring.disable(old, 4)?;
            ring.remove(old, &Census::default(), 4 + crate::REMOVAL_DELAY_MILLIS)?;

            assert_eq!(place.open()?.keys().len(), 1);
            assert_eq!(
                fs::metadata(&place.ring)?.permissions().mode() & 0o777,
                0o600
            );
            Ok(())
        }

        #[test]
        fn that_is_refused_writes_nothing() -> TestResult {
            let place = Place::new()?;
            let ring = place.create()?;
            ring.rotate(0)?;
            let before = place.content()?;

            let refused = ring.disable(ring.primary(), 1);

            assert!(matches!(refused, Err(RingError::Refused(_))));
            assert_eq!(place.content()?, before);
            Ok(())
        }
    }
}
