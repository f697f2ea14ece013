use std::sync::Arc;

use arkeep_core::{StoreError, Timestamp};

use crate::api_token::{ApiToken, ApiTokens};
use crate::principal::Principal;
use crate::revocation::RevocationStore;
use crate::token::{KeyFollower, SignedClaims, TokenVerifier, VerifyError};

/// Turns what a request shows into a [`Principal`], and is the only one that can.
///
/// # Security
///
/// It asks both questions, in this order: did we sign this, and is it still honoured? When the
/// second cannot be answered, the answer is [`AuthError::Unavailable`], never a principal.
#[derive(Debug, Clone)]
pub struct Authenticator {
    verifier: Arc<dyn TokenVerifier>,
    revocations: Arc<dyn RevocationStore>,
    api_tokens: Option<ApiTokens>,
    keys: Option<Arc<dyn KeyFollower>>,
}

impl Authenticator {
    /// Asks these two.
    #[must_use]
    pub fn new(verifier: Arc<dyn TokenVerifier>, revocations: Arc<dyn RevocationStore>) -> Self {
        Self {
            verifier,
            revocations,
            api_tokens: None,
            keys: None,
        }
    }

    /// Looks for new keys before it refuses a token of a key that it does not know.
    #[must_use]
    pub fn following(mut self, keys: Arc<dyn KeyFollower>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Lets programs in too, with tokens of their own.
    #[must_use]
    pub fn with_api_tokens(mut self, tokens: ApiTokens) -> Self {
        self.api_tokens = Some(tokens);
        self
    }

    /// Says who shows this token.
    pub async fn authenticate(&self, token: &str, now: Timestamp) -> Result<Principal, AuthError> {
        if let Some(tokens) = &self.api_tokens
            && token.starts_with(ApiToken::PREFIX)
        {
            return tokens.authenticate(token, now).await;
        }
        let claims = self.verify(token, now).await?;
        if self.revocations.is_revoked(&claims).await? {
            return Err(AuthError::Revoked);
        }
        Ok(Principal::of_session(&claims))
    }

    async fn verify(&self, token: &str, now: Timestamp) -> Result<SignedClaims, AuthError> {
        match (self.verifier.verify(token, now), &self.keys) {
            (Err(VerifyError::UnknownKey), Some(keys)) => {
                keys.look_again().await?;
                Ok(self.verifier.verify(token, now)?)
            }
            (verified, _) => Ok(verified?),
        }
    }
}

/// The token in an `Authorization` header, if it is one of the scheme `Bearer` (RFC 6750 §2.1).
#[must_use]
pub fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' '))
        .then_some(token)
}

/// A caller is not let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Not a valid token of ours. Answer 401, without the cause.
    #[error("the token is not accepted")]
    Refused(#[from] VerifyError),

    /// A token of ours that was taken back. Answer 401, as for any other.
    #[error("the token is no longer honoured")]
    Revoked,

    /// It cannot be known whether the token is honoured. Answer 503.
    #[error("the token could not be checked")]
    Unavailable(#[from] StoreError),
}
