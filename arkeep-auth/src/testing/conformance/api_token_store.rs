//! Promises of an [`ApiTokenStore`].

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{Entropy as _, StoreError, SystemEntropy, Timestamp, UserId};

use super::{Backend, Checked, DAY, epoch, noon, user};
use crate::api_token::{ApiTokenDigest, ApiTokenStore, NewApiToken, Owner, Scope};
use crate::id::{ApiTokenId, Epoch};
use crate::role::Role;

/// Runs every case. Users are made in the backend that the store shares its truth with.
pub async fn all(store: Arc<dyn ApiTokenStore>, backend: &dyn Backend) -> Checked {
    let store = &*store;
    a_token_is_found_as_it_was_made(store, backend).await?;
    its_owner_is_found_as_they_are_now(store, backend).await?;
    nobody_makes_a_token_of_who_may_not_come_in(store, backend).await?;
    a_login_that_was_taken_back_leaves_no_token_behind(store, backend).await?;
    a_revoked_token_is_gone_at_once(store, backend).await?;
    nobody_revokes_anothers(store, backend).await?;
    use_is_written_down_and_never_moves_back(store, backend).await?;
    the_list_is_the_owners_newest_first(store, backend).await?;
    prune_forgets_only_what_expired_before(store, backend).await
}

/// What was kept is what is given.
pub async fn a_token_is_found_as_it_was_made(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let owner = user(backend).await?;
    let new = keep(store, backend, owner, noon()).await?;

    let found = store.find(new.id).await?;

    let same = found.is_some_and(|found| {
        found.digest == new.digest
            && found.scopes == new.scopes
            && found.expires_at == new.expires_at
            && found.owner == owner
            && found.owner_enabled
            && found.last_used_at.is_none()
    });
    assert!(same);
    let unknown = ApiTokenId::mint(noon(), &SystemEntropy);
    assert_eq!(store.find(unknown).await?, None);
    Ok(())
}

/// A token follows its owner's role, and dies with them.
pub async fn its_owner_is_found_as_they_are_now(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let owner = user(backend).await?;
    let new = keep(store, backend, owner, noon()).await?;

    backend.set_role(owner, Role::Operator, noon()).await?;
    let promoted = store.find(new.id).await?;
    let now = epoch(backend, owner).await?;
    backend.disable(owner, noon()).await?;
    let disabled = store.find(new.id).await?;
    backend.remove(owner, noon()).await?;
    let removed = store.find(new.id).await?;

    assert!(promoted.is_some_and(|found| {
        found.owner_role == Role::Operator && found.owner_epoch == now && found.owner_enabled
    }));
    assert!(disabled.is_none_or(|found| !found.owner_enabled));
    assert_eq!(removed, None);
    Ok(())
}

/// A token belongs to somebody who may come in.
pub async fn nobody_makes_a_token_of_who_may_not_come_in(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let disabled = user(backend).await?;
    backend.disable(disabled, noon()).await?;
    let stranger = UserId::mint(noon(), &SystemEntropy);

    let disabled = Owner {
        user: disabled,
        epoch: epoch(backend, disabled).await?,
    };
    let stranger = Owner {
        user: stranger,
        epoch: Epoch::FIRST,
    };

    for owner in [disabled, stranger] {
        let new = new(owner, noon());
        assert!(!store.create(&new).await?);
        assert_eq!(store.find(new.id).await?, None);
    }
    Ok(())
}

/// Who was taken everything while they asked for a token does not get one.
pub async fn a_login_that_was_taken_back_leaves_no_token_behind(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    let before = Owner {
        user,
        epoch: epoch(backend, user).await?,
    };
    backend.set_role(user, Role::Operator, noon()).await?;

    let new = new(before, noon());

    assert!(!store.create(&new).await?);
    assert_eq!(store.find(new.id).await?, None);
    keep(store, backend, user, noon()).await?;
    Ok(())
}

/// Revoked is gone, once.
pub async fn a_revoked_token_is_gone_at_once(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let owner = user(backend).await?;
    let revoked = keep(store, backend, owner, noon()).await?;
    let kept = keep(store, backend, owner, noon()).await?;

    assert!(store.revoke(owner, revoked.id).await?);
    assert!(!store.revoke(owner, revoked.id).await?);

    assert_eq!(store.find(revoked.id).await?, None);
    assert!(store.find(kept.id).await?.is_some());
    assert_eq!(store.list(owner).await?.len(), 1);
    Ok(())
}

/// A token is its owner's to revoke.
pub async fn nobody_revokes_anothers(store: &dyn ApiTokenStore, backend: &dyn Backend) -> Checked {
    let owner = user(backend).await?;
    let stranger = user(backend).await?;
    let new = keep(store, backend, owner, noon()).await?;

    assert!(!store.revoke(stranger, new.id).await?);

    assert!(store.find(new.id).await?.is_some());
    assert!(store.list(stranger).await?.is_empty());
    Ok(())
}

/// The last use is the latest.
pub async fn use_is_written_down_and_never_moves_back(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let owner = user(backend).await?;
    let new = keep(store, backend, owner, noon()).await?;
    let later = noon().plus(DAY);

    store.used(new.id, later).await?;
    store.used(new.id, noon()).await?;
    store
        .used(ApiTokenId::mint(noon(), &SystemEntropy), later)
        .await?;

    let found = store.find(new.id).await?;
    assert_eq!(found.and_then(|found| found.last_used_at), Some(later));
    let listed: Vec<_> = store
        .list(owner)
        .await?
        .iter()
        .map(|info| info.last_used_at)
        .collect();
    assert_eq!(listed, [Some(later)]);
    Ok(())
}

/// A list shows everything of one user.
pub async fn the_list_is_the_owners_newest_first(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let owner = user(backend).await?;
    let old = keep(store, backend, owner, noon()).await?;
    let new = keep(store, backend, owner, noon().plus(DAY)).await?;

    let list = store.list(owner).await?;

    let ids: Vec<_> = list.iter().map(|info| info.id).collect();
    assert_eq!(ids, [new.id, old.id]);
    assert!(
        list.iter()
            .all(|info| info.name == "conformance" && info.scopes == old.scopes)
    );
    Ok(())
}

/// What still works is kept, and what has just expired.
pub async fn prune_forgets_only_what_expired_before(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
) -> Checked {
    let owner = user(backend).await?;
    let new = keep(store, backend, owner, noon()).await?;

    store.prune(new.expires_at).await?;
    assert!(store.find(new.id).await?.is_some());
    store
        .prune(new.expires_at.plus(Duration::from_secs(1)))
        .await?;

    assert_eq!(store.find(new.id).await?, None);
    Ok(())
}

async fn keep(
    store: &dyn ApiTokenStore,
    backend: &dyn Backend,
    user: UserId,
    now: Timestamp,
) -> Result<NewApiToken, StoreError> {
    let owner = Owner {
        user,
        epoch: epoch(backend, user).await?,
    };
    let new = new(owner, now);
    assert!(store.create(&new).await?);
    Ok(new)
}

fn new(owner: Owner, now: Timestamp) -> NewApiToken {
    let mut digest = [0; 32];
    SystemEntropy.fill(&mut digest);
    NewApiToken {
        id: ApiTokenId::mint(now, &SystemEntropy),
        owner,
        name: "conformance".to_owned(),
        digest: ApiTokenDigest::from_bytes(digest),
        scopes: [Scope::Read, Scope::Run].into_iter().collect(),
        expires_at: now.plus(DAY * 90),
        created_at: now,
    }
}
