use std::fmt;
use std::str::FromStr;

use arkeep_core::Entropy;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::cookie::{self, CookieError};

/// What ties a browser to the login that it began: 256 random bits, in a cookie.
#[derive(Clone)]
pub struct LoginSecret(Zeroizing<[u8; 32]>);

impl LoginSecret {
    /// Name of the cookie.
    pub const COOKIE: &str = "__Host-arkeep_login";

    pub(super) fn generate(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Finds the secret in the `Cookie` headers of a request.
    pub fn find<'a>(headers: impl IntoIterator<Item = &'a str>) -> Result<Self, CookieError> {
        let value = cookie::find_value(Self::COOKIE, headers)?;
        value.parse().map_err(|_| CookieError::Malformed)
    }

    /// The `Set-Cookie` header that gives the secret to a browser, for ten minutes.
    ///
    /// `Lax`, since the browser comes back from another site, which `Strict` would hide it from.
    #[must_use]
    pub fn cookie(&self) -> String {
        let value = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()));
        let age = super::login::PATIENCE.as_secs();
        format!("{}={}; {ATTRIBUTES}; Max-Age={age}", Self::COOKIE, *value)
    }

    /// The `Set-Cookie` header that takes it away.
    #[must_use]
    pub fn clear() -> String {
        format!("{}=; {ATTRIBUTES}; Max-Age=0", Self::COOKIE)
    }

    /// What is kept in its place.
    #[must_use]
    pub fn digest(&self) -> LoginDigest {
        LoginDigest(sha256(self.0.as_slice()))
    }

    /// What the provider sends back with the browser.
    pub(super) fn state(&self) -> Zeroizing<String> {
        self.derive(b"arkeep oidc state")
    }

    /// What the provider puts into its statement.
    pub(super) fn nonce(&self) -> Zeroizing<String> {
        self.derive(b"arkeep oidc nonce")
    }

    /// What shows the provider that who began the login exchanges the code (RFC 7636 §4.1).
    pub(super) fn verifier(&self) -> Zeroizing<String> {
        self.derive(b"arkeep oidc verifier")
    }

    /// RFC 7636 §4.2, S256.
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(sha256(self.verifier().as_bytes()))
    }

    // One way: who sees one of them learns nothing of the secret or of the others.
    fn derive(&self, label: &[u8]) -> Zeroizing<String> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_slice());
        Zeroizing::new(URL_SAFE_NO_PAD.encode(hmac::sign(&key, label).as_ref()))
    }
}

impl fmt::Debug for LoginSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginSecret([REDACTED])")
    }
}

/// The text is not the secret of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the secret of a login")]
pub struct ParseLoginSecretError;

impl FromStr for LoginSecret {
    type Err = ParseLoginSecretError;

    fn from_str(text: &str) -> Result<Self, ParseLoginSecretError> {
        let mut bytes = Zeroizing::new([0; 32]);
        // A text of another length would be decoded only to be refused.
        if text.len() != 43 {
            return Err(ParseLoginSecretError);
        }
        match URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()) {
            Ok(32) => Ok(Self(bytes)),
            _ => Err(ParseLoginSecretError),
        }
    }
}

/// What is kept in place of a [`LoginSecret`]: its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoginDigest([u8; 32]);

impl LoginDigest {
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

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

const ATTRIBUTES: &str = "Secure; HttpOnly; SameSite=Lax; Path=/";

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    /// A10
    #[test]
    fn the_cookie_is_of_this_site_and_short_lived() -> Result<(), CookieError> {
        let secret = LoginSecret::generate(&SystemEntropy);
        let header = secret.cookie();

        let attributes = "; Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age=600";
        assert!(header.ends_with(attributes), "{header}");
        let pair = header.split(';').next().unwrap_or_default();
        assert_eq!(LoginSecret::find([pair])?.digest(), secret.digest());
        assert!(matches!(
            LoginSecret::find([format!("{pair}; {pair}").as_str()]),
            Err(CookieError::Ambiguous)
        ));
        for cut in 0..pair.len() {
            assert!(LoginSecret::find([&pair[..cut]]).is_err(), "{cut}");
        }
        Ok(())
    }

    /// A10
    #[test]
    fn what_is_derived_is_long_enough_and_differs() {
        let secret = LoginSecret::generate(&SystemEntropy);
        let other = LoginSecret::generate(&SystemEntropy);

        let all = [
            secret.state(),
            secret.nonce(),
            secret.verifier(),
            other.state(),
        ];

        // RFC 7636 §4.1: 43 characters at least.
        assert!(all.iter().all(|text| text.len() == 43));
        for (index, one) in all.iter().enumerate() {
            assert!(!all.iter().skip(index + 1).any(|another| another == one));
        }
        assert_eq!(secret.state(), secret.clone().state());
        assert_eq!(format!("{secret:?}"), "LoginSecret([REDACTED])");
    }
}
