use arkeep_auth::{Epoch, PasswordHash, Role};
use arkeep_core::{SystemEntropy, UserId};
use arkeep_server::store::users::{NewUser, User, UserDirectory, UserEdit};
use arkeep_server::store::{Page, Refusal, WriteError};

use super::{NOON, Sandbox, Tested, after};

#[tokio::test]
async fn are_found_as_they_were_made() -> Tested {
    let sandbox = Sandbox::new().await;
    let ada = user(&sandbox, "ada@example.test", Role::Admin).await;

    let by_id = UserDirectory::find(&sandbox.store, ada.id).await?;
    let by_email = UserDirectory::find_by_email(&sandbox.store, "ADA@example.test").await?;

    assert_eq!(by_id, Some(ada.clone()));
    assert_eq!(by_email, Some(ada.clone()));
    assert_eq!((ada.version, ada.epoch), (1, Epoch::FIRST));
    Ok(())
}

#[tokio::test]
async fn no_two_have_one_address() -> Tested {
    let sandbox = Sandbox::new().await;
    user(&sandbox, "ada@example.test", Role::Admin).await;

    let second = new("Ada@Example.test", Role::Viewer);
    let second = sandbox.store.create(&second).await;

    assert_refused(second, Refusal::Taken { field: "email" });
    Ok(())
}

/// A4
#[tokio::test]
async fn whatever_takes_something_away_raises_the_epoch() -> Tested {
    let sandbox = Sandbox::new().await;
    user(&sandbox, "root@example.test", Role::Admin).await;
    let mut ada = user(&sandbox, "ada@example.test", Role::Admin).await;

    let changes: [fn(&mut UserEdit); 4] = [
        |edit| edit.role = Role::Viewer,
        |edit| edit.enabled = false,
        |edit| edit.enabled = true,
        |edit| edit.password_hash = Some(PasswordHash::from_stored("$argon2id$other")),
    ];
    for change in changes {
        let changed = sandbox.store.update(&edit(&ada, change)).await?;

        assert_eq!(changed.epoch, ada.epoch.next());
        ada = changed;
    }
    let renamed = edit(&ada, |edit| edit.display_name = "Ada L.".to_owned());
    assert_eq!(sandbox.store.update(&renamed).await?.epoch, ada.epoch);
    Ok(())
}

/// A4
#[tokio::test]
async fn a_removed_user_leaves_a_raised_epoch_behind() -> Tested {
    let sandbox = Sandbox::new().await;
    let ada = user(&sandbox, "ada@example.test", Role::Viewer).await;

    sandbox.store.delete(ada.id, Some(ada.version)).await?;

    let changes = arkeep_auth::RevocationStore::changes(
        &sandbox.store,
        arkeep_auth::revocation::Cursor::START,
    )
    .await?;
    assert_eq!(
        changes.revoked,
        [arkeep_auth::Revocation::Subject {
            user: ada.id,
            epoch: ada.epoch.next()
        }]
    );
    Ok(())
}

#[tokio::test]
async fn a_write_from_an_old_version_is_refused() -> Tested {
    let sandbox = Sandbox::new().await;
    let ada = user(&sandbox, "ada@example.test", Role::Viewer).await;
    sandbox.store.update(&edit(&ada, |_| {})).await?;

    let late = sandbox.store.update(&edit(&ada, |_| {})).await;
    assert_refused(late, Refusal::Stale);
    let removed = sandbox.store.delete(ada.id, Some(ada.version)).await;
    assert_refused(removed, Refusal::Stale);
    Ok(())
}

#[tokio::test]
async fn the_last_active_administrator_stays() -> Tested {
    let sandbox = Sandbox::new().await;
    let ada = user(&sandbox, "ada@example.test", Role::Admin).await;
    let bob = user(&sandbox, "bob@example.test", Role::Admin).await;
    sandbox
        .store
        .update(&edit(&bob, |edit| edit.enabled = false))
        .await?;

    let changes: [fn(&mut UserEdit); 2] = [
        |edit| edit.role = Role::Operator,
        |edit| edit.enabled = false,
    ];
    for change in changes {
        let changed = sandbox.store.update(&edit(&ada, change)).await;
        assert_refused(changed, Refusal::LastAdmin);
    }
    let removed = sandbox.store.delete(ada.id, None).await;
    assert_refused(removed, Refusal::LastAdmin);
    Ok(())
}

#[tokio::test]
async fn of_two_administrators_who_remove_each_other_one_stays() -> Tested {
    let sandbox = Sandbox::new().await;
    let ada = user(&sandbox, "ada@example.test", Role::Admin).await;
    let bob = user(&sandbox, "bob@example.test", Role::Admin).await;

    let (one, other) = tokio::join!(
        sandbox.store.delete(ada.id, None),
        sandbox.store.delete(bob.id, None)
    );

    assert_ne!(one.is_ok(), other.is_ok());
    let left = UserDirectory::list(&sandbox.store, &Page::default()).await?;
    assert_eq!(left.items.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_login_changes_neither_version_nor_epoch() -> Tested {
    let sandbox = Sandbox::new().await;
    let ada = user(&sandbox, "ada@example.test", Role::Viewer).await;

    sandbox.store.logged_in(ada.id, after(5)).await?;

    let found = UserDirectory::find(&sandbox.store, ada.id).await?;
    let expected = User {
        last_login_at: Some(after(5)),
        ..ada
    };
    assert_eq!(found, Some(expected));
    Ok(())
}

#[tokio::test]
async fn pages_meet_without_gap_or_overlap() -> Tested {
    let sandbox = Sandbox::new().await;
    let mut made = Vec::new();
    for number in 0..7 {
        let made_user = user(&sandbox, &format!("{number}@example.test"), Role::Viewer).await;
        made.push(made_user.id);
    }
    made.sort();
    made.reverse();

    let mut seen = Vec::new();
    let mut page = Page::first(3).expect("3 is in range");
    loop {
        let listed = UserDirectory::list(&sandbox.store, &page).await?;
        seen.extend(listed.items.iter().map(|user| user.id));
        match listed.next {
            Some(next) => page = page.after(next),
            None => break,
        }
    }

    assert_eq!(seen, made);
    Ok(())
}

pub(super) fn assert_refused<T: std::fmt::Debug>(result: Result<T, WriteError>, expected: Refusal) {
    match result {
        Err(WriteError::Refused(refusal)) => assert_eq!(refusal, expected),
        other => panic!("expected {expected:?}, found {other:?}"),
    }
}

fn new(email: &str, role: Role) -> NewUser {
    NewUser {
        id: UserId::mint(NOON, &SystemEntropy),
        email: email.to_owned(),
        display_name: "Somebody".to_owned(),
        role,
        password_hash: Some(PasswordHash::from_stored("$argon2id$first")),
        created_at: NOON,
    }
}

async fn user(sandbox: &Sandbox, email: &str, role: Role) -> User {
    sandbox
        .store
        .create(&new(email, role))
        .await
        .expect("a new user")
}

fn edit(user: &User, change: impl FnOnce(&mut UserEdit)) -> UserEdit {
    let mut edit = UserEdit {
        id: user.id,
        version: user.version,
        email: user.email.clone(),
        display_name: user.display_name.clone(),
        role: user.role,
        enabled: user.enabled,
        password_hash: None,
        at: after(1),
    };
    change(&mut edit);
    edit
}
