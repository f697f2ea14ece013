//! A key from a passphrase.
//!
//! What is stored with the ring, and authenticated: `memory ‖ passes ‖ lanes ‖ salt`, three
//! big-endian numbers of 32 bits and 16 random bytes; then the wrapped ring key. Everything that
//! is needed to derive the key again is there, except the passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::{UnwrapError, WrapError, no_randomness};
use crate::xaes::{KEY_LEN, Refused, XaesKey};

/// How much work it is to try a passphrase.
///
/// The default is the second recommendation of RFC 9106 (section 4) on one lane: 64 MiB, three
/// passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB: 8 for each lane at least, 1 GiB at most.
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 64.
    pub passes: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
}

impl Default for PassphraseCost {
    fn default() -> Self {
        Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 1,
        }
    }
}

/// A passphrase that no key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// Nothing protects nothing. Give a passphrase.
    #[error("the passphrase is empty: give one of at least several words")]
    Empty,

    /// So short that trying them all takes no time, whatever each try costs. Give several words.
    #[error("the passphrase is shorter than {SHORTEST} bytes: give one of at least several words")]
    TooShort,

    /// A line end or a NUL in it: no file of one line could ever give the same passphrase again.
    #[error("the passphrase holds a line end or a NUL: give one line, without its end")]
    NotOneLine,

    /// The numbers would derive no key, or take more than any machine should give.
    #[error(
        "the cost of the passphrase is out of bounds: at least 8 KiB for each lane and at most \
         1 GiB of memory, 1 to 64 passes, 1 to 16 lanes"
    )]
    Cost,
}

pub(super) struct Passphrase {
    text: SecretString,
    cost: PassphraseCost,
}

impl Passphrase {
    pub(super) fn new(text: SecretString, cost: PassphraseCost) -> Result<Self, PassphraseError> {
        if text.expose_secret().is_empty() {
            return Err(PassphraseError::Empty);
        }
        if text.expose_secret().len() < SHORTEST {
            return Err(PassphraseError::TooShort);
        }
        if text.expose_secret().contains(['\n', '\r', '\0']) {
            return Err(PassphraseError::NotOneLine);
        }
        cost.params().ok_or(PassphraseError::Cost)?;
        Ok(Self { text, cost })
    }

    pub(super) fn wrap(&self, ring_key: &SecretSlice<u8>) -> Result<Vec<u8>, WrapError> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt).map_err(no_randomness)?;
        let head = Head {
            cost: self.cost,
            salt,
        };
        let key = self.derive(&head).ok_or_else(|| WrapError::Unavailable {
            source: "there is not enough memory to derive the key".into(),
        })?;
        let head = head.to_bytes();
        let wrapped = key
            .seal_message(&associated_data(&head), ring_key.expose_secret())
            .map_err(no_randomness)?;
        Ok([&head[..], &wrapped].concat())
    }

    pub(super) fn unwrap(&self, wrapped: &[u8]) -> Result<SecretSlice<u8>, UnwrapError> {
        let (head, rest) = wrapped
            .split_first_chunk::<HEAD_LEN>()
            .ok_or(UnwrapError::Rejected)?;
        let parsed = Head::parse(head);
        // Judged before anything is derived: the numbers are not authentic yet.
        parsed.cost.params().ok_or(UnwrapError::Rejected)?;
        let key = self
            .derive(&parsed)
            .ok_or_else(|| UnwrapError::Unavailable {
                source: "there is not enough memory to derive the key".into(),
            })?;
        key.open_message(&associated_data(head), rest)
            .map_err(|Refused| UnwrapError::Rejected)
    }

    fn derive(&self, head: &Head) -> Option<Box<XaesKey>> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, head.cost.params()?)
            .hash_password_into(self.text.expose_secret().as_bytes(), &head.salt, &mut *key)
            .ok()?;
        Some(XaesKey::new(&key))
    }
}

impl PassphraseCost {
    fn params(self) -> Option<Params> {
        let within = self.memory_kib <= MOST_MEMORY_KIB
            && (1..=MOST_PASSES).contains(&self.passes)
            && (1..=MOST_LANES).contains(&self.lanes);
        if !within {
            return None;
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_LEN)).ok()
    }
}

struct Head {
    cost: PassphraseCost,
    salt: [u8; SALT_LEN],
}

impl Head {
    fn to_bytes(&self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        let cost = [self.cost.memory_kib, self.cost.passes, self.cost.lanes].map(u32::to_be_bytes);
        let fields = cost.as_flattened().iter().chain(&self.salt);
        for (byte, value) in bytes.iter_mut().zip(fields) {
            *byte = *value;
        }
        bytes
    }

    fn parse(bytes: &[u8; HEAD_LEN]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let number = |index| words.get(index).copied().map_or(0, u32::from_be_bytes);
        let mut salt = [0; SALT_LEN];
        for (byte, value) in salt.iter_mut().zip(bytes.iter().skip(COST_LEN)) {
            *byte = *value;
        }
        Self {
            cost: PassphraseCost {
                memory_kib: number(0),
                passes: number(1),
                lanes: number(2),
            },
            salt,
        }
    }
}

fn associated_data(head: &[u8; HEAD_LEN]) -> Vec<u8> {
    [DOMAIN, head].concat()
}

const DOMAIN: &[u8] = b"arkeep-vault 1 ring key, wrapped by a passphrase";
/// As for the passwords of people.
const SHORTEST: usize = 8;
const COST_LEN: usize = 3 * size_of::<u32>();
const SALT_LEN: usize = 16;
const HEAD_LEN: usize = COST_LEN + SALT_LEN;
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 64;
const MOST_LANES: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyEncryptionKey, KeyWrapper};

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    const CHEAP: PassphraseCost = PassphraseCost {
        memory_kib: 16,
        passes: 1,
        lanes: 2,
    };

    fn guard(text: &str, cost: PassphraseCost) -> Result<KeyEncryptionKey, PassphraseError> {
        KeyEncryptionKey::from_passphrase(SecretString::from(text), cost)
    }

    fn ring_key() -> SecretSlice<u8> {
        vec![7; KEY_LEN].into()
    }

    mod unwrap {
        use super::*;

        /// V5
        #[test]
        fn takes_salt_and_cost_from_what_was_stored() -> TestResult {
            let other = PassphraseCost { passes: 2, ..CHEAP };
            let wrapped = guard("correct horse", CHEAP)?.wrap(&ring_key())?;

            let unwrapped = guard("correct horse", other)?.unwrap(&wrapped)?;

            assert_eq!(unwrapped.expose_secret(), ring_key().expose_secret());
            assert_eq!(&wrapped[..12], &[0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 2]);
            Ok(())
        }

        /// V5
        #[test]
        fn rejects_another_passphrase_and_every_altered_byte() -> TestResult {
            let right = guard("correct horse", CHEAP)?;
            let wrapped = right.wrap(&ring_key())?;

            let by_another = guard("correct house", CHEAP)?.unwrap(&wrapped);

            assert!(matches!(by_another, Err(UnwrapError::Rejected)));
            // The high bytes of the memory cost are left out: up to 1 GiB they are worth a try.
            for index in (0..wrapped.len()).filter(|index| *index != 1 && *index != 2) {
                let mut altered = wrapped.clone();
                altered[index] ^= 1;

                let unwrapped = right.unwrap(&altered);

                assert!(matches!(unwrapped, Err(UnwrapError::Rejected)), "{index}");
            }
            for length in 0..wrapped.len() {
                let unwrapped = right.unwrap(&wrapped[..length]);

                assert!(matches!(unwrapped, Err(UnwrapError::Rejected)), "{length}");
            }
            Ok(())
        }

        /// V5: numbers that would take all memory, or hours, are refused unread.
        #[test]
        fn spends_nothing_on_a_cost_that_is_out_of_bounds() -> TestResult {
            let right = guard("correct horse", CHEAP)?;
            let wrapped = right.wrap(&ring_key())?;

            for (index, byte) in [
                (0, 0xff),
                (1, 0x11),
                (4, 0xff),
                (7, 65),
                (8, 0xff),
                (11, 17),
            ] {
                let mut altered = wrapped.clone();
                altered[index] = byte;

                let unwrapped = right.unwrap(&altered);

                assert!(matches!(unwrapped, Err(UnwrapError::Rejected)));
            }
            Ok(())
        }
    }

    mod wrap {
        use super::*;

        /// V5
        #[test]
        fn salts_every_time_anew() -> TestResult {
            let guard = guard("correct horse", CHEAP)?;

            let (one, other) = (guard.wrap(&ring_key())?, guard.wrap(&ring_key())?);

            assert_ne!(one[12..28], other[12..28]);
            Ok(())
        }
    }

    mod new {
        use super::*;

        /// V5: what a variable can hold and a file of one line cannot.
        #[test]
        fn refuses_more_than_a_line() {
            for text in [
                "correct horse\n",
                "correct\r\n",
                "correct\nhorse",
                "correct\0horse",
            ] {
                let refused = Passphrase::new(SecretString::from(text), PassphraseCost::default());
                assert_eq!(refused.err(), Some(PassphraseError::NotOneLine), "{text:?}");
            }
        }

        /// V5
        #[test]
        fn refuses_the_empty_passphrase() {
            let refused = guard("", CHEAP).map(|_| ());

            assert_eq!(refused, Err(PassphraseError::Empty));
        }

        /// V5
        #[test]
        fn refuses_what_is_guessed_at_once() {
            assert_eq!(
                guard("x", CHEAP).map(|_| ()),
                Err(PassphraseError::TooShort)
            );
            assert_eq!(
                guard("7 bytes", CHEAP).map(|_| ()),
                Err(PassphraseError::TooShort)
            );
            assert!(guard("8 bytes.", CHEAP).is_ok());
        }

        #[test]
        fn refuses_a_cost_that_is_out_of_bounds() {
            for cost in [
                PassphraseCost {
                    memory_kib: 15,
                    ..CHEAP
                },
                PassphraseCost {
                    memory_kib: (1 << 20) + 1,
                    ..CHEAP
                },
                PassphraseCost { passes: 0, ..CHEAP },
                PassphraseCost {
                    passes: 65,
                    ..CHEAP
                },
                PassphraseCost { lanes: 0, ..CHEAP },
                PassphraseCost {
                    lanes: 17,
                    memory_kib: 1024,
                    ..CHEAP
                },
            ] {
                let refused = guard("correct horse", cost).map(|_| ());

                assert_eq!(refused, Err(PassphraseError::Cost), "{cost:?}");
            }
        }
    }
}
