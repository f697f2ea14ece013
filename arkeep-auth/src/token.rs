//! Access tokens: what a caller shows on each request.
//!
//! A token is a JWT of type `at+jwt` (RFC 9068) signed with Ed25519 (RFC 8037). It says who the
//! caller is, which login the token came from, and in which [`Epoch`] it was issued. It lives for
//! minutes; [`revocation`](crate::revocation) ends it earlier.
//!
//! [`AccessTokens`] issues and verifies. What it verified is a [`SignedClaims`], and that is not
//! yet a [`Principal`](crate::Principal): a signature stays good after a logout. Only the
//! [`Authenticator`](crate::Authenticator) asks both questions.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use arkeep_auth::token::{AccessTokens, Grant, KeySet, SigningKey, TokenConfig};
//! use arkeep_auth::token::{TokenIssuer, TokenVerifier};
//! use arkeep_auth::{Epoch, Role, SessionId};
//! use arkeep_core::{SystemEntropy, Timestamp, UserId};
//!
//! let now = Timestamp::from_unix_seconds(1_700_000_000);
//! let keys = KeySet::new(SigningKey::generate(&SystemEntropy));
//! let config = TokenConfig::new("https://backup.example", "https://backup.example");
//! let tokens = AccessTokens::new(config, keys, Arc::new(SystemEntropy));
//!
//! let issued = tokens.issue(
//!     &Grant {
//!         user: UserId::mint(now, &SystemEntropy),
//!         session: SessionId::mint(now, &SystemEntropy),
//!         epoch: Epoch::FIRST,
//!         role: Role::Viewer,
//!         auth_time: now,
//!     },
//!     now,
//! )?;
//! let claims = tokens.verify(issued.expose(), now)?;
//! assert_eq!(claims.role(), Role::Viewer);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod claims;
mod jws;
mod keys;
mod life;

use std::fmt;

use arkeep_core::{ExposeSecret, SecretString, Timestamp, UserId};

pub use access::{AccessTokens, ConfigError, TokenConfig};
pub use claims::SignedClaims;
pub use keys::{Jwk, Jwks, KeyRefused, KeySet, SigningKey, VerificationKey};
pub use life::{KeyFollower, KeyLife};

use crate::id::{Epoch, SessionId, TokenId};
use crate::role::Role;

/// Whom a token is for. The store that answered for the session says so, in one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The user: `sub`.
    pub user: UserId,
    /// The login: `sid`.
    pub session: SessionId,
    /// The user's epoch.
    pub epoch: Epoch,
    /// The user's role.
    pub role: Role,
    /// When the user last proved who they are.
    pub auth_time: Timestamp,
}

/// A token that was issued. Its text is a secret until it expires.
#[derive(Debug)]
pub struct AccessToken {
    /// Its `jti`.
    pub id: TokenId,
    /// When it stops being honoured.
    pub expires_at: Timestamp,
    text: SecretString,
}

impl AccessToken {
    /// The token as it goes into an answer, and back in `Authorization: Bearer`.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

/// Issues access tokens.
///
/// [`AccessTokens`] is the one to use.
///
/// # Security
///
/// What is granted comes from a [`SessionStore`](crate::SessionStore), which read it in the
/// transaction that opened or rotated the session. An implementation adds nothing to it.
pub trait TokenIssuer: fmt::Debug + Send + Sync {
    /// Signs a new token for `grant`.
    fn issue(&self, grant: &Grant, now: Timestamp) -> Result<AccessToken, IssueError>;
}

/// Checks signature and claims of an access token, and **not** whether it was revoked.
///
/// [`AccessTokens`] is the one to use. Implement this to count, to limit or to choose between
/// several; since [`SignedClaims`] has no public constructor, an implementation ends in ours.
///
/// # Cost
///
/// Runs once for each request. Nearly all of it is the signature.
pub trait TokenVerifier: fmt::Debug + Send + Sync {
    /// Reads a token that one of our keys signed and that is valid at `now`.
    fn verify(&self, token: &str, now: Timestamp) -> Result<SignedClaims, VerifyError>;
}

/// A token could not be issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The cryptographic library refused to sign. Nothing a caller can mend: answer as for any
    /// internal failure.
    #[error("the token could not be signed")]
    Signing,
}

/// A token is not accepted.
///
/// A caller answers 401 to all of them and tells the client nothing; the variants are for the
/// log. Everything that is judged before the signature is known to anybody who holds the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not a compact JWS, too long, or not in the one encoding that each part has.
    #[error("not a token")]
    Malformed,
    /// The header has another algorithm or type than ours, or a member that ours never has.
    #[error("the token's header is not one of ours")]
    Header,
    /// No key of ours has this `kid`, or its time is over.
    #[error("the token names a key that is not honoured")]
    UnknownKey,
    /// The key did not sign this.
    #[error("the token's signature is wrong")]
    Signature,
    /// Signed, and yet no claims of this version: another program has the key.
    #[error("the token's claims cannot be read")]
    Claims,
    /// Another issuer's.
    #[error("the token is of another issuer")]
    Issuer,
    /// For another audience.
    #[error("the token is for another audience")]
    Audience,
    /// Issued in the future, or not to be used before a moment to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}
