use std::fmt;
use std::str::FromStr;

use arkeep_core::{Entropy, Timestamp};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::id::ApiTokenId;

/// An API token as it is shown once, and as a program shows it.
///
/// It has neither `Display` nor `Serialize`; [`expose`](Self::expose) gives its text.
pub struct ApiToken {
    id: ApiTokenId,
    /// The id and the secret.
    bytes: Zeroizing<[u8; BYTES]>,
}

impl ApiToken {
    /// What the text of every token begins with.
    pub const PREFIX: &str = "akt_";

    pub(super) fn generate(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let id = ApiTokenId::mint(now, entropy);
        let mut bytes = Zeroizing::new([0; BYTES]);
        let (name, secret) = bytes.split_at_mut(ID_BYTES);
        name.copy_from_slice(id.as_uuid().as_bytes());
        entropy.fill(secret);
        Self { id, bytes }
    }

    /// Its id, which is no secret.
    #[must_use]
    pub const fn id(&self) -> ApiTokenId {
        self.id
    }

    /// Its text: the prefix and 70 characters of base64url.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut whole = Zeroizing::new(self.bytes.to_vec());
        whole.reserve_exact(CHECK_BYTES);
        whole.extend_from_slice(&check(&self.bytes));
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*whole));
        Zeroizing::new(format!("{}{}", Self::PREFIX, encoded.as_str()))
    }

    /// What is kept in its place.
    #[must_use]
    pub fn digest(&self) -> ApiTokenDigest {
        ApiTokenDigest(sha256(&[self.bytes.as_slice()]))
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The text is not an API token, or was mistyped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API token")]
pub struct ParseApiTokenError;

impl FromStr for ApiToken {
    type Err = ParseApiTokenError;

    fn from_str(text: &str) -> Result<Self, ParseApiTokenError> {
        let encoded = text.strip_prefix(Self::PREFIX).ok_or(ParseApiTokenError)?;
        if encoded.len() != ENCODED_LENGTH {
            return Err(ParseApiTokenError);
        }
        let decoded = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| ParseApiTokenError)?;
        let decoded = Zeroizing::new(decoded);
        let (known, claimed) = decoded
            .split_first_chunk::<BYTES>()
            .ok_or(ParseApiTokenError)?;
        if check(known) != *claimed {
            return Err(ParseApiTokenError);
        }
        let (id, _) = known
            .split_first_chunk::<ID_BYTES>()
            .ok_or(ParseApiTokenError)?;
        Ok(Self {
            id: ApiTokenId::from_uuid(Uuid::from_bytes(*id)),
            bytes: Zeroizing::new(*known),
        })
    }
}

/// What is kept in place of an [`ApiToken`]: its SHA-256. 256 random bits are not guessed, so a
/// slow hash would add nothing.
#[derive(Debug, Clone, Copy)]
pub struct ApiTokenDigest([u8; 32]);

impl ApiTokenDigest {
    /// Takes over a digest that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest, to be stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

// In a time that does not depend on how close the other comes.
impl PartialEq for ApiTokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ApiTokenDigest {}

fn check(bytes: &[u8; BYTES]) -> [u8; CHECK_BYTES] {
    let sum = sha256(&[b"arkeep-auth api token checksum 1", bytes]);
    let [a, b, c, d, ..] = sum;
    [a, b, c, d]
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut sum = [0; 32];
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

const ID_BYTES: usize = 16;
const BYTES: usize = ID_BYTES + 32;
const CHECK_BYTES: usize = 4;
const ENCODED_LENGTH: usize = 70;

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    fn token() -> ApiToken {
        ApiToken::generate(Timestamp::from_unix_seconds(1_750_000_000), &SystemEntropy)
    }

    /// A13
    #[test]
    fn has_one_spelling_and_a_checksum() -> Result<(), ParseApiTokenError> {
        let token = token();
        let text = token.expose();

        let read: ApiToken = text.parse()?;

        assert_eq!((read.id(), read.digest()), (token.id(), token.digest()));
        assert_eq!(text.len(), 74);
        for at in 0..text.len() {
            assert!(text[..at].parse::<ApiToken>().is_err(), "cut at {at}");
            for other in ["A", "b", "_", "=", "~"] {
                let mut changed = text.to_string();
                changed.replace_range(at..=at, other);
                assert!(
                    changed == *text || changed.parse::<ApiToken>().is_err(),
                    "{at}: {other}"
                );
            }
        }
        for more in [
            format!("{}A", *text),
            format!(" {}", *text),
            text.to_uppercase(),
        ] {
            assert!(more.parse::<ApiToken>().is_err());
        }
        Ok(())
    }

    /// A13
    #[test]
    fn shows_nothing_but_its_id() {
        let token = token();

        let printed = format!("{token:?}");

        assert!(printed.contains(&token.id().to_string()), "{printed}");
        assert!(!printed.contains("bytes"), "{printed}");
    }
}
