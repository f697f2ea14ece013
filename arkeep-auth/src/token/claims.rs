use std::borrow::Cow;

use arkeep_core::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

use super::VerifyError;
use crate::id::{Epoch, SessionId, TokenId};
use crate::role::Role;

/// What a valid signature of ours says, at the time it was checked.
///
/// Only a [`TokenVerifier`](super::TokenVerifier) of ours makes one. It does not show that the
/// token is still honoured: that is a [`Principal`](crate::Principal).
///
/// ```compile_fail
/// # fn handle(_: &arkeep_auth::Principal) {}
/// fn serve(claims: &arkeep_auth::SignedClaims) {
///     handle(claims); // a good signature is not a caller
/// }
/// ```
///
/// ```compile_fail
/// // Claims are not made from text.
/// let claims: arkeep_auth::SignedClaims = serde_json::from_str("{}").unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedClaims {
    user: UserId,
    session: SessionId,
    token: TokenId,
    epoch: Epoch,
    role: Role,
    auth_time: Timestamp,
    expires_at: Timestamp,
}

impl SignedClaims {
    /// The user: `sub`.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The login: `sid`.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The token itself: `jti`.
    #[must_use]
    pub const fn token(&self) -> TokenId {
        self.token
    }

    /// The user's epoch when it was issued.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The user's role in that epoch. A change of role begins a new epoch.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// When the user last proved who they are, to the second.
    #[must_use]
    pub const fn auth_time(&self) -> Timestamp {
        self.auth_time
    }

    /// When the token expires.
    #[must_use]
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// The claims as they are written. `deny_unknown_fields` also makes a doubled member an error.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireClaims<'a> {
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) aud: Cow<'a, str>,
    pub(super) sub: UserId,
    pub(super) iat: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<i64>,
    pub(super) exp: i64,
    pub(super) jti: TokenId,
    pub(super) sid: SessionId,
    pub(super) epoch: Epoch,
    pub(super) role: Role,
    pub(super) auth_time: i64,
}

impl WireClaims<'_> {
    /// The one place that makes [`SignedClaims`]: `accept` has seen issuer, audience and times.
    pub(super) fn check(
        self,
        accept: impl FnOnce(&Self) -> Result<(), VerifyError>,
    ) -> Result<SignedClaims, VerifyError> {
        accept(&self)?;
        Ok(SignedClaims {
            user: self.sub,
            session: self.sid,
            token: self.jti,
            epoch: self.epoch,
            role: self.role,
            auth_time: Timestamp::from_unix_seconds(self.auth_time),
            expires_at: Timestamp::from_unix_seconds(self.exp),
        })
    }
}
