use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

use super::MemoryStore;
use crate::api_token::{ApiTokenInfo, ApiTokenStore, NewApiToken, StoredApiToken};
use crate::id::ApiTokenId;

#[derive(Debug)]
pub(super) struct Kept {
    token: NewApiToken,
    last_used_at: Option<Timestamp>,
}

#[async_trait]
impl ApiTokenStore for MemoryStore {
    async fn create(&self, new: &NewApiToken) -> Result<bool, StoreError> {
        self.transaction(|state| {
            let owner = state.enabled(new.owner.user);
            if owner.is_none_or(|owner| owner.epoch != new.owner.epoch) {
                return false;
            }
            let kept = Kept {
                token: new.clone(),
                last_used_at: None,
            };
            state.api_tokens.insert(new.id, kept);
            true
        })
    }

    async fn find(&self, id: ApiTokenId) -> Result<Option<StoredApiToken>, StoreError> {
        self.transaction(|state| {
            let Kept {
                token,
                last_used_at,
            } = state.api_tokens.get(&id)?;
            let owner = state.users.get(&token.owner.user)?;
            Some(StoredApiToken {
                digest: token.digest,
                scopes: token.scopes,
                expires_at: token.expires_at,
                last_used_at: *last_used_at,
                owner: token.owner.user,
                owner_role: owner.role,
                owner_epoch: owner.epoch,
                owner_enabled: owner.enabled,
            })
        })
    }

    async fn used(&self, id: ApiTokenId, now: Timestamp) -> Result<(), StoreError> {
        self.transaction(|state| {
            if let Some(kept) = state.api_tokens.get_mut(&id) {
                kept.last_used_at = kept.last_used_at.max(Some(now));
            }
        })
    }

    async fn list(&self, owner: UserId) -> Result<Vec<ApiTokenInfo>, StoreError> {
        self.transaction(|state| {
            let mut list: Vec<ApiTokenInfo> = state
                .api_tokens
                .values()
                .filter(|kept| kept.token.owner.user == owner)
                .map(|kept| ApiTokenInfo {
                    id: kept.token.id,
                    name: kept.token.name.clone(),
                    scopes: kept.token.scopes,
                    created_at: kept.token.created_at,
                    expires_at: kept.token.expires_at,
                    last_used_at: kept.last_used_at,
                })
                .collect();
            list.sort_by_key(|info| std::cmp::Reverse((info.created_at, info.id)));
            list
        })
    }

    async fn revoke(&self, owner: UserId, id: ApiTokenId) -> Result<bool, StoreError> {
        self.transaction(|state| {
            let owned = state
                .api_tokens
                .get(&id)
                .is_some_and(|kept| kept.token.owner.user == owner);
            owned && state.api_tokens.remove(&id).is_some()
        })
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.transaction(|state| {
            let count = state.api_tokens.len();
            state
                .api_tokens
                .retain(|_, kept| kept.token.expires_at >= before);
            u64::try_from(count - state.api_tokens.len()).unwrap_or(u64::MAX)
        })
    }
}
