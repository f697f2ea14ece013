//! Promises of a [`UserStore`](crate::UserStore).

use arkeep_core::{SystemEntropy, UserId};

use super::{Backend, Checked, epoch, noon, open, rotation, user};
use crate::id::Epoch;
use crate::password::PasswordHash;
use crate::session::{RefreshToken, RotateOutcome};
use crate::user::PasswordChange;

/// Runs every case.
pub async fn all(backend: &dyn Backend) -> Checked {
    is_found_by_id_and_by_address_in_any_case(backend).await?;
    nobody_is_found_by_part_of_an_address(backend).await?;
    disabled_is_said(backend).await?;
    rehash_replaces_the_hash_that_was_read(backend).await?;
    change_password_ends_every_other_session(backend).await?;
    change_password_refuses_an_earlier_epoch(backend).await
}

/// A user is found under the one id and the one address.
pub async fn is_found_by_id_and_by_address_in_any_case(backend: &dyn Backend) -> Checked {
    let id = user(backend).await?;
    let email = format!("{id}@example.test");

    let by_id = backend.users().find(id).await?;
    let by_email = backend.users().find_by_email(&email).await?;
    let by_upper = backend.users().find_by_email(&email.to_uppercase()).await?;

    assert!(
        by_id
            .as_ref()
            .is_some_and(|found| found.user == id && found.enabled)
    );
    assert_eq!(by_id, by_email);
    assert_eq!(by_id, by_upper);
    Ok(())
}

/// An address is compared whole and is no pattern.
pub async fn nobody_is_found_by_part_of_an_address(backend: &dyn Backend) -> Checked {
    let id = user(backend).await?;
    let stranger = UserId::mint(noon(), &SystemEntropy);

    for email in [
        String::new(),
        "%".to_owned(),
        format!("{id}%"),
        format!("{id}@example_test"),
        format!(" {id}@example.test"),
        format!("{id}@example.test\0"),
        format!("{id}@example.test' OR '1'='1"),
    ] {
        let found = backend.users().find_by_email(&email).await?;
        assert_eq!(found, None, "{email:?}");
    }
    assert_eq!(backend.users().find(stranger).await?, None);
    Ok(())
}

/// A disabled user is found, and known to be disabled.
pub async fn disabled_is_said(backend: &dyn Backend) -> Checked {
    let id = user(backend).await?;
    backend.disable(id, noon()).await?;

    let found = backend.users().find(id).await?;

    assert!(found.is_some_and(|found| !found.enabled && found.epoch > Epoch::FIRST));
    Ok(())
}

/// A rehash takes back nothing, and loses against a change of password.
pub async fn rehash_replaces_the_hash_that_was_read(backend: &dyn Backend) -> Checked {
    let id = user(backend).await?;
    let first = PasswordHash::from_stored("$argon2id$first");
    let second = PasswordHash::from_stored("$argon2id$second");
    let third = PasswordHash::from_stored("$argon2id$third");

    assert!(backend.users().rehash(id, &first, &second).await?);
    assert!(!backend.users().rehash(id, &first, &third).await?);

    let found = backend.users().find(id).await?;
    assert_eq!(found.and_then(|found| found.password), Some(second));
    assert_eq!(epoch(backend, id).await?, Epoch::FIRST);
    Ok(())
}

/// The session in which the password was changed goes on, all others end.
pub async fn change_password_ends_every_other_session(backend: &dyn Backend) -> Checked {
    let id = user(backend).await?;
    let (kept, kept_token) = open(backend, id, noon()).await?;
    let (_, dead_token) = open(backend, id, noon()).await?;
    let new = PasswordHash::from_stored("$argon2id$new");
    let change = PasswordChange {
        user: id,
        new: new.clone(),
        epoch: kept.grant.epoch,
        keep: Some(kept.grant.session),
        now: noon(),
    };

    let epoch = backend.users().change_password(&change).await?;

    assert_eq!(epoch, Some(kept.grant.epoch.next()));
    let found = backend.users().find(id).await?;
    assert_eq!(found.and_then(|found| found.password), Some(new));
    let next = RefreshToken::generate(&SystemEntropy);
    let sessions = backend.sessions();
    let dead = sessions
        .rotate(&rotation(&dead_token, &next, noon()))
        .await?;
    let live = sessions
        .rotate(&rotation(&kept_token, &next, noon()))
        .await?;
    assert_eq!(dead, RotateOutcome::Ended);
    assert!(
        matches!(live, RotateOutcome::Rotated(session) if Some(session.grant.epoch) == epoch),
        "{live:?}"
    );
    Ok(())
}

/// Of two changes on the ground of one old password the second does nothing.
pub async fn change_password_refuses_an_earlier_epoch(backend: &dyn Backend) -> Checked {
    let id = user(backend).await?;
    let change = PasswordChange {
        user: id,
        new: PasswordHash::from_stored("$argon2id$new"),
        epoch: Epoch::FIRST,
        keep: None,
        now: noon(),
    };
    let late = PasswordChange {
        new: PasswordHash::from_stored("$argon2id$late"),
        ..change.clone()
    };

    let first = backend.users().change_password(&change).await?;
    let second = backend.users().change_password(&late).await?;
    backend.disable(id, noon()).await?;
    let of_disabled = PasswordChange {
        epoch: epoch(backend, id).await?,
        ..late
    };
    let third = backend.users().change_password(&of_disabled).await?;

    assert_eq!(first, Some(Epoch::FIRST.next()));
    assert_eq!(second, None);
    assert_eq!(third, None);
    let found = backend.users().find(id).await?;
    assert_eq!(found.and_then(|found| found.password), Some(change.new));
    Ok(())
}
