//! S1, A3, A4, A6: the suites of `arkeep-auth`'s ports.

use std::sync::Arc;

use arkeep_auth::testing::conformance::{
    self, Backend, NewUser as ConformanceUser, revocation_store, session_store,
};
use arkeep_auth::{RevocationStore, Role, SessionStore, UserStore};
use arkeep_core::{StoreError, Timestamp, UserId};
use arkeep_server::store::WriteError;
use arkeep_server::store::users::{NewUser, UserDirectory, UserEdit};
use async_trait::async_trait;

use super::Sandbox;

#[async_trait]
impl Backend for Sandbox {
    fn sessions(&self) -> Arc<dyn SessionStore> {
        Arc::new(self.store.clone())
    }

    fn revocations(&self) -> Arc<dyn RevocationStore> {
        Arc::new(self.store.clone())
    }

    fn users(&self) -> Arc<dyn UserStore> {
        Arc::new(self.store.clone())
    }

    async fn add_user(&self, user: &ConformanceUser) -> Result<(), StoreError> {
        let new = NewUser {
            id: user.id,
            email: user.email.clone(),
            display_name: String::new(),
            role: Role::Viewer,
            password_hash: Some(user.password.clone()),
            created_at: user.now,
        };
        self.store.create(&new).await.map(drop).map_err(answered)
    }

    async fn disable(&self, user: UserId, now: Timestamp) -> Result<(), StoreError> {
        self.edit(user, now, |edit| edit.enabled = false).await
    }

    async fn set_role(&self, user: UserId, role: Role, now: Timestamp) -> Result<(), StoreError> {
        self.edit(user, now, |edit| edit.role = role).await
    }

    async fn remove(&self, user: UserId, _: Timestamp) -> Result<(), StoreError> {
        self.store.delete(user, None).await.map_err(answered)
    }
}

impl Sandbox {
    async fn edit(
        &self,
        user: UserId,
        at: Timestamp,
        change: impl FnOnce(&mut UserEdit) + Send,
    ) -> Result<(), StoreError> {
        let user = UserDirectory::find(&self.store, user)
            .await?
            .expect("a user that the suite has made");
        let mut edit = UserEdit {
            id: user.id,
            version: user.version,
            email: user.email,
            display_name: user.display_name,
            role: user.role,
            enabled: user.enabled,
            password_hash: None,
            at,
        };
        change(&mut edit);
        self.store.update(&edit).await.map(drop).map_err(answered)
    }
}

fn answered(error: WriteError) -> StoreError {
    match error {
        WriteError::Store(error) => error,
        refused => StoreError::Corrupt(refused.to_string()),
    }
}

/// S1, A6
#[tokio::test]
async fn sessions_keep_their_promises() -> Result<(), StoreError> {
    session_store::all(&Sandbox::new().await).await
}

/// S1, A3, A4
#[tokio::test]
async fn revocations_keep_their_promises() -> Result<(), StoreError> {
    revocation_store::all(&Sandbox::new().await).await
}

/// S1
#[tokio::test]
async fn users_keep_their_promises() -> Result<(), StoreError> {
    conformance::user_store::all(&Sandbox::new().await).await
}
