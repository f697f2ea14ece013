//! What a sealed secret looks like in a database.
//!
//! ```text
//! offset  length  what
//!      0       1  version, 1
//!      1       1  algorithm: 1 is XAES-256-GCM, 128 to 255 are free for others
//!      2       8  key id
//!     10      24  nonce
//!     34       n  ciphertext, as long as the secret
//!   34+n      16  tag
//! ```
//!
//! Everything up to the nonce is the header. It is authenticated with the binding, so a blob whose
//! header was changed does not open. The [format](crate::format) page has the whole story.

use std::fmt;

use crate::xaes::{NONCE_LEN, Nonce, TAG_LEN};

/// A secret that only its key opens, and only in its place.
///
/// These bytes are made to be stored. They say which key sealed them and how long the secret is,
/// and nothing else.
///
/// The type says that the bytes have the shape of a sealed secret, not that they open: that takes
/// a [`Sealer`](crate::Sealer).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed {
    bytes: Box<[u8]>,
    algorithm: u8,
    key_id: KeyId,
}

impl Sealed {
    /// Reads what was stored.
    ///
    /// # Errors
    ///
    /// [`ParseError`] says what the bytes are instead. It judges the shape alone; whether they are
    /// genuine shows when they are opened.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::from_boxed(bytes.into())
    }

    /// A secret sealed by an algorithm of your own.
    ///
    /// For a [`Sealer`](crate::Sealer) with its own cryptography: `algorithm` is 128 to 255, and
    /// `body` is whatever it needs to open the secret again.
    ///
    /// # Errors
    ///
    /// [`ParseError::Algorithm`] when the number is one of this crate's, [`ParseError::TooLong`].
    pub fn foreign(algorithm: u8, key_id: KeyId, body: &[u8]) -> Result<Self, ParseError> {
        if algorithm < FIRST_FOREIGN {
            return Err(ParseError::Algorithm { algorithm });
        }
        let header = Header { algorithm, key_id };
        Self::from_boxed([&header.to_bytes(), body].concat().into())
    }

    /// What to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What to store, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }

    /// The key that sealed it, or so the header says.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The algorithm that sealed it, or so the header says.
    #[must_use]
    pub fn algorithm(&self) -> u8 {
        self.algorithm
    }

    /// What follows the header.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// The parts of a blob of algorithm 1, and nothing for any other.
    pub(crate) fn xaes_parts(&self) -> Option<XaesParts<'_>> {
        if self.algorithm != XAES_256_GCM {
            return None;
        }
        let (header, body) = self.bytes.split_first_chunk::<HEADER_LEN>()?;
        let (nonce, body) = body.split_first_chunk::<NONCE_LEN>()?;
        let (ciphertext, tag) = body.split_last_chunk::<TAG_LEN>()?;
        let mut halves = Nonce::default();
        halves.as_flattened_mut().copy_from_slice(nonce);
        Some(XaesParts {
            header,
            nonce: halves,
            ciphertext,
            tag,
        })
    }

    /// For the bytes of a blob that was just made.
    pub(crate) fn from_xaes(key_id: KeyId, bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            algorithm: XAES_256_GCM,
            key_id,
        }
    }

    fn from_boxed(bytes: Box<[u8]>) -> Result<Self, ParseError> {
        let header = Header::parse(&bytes)?;
        let shortest = match header.algorithm {
            XAES_256_GCM => HEADER_LEN + NONCE_LEN + TAG_LEN,
            FIRST_FOREIGN.. => HEADER_LEN,
            algorithm => return Err(ParseError::Algorithm { algorithm }),
        };
        if bytes.len() < shortest {
            return Err(ParseError::TooShort);
        }
        if bytes.len() > shortest + MAX_SECRET_LEN {
            return Err(ParseError::TooLong);
        }
        Ok(Self {
            bytes,
            algorithm: header.algorithm,
            key_id: header.key_id,
        })
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("key_id", &self.key_id)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Names a data key. Random, public, and never used for a second key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl KeyId {
    /// Takes an id that is already known, such as that of a key in a key store of your own.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_ID_LEN]) -> Self {
        Self(bytes)
    }

    /// The id as it stands in a blob.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; KEY_ID_LEN] {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Sixteen hexadecimal digits, as [`Display`](fmt::Display) prints them.
impl std::str::FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; KEY_ID_LEN];
        match crate::hex::decode(text.as_bytes(), &mut id) {
            true => Ok(Self(id)),
            false => Err(ParseKeyIdError),
        }
    }
}

/// Bytes that are not a sealed secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Cut short, or never a sealed secret at all.
    #[error("too short for a sealed secret")]
    TooShort,

    /// Longer than any secret that is sealed here.
    #[error("too long for a sealed secret (the longest secret is {MAX_SECRET_LEN} bytes)")]
    TooLong,

    /// Plaintext, or a blob of a newer program. Run the version that wrote it.
    #[error("not a sealed secret, or one of format version {version}, which is not known here")]
    Version {
        /// The first byte.
        version: u8,
    },

    /// Sealed in a way that this version does not know. Run the version that wrote it.
    #[error("sealed with algorithm {algorithm}, which is not known here")]
    Algorithm {
        /// The second byte.
        algorithm: u8,
    },
}

/// Text that is not a key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id is {} hexadecimal digits", 2 * KEY_ID_LEN)]
pub struct ParseKeyIdError;

/// The first bytes of a blob; part of what is authenticated.
pub(crate) struct Header {
    pub(crate) algorithm: u8,
    pub(crate) key_id: KeyId,
}

impl Header {
    pub(crate) fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let id = self.key_id.0.iter();
        let fields = [VERSION, self.algorithm];
        for (byte, value) in bytes.iter_mut().zip(fields.iter().chain(id)) {
            *byte = *value;
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        match *bytes {
            [] => Err(ParseError::TooShort),
            [VERSION, algorithm, ref rest @ ..] => {
                let id = rest.first_chunk().ok_or(ParseError::TooShort)?;
                let key_id = KeyId(*id);
                Ok(Self { algorithm, key_id })
            }
            [VERSION] => Err(ParseError::TooShort),
            [version, ..] => Err(ParseError::Version { version }),
        }
    }
}

/// A blob of algorithm 1, taken apart.
pub(crate) struct XaesParts<'a> {
    pub(crate) header: &'a [u8; HEADER_LEN],
    pub(crate) nonce: Nonce,
    pub(crate) ciphertext: &'a [u8],
    pub(crate) tag: &'a [u8; TAG_LEN],
}

/// The longest secret that is sealed: 16 MiB.
///
/// A vault is for credentials, keys and answers that hold them. The bound keeps a wrong column
/// from filling the memory.
pub const MAX_SECRET_LEN: usize = 16 << 20;

pub(crate) const XAES_256_GCM: u8 = 1;
pub(crate) const HEADER_LEN: usize = 2 + KEY_ID_LEN;
const FIRST_FOREIGN: u8 = 0x80;
const KEY_ID_LEN: usize = 8;
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        bytes[..2].copy_from_slice(&[1, 1]);
        bytes
    }

    mod parse {
        use super::*;

        #[test]
        fn returns_the_bytes_it_was_given() -> Result<(), ParseError> {
            let bytes = blob(50);

            let sealed = Sealed::parse(&bytes)?;

            assert_eq!(sealed.as_bytes(), bytes);
            assert_eq!(sealed.into_bytes(), bytes);
            Ok(())
        }

        /// V3
        #[test]
        fn refuses_whatever_is_shorter_than_an_empty_secret() {
            for length in 2..50 {
                let parsed = Sealed::parse(&blob(length));

                assert_eq!(parsed, Err(ParseError::TooShort), "{length} bytes");
            }
            assert_eq!(Sealed::parse(&[]), Err(ParseError::TooShort));
            assert_eq!(Sealed::parse(&[1]), Err(ParseError::TooShort));
        }

        #[test]
        fn refuses_more_than_the_longest_secret_needs() {
            let longest = blob(50 + MAX_SECRET_LEN);
            let longer = blob(51 + MAX_SECRET_LEN);

            assert!(Sealed::parse(&longest).is_ok());
            assert_eq!(Sealed::parse(&longer), Err(ParseError::TooLong));
        }

        #[test]
        fn names_the_version_it_does_not_know() {
            let parsed = Sealed::parse(b"hunter2");

            assert_eq!(parsed, Err(ParseError::Version { version: b'h' }));
        }

        #[test]
        fn names_the_algorithm_it_does_not_know() {
            let mut bytes = blob(50);
            for algorithm in [0, 2, 127] {
                bytes[1] = algorithm;

                let parsed = Sealed::parse(&bytes);

                assert_eq!(parsed, Err(ParseError::Algorithm { algorithm }));
            }
        }
    }

    mod foreign {
        use super::*;

        const ID: KeyId = KeyId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]);

        #[test]
        fn survives_the_database() -> Result<(), ParseError> {
            let sealed = Sealed::foreign(128, ID, b"opaque")?;

            let read = Sealed::parse(sealed.as_bytes())?;

            assert_eq!(read, sealed);
            assert_eq!(read.algorithm(), 128);
            assert_eq!(read.key_id(), ID);
            assert_eq!(read.body(), b"opaque");
            assert_eq!(&read.as_bytes()[..10], &[1, 128, 1, 2, 3, 4, 5, 6, 7, 8]);
            Ok(())
        }

        #[test]
        fn cannot_pass_for_one_of_ours() {
            for algorithm in [0, 1, 127] {
                let made = Sealed::foreign(algorithm, ID, &[0; 40]);

                assert_eq!(made, Err(ParseError::Algorithm { algorithm }));
            }
        }
    }

    mod debug {
        use super::*;

        #[test]
        fn names_the_key_and_the_length_alone() -> Result<(), ParseError> {
            let printed = format!("{:?}", Sealed::parse(&blob(60))?);

            let expected = "Sealed { key_id: KeyId(0000000000000000), length: 60, .. }";
            assert_eq!(printed, expected);
            Ok(())
        }
    }

    mod key_id {
        use super::*;

        #[test]
        fn reads_what_it_prints() {
            let id = KeyId::from_bytes([0, 1, 0xab, 0xcd, 0xef, 0x10, 0x20, 0xff]);

            assert_eq!(id.to_string(), "0001abcdef1020ff");
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(format!("{id:?}"), "KeyId(0001abcdef1020ff)");
        }

        #[test]
        fn refuses_other_text() {
            for text in [
                "",
                "0001abcdef1020f",
                "0001abcdef1020ff0",
                "0001abcdef1020fg",
            ] {
                assert_eq!(text.parse::<KeyId>(), Err(ParseKeyIdError), "{text:?}");
            }
        }
    }
}
