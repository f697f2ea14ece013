use std::fmt;
use std::str::FromStr;

use arkeep_core::Entropy;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize as _, Zeroizing};

/// 256 random bits that stand for a session until they are used.
///
/// It has neither `Display` nor `Serialize`; [`expose`](Self::expose) gives its text, and that text
/// is zeroed when it is dropped.
pub struct RefreshToken(Zeroizing<[u8; 32]>);

impl RefreshToken {
    /// Makes a new one.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Its text: 43 characters of base64url.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// What a store keeps in its place.
    #[must_use]
    pub fn digest(&self) -> RefreshDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, self.0.as_slice()).as_ref());
        RefreshDigest(bytes)
    }

    /// Seals the successor, so that only who has this token reads it.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "AES-256-GCM seals 32 bytes under any key and nonce"
    )]
    pub fn seal_successor(&self, successor: &Self, entropy: &dyn Entropy) -> SealedSuccessor {
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);
        let mut text = Zeroizing::new(successor.0.to_vec());
        // With room for the tag, so that the plaintext is not left behind by a reallocation.
        text.reserve_exact(AES_256_GCM.tag_len());
        self.grace_key()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(GRACE),
                &mut *text,
            )
            .expect("32 bytes are sealed");
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&text);
        SealedSuccessor(sealed)
    }

    /// Reads the successor that was sealed with this token.
    #[must_use]
    pub fn open_successor(&self, sealed: &SealedSuccessor) -> Option<Self> {
        let (nonce, text) = sealed.0.split_first_chunk::<NONCE_LEN>()?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self
            .grace_key()
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(GRACE),
                &mut text,
            )
            .ok()?;
        let mut token = Self(Zeroizing::new([0; 32]));
        if opened.len() != token.0.len() {
            return None;
        }
        token.0.copy_from_slice(opened);
        Some(token)
    }

    #[expect(
        clippy::expect_used,
        reason = "HKDF gives 32 bytes, and AES-256-GCM takes any 32 bytes"
    )]
    fn grace_key(&self) -> LessSafeKey {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(self.0.as_slice())
            .expand(&[GRACE], hkdf::HKDF_SHA256)
            .and_then(|out| out.fill(key.as_mut_slice()))
            .expect("one block of HKDF");
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("a 256-bit key"))
    }
}

const GRACE: &[u8] = b"arkeep-auth refresh grace 1";

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshToken([REDACTED])")
    }
}

/// The text is not a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a refresh token")]
pub struct ParseRefreshTokenError;

impl FromStr for RefreshToken {
    type Err = ParseRefreshTokenError;

    fn from_str(text: &str) -> Result<Self, ParseRefreshTokenError> {
        if text.len() != TEXT_LENGTH {
            return Err(ParseRefreshTokenError);
        }
        let mut decoded = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| ParseRefreshTokenError)?;
        let mut token = Self(Zeroizing::new([0; 32]));
        let fits = decoded.len() == token.0.len();
        if fits {
            token.0.copy_from_slice(&decoded);
        }
        decoded.zeroize();
        if fits {
            Ok(token)
        } else {
            Err(ParseRefreshTokenError)
        }
    }
}

const TEXT_LENGTH: usize = 43;

/// What a store keeps in place of a [`RefreshToken`]: its SHA-256.
///
/// A slow hash would add nothing: 256 random bits are not guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefreshDigest([u8; 32]);

impl RefreshDigest {
    /// Takes over a digest that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest, to be stored and looked up.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The successor of a refresh token, readable with the predecessor only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSuccessor(Vec<u8>);

impl SealedSuccessor {
    /// Takes over bytes that were stored. Whether they are what they should be shows on opening.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    /// A6
    #[test]
    fn a_successor_opens_with_its_predecessor_only() {
        let predecessor = RefreshToken::generate(&SystemEntropy);
        let successor = RefreshToken::generate(&SystemEntropy);
        let stranger = RefreshToken::generate(&SystemEntropy);

        let sealed = predecessor.seal_successor(&successor, &SystemEntropy);

        let opened = predecessor
            .open_successor(&sealed)
            .map(|token| token.digest());
        assert_eq!(opened, Some(successor.digest()));
        assert!(stranger.open_successor(&sealed).is_none());
        assert!(successor.open_successor(&sealed).is_none());
        // What a thief of the store has.
        let digest = RefreshToken(Zeroizing::new(*predecessor.digest().as_bytes()));
        assert!(digest.open_successor(&sealed).is_none());
    }

    /// A6
    #[test]
    fn an_altered_or_cut_successor_does_not_open() {
        let predecessor = RefreshToken::generate(&SystemEntropy);
        let successor = RefreshToken::generate(&SystemEntropy);
        let sealed = predecessor.seal_successor(&successor, &SystemEntropy);

        for bit in 0..sealed.0.len() * 8 {
            let mut altered = sealed.clone();
            altered.0[bit / 8] ^= 1 << (bit % 8);
            assert!(predecessor.open_successor(&altered).is_none(), "bit {bit}");
        }
        for length in 0..sealed.0.len() {
            let cut = SealedSuccessor(sealed.0[..length].to_vec());
            assert!(predecessor.open_successor(&cut).is_none(), "{length} bytes");
        }
    }

    /// A6
    #[test]
    fn has_one_spelling() -> Result<(), ParseRefreshTokenError> {
        let token = RefreshToken::generate(&SystemEntropy);
        let text = token.expose();

        assert_eq!(text.parse::<RefreshToken>()?.digest(), token.digest());
        for bad in [
            String::new(),
            format!("{}=", text.as_str()),
            format!(" {}", text.as_str()),
            text[1..].to_owned(),
            text.replace(['A', 'b', 'C', '-', '_', '1', 'x'], "+"),
            // 43 characters carry two bits too many: they must be zero.
            format!("{}B", &text[..42]),
        ] {
            assert!(
                bad.parse::<RefreshToken>().is_err() || bad == *text,
                "{bad}"
            );
        }
        Ok(())
    }

    #[test]
    fn debug_is_redacted() {
        let token = RefreshToken::generate(&SystemEntropy);

        assert_eq!(format!("{token:?}"), "RefreshToken([REDACTED])");
    }
}
