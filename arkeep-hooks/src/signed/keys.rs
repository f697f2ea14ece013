//! The two halves of a signing key.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::statement::{Signature, Statement, encode};
use crate::hook::HookSet;

/// A key that was not made or not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a key in the text form of its kind.
    #[error("not a key of the form {0}…")]
    Malformed(&'static str),

    /// A public key under which anybody could sign.
    #[error("the public key is of small order or not in canonical form")]
    Weak,

    /// The system gave no random bytes. Worth a retry.
    #[error("the system gave no random bytes")]
    Random,

    /// The crypto provider would not sign.
    #[error("the crypto provider refused to sign")]
    Sign,
}

/// The private half. It belongs to a person, on a machine that no server reaches.
///
/// Zeroed on drop and never printed.
pub struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A fresh key.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(&mut *seed).map_err(|_| KeyError::Random)?;
        Self::from_seed(seed)
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed)
            .map_err(|_| KeyError::Malformed(SECRET_PREFIX))?;
        Ok(Self { seed, pair })
    }

    /// Reads what [`secret_text`](Self::secret_text) wrote.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        Self::from_seed(Zeroizing::new(decode(text, SECRET_PREFIX)?))
    }

    /// The key as text, for a file that only its owner can read.
    pub fn secret_text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(STANDARD.encode(self.seed.as_slice()));
        Zeroizing::new([SECRET_PREFIX, &encoded].concat())
    }

    /// The half to put into `trusted_keys`.
    pub fn public(&self) -> TrustedKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        TrustedKey { bytes }
    }

    /// Signs a whole list of hooks.
    pub fn sign(&self, hooks: &HookSet, statement: &Statement<'_>) -> Result<String, KeyError> {
        let signature = self
            .pair
            .try_sign(&encode(hooks, statement))
            .map_err(|_| KeyError::Sign)?;
        let bytes = signature.as_ref().try_into().map_err(|_| KeyError::Sign)?;
        Ok(Signature::of(statement, bytes).to_string())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public())
            .finish_non_exhaustive()
    }
}

/// The public half, as it stands in `agent.toml`: `ed25519:` and base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TrustedKey {
    bytes: [u8; 32],
}

impl TrustedKey {
    /// Verifies strictly: what is refused here and not by every verifier is a scalar beyond the
    /// group's order (by the provider), and keys and points of small order (here).
    pub(super) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let Some((point, _)) = signature.split_first_chunk() else {
            return false;
        };
        !is_weak(point)
            && UnparsedPublicKey::new(&ED25519, &self.bytes)
                .verify(message, signature)
                .is_ok()
    }
}

impl FromStr for TrustedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = decode(text, PUBLIC_PREFIX)?;
        if is_weak(&bytes) {
            Err(KeyError::Weak)
        } else {
            Ok(Self { bytes })
        }
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.bytes))
    }
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn decode(text: &str, prefix: &'static str) -> Result<[u8; 32], KeyError> {
    let malformed = || KeyError::Malformed(prefix);
    let encoded = text.trim().strip_prefix(prefix).ok_or_else(malformed)?;
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| malformed())?);
    bytes.as_slice().try_into().map_err(|_| malformed())
}

/// Whether a point has small order or is not encoded canonically.
///
/// Under a key of small order the same signature fits many messages (RFC 8032 leaves it to the
/// verifier to refuse them).
fn is_weak(point: &[u8; 32]) -> bool {
    let mut y = *point;
    // The last bit is the sign of x.
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    let [first, middle @ .., last] = y;
    let beyond_p = last == 0x7f && middle.iter().all(|byte| *byte == 0xff) && first >= 0xed;
    beyond_p || SMALL_ORDER.contains(&y)
}

const PUBLIC_PREFIX: &str = "ed25519:";
const SECRET_PREFIX: &str = "ed25519-secret:";

/// The y coordinates of the points whose order divides 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    // 1, the neutral element.
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    // p - 1, of order 2.
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    // 0, of order 4.
    [0; 32],
    // The two of order 8.
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];
