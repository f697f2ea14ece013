use std::collections::HashSet;

use arkeep_auth::Role;
use arkeep_core::{SystemEntropy, UserId};
use arkeep_server::store::users::{NewUser, SetUp, UserDirectory};
use arkeep_server::store::{InstanceStore, Page};

use super::{NOON, Sandbox, Tested};

/// S9
#[tokio::test]
async fn setup_has_one_winner_among_a_hundred() -> Tested {
    let sandbox = Sandbox::new().await;
    sandbox.store.offer_setup(&TOKEN).await?;

    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..100 {
        let store = sandbox.store.clone();
        attempts.spawn(async move { store.set_up(&admin(number), &TOKEN).await });
    }
    let mut winners = HashSet::new();
    while let Some(attempt) = attempts.join_next().await {
        match attempt?? {
            SetUp::Done(user) => assert!(winners.insert(user.id)),
            other => assert_eq!(other, SetUp::AlreadyDone),
        }
    }

    assert_eq!(winners.len(), 1);
    let users = UserDirectory::list(&sandbox.store, &Page::default()).await?;
    assert_eq!(users.items.len(), 1);
    assert_eq!(sandbox.store.set_up_at().await?, Some(NOON));
    Ok(())
}

/// S9
#[tokio::test]
async fn setup_takes_the_token_that_was_offered_last() -> Tested {
    let sandbox = Sandbox::new().await;
    assert!(sandbox.store.offer_setup(&[1; 32]).await?);
    assert!(sandbox.store.offer_setup(&TOKEN).await?);

    let early = sandbox.store.set_up(&admin(0), &[1; 32]).await?;
    let late = sandbox.store.set_up(&admin(1), &TOKEN).await?;

    assert_eq!(early, SetUp::WrongToken);
    assert!(matches!(late, SetUp::Done(_)));
    Ok(())
}

/// S9
#[tokio::test]
async fn a_server_that_is_set_up_offers_nothing() -> Tested {
    let sandbox = Sandbox::new().await;
    sandbox.store.offer_setup(&TOKEN).await?;
    sandbox.store.set_up(&admin(0), &TOKEN).await?;

    assert!(!sandbox.store.offer_setup(&TOKEN).await?);
    let again = sandbox.store.set_up(&admin(1), &TOKEN).await?;
    assert_eq!(again, SetUp::AlreadyDone);
    Ok(())
}

/// S9
#[tokio::test]
async fn no_token_sets_up_a_server_that_has_offered_none() -> Tested {
    let sandbox = Sandbox::new().await;

    let attempt = sandbox.store.set_up(&admin(0), &[0; 32]).await?;

    assert_eq!(attempt, SetUp::WrongToken);
    Ok(())
}

const TOKEN: [u8; 32] = [42; 32];

fn admin(number: u32) -> NewUser {
    NewUser {
        id: UserId::mint(NOON, &SystemEntropy),
        email: format!("admin{number}@example.test"),
        display_name: "Ada".to_owned(),
        role: Role::Admin,
        password_hash: None,
        created_at: NOON,
    }
}
