use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{Entropy, StoreError, Timestamp, UserId};

use super::{ApiToken, ApiTokenInfo, ApiTokenStore, NewApiToken, Owner, Scopes};
use crate::authenticator::AuthError;
use crate::id::ApiTokenId;
use crate::principal::Principal;
use crate::token::VerifyError;

/// Makes API tokens and says who shows one.
#[derive(Debug, Clone)]
pub struct ApiTokens {
    store: Arc<dyn ApiTokenStore>,
    entropy: Arc<dyn Entropy>,
}

/// What somebody wants a token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What they call it: 1 to 100 characters, none of them a control character.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl ApiTokens {
    /// Keeps them in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn ApiTokenStore>, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, entropy }
    }

    /// Makes a token that acts as its owner, to be shown once.
    pub async fn create(
        &self,
        owner: Owner,
        wanted: Wanted,
        now: Timestamp,
    ) -> Result<(ApiToken, ApiTokenInfo), CreateError> {
        let length = wanted.name.chars().count();
        if !(1..=NAME_LENGTH).contains(&length) || wanted.name.chars().any(char::is_control) {
            return Err(CreateError::Name);
        }
        if wanted.scopes.is_empty() {
            return Err(CreateError::Scopes);
        }
        if wanted.expires_at <= now {
            return Err(CreateError::Expiry);
        }
        let token = ApiToken::generate(now, self.entropy.as_ref());
        let new = NewApiToken {
            id: token.id(),
            owner,
            name: wanted.name,
            digest: token.digest(),
            scopes: wanted.scopes,
            expires_at: wanted.expires_at,
            created_at: now,
        };
        if !self.store.create(&new).await? {
            return Err(CreateError::Owner);
        }
        let info = ApiTokenInfo {
            id: new.id,
            name: new.name,
            scopes: new.scopes,
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        Ok((token, info))
    }

    /// Says who shows this token.
    pub async fn authenticate(&self, text: &str, now: Timestamp) -> Result<Principal, AuthError> {
        let refused = AuthError::Refused(VerifyError::Malformed);
        let Ok(shown) = text.parse::<ApiToken>() else {
            return Err(refused);
        };
        let id = shown.id();
        let found = self.store.find(id).await?;
        let Some(stored) = found.filter(|stored| stored.digest == shown.digest()) else {
            return Err(AuthError::Revoked);
        };
        if stored.expires_at <= now {
            return Err(AuthError::Refused(VerifyError::Expired));
        }
        if !stored.owner_enabled {
            return Err(AuthError::Revoked);
        }
        let caller = Principal::of_api_token(id, &stored).ok_or(AuthError::Revoked)?;
        let due = |last: Timestamp| last.plus(USE_IS_WRITTEN_EVERY) <= now;
        if stored.last_used_at.is_none_or(due) {
            // Not worth refusing a caller who is who they say.
            self.store.used(id, now).await.ok();
        }
        Ok(caller)
    }

    /// The user's tokens, also expired ones, the newest first.
    pub async fn list(&self, owner: UserId) -> Result<Vec<ApiTokenInfo>, StoreError> {
        self.store.list(owner).await
    }

    /// Revokes a token of this user's. Returns `false` when they have no such token.
    pub async fn revoke(&self, owner: UserId, id: ApiTokenId) -> Result<bool, StoreError> {
        self.store.revoke(owner, id).await
    }

    /// Forgets tokens that expired a month ago.
    pub async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.store.prune(now.minus(SHOWN_AFTER_EXPIRY)).await
    }
}

const NAME_LENGTH: usize = 100;
const USE_IS_WRITTEN_EVERY: Duration = Duration::from_secs(60);
const SHOWN_AFTER_EXPIRY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A token was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Ask for another name.
    #[error("a name has 1 to 100 characters and no control characters")]
    Name,
    /// Ask for at least one scope.
    #[error("a token needs a scope")]
    Scopes,
    /// Ask for a later expiry.
    #[error("a token expires in the future")]
    Expiry,
    /// The owner is gone or disabled, or was logged out everywhere in the meantime.
    #[error("the owner of the token may not come in any more")]
    Owner,
    /// A store could not answer. Worth a retry.
    #[error("the token could not be kept")]
    Unavailable(#[from] StoreError),
}
