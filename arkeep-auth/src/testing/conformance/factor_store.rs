//! Promises of a [`FactorStore`].

use std::sync::Arc;

use arkeep_core::{Entropy as _, StoreError, SystemEntropy, UserId};
use tokio::task::JoinSet;

use super::{Backend, Checked, noon, user};
use crate::factor::{FactorStore, OneUse, RecoveryDigest, TotpSecret, TotpStep};

/// Runs every case. Users are made in the backend that the store shares its truth with.
pub async fn all(store: Arc<dyn FactorStore>, backend: &dyn Backend) -> Checked {
    let store = &store;
    a_proposal_counts_when_it_is_confirmed(store, backend).await?;
    only_the_last_proposal_is_confirmed(store, backend).await?;
    a_confirmed_secret_is_not_replaced(store, backend).await?;
    a_step_is_spent_once_and_with_all_before_it(store, backend).await?;
    a_recovery_code_is_spent_once(store, backend).await?;
    one_of_many_spends_a_code(store, backend).await?;
    recovery_codes_are_replaced_together(store, backend).await?;
    remove_forgets_everything(store, backend).await
}

/// A secret that nobody confirmed is asked of nobody.
pub async fn a_proposal_counts_when_it_is_confirmed(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    let secret = TotpSecret::generate(&SystemEntropy);
    store.propose(user, &secret, noon()).await?;
    let before = store.state(user).await?;

    let confirmed = store.confirm(user, &secret, TotpStep::from_i64(10)).await?;

    let after = store.state(user).await?;
    assert!(before.confirmed.is_none());
    assert_eq!(
        before.proposed.map(|kept| *kept.expose()),
        Some(*secret.expose())
    );
    assert!(confirmed);
    assert!(after.proposed.is_none());
    assert_eq!(
        after.confirmed.map(|kept| *kept.expose()),
        Some(*secret.expose())
    );
    assert_eq!(after.recovery_codes_left, 0);
    assert!(!spend(store, user, OneUse::Step(TotpStep::from_i64(10))).await?);
    Ok(())
}

/// What was shown last is what the authenticator has.
pub async fn only_the_last_proposal_is_confirmed(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    let first = TotpSecret::generate(&SystemEntropy);
    let second = TotpSecret::generate(&SystemEntropy);
    store.propose(user, &first, noon()).await?;
    store.propose(user, &second, noon()).await?;
    let step = TotpStep::from_i64(10);

    assert!(!store.confirm(user, &first, step).await?);
    assert!(store.confirm(user, &second, step).await?);
    Ok(())
}

/// Nobody puts an authenticator of their own in place of one that counts.
pub async fn a_confirmed_secret_is_not_replaced(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    let secret = enrol(store, user, 10).await?;
    let other = TotpSecret::generate(&SystemEntropy);

    store.propose(user, &other, noon()).await?;

    assert!(!store.confirm(user, &other, TotpStep::from_i64(11)).await?);
    let state = store.state(user).await?;
    assert_eq!(
        state.confirmed.map(|kept| *kept.expose()),
        Some(*secret.expose())
    );
    Ok(())
}

/// A code that was used, or is older than one that was, is worth nothing.
pub async fn a_step_is_spent_once_and_with_all_before_it(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    enrol(store, user, 10).await?;

    let mut answers = Vec::new();
    for step in [10, 11, 11, 13, 12, 14] {
        answers.push(spend(store, user, OneUse::Step(TotpStep::from_i64(step))).await?);
    }

    assert_eq!(answers, [false, true, false, true, false, true]);
    Ok(())
}

/// A recovery code works once, for its owner.
pub async fn a_recovery_code_is_spent_once(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let owner = user(backend).await?;
    let stranger = user(backend).await?;
    enrol(store, owner, 10).await?;
    enrol(store, stranger, 10).await?;
    let (first, second) = (digest(), digest());
    assert!(
        store
            .replace_recovery_codes(owner, &[first, second])
            .await?
    );
    let code = OneUse::Recovery(first);

    assert!(!spend(store, stranger, code).await?);
    assert!(spend(store, owner, code).await?);
    assert!(!spend(store, owner, code).await?);
    assert_eq!(store.state(owner).await?.recovery_codes_left, 1);
    Ok(())
}

/// Of many simultaneous logins with one code, one succeeds.
pub async fn one_of_many_spends_a_code(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    enrol(store, user, 10).await?;
    let code = digest();
    assert!(store.replace_recovery_codes(user, &[code]).await?);

    for what in [OneUse::Step(TotpStep::from_i64(11)), OneUse::Recovery(code)] {
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let store = Arc::clone(store);
            calls.spawn(async move { store.spend(user, &what).await });
        }
        let mut winners = 0;
        for answer in calls.join_all().await {
            winners += usize::from(answer?);
        }
        assert_eq!(winners, 1, "{what:?}");
    }
    Ok(())
}

/// New recovery codes end the old ones, and nobody without an authenticator has any.
pub async fn recovery_codes_are_replaced_together(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    let (old, new) = (digest(), digest());
    assert!(!store.replace_recovery_codes(user, &[old]).await?);
    enrol(store, user, 10).await?;
    assert!(store.replace_recovery_codes(user, &[old]).await?);

    assert!(
        store
            .replace_recovery_codes(user, &[digest(), digest(), new])
            .await?
    );

    assert_eq!(store.state(user).await?.recovery_codes_left, 3);
    assert!(!spend(store, user, OneUse::Recovery(old)).await?);
    assert!(spend(store, user, OneUse::Recovery(new)).await?);
    Ok(())
}

/// Who gives the factor up is asked for nothing, and the old codes come back with no new factor.
pub async fn remove_forgets_everything(
    store: &Arc<dyn FactorStore>,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    enrol(store, user, 10).await?;
    let code = digest();
    store.replace_recovery_codes(user, &[code]).await?;

    assert!(store.remove(user).await?);
    assert!(!store.remove(user).await?);

    let state = store.state(user).await?;
    assert!(state.confirmed.is_none() && state.proposed.is_none());
    assert!(!spend(store, user, OneUse::Recovery(code)).await?);
    assert!(!spend(store, user, OneUse::Step(TotpStep::from_i64(99))).await?);
    enrol(store, user, 10).await?;
    assert_eq!(store.state(user).await?.recovery_codes_left, 0);
    assert!(!spend(store, user, OneUse::Recovery(code)).await?);
    Ok(())
}

async fn enrol(
    store: &Arc<dyn FactorStore>,
    user: UserId,
    step: i64,
) -> Result<TotpSecret, StoreError> {
    let secret = TotpSecret::generate(&SystemEntropy);
    store.propose(user, &secret, noon()).await?;
    assert!(
        store
            .confirm(user, &secret, TotpStep::from_i64(step))
            .await?
    );
    Ok(secret)
}

async fn spend(
    store: &Arc<dyn FactorStore>,
    user: UserId,
    what: OneUse,
) -> Result<bool, StoreError> {
    store.spend(user, &what).await
}

fn digest() -> RecoveryDigest {
    let mut bytes = [0; 32];
    SystemEntropy.fill(&mut bytes);
    RecoveryDigest::from_bytes(bytes)
}
