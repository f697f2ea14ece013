use arkeep_server::store::keys::{KeyStore, StoredAuthority, StoredTokenKey};

use super::{NOON, Sandbox, Tested, after};

/// T1
#[tokio::test]
async fn the_first_authority_stays_the_first() -> Tested {
    let sandbox = Sandbox::new().await;
    let authority = |id: &str| StoredAuthority {
        id: id.to_owned(),
        certificate: b"certificate".to_vec(),
        private_key: b"sealed".to_vec(),
        created_at: NOON,
    };

    let (one, two) = (authority("one"), authority("two"));
    let (left, right) = tokio::join!(
        sandbox.store.establish_authority(&one),
        sandbox.store.establish_authority(&two)
    );

    let left = left?;
    assert_eq!(left, right?);
    assert_eq!(sandbox.store.authorities().await?, [left]);
    Ok(())
}

/// A1
#[tokio::test]
async fn the_first_token_key_stays_the_first() -> Tested {
    let sandbox = Sandbox::new().await;
    let key = |id: &str| StoredTokenKey {
        id: id.to_owned(),
        public_key: vec![1; 32],
        private_key: b"sealed".to_vec(),
        created_at: NOON,
        retired_at: None,
    };

    let first = sandbox.store.establish_token_key(&key("one")).await?;
    let second = sandbox.store.establish_token_key(&key("two")).await?;

    assert_eq!(first, key("one"));
    assert_eq!(second, first);
    assert_eq!(sandbox.store.token_keys().await?, [first]);
    Ok(())
}

fn token_key(id: &str) -> StoredTokenKey {
    StoredTokenKey {
        id: id.to_owned(),
        public_key: vec![1; 32],
        private_key: b"sealed".to_vec(),
        created_at: NOON,
        retired_at: None,
    }
}

fn until(key: &StoredTokenKey, seconds: u64) -> StoredTokenKey {
    StoredTokenKey {
        retired_at: Some(after(seconds)),
        ..key.clone()
    }
}

/// The stored keys by their ids.
async fn stored(sandbox: &Sandbox) -> Tested2<Vec<StoredTokenKey>> {
    let mut keys = sandbox.store.token_keys().await?;
    keys.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(keys)
}

type Tested2<T> = Result<T, Box<dyn std::error::Error>>;

/// A1
#[tokio::test]
async fn one_of_many_keys_follows_the_last() -> Tested {
    let sandbox = Sandbox::new().await;
    let (one, two, three) = (token_key("one"), token_key("two"), token_key("three"));
    sandbox.store.establish_token_key(&one).await?;

    let (left, right) = tokio::join!(
        sandbox.store.follow_token_key("one", &two, after(60)),
        sandbox.store.follow_token_key("one", &three, after(70)),
    );

    let (left, right) = (left?, right?);
    assert_ne!(left, right);
    let (won, at) = if left { (two, 60) } else { (three, 70) };
    assert_eq!(stored(&sandbox).await?, [until(&one, at), won]);
    Ok(())
}

/// A1
#[tokio::test]
async fn a_key_follows_the_last_alone() -> Tested {
    let sandbox = Sandbox::new().await;
    let (a, b, c) = (token_key("a"), token_key("b"), token_key("c"));
    sandbox.store.establish_token_key(&a).await?;
    assert!(sandbox.store.follow_token_key("a", &b, after(60)).await?);

    for absent in ["a", "none"] {
        let followed = sandbox
            .store
            .follow_token_key(absent, &c, after(90))
            .await?;
        assert!(!followed, "{absent}");
    }
    assert_eq!(stored(&sandbox).await?, [until(&a, 60), b.clone()]);

    // A moment that a wrong clock set is drawn nearer, never put off.
    assert!(sandbox.store.follow_token_key("b", &c, after(50)).await?);
    assert_eq!(stored(&sandbox).await?, [until(&a, 50), until(&b, 50), c]);
    Ok(())
}

/// A1
#[tokio::test]
async fn keys_are_removed_once_they_are_retired_for_long_enough() -> Tested {
    let sandbox = Sandbox::new().await;
    let (a, b, c) = (token_key("a"), token_key("b"), token_key("c"));
    sandbox.store.establish_token_key(&a).await?;
    assert!(sandbox.store.follow_token_key("a", &b, after(60)).await?);
    assert!(sandbox.store.follow_token_key("b", &c, after(90)).await?);

    assert_eq!(sandbox.store.remove_token_keys(after(60)).await?, 0);
    assert_eq!(sandbox.store.remove_token_keys(after(61)).await?, 1);
    assert_eq!(stored(&sandbox).await?, [until(&b, 90), c.clone()]);
    assert_eq!(sandbox.store.remove_token_keys(after(1_000_000)).await?, 1);
    assert_eq!(stored(&sandbox).await?, [c]);
    Ok(())
}
