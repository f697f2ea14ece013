use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;

use super::MemoryStore;
use crate::id::OidcProviderId;
use crate::oidc::{LoginDigest, LoginState, LoginStateStore};

#[async_trait]
impl LoginStateStore for MemoryStore {
    async fn keep(&self, state: &LoginState) -> Result<(), StoreError> {
        self.transaction(|kept| {
            kept.logins.insert(state.digest, state.clone());
        })
    }

    async fn take(
        &self,
        digest: &LoginDigest,
        now: Timestamp,
    ) -> Result<Option<OidcProviderId>, StoreError> {
        self.transaction(|kept| {
            let state = kept.logins.remove(digest)?;
            (now < state.expires_at).then_some(state.provider)
        })
    }

    async fn prune(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.transaction(|kept| {
            let before = kept.logins.len();
            kept.logins.retain(|_, state| now < state.expires_at);
            u64::try_from(before - kept.logins.len()).unwrap_or(u64::MAX)
        })
    }
}
