//! The token that makes the first user, once.

use arkeep_core::{Entropy, ExposeSecret, SecretString};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Lets whoever holds it make the first administrator.
///
/// The server prints it once and keeps its [`digest`](Self::digest). That it is used once is for
/// the store to keep: one conditional statement makes the user and spends the token.
///
/// ```
/// use arkeep_auth::SetupToken;
/// use arkeep_core::SystemEntropy;
///
/// let token = SetupToken::generate(&SystemEntropy);
/// let digest = token.digest();
///
/// assert!(digest.matches(token.expose()));
/// assert!(!digest.matches("aks_guess"));
/// ```
#[derive(Debug)]
pub struct SetupToken(SecretString);

impl SetupToken {
    /// Makes one of 256 random bits.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut random = Zeroizing::new([0; 32]);
        entropy.fill(random.as_mut_slice());
        Self(SecretString::from(format!(
            "{PREFIX}{}",
            URL_SAFE_NO_PAD.encode(random.as_slice())
        )))
    }

    /// Takes back a token that was kept where nobody else can read it. Nothing else is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let random = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?);
        (random.len() == 32).then(|| Self(SecretString::from(text)))
    }

    /// The token as it is printed and typed.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is kept in its place.
    #[must_use]
    pub fn digest(&self) -> SetupDigest {
        SetupDigest::of(self.expose())
    }
}

/// What is kept in place of a [`SetupToken`]: its SHA-256.
#[derive(Debug, Clone, Copy)]
pub struct SetupDigest([u8; 32]);

impl SetupDigest {
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

    /// Whether `presented` is the token, in a time that does not depend on how close it comes.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        self.0.ct_eq(&Self::of(presented).0).into()
    }

    /// What a presented token would be kept as, for a store that compares in its own transaction.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

const PREFIX: &str = "aks_";

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    /// S9
    #[test]
    fn opens_only_with_itself() {
        let token = SetupToken::generate(&SystemEntropy);
        let other = SetupToken::generate(&SystemEntropy);
        let digest = SetupDigest::from_bytes(*token.digest().as_bytes());

        assert!(digest.matches(token.expose()));
        assert!(!digest.matches(other.expose()));
        assert!(!digest.matches(&format!("{} ", token.expose())));
        assert!(!digest.matches(""));
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        let token = SetupToken::generate(&SystemEntropy);

        let printed = format!("{token:?}");

        assert!(!printed.contains(token.expose().trim_start_matches(PREFIX)));
    }
}
