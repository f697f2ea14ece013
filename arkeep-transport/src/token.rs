//! The one line that turns a machine into an agent.
//!
//! A join token carries what a machine needs to enrol over a network that nobody trusts: where the
//! server is, by which root it must prove itself, and a secret that is worth one certificate. The
//! agent checks the server against the fingerprint *before* it sends the secret, so whoever sits in
//! between learns nothing.
//!
//! ```text
//! akj1.<base64url: token id ‖ root fingerprint ‖ expiry ‖ server address>.<base64url: secret>
//! ```
//!
//! The server keeps an [`OfferedToken`]: a digest in place of the secret.
//!
//! # Example
//!
//! ```
//! # use std::time::Duration;
//! # use arkeep_core::{AgentId, ExposeSecret, SystemEntropy, Timestamp};
//! # use arkeep_transport::token::{JoinToken, TokenTerms};
//! # use arkeep_transport::trust::SpkiFingerprint;
//! # let now = Timestamp::from_unix_millis(1_700_000_000_000);
//! # let fingerprint = SpkiFingerprint::of(b"spki");
//! # let agent = AgentId::mint(now, &SystemEntropy);
//! let token = JoinToken::mint(
//!     TokenTerms { server: "backup.example:9090".parse()?, fingerprint, validity: Duration::from_secs(3600) },
//!     now,
//!     &SystemEntropy,
//! )?;
//! let offered = token.offered_to(agent); // for the store
//! let line = token.encode(); // for the machine's owner, once
//!
//! let read: JoinToken = line.expose_secret().parse()?;
//! assert_eq!(read.offered_to(agent), offered);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use arkeep_core::{AgentId, Entropy, SecretString, Timestamp};

use crate::address::ServerAddress;
use crate::trust::{SpkiFingerprint, sha256};

/// How long a token is valid when nobody says otherwise.
pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(60 * 60);

/// How long a token can be valid at most.
pub const MAX_VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);

/// A join token with its secret, as its maker and the enrolling machine hold it.
pub struct JoinToken {
    server: ServerAddress,
    fingerprint: SpkiFingerprint,
    id: JoinTokenId,
    expires_at: Timestamp,
    secret: JoinSecret,
}

/// What a [`JoinToken`] is to say.
#[derive(Debug, Clone)]
pub struct TokenTerms {
    /// Where the agent is to dial.
    pub server: ServerAddress,
    /// The root by which the server must prove itself.
    pub fingerprint: SpkiFingerprint,
    /// How long the token can be spent; [`MAX_VALIDITY`] at most.
    pub validity: Duration,
}

impl JoinToken {
    /// Makes a token that can be spent once, from now on.
    ///
    /// # Errors
    ///
    /// [`MintTokenError`] when the terms ask for a longer life than a token may have.
    pub fn mint(
        terms: TokenTerms,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, MintTokenError> {
        if terms.validity.is_zero() || terms.validity > MAX_VALIDITY {
            return Err(MintTokenError::Validity);
        }
        let mut secret = JoinSecret([0; SECRET]);
        entropy.fill(&mut secret.0);
        Ok(Self {
            server: terms.server,
            fingerprint: terms.fingerprint,
            id: JoinTokenId(arkeep_core::id::uuid_v7(now, entropy)),
            expires_at: Timestamp::from_unix_seconds(now.plus(terms.validity).as_unix_seconds()),
            secret,
        })
    }

    /// Where the agent is to dial.
    #[must_use]
    pub const fn server(&self) -> &ServerAddress {
        &self.server
    }

    /// The root by which the server must prove itself.
    #[must_use]
    pub const fn fingerprint(&self) -> SpkiFingerprint {
        self.fingerprint
    }

    /// The token's id.
    #[must_use]
    pub const fn id(&self) -> JoinTokenId {
        self.id
    }

    /// From when on it cannot be spent.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// What the store keeps: the token, bound to an agent, without its secret.
    #[must_use]
    pub fn offered_to(&self, agent: AgentId) -> OfferedToken {
        OfferedToken {
            id: self.id,
            agent,
            digest: self.secret.digest(self.id),
            expires_at: self.expires_at,
        }
    }

    /// The line that a person carries to the machine. It holds the secret: show it once.
    #[must_use]
    pub fn encode(&self) -> SecretString {
        let server = self.server.to_string();
        let mut record = Vec::with_capacity(FIXED + server.len());
        record.extend_from_slice(self.id.0.as_bytes());
        record.extend_from_slice(self.fingerprint.as_bytes());
        record.extend_from_slice(&self.expires_at.as_unix_seconds().to_be_bytes());
        record.extend_from_slice(server.as_bytes());
        // One allocation of the exact size: growing would leave a copy of the secret behind.
        let mut line = String::with_capacity(
            PREFIX.len() + (record.len() * 4).div_ceil(3) + 1 + (SECRET * 4).div_ceil(3),
        );
        line.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&record, &mut line);
        line.push('.');
        URL_SAFE_NO_PAD.encode_string(self.secret.0, &mut line);
        SecretString::from(line)
    }

    #[cfg(feature = "client")]
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret.0
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    /// Reads a token. White space around it is allowed, since people paste it.
    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let text = text.trim();
        if text.len() > MAX_LINE {
            return Err(ParseTokenError::Malformed);
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Err(if text.starts_with("akj") {
                ParseTokenError::Version
            } else {
                ParseTokenError::Malformed
            });
        };
        let (record, secret) = rest.split_once('.').ok_or(ParseTokenError::Malformed)?;
        let record = URL_SAFE_NO_PAD
            .decode(record)
            .map_err(|_| ParseTokenError::Malformed)?;
        let secret = Zeroizing::new(
            URL_SAFE_NO_PAD
                .decode(secret)
                .map_err(|_| ParseTokenError::Malformed)?,
        );
        let (id, record) = take::<16>(&record)?;
        let (fingerprint, record) = take::<32>(record)?;
        let (expiry, server) = take::<8>(record)?;
        let seconds = i64::from_be_bytes(expiry);
        let expires_at = Timestamp::from_unix_seconds(seconds);
        if expires_at.as_unix_seconds() != seconds {
            return Err(ParseTokenError::Malformed);
        }
        let server = std::str::from_utf8(server).map_err(|_| ParseTokenError::Malformed)?;
        Ok(Self {
            server: server.parse().map_err(|_| ParseTokenError::Malformed)?,
            fingerprint: SpkiFingerprint::from_bytes(fingerprint),
            id: JoinTokenId(Uuid::from_bytes(id)),
            expires_at,
            secret: JoinSecret::from_slice(&secret).ok_or(ParseTokenError::Malformed)?,
        })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("server", &self.server)
            .field("fingerprint", &self.fingerprint)
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("secret", &"[REDACTED]")
            .finish()
    }
}

/// A join token's id. Not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinTokenId(Uuid);

impl JoinTokenId {
    /// Takes over an id that was made elsewhere.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as a UUID.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }

    #[cfg(feature = "server")]
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }
}

/// A token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedToken {
    /// The token's id.
    pub id: JoinTokenId,
    /// Who it enrols.
    pub agent: AgentId,
    /// What stands for the secret.
    pub digest: JoinDigest,
    /// From when on it cannot be spent.
    pub expires_at: Timestamp,
}

/// What is stored in place of a join token's secret. Compared in constant time.
///
/// SHA-256 alone is enough here: the secret has 256 random bits, so there is nothing to guess.
#[derive(Clone, Copy)]
pub struct JoinDigest([u8; 32]);

impl JoinDigest {
    /// Takes over a digest from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest's bytes, for a store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for JoinDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for JoinDigest {}

impl fmt::Debug for JoinDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinDigest(…)")
    }
}

#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct JoinSecret([u8; SECRET]);

impl JoinSecret {
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn digest(&self, id: JoinTokenId) -> JoinDigest {
        let mut context = Context::new(&SHA256);
        context.update(b"arkeep join token 1");
        context.update(id.0.as_bytes());
        context.update(&self.0);
        JoinDigest(sha256(context))
    }
}

/// A token cannot be made on these terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintTokenError {
    /// Ask for a life of more than nothing and at most [`MAX_VALIDITY`].
    #[error("a join token is valid for at most 24 hours")]
    Validity,
}

/// The text is not a join token.
///
/// The text itself is in none of the variants: what was pasted in its place may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTokenError {
    /// It was cut off, altered, or is something else. Copy the whole line again.
    #[error("this is not a join token; copy the whole line, from `akj1.` to its end")]
    Malformed,
    /// A newer server made it. Update the agent.
    #[error("this join token is of a version that this agent does not know; update the agent")]
    Version,
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), ParseTokenError> {
    let (head, rest) = bytes
        .split_first_chunk()
        .ok_or(ParseTokenError::Malformed)?;
    Ok((*head, rest))
}

const PREFIX: &str = "akj1.";
const SECRET: usize = 32;
const FIXED: usize = 16 + 32 + 8;
// A record with the longest address, the secret, and the prefix: nothing longer is a token.
const MAX_LINE: usize = 512;

#[cfg(test)]
mod tests {
    use arkeep_core::testing::SeededEntropy;
    use arkeep_core::{ExposeSecret, SystemEntropy};
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        let terms = TokenTerms {
            server: "backup.example:9090".parse().unwrap(),
            fingerprint: SpkiFingerprint::of(b"root"),
            validity: DEFAULT_VALIDITY,
        };
        JoinToken::mint(terms, Timestamp::UNIX_EPOCH, &SeededEntropy::new(7)).unwrap()
    }

    fn parse(text: &str) -> Result<(), ParseTokenError> {
        text.parse::<JoinToken>().map(drop)
    }

    /// T2
    #[test]
    fn says_the_same_after_a_journey() -> Result<(), ParseTokenError> {
        let token = token();
        let agent = AgentId::mint(Timestamp::UNIX_EPOCH, &SystemEntropy);

        let line = format!("  {}\n", token.encode().expose_secret());
        let read: JoinToken = line.parse()?;

        assert_eq!(read.server(), token.server());
        assert_eq!(read.fingerprint(), token.fingerprint());
        assert_eq!(read.expires_at(), token.expires_at());
        assert_eq!(read.offered_to(agent), token.offered_to(agent));
        Ok(())
    }

    /// T2
    #[test]
    fn lives_a_day_at_most() {
        for (validity, fits) in [
            (Duration::ZERO, false),
            (MAX_VALIDITY, true),
            (MAX_VALIDITY + Duration::from_secs(1), false),
        ] {
            let terms = TokenTerms {
                server: "a:1".parse().unwrap(),
                fingerprint: SpkiFingerprint::of(b""),
                validity,
            };
            let minted = JoinToken::mint(terms, Timestamp::UNIX_EPOCH, &SystemEntropy);
            assert_eq!(minted.is_ok(), fits, "{validity:?}");
        }
    }

    #[test]
    fn every_shortened_line_is_refused() {
        let line = token().encode();
        let line = line.expose_secret();

        for end in 0..line.len() {
            assert!(parse(&line[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn names_a_version_it_does_not_know() {
        assert_eq!(parse("akj2.AAAA.AAAA"), Err(ParseTokenError::Version));
        assert_eq!(parse("hunter2"), Err(ParseTokenError::Malformed));
    }

    #[test]
    fn a_second_spelling_is_refused() {
        let line = token().encode();
        let line = line.expose_secret();

        // The last character of 32 bytes in base64 holds four bits; the two spare ones are zero.
        let (head, last) = line.split_at(line.len() - 1);
        let spare = (last.as_bytes()[0] + 1) as char;
        assert!(parse(&format!("{head}{spare}")).is_err());
        assert!(parse(&format!("{line}=")).is_err());
    }

    /// V8
    #[test]
    fn prints_no_secret() {
        let token = token();
        let line = token.encode();
        let secret = line.expose_secret().rsplit('.').next().unwrap().to_owned();

        assert!(!format!("{token:?}").contains(&secret));
        assert!(!format!("{:?}", token.secret.0).is_empty());
        assert!(!format!("{line:?}").contains(&secret));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(akj1\\.)?[A-Za-z0-9_.=-]{0,200}") {
            let _ = parse(&text);
        }
    }
}
