//! Where a ring is kept.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;

use super::state::LONGEST_FILE;
use super::{RingError, RingFormatError};
use crate::files::{self, Lock, ReadFault, Stamp};

/// Keeps a ring somewhere other than in a file: for programs on several machines that share one.
///
/// What it keeps are the bytes of a [`WrappedRing`](crate::WrappedRing), which nobody can read
/// without the key-encryption key, and a number that tells one version of them from the next. A
/// row of a database is one; see [`RingFile::open_in`](crate::RingFile::open_in).
///
/// # Security
///
/// A data key seals as soon as [`replace`](Self::replace) has answered. So when it has, the ring
/// must survive whatever the sealed values survive, and be what every other program reads from
/// then on. Two that replace the same generation must not both win: secrets that were sealed by the
/// loser would be lost.
///
/// When it cannot be known whether a write took effect, return an error. The next read will tell.
///
/// # Cost
///
/// Every method may block. [`generation`](Self::generation) is asked each time that somebody looks
/// whether the ring changed; the others only when it did, and when it is changed.
pub trait RingPlace: fmt::Debug + Send + Sync {
    /// What errors call it, such as `the table vault_ring`.
    fn name(&self) -> String;

    /// The number of what is kept now; none when there is nothing.
    fn generation(&self) -> io::Result<Option<u64>>;

    /// What is kept now, with its number.
    fn read(&self) -> io::Result<Option<(u64, Vec<u8>)>>;

    /// Keeps `ring` if what is kept is still `expected` (`None`: nothing), and returns its number,
    /// which was never used before. Returns nothing, and keeps what it has, when another was first.
    fn replace(&self, expected: Option<u64>, ring: &[u8]) -> io::Result<Option<u64>>;
}

/// A file of this machine, or a place of the caller's.
#[derive(Debug)]
pub(super) enum Place {
    File(PathBuf),
    Kept {
        /// Stands in errors where a path does.
        name: PathBuf,
        keeper: Arc<dyn RingPlace>,
    },
}

/// Tells one version of what is kept from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    File(Stamp),
    Kept(u64),
}

impl Place {
    pub(super) fn kept(keeper: Arc<dyn RingPlace>) -> Self {
        let name = PathBuf::from(keeper.name());
        Self::Kept { name, keeper }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Kept { name, .. } => name,
        }
    }

    /// What is there now, without reading it.
    pub(super) fn look(&self) -> Result<Seen, RingError> {
        let path = self.path();
        match self {
            Self::File(path) => Stamp::of(path).map(Seen::File).map_err(RingError::io(path)),
            Self::Kept { keeper, .. } => match keeper.generation().map_err(RingError::io(path))? {
                Some(generation) => Ok(Seen::Kept(generation)),
                None => Err(RingError::Missing { path: path.into() }),
            },
        }
    }

    pub(super) fn read(&self) -> Result<(Vec<u8>, Seen), RingError> {
        let path = self.path();
        match self {
            Self::File(path) => {
                let content = files::read(path, LONGEST_FILE).map_err(|fault| match fault {
                    ReadFault::Missing => RingError::Missing { path: path.into() },
                    ReadFault::SymbolicLink => RingError::SymbolicLink { path: path.into() },
                    ReadFault::NotAFile => RingError::NotAFile { path: path.into() },
                    ReadFault::TooLong => RingError::damaged(path)(RingFormatError::TooLong),
                    ReadFault::Io(source) => RingError::io(path)(source),
                })?;
                // Encrypted, so a copy that is not wiped gives nothing away.
                let bytes = content.bytes.expose_secret().to_vec();
                Ok((bytes, Seen::File(content.stamp)))
            }
            Self::Kept { keeper, .. } => {
                let kept = keeper.read().map_err(RingError::io(path))?;
                match kept {
                    Some((_, ring)) if ring.len() > LONGEST_FILE => {
                        Err(RingError::damaged(path)(RingFormatError::TooLong))
                    }
                    Some((generation, ring)) => Ok((ring, Seen::Kept(generation))),
                    None => Err(RingError::Missing { path: path.into() }),
                }
            }
        }
    }

    /// Keeps other programs from changing a file. Elsewhere, who comes second loses instead.
    pub(super) fn lock(&self) -> Result<Option<Lock>, RingError> {
        match self {
            Self::File(path) => {
                let lock = Lock::take(path).map_err(RingError::io(path))?;
                files::sweep(path).map_err(RingError::io(path))?;
                Ok(Some(lock))
            }
            Self::Kept { .. } => Ok(None),
        }
    }

    /// Puts a ring in the place of the one that was read. Returns nothing when another was first.
    pub(super) fn replace(&self, read: Seen, ring: &[u8]) -> Result<Option<Seen>, RingError> {
        let failed = RingError::io(self.path());
        match (self, read) {
            // Nobody else writes: the lock is held.
            (Self::File(path), _) => files::replace(path, ring)
                .and_then(|()| Stamp::of(path))
                .map(|stamp| Some(Seen::File(stamp)))
                .map_err(failed),
            (Self::Kept { keeper, .. }, Seen::Kept(generation)) => keeper
                .replace(Some(generation), ring)
                .map(|kept| kept.map(Seen::Kept))
                .map_err(failed),
            (Self::Kept { .. }, Seen::File(_)) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{
        Binding, KeyEncryptionKey, KeyProvider as _, KeyWrapper, RekeyError, RingFile, Sealer as _,
        SecretString, Vault,
    };

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    /// What a row of a database would be.
    #[derive(Debug, Default)]
    struct Row {
        kept: Mutex<Option<(u64, Vec<u8>)>>,
        /// The next answer is lost on its way.
        loses_answer: AtomicBool,
    }

    impl RingPlace for Row {
        fn name(&self) -> String {
            "the row".to_owned()
        }

        fn generation(&self) -> io::Result<Option<u64>> {
            Ok(self.read()?.map(|(generation, _)| generation))
        }

        fn read(&self) -> io::Result<Option<(u64, Vec<u8>)>> {
            Ok(self.kept.lock().unwrap().clone())
        }

        fn replace(&self, expected: Option<u64>, ring: &[u8]) -> io::Result<Option<u64>> {
            let mut kept = self.kept.lock().unwrap();
            if kept.as_ref().map(|(generation, _)| *generation) != expected {
                return Ok(None);
            }
            let next = expected.unwrap_or_default() + 1;
            *kept = Some((next, ring.to_owned()));
            match self.loses_answer.swap(false, Ordering::Relaxed) {
                true => Err(io::ErrorKind::ConnectionReset.into()),
                false => Ok(Some(next)),
            }
        }
    }

    fn guard(byte: u8) -> Arc<dyn KeyWrapper> {
        Arc::new(KeyEncryptionKey::from_bytes(&vec![byte; 32].into()).unwrap())
    }

    fn open(row: &Arc<Row>, byte: u8) -> Result<RingFile, RingError> {
        RingFile::open_in(Arc::clone(row) as Arc<_>, guard(byte))
    }

    fn made() -> Result<(Arc<Row>, RingFile), RingError> {
        let row = Arc::new(Row::default());
        let ring = RingFile::create_in(Arc::clone(&row) as Arc<_>, guard(1), 0)?;
        Ok((row, ring))
    }

    /// V6
    #[test]
    fn a_ring_is_made_once_and_opens_with_its_key_alone() -> TestResult {
        let row = Arc::new(Row::default());

        let made: Vec<_> = std::thread::scope(|scope| {
            let make = || RingFile::create_in(Arc::clone(&row) as Arc<_>, guard(1), 0);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|made| made.join()).collect()
        });
        let before = row.read()?;

        let winners = made.iter().filter(|made| matches!(made, Ok(Ok(_))));
        assert_eq!(winners.count(), 1);
        let wrong = open(&row, 2);
        assert!(
            matches!(wrong, Err(RingError::WrongKey { .. })),
            "{wrong:?}"
        );
        let missing = open(&Arc::default(), 1);
        assert!(matches!(missing, Err(RingError::Missing { .. })));
        assert!(open(&row, 1).is_ok());
        assert_eq!(row.read()?, before);
        Ok(())
    }

    /// V5: a place that gives more than any ring takes is not read to its end.
    #[test]
    fn a_ring_that_is_too_long_is_refused() -> TestResult {
        let (row, _) = made()?;
        for (length, too_long) in [(LONGEST_FILE, false), (LONGEST_FILE + 1, true)] {
            *row.kept.lock().unwrap() = Some((7, vec![0; length]));

            let Err(RingError::Damaged { source, .. }) = open(&row, 1) else {
                return Err("zeros were taken for a ring".into());
            };

            assert_eq!(source == RingFormatError::TooLong, too_long, "{length}");
        }
        Ok(())
    }

    /// V7: two that rotate at once do not fork the ring.
    #[test]
    fn whoever_comes_second_makes_the_change_to_what_is_there() -> TestResult {
        let (row, ring) = made()?;

        let made: Vec<_> = std::thread::scope(|scope| {
            let rotate = || open(&row, 1)?.rotate(1);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(rotate)).collect();
            threads.into_iter().map(|made| made.join()).collect()
        });

        ring.refresh()?;
        let keys: Vec<_> = ring.keys().iter().map(|key| key.id).collect();
        assert_eq!(keys.len(), 9);
        for made in made {
            let key = made.map_err(|_| "a thread panicked")??;
            assert!(keys.contains(&key));
        }
        Ok(())
    }

    /// V7: also by threads of one program, which has no lock of its own.
    #[test]
    fn threads_that_seal_and_rotate_at_once_seal_with_keys_that_are_kept() -> TestResult {
        let (row, ring) = made()?;
        let ring = Arc::new(ring);
        let vault = Vault::shared(Arc::clone(&ring) as Arc<_>);
        let binding = Binding::new("t", "c", "1");

        let sealed: Vec<_> = std::thread::scope(|scope| {
            let work = || {
                ring.rotate(1).unwrap();
                (0..100)
                    .map(|_| vault.seal_str(&SecretString::from("s"), &binding).unwrap())
                    .collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            let joined = threads.into_iter().map(|thread| thread.join().unwrap());
            joined.flatten().collect()
        });

        let other = Vault::shared(Arc::new(open(&row, 1)?) as Arc<_>);
        assert_eq!(sealed.len(), 400);
        for one in &sealed {
            other.open(one, &binding)?;
        }
        assert_eq!(open(&row, 1)?.primary(), ring.primary());
        Ok(())
    }

    /// V7
    #[test]
    fn a_key_of_another_program_is_found_when_it_is_asked_for() -> TestResult {
        let (row, ring) = made()?;

        let new = open(&row, 1)?.rotate(1)?;

        assert_ne!(ring.primary(), new);
        assert_eq!(ring.by_id(new)?.id(), new);
        assert_eq!(ring.primary(), new);
        Ok(())
    }

    /// V7: nothing is sealed with a key of which it is not known that it is kept.
    #[test]
    fn a_change_whose_answer_was_lost_is_not_used_until_it_was_read() -> TestResult {
        let (row, ring) = made()?;
        let before = ring.primary();
        row.loses_answer.store(true, Ordering::Relaxed);

        let lost = ring.rotate(1);

        assert!(matches!(lost, Err(RingError::Io { .. })), "{lost:?}");
        assert_eq!(ring.primary(), before);
        assert!(ring.refresh()?);
        assert_eq!(ring.primary(), open(&row, 1)?.primary());
        assert_ne!(ring.primary(), before);
        Ok(())
    }

    /// V7
    #[test]
    fn an_older_copy_is_refused_by_whoever_saw_the_newer() -> TestResult {
        let (row, ring) = made()?;
        let old = row.read()?.ok_or("nothing is kept")?.1;
        ring.rotate(1)?;
        *row.kept.lock().unwrap() = Some((7, old));

        let refused = ring.refresh();

        assert!(matches!(refused, Err(RingError::RolledBack { .. })));
        Ok(())
    }

    /// V7
    #[test]
    fn the_key_that_guards_it_is_changed_in_two_steps() -> TestResult {
        let (row, ring) = made()?;

        ring.begin_rekey(&*guard(2))?;
        assert!(open(&row, 1).is_ok() && open(&row, 2).is_ok());
        ring.finish_rekey(guard(2))?;

        assert!(open(&row, 1).is_err() && open(&row, 2).is_ok());
        let in_place = ring.rekey_file("/no/such/key");
        assert!(matches!(in_place, Err(RekeyError::NotInAFile)));
        Ok(())
    }
}
