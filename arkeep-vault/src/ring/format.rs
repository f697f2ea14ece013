//! The ring as it is stored.
//!
//! The [format](crate::format) page specifies it byte by byte. In short: who can unlock the ring
//! key, in one or two slots; the ring, encrypted under the ring key; and a checksum, which tells a
//! damaged file from a wrong key.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice};

use super::list::{decode, encode};
use super::{Keyring, RingFormatError, UnlockError};
use crate::xaes::{KEY_LEN, Refused, XaesKey};
use crate::{KeyWrapper, UnwrapError, WrapError};

/// A ring that nobody can read without its key-encryption key.
///
/// [`RingFile`](crate::RingFile) keeps one in a file. Use this type to keep it elsewhere, such as
/// in a row of a database that several machines share.
///
/// ```
/// use arkeep_vault::{KeyEncryptionKey, Keyring, WrappedRing};
///
/// let guard = KeyEncryptionKey::from_bytes(&vec![7; 32].into())?;
/// let ring = Keyring::generate(0)?;
///
/// let stored = WrappedRing::lock(&ring, &guard)?.to_bytes();
///
/// let read = WrappedRing::parse(&stored)?.unlock(&guard)?;
/// assert_eq!(read.primary(), ring.primary());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRing {
    pub(super) slots: Vec<Slot>,
    body: Vec<u8>,
}

/// The ring key, wrapped by one guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    kind: String,
    wrapped: Vec<u8>,
}

impl WrappedRing {
    /// Encrypts a ring under a new ring key, and that under the guard.
    ///
    /// # Errors
    ///
    /// When the guard cannot be asked, or what it made does not fit.
    pub fn lock(ring: &Keyring, guard: &dyn KeyWrapper) -> Result<Self, WrapError> {
        let key = RingKey::generate()?;
        let slot = key.slot(guard)?;
        Self::seal(ring, &key, vec![slot])
    }

    /// Decrypts the ring.
    ///
    /// # Errors
    ///
    /// [`UnlockError`] keeps a wrong key, a damaged ring and an absent guard apart.
    pub fn unlock(&self, guard: &dyn KeyWrapper) -> Result<Keyring, UnlockError> {
        let key = self.ring_key(guard)?;
        Ok(self.open(&key)?)
    }

    /// Reads what was stored.
    ///
    /// # Errors
    ///
    /// [`RingFormatError`] says what is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, RingFormatError> {
        let mut reader = Reader(bytes);
        if reader.array::<8>().ok_or(RingFormatError::NotARing)? != MAGIC {
            return Err(RingFormatError::NotARing);
        }
        let [version] = reader.array().ok_or(RingFormatError::CutShort)?;
        if version != VERSION {
            return Err(RingFormatError::Version { version });
        }
        let (content, checksum) = bytes
            .split_last_chunk::<CHECKSUM_LEN>()
            .ok_or(RingFormatError::CutShort)?;
        let [slot_count] = reader.array().ok_or(RingFormatError::CutShort)?;
        let slots = (0..slot_count)
            .map(|_| Slot::parse(&mut reader))
            .collect::<Option<Vec<_>>>()
            .ok_or(RingFormatError::CutShort)?;
        let length = reader.array().ok_or(RingFormatError::CutShort)?;
        let length = u32::from_be_bytes(length) as usize;
        let body = reader.take(length).ok_or(RingFormatError::CutShort)?;
        if reader.0.len() < CHECKSUM_LEN {
            return Err(RingFormatError::CutShort);
        }
        if reader.0.len() > CHECKSUM_LEN {
            return Err(RingFormatError::TooLong);
        }
        if crc32(content) != u32::from_be_bytes(*checksum) {
            return Err(RingFormatError::Checksum);
        }
        if !(1..=2).contains(&slot_count) || !slots.iter().all(Slot::is_valid) {
            return Err(RingFormatError::Slots);
        }
        Ok(Self {
            slots,
            body: body.to_owned(),
        })
    }

    /// What to store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = head(&self.slots);
        bytes.extend_from_slice(&(self.body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.body);
        bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
        bytes
    }

    /// The kinds of guards that can unlock it: one, or two while the ring is being rekeyed.
    pub fn guards(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.kind.as_str())
    }

    pub(super) fn seal(ring: &Keyring, key: &RingKey, slots: Vec<Slot>) -> Result<Self, WrapError> {
        let body = key
            .cipher
            .seal_message(&head(&slots), encode(ring).expose_secret())
            .map_err(no_randomness)?;
        Ok(Self { slots, body })
    }

    /// The ring key, from the first slot that the guard opens.
    pub(super) fn ring_key(&self, guard: &dyn KeyWrapper) -> Result<RingKey, UnlockError> {
        self.slots
            .iter()
            .find_map(|slot| slot.open(guard).transpose())
            .unwrap_or(Err(UnlockError::WrongKey))
    }

    /// The ring, or that this is not its key.
    pub(super) fn open(&self, key: &RingKey) -> Result<Keyring, RingFormatError> {
        let content = key
            .cipher
            .open_message(&head(&self.slots), &self.body)
            .map_err(|Refused| RingFormatError::Altered)?;
        decode(content.expose_secret())
    }
}

impl Slot {
    fn parse(reader: &mut Reader<'_>) -> Option<Self> {
        let [length] = reader.array()?;
        let kind = reader.take(length.into())?;
        let length = u16::from_be_bytes(reader.array()?);
        let wrapped = reader.take(length.into())?;
        Some(Self {
            kind: String::from_utf8_lossy(kind).into_owned(),
            wrapped: wrapped.to_owned(),
        })
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    fn is_valid(&self) -> bool {
        (1..=LONGEST_KIND).contains(&self.kind.len())
            && self.kind.bytes().all(|byte| byte.is_ascii_graphic())
            && (1..=LONGEST_WRAPPED).contains(&self.wrapped.len())
    }

    /// The ring key; nothing when it is another guard's.
    fn open(&self, guard: &dyn KeyWrapper) -> Result<Option<RingKey>, UnlockError> {
        if guard.kind() != self.kind {
            return Ok(None);
        }
        match guard.unwrap(&self.wrapped) {
            Ok(bytes) => Ok(RingKey::new(bytes)),
            Err(UnwrapError::Rejected) => Ok(None),
            Err(source) => Err(UnlockError::Guard(source)),
        }
    }

    /// Whether this guard opens this slot, and to this very key.
    pub(super) fn holds(&self, key: &RingKey, guard: &dyn KeyWrapper) -> Result<bool, UnlockError> {
        Ok(self.open(guard)?.is_some_and(|held| {
            // Both keys are already known here, so there is nobody to time the comparison.
            held.bytes.expose_secret() == key.bytes.expose_secret()
        }))
    }
}

/// The key that encrypts the ring. Random, and never the same after a rekey.
pub(super) struct RingKey {
    bytes: SecretSlice<u8>,
    cipher: Box<XaesKey>,
}

impl RingKey {
    pub(super) fn generate() -> Result<Self, WrapError> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(&mut *bytes).map_err(no_randomness)?;
        Ok(Self {
            cipher: XaesKey::new(&bytes),
            bytes: bytes.to_vec().into(),
        })
    }

    /// Nothing when a guard returned something that is no key.
    fn new(bytes: SecretSlice<u8>) -> Option<Self> {
        let cipher = XaesKey::new(bytes.expose_secret().try_into().ok()?);
        Some(Self { bytes, cipher })
    }

    pub(super) fn slot(&self, guard: &dyn KeyWrapper) -> Result<Slot, WrapError> {
        let slot = Slot {
            kind: guard.kind().to_owned(),
            wrapped: guard.wrap(&self.bytes)?,
        };
        match slot.is_valid() {
            true => Ok(slot),
            false => Err(WrapError::Unavailable {
                source: "the guard's kind or what it wrapped is longer than a ring can hold".into(),
            }),
        }
    }
}

impl std::fmt::Debug for RingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RingKey([REDACTED])")
    }
}

/// Everything before the body's length: authenticated with the body, so that no slot can be added.
fn head(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&[VERSION, slots.len() as u8]);
    for slot in slots {
        // `Slot::is_valid` keeps both lengths within their fields.
        bytes.push(slot.kind.len() as u8);
        bytes.extend_from_slice(slot.kind.as_bytes());
        bytes.extend_from_slice(&(slot.wrapped.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&slot.wrapped);
    }
    bytes
}

/// Takes bytes off the front, and never more than there are.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

fn no_randomness(source: getrandom::Error) -> WrapError {
    WrapError::Unavailable {
        source: Box::new(source),
    }
}

/// CRC-32 as in ISO 3309, bit by bit: a ring is small and seldom read.
///
/// It is there for accidents alone. Against an attacker there is the tag.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

const MAGIC: [u8; 8] = *b"ARKVRING";
const VERSION: u8 = 1;
const LONGEST_KIND: usize = 64;
const LONGEST_WRAPPED: usize = 4096;
const CHECKSUM_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::MOST_KEYS;
    use crate::{KeyEncryptionKey, KeyProvider};

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    fn guard(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_bytes(&vec![byte; 32].into()).unwrap()
    }

    fn ring() -> Result<Keyring, crate::ChangeError> {
        let mut ring = Keyring::generate(1)?;
        let old = ring.primary();
        ring.rotate(2)?;
        ring.disable(old, 3)?;
        ring.rotate(4)?;
        ring.current().map(drop).unwrap();
        Ok(ring)
    }

    /// A ring of exactly these keys, whether they make sense or not.
    fn stored(entries: &[(u8, u8)]) -> Result<WrappedRing, WrapError> {
        let mut list = vec![0; 8];
        list.extend((entries.len() as u16).to_be_bytes());
        for (id, state) in entries {
            list.extend([[*id; 8].as_slice(), &[*state], &[0; 24 + KEY_LEN]].concat());
        }
        raw(&list)
    }

    fn raw(list: &[u8]) -> Result<WrappedRing, WrapError> {
        let key = RingKey::generate()?;
        let slots = vec![key.slot(&guard(1))?];
        let body = key.cipher.seal_message(&head(&slots), list).unwrap();
        Ok(WrappedRing { slots, body })
    }

    /// The bytes with a checksum that fits.
    fn with_checksum(mut content: Vec<u8>) -> Vec<u8> {
        let checksum = crc32(&content).to_be_bytes();
        content.extend(checksum);
        content
    }

    mod checksum {
        use super::*;

        #[test]
        fn is_that_of_iso_3309() {
            assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        }
    }

    mod debug {
        use super::*;

        /// V8
        #[test]
        fn shows_no_ring_key() -> TestResult {
            assert_eq!(format!("{:?}", RingKey::generate()?), "RingKey([REDACTED])");
            Ok(())
        }
    }

    mod unlock {
        use super::*;

        #[test]
        fn takes_as_many_keys_as_a_ring_can_have() -> TestResult {
            let mut ring = Keyring::generate(0)?;
            for _ in 1..MOST_KEYS {
                ring.rotate(0)?;
            }

            let locked = WrappedRing::lock(&ring, &guard(1))?;

            assert_eq!(locked.unlock(&guard(1))?.keys(), ring.keys());
            assert_eq!(locked.guards().collect::<Vec<_>>(), ["key"]);
            Ok(())
        }

        /// V5
        #[test]
        fn brings_back_every_key_with_its_story() -> TestResult {
            let ring = ring()?;
            let stored = WrappedRing::lock(&ring, &guard(1))?.to_bytes();

            let read = WrappedRing::parse(&stored)?.unlock(&guard(1))?;

            assert_eq!(read.keys(), ring.keys());
            for (one, other) in ring.keys.iter().zip(&read.keys) {
                assert_eq!(one.bytes.expose_secret(), other.bytes.expose_secret());
            }
            Ok(())
        }

        /// V6
        #[test]
        fn tells_a_wrong_key_from_a_damaged_ring() -> TestResult {
            let mut wrapped = WrappedRing::lock(&ring()?, &guard(1))?;

            let by_another = wrapped.unlock(&guard(2));
            wrapped.body[40] ^= 1;
            let altered = wrapped.unlock(&guard(1));

            assert!(matches!(by_another, Err(UnlockError::WrongKey)));
            assert!(matches!(
                altered,
                Err(UnlockError::Damaged(RingFormatError::Altered))
            ));
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_a_slot_that_was_added_from_outside() -> TestResult {
            let key = RingKey::generate()?;
            let mut wrapped = WrappedRing::seal(&ring()?, &key, vec![key.slot(&guard(1))?])?;
            wrapped.slots.push(key.slot(&guard(2))?);

            let unlocked = wrapped.unlock(&guard(1));

            assert!(matches!(
                unlocked,
                Err(UnlockError::Damaged(RingFormatError::Altered))
            ));
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_anything_but_one_primary_key() -> TestResult {
            for (entries, count) in [(&[(1, 1), (2, 1)][..], 2), (&[(1, 2), (2, 3)], 0), (&[], 0)] {
                let unlocked = stored(entries)?.unlock(&guard(1));

                assert!(matches!(
                    unlocked,
                    Err(UnlockError::Damaged(RingFormatError::Primaries { count: c })) if c == count
                ));
            }
            assert!(stored(&[(1, 2), (2, 1), (3, 3)])?.unlock(&guard(1)).is_ok());
            Ok(())
        }

        /// V5
        #[test]
        fn refuses_lists_that_make_no_sense() -> TestResult {
            let whole = [&[0; 8][..], &[0, 1], &[9; 8], &[1], &[0; 24 + KEY_LEN]].concat();
            let too_many: Vec<_> = (0..=MOST_KEYS as u16).collect();
            let mut many = [&[0; 8][..], &(too_many.len() as u16).to_be_bytes()].concat();
            for id in too_many {
                many.extend([&[0; 6][..], &id.to_be_bytes(), &[2], &[0; 24 + KEY_LEN]].concat());
            }
            let lists = [
                ("empty", Vec::new()),
                ("only a revision", vec![0; 8]),
                ("one byte less", whole[..whole.len() - 1].to_vec()),
                ("one byte more", [&whole[..], &[0]].concat()),
                (
                    "a count that lies",
                    [&[0; 8][..], &[0, 2], &whole[10..]].concat(),
                ),
                ("more keys than there can be", many),
            ];
            for (what, list) in lists {
                let unlocked = raw(&list)?.unlock(&guard(1));

                assert!(
                    matches!(unlocked, Err(UnlockError::Damaged(RingFormatError::Keys))),
                    "{what}"
                );
            }
            for entries in [&[(1, 0)][..], &[(1, 4)], &[(1, 1), (1, 2)]] {
                let unlocked = stored(entries)?.unlock(&guard(1));

                assert!(matches!(
                    unlocked,
                    Err(UnlockError::Damaged(RingFormatError::Keys))
                ));
            }
            assert!(raw(&whole)?.unlock(&guard(1)).is_ok());
            Ok(())
        }
    }

    mod parse {
        use super::*;

        /// V6
        #[test]
        fn refuses_every_truncation_and_every_flipped_bit() -> TestResult {
            let stored = WrappedRing::lock(&ring()?, &guard(1))?.to_bytes();

            for length in 0..stored.len() {
                assert!(WrappedRing::parse(&stored[..length]).is_err(), "{length}");
            }
            for bit in 0..stored.len() * 8 {
                let mut bytes = stored.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);

                assert!(WrappedRing::parse(&bytes).is_err(), "bit {bit}");
            }
            Ok(())
        }

        #[test]
        fn says_what_the_bytes_are() -> TestResult {
            let stored = WrappedRing::lock(&ring()?, &guard(1))?.to_bytes();
            let mut newer = stored.clone();
            newer[8] = 2;
            let mut altered = stored.clone();
            altered[30] ^= 1;

            for (bytes, expected) in [
                (&b""[..], RingFormatError::NotARing),
                (b"-----BEGIN KEY-----", RingFormatError::NotARing),
                (b"ARKVRING", RingFormatError::CutShort),
                (&newer, RingFormatError::Version { version: 2 }),
                (&stored[..stored.len() - 1], RingFormatError::CutShort),
                (&[&stored[..], &[0]].concat(), RingFormatError::TooLong),
                (&altered, RingFormatError::Checksum),
            ] {
                assert_eq!(WrappedRing::parse(bytes), Err(expected));
            }
            Ok(())
        }

        #[test]
        fn refuses_slots_that_no_guard_can_have_written() {
            let slot = |kind: &[u8], wrapped: usize| {
                let mut bytes = vec![kind.len() as u8];
                bytes.extend(kind);
                bytes.extend((wrapped as u16).to_be_bytes());
                bytes.extend(vec![0; wrapped]);
                bytes
            };
            let file = |slots: &[Vec<u8>]| {
                let head = [&MAGIC[..], &[VERSION, slots.len() as u8]].concat();
                with_checksum([&head[..], &slots.concat(), &[0; 4]].concat())
            };
            let good = slot(b"key", 72);

            assert!(WrappedRing::parse(&file(std::slice::from_ref(&good))).is_ok());
            assert!(WrappedRing::parse(&file(&[good.clone(), good.clone()])).is_ok());
            assert!(WrappedRing::parse(&file(&[slot(&[b'k'; 64], 4096)])).is_ok());
            for slots in [
                vec![],
                vec![good.clone(); 3],
                vec![slot(b"", 72)],
                vec![slot(b"two words", 72)],
                vec![slot("schlüssel".as_bytes(), 72)],
                vec![slot(b"\xff", 72)],
                vec![slot(&[b'k'; 65], 72)],
                vec![slot(b"key", 0)],
                vec![slot(b"key", 4097)],
                vec![good, slot(b"key\n", 72)],
            ] {
                assert_eq!(
                    WrappedRing::parse(&file(&slots)),
                    Err(RingFormatError::Slots)
                );
            }
        }
    }

    mod lock {
        use secrecy::SecretSlice;

        use super::*;

        /// A guard of any kind that wraps to any length.
        #[derive(Debug)]
        struct Clumsy(&'static str, usize);

        impl KeyWrapper for Clumsy {
            fn kind(&self) -> &str {
                self.0
            }

            fn wrap(&self, _: &SecretSlice<u8>) -> Result<Vec<u8>, WrapError> {
                Ok(vec![0; self.1])
            }

            fn unwrap(&self, wrapped: &[u8]) -> Result<SecretSlice<u8>, UnwrapError> {
                Ok(wrapped.to_owned().into())
            }
        }

        #[test]
        fn refuses_a_guard_that_does_not_fit_the_format() -> TestResult {
            for clumsy in [
                Clumsy("", 72),
                Clumsy("two words", 72),
                Clumsy("kms", 0),
                Clumsy("kms", 4097),
            ] {
                let locked = WrappedRing::lock(&ring()?, &clumsy);

                assert!(matches!(locked, Err(WrapError::Unavailable { .. })));
            }
            Ok(())
        }

        #[test]
        fn a_guard_that_returns_no_key_is_a_wrong_key() -> TestResult {
            let wrapped = WrappedRing::lock(&ring()?, &Clumsy("kms", 31))?;

            let unlocked = wrapped.unlock(&Clumsy("kms", 31));

            assert!(matches!(unlocked, Err(UnlockError::WrongKey)));
            Ok(())
        }
    }
}
