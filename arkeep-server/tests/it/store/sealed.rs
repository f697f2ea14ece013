use arkeep_core::SystemEntropy;
use arkeep_server::store::destinations::{DestinationStore, NewDestination};
use arkeep_server::store::factors::FactorRecords as _;
use arkeep_server::store::keys::{KeyStore, StoredAuthority, StoredTokenKey};
use arkeep_server::store::sealed::{
    COLUMNS, DESTINATION_CREDENTIALS, POLICY_REPOSITORY_PASSWORD, RowId, SealedColumn, SealedValues,
};

use super::{NOON, Sandbox, Tested, local};

async fn destination(sandbox: &Sandbox, credentials: Option<&[u8]>) -> RowId {
    let id = arkeep_core::DestinationId::mint(NOON, &SystemEntropy);
    let new = NewDestination {
        id,
        name: format!("destination {id}"),
        location: local("/srv/backup"),
        credentials: credentials.map(<[u8]>::to_vec),
        enabled: true,
        created_at: NOON,
    };
    let made = sandbox.store.create(&new).await;
    made.expect("a new destination").id.to_string().into()
}

async fn stored(sandbox: &Sandbox, column: SealedColumn) -> Vec<(RowId, Vec<u8>)> {
    let page = sandbox.store.page(column, None, 100).await;
    let values = page.expect("a page").into_iter();
    values.map(|value| (value.id, value.sealed)).collect()
}

/// V7
#[tokio::test]
async fn a_walk_sees_every_secret_once_and_no_row_without_one() -> Tested {
    let sandbox = Sandbox::new().await;
    let mut made = Vec::new();
    for secret in [&b"a"[..], b"", b"c", b"d", b"e"] {
        made.push((destination(&sandbox, Some(secret)).await, secret.to_vec()));
        destination(&sandbox, None).await;
    }
    made.sort();

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let column = DESTINATION_CREDENTIALS;
        let page = sandbox.store.page(column, after.as_ref(), 2).await?;
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = Some(last.id.clone());
        seen.extend(page.into_iter().map(|value| (value.id, value.sealed)));
    }

    assert_eq!(seen, made);
    let count = sandbox.store.count(DESTINATION_CREDENTIALS).await?;
    assert_eq!(count, 5);
    Ok(())
}

/// V7: every column of the list can be walked and written.
#[tokio::test]
async fn every_sealed_column_is_within_reach() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await;
    destination(&sandbox, Some(b"sealed")).await;
    sandbox.policy(agent.id, &[]).await;
    let authority = StoredAuthority {
        id: "authority".to_owned(),
        certificate: b"certificate".to_vec(),
        private_key: b"sealed".to_vec(),
        created_at: NOON,
    };
    sandbox.store.establish_authority(&authority).await?;
    let key = StoredTokenKey {
        id: "key".to_owned(),
        public_key: vec![1; 32],
        private_key: b"sealed".to_vec(),
        created_at: NOON,
        retired_at: None,
    };
    sandbox.store.establish_token_key(&key).await?;
    let user = super::auth::new_user(&sandbox).await?;
    sandbox.store.propose_sealed(user, b"sealed").await?;
    super::identity::provider(&sandbox.store, "one").await;
    super::channels::channel(&sandbox.store, "one", &["job.failed"]).await;

    for column in COLUMNS {
        for (id, old) in stored(&sandbox, *column).await {
            let replaced = sandbox.store.replace(*column, &id, &old, b"again").await?;
            assert!(replaced, "{column}");
        }
        let held = sandbox.store.count(*column).await?;
        let now = stored(&sandbox, *column).await;
        assert_eq!((held, now.len()), (1, 1), "{column}");
        assert!(now.iter().all(|(_, sealed)| sealed == b"again"), "{column}");
    }
    Ok(())
}

/// V7
#[tokio::test]
async fn a_secret_that_was_changed_meanwhile_is_not_put_back() -> Tested {
    let sandbox = Sandbox::new().await;
    let id = destination(&sandbox, Some(b"changed")).await;
    let column = DESTINATION_CREDENTIALS;

    let replaced = sandbox.store.replace(column, &id, b"old", b"new").await?;
    let elsewhere = sandbox
        .store
        .replace(column, &"none".into(), b"old", b"new")
        .await?;

    assert!(!replaced);
    assert!(!elsewhere);
    assert_eq!(stored(&sandbox, column).await, [(id, b"changed".to_vec())]);
    Ok(())
}

/// V7
#[tokio::test]
async fn of_many_who_replace_the_same_secret_one_does() -> Tested {
    let sandbox = Sandbox::new().await;
    let id = destination(&sandbox, Some(b"old")).await;

    let mut tries = tokio::task::JoinSet::new();
    for byte in 0..20u8 {
        let (store, id) = (sandbox.store.clone(), id.clone());
        tries.spawn(async move {
            let column = DESTINATION_CREDENTIALS;
            let won = store.replace(column, &id, b"old", &[byte]).await;
            won.expect("an answer").then_some(byte)
        });
    }
    let winners: Vec<_> = tries.join_all().await.into_iter().flatten().collect();

    assert_eq!(winners.len(), 1);
    let kept = stored(&sandbox, DESTINATION_CREDENTIALS).await;
    assert_eq!(kept, [(id, winners)]);
    Ok(())
}

/// V7: whoever edits the row at the same time is not refused for it.
#[tokio::test]
async fn replacing_leaves_the_version_of_the_row() -> Tested {
    let sandbox = Sandbox::new().await;
    let agent = sandbox.agent().await;
    let policy = sandbox.policy(agent.id, &[]).await;
    let column = POLICY_REPOSITORY_PASSWORD;
    let id = RowId::from(policy.id.to_string());

    let replaced = sandbox
        .store
        .replace(column, &id, b"sealed", b"again")
        .await?;

    assert!(replaced);
    let found = arkeep_server::store::PolicyStore::find(&sandbox.store, policy.id).await?;
    let found = found.ok_or("the policy is gone")?;
    assert_eq!(found.version, policy.version);
    assert_eq!(found.updated_at, policy.updated_at);
    assert_eq!(found.repository_password, b"again");
    Ok(())
}
