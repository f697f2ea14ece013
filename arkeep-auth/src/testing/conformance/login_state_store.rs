//! Promises of a [`LoginStateStore`].

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{Entropy as _, StoreError, SystemEntropy};
use tokio::task::JoinSet;

use super::{Checked, noon};
use crate::id::OidcProviderId;
use crate::oidc::{LoginDigest, LoginState, LoginStateStore};

/// Runs every case, for logins through `provider`, which the store knows.
pub async fn all(store: Arc<dyn LoginStateStore>, provider: OidcProviderId) -> Checked {
    a_login_is_taken_once(&*store, provider).await?;
    a_login_that_came_too_late_is_gone(&*store, provider).await?;
    one_of_many_takes_a_login(&store, provider).await?;
    prune_forgets_what_expired(&*store, provider).await
}

/// Whoever comes second finds nothing.
pub async fn a_login_is_taken_once(
    store: &dyn LoginStateStore,
    provider: OidcProviderId,
) -> Checked {
    let state = keep(store, provider).await?;

    assert_eq!(store.take(&state.digest, noon()).await?, Some(provider));
    assert_eq!(store.take(&state.digest, noon()).await?, None);
    assert_eq!(store.take(&digest(), noon()).await?, None);
    Ok(())
}

/// It lasts up to, and not including, its last moment.
pub async fn a_login_that_came_too_late_is_gone(
    store: &dyn LoginStateStore,
    provider: OidcProviderId,
) -> Checked {
    let (early, late) = (keep(store, provider).await?, keep(store, provider).await?);
    let just_before = early.expires_at.minus(Duration::from_millis(1));

    assert_eq!(
        store.take(&early.digest, just_before).await?,
        Some(provider)
    );
    assert_eq!(store.take(&late.digest, late.expires_at).await?, None);
    Ok(())
}

/// One browser comes back once, however fast it asks.
pub async fn one_of_many_takes_a_login(
    store: &Arc<dyn LoginStateStore>,
    provider: OidcProviderId,
) -> Checked {
    let state = keep(&**store, provider).await?;
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let store = Arc::clone(store);
        callers.spawn(async move { store.take(&state.digest, noon()).await });
    }

    let mut taken = 0;
    for answer in callers.join_all().await {
        taken += usize::from(answer?.is_some());
    }

    assert_eq!(taken, 1);
    Ok(())
}

/// What lasts stays.
pub async fn prune_forgets_what_expired(
    store: &dyn LoginStateStore,
    provider: OidcProviderId,
) -> Checked {
    let mut state = keep(store, provider).await?;
    let first = state.digest;
    let later = state.expires_at.plus(Duration::from_secs(1));
    (state.digest, state.expires_at) = (digest(), later);
    store.keep(&state).await?;

    assert!(store.prune(later.minus(Duration::from_secs(1))).await? >= 1);

    assert_eq!(store.take(&first, noon()).await?, None);
    assert_eq!(store.take(&state.digest, noon()).await?, Some(provider));
    Ok(())
}

async fn keep(
    store: &dyn LoginStateStore,
    provider: OidcProviderId,
) -> Result<LoginState, StoreError> {
    let state = LoginState {
        digest: digest(),
        provider,
        expires_at: noon().plus(Duration::from_secs(600)),
    };
    store.keep(&state).await?;
    Ok(state)
}

fn digest() -> LoginDigest {
    let mut bytes = [0; 32];
    SystemEntropy.fill(&mut bytes);
    LoginDigest::from_bytes(bytes)
}
