use arkeep_server::store::keys::{KeyStore, StoredAuthority, StoredTokenKey};

use super::{NOON, Sandbox, Tested};

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
