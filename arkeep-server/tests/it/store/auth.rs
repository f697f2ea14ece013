//! S1, A3, A4, A6, A12, A13: the suites of `arkeep-auth`'s ports.

use std::sync::Arc;

use arkeep_auth::factor::{FactorStore as _, TotpSecret, TotpStep};
use arkeep_auth::testing::conformance::{
    self, Backend, NewUser as ConformanceUser, api_token_store, factor_store, revocation_store,
    session_store,
};
use arkeep_auth::{RevocationStore, Role, SessionStore, UserStore};
use arkeep_core::{StoreError, SystemEntropy, Timestamp, UserId};
use arkeep_server::store::WriteError;
use arkeep_server::store::factors::{FactorRecords, SealedFactors};
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

/// S1, A12
#[tokio::test]
async fn second_factors_keep_their_promises() -> Result<(), StoreError> {
    let sandbox = Sandbox::new().await;
    let factors = SealedFactors::new(Arc::new(sandbox.store.clone()), super::sealer());
    factor_store::all(Arc::new(factors), &sandbox).await
}

/// S1, A13
#[tokio::test]
async fn api_tokens_keep_their_promises() -> Result<(), StoreError> {
    let sandbox = Sandbox::new().await;
    api_token_store::all(Arc::new(sandbox.store.clone()), &sandbox).await
}

/// V2, V4, A12
#[tokio::test]
async fn a_second_factor_lies_sealed_to_its_user() -> Result<(), StoreError> {
    let sandbox = Sandbox::new().await;
    let records = Arc::new(sandbox.store.clone());
    let factors = SealedFactors::new(Arc::clone(&records) as _, super::sealer());
    let (ada, eve) = (new_user(&sandbox).await?, new_user(&sandbox).await?);
    let secret = TotpSecret::generate(&SystemEntropy);
    factors.propose(ada, &secret, super::NOON).await?;

    let kept = records.factor(ada).await?.secret.unwrap_or_default();
    records.propose_sealed(eve, &kept).await?;

    let holds = kept.windows(20).any(|bytes| bytes == secret.expose());
    assert!(!kept.is_empty() && !holds);
    assert!(factors.state(ada).await?.proposed.is_some());
    assert!(factors.state(eve).await.is_err());
    Ok(())
}

/// V7, A12: the vault may seal it anew between the look and the confirmation.
#[tokio::test]
async fn only_the_bytes_that_were_looked_at_are_confirmed() -> Result<(), StoreError> {
    let sandbox = Sandbox::new().await;
    let user = new_user(&sandbox).await?;
    let step = TotpStep::from_i64(1);
    sandbox.store.propose_sealed(user, b"one").await?;

    assert!(!sandbox.store.confirm_sealed(user, b"two", step).await?);
    assert!(sandbox.store.confirm_sealed(user, b"one", step).await?);
    Ok(())
}

pub(super) async fn new_user(backend: &dyn Backend) -> Result<UserId, StoreError> {
    let id = UserId::mint(super::NOON, &SystemEntropy);
    let user = ConformanceUser {
        id,
        email: format!("{id}@example.test"),
        password: arkeep_auth::PasswordHash::from_stored("$argon2id$first"),
        now: super::NOON,
    };
    backend.add_user(&user).await?;
    Ok(id)
}
