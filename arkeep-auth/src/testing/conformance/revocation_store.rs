//! Promises of a [`RevocationStore`](crate::RevocationStore).

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::{StoreError, SystemEntropy, Timestamp, UserId};

use super::{Backend, Checked, epoch, noon, open, user};
use crate::id::{Epoch, SessionId};
use crate::revocation::{Cursor, Revocation};
use crate::role::Role;
use crate::token::{
    AccessTokens, Grant, KeySet, SignedClaims, SigningKey, TokenConfig, TokenIssuer, TokenVerifier,
};

/// Runs every case.
pub async fn all(backend: &dyn Backend) -> Checked {
    spares_what_was_not_revoked(backend).await?;
    a_token_ends_alone(backend).await?;
    a_session_ends_with_all_its_tokens(backend).await?;
    a_subject_ends_with_all_tokens_of_earlier_epochs(backend).await?;
    an_epoch_never_moves_back(backend).await?;
    a_token_of_an_epoch_to_come_is_refused(backend).await?;
    a_stranger_has_no_token(backend).await?;
    every_change_of_a_user_takes_back_their_tokens(backend).await?;
    changes_tell_everything_from_the_start(backend).await?;
    changes_tell_what_came_since(backend).await?;
    prune_keeps_what_still_counts(backend).await
}

/// A token that nobody took back is honoured.
pub async fn spares_what_was_not_revoked(backend: &dyn Backend) -> Checked {
    let claims = claims_of_a_new_session(backend).await?;

    assert!(!is_revoked(backend, &claims).await?);
    Ok(())
}

/// One token is taken back, its siblings are not; doing it twice is the same.
pub async fn a_token_ends_alone(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (session, _) = open(backend, user, noon()).await?;
    let one = signed(&session.grant)?;
    let sibling = signed(&session.grant)?;

    for _ in 0..2 {
        revoke(backend, Revocation::token(one.token(), noon())).await?;
    }

    assert!(is_revoked(backend, &one).await?);
    assert!(!is_revoked(backend, &sibling).await?);
    Ok(())
}

/// A login is taken back with all its tokens, another login of the same user is not.
pub async fn a_session_ends_with_all_its_tokens(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (session, _) = open(backend, user, noon()).await?;
    let (other, _) = open(backend, user, noon()).await?;
    let session_id = session.grant.session;

    for _ in 0..2 {
        revoke(backend, Revocation::session(session_id, noon())).await?;
    }

    assert!(is_revoked(backend, &signed(&session.grant)?).await?);
    assert!(is_revoked(backend, &signed(&session.grant)?).await?);
    assert!(!is_revoked(backend, &signed(&other.grant)?).await?);
    Ok(())
}

/// Everything issued before is dead, what is issued after is not, in the same millisecond too.
pub async fn a_subject_ends_with_all_tokens_of_earlier_epochs(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (before, _) = open(backend, user, noon()).await?;
    let epoch = before.grant.epoch.next();

    revoke(backend, Revocation::Subject { user, epoch }).await?;

    let (after, _) = open(backend, user, noon()).await?;
    assert!(is_revoked(backend, &signed(&before.grant)?).await?);
    assert!(!is_revoked(backend, &signed(&after.grant)?).await?);
    assert_eq!(after.grant.epoch, epoch);
    Ok(())
}

/// A revocation that comes late, from another replica, brings nothing back.
pub async fn an_epoch_never_moves_back(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (first, _) = open(backend, user, noon()).await?;
    let second = first.grant.epoch.next();
    let third = second.next();

    revoke(backend, Revocation::Subject { user, epoch: third }).await?;
    revoke(
        backend,
        Revocation::Subject {
            user,
            epoch: second,
        },
    )
    .await?;

    assert_eq!(epoch(backend, user).await?, third);
    assert!(is_revoked(backend, &signed(&first.grant)?).await?);
    let of_second = Grant {
        epoch: second,
        ..first.grant
    };
    assert!(is_revoked(backend, &signed(&of_second)?).await?);
    Ok(())
}

/// No token is honoured that the store cannot have granted: it was restored, or the key is known
/// to somebody.
pub async fn a_token_of_an_epoch_to_come_is_refused(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (session, _) = open(backend, user, noon()).await?;
    let forged = Grant {
        epoch: session.grant.epoch.next(),
        ..session.grant
    };

    assert!(is_revoked(backend, &signed(&forged)?).await?);
    Ok(())
}

/// A user that the store does not know has no token that counts.
pub async fn a_stranger_has_no_token(backend: &dyn Backend) -> Checked {
    let stranger = Grant {
        user: UserId::mint(noon(), &SystemEntropy),
        session: SessionId::mint(noon(), &SystemEntropy),
        epoch: Epoch::FIRST,
        role: Role::Admin,
        auth_time: noon(),
    };

    assert!(is_revoked(backend, &signed(&stranger)?).await?);
    Ok(())
}

/// A change of role, disabling, removing and logging out everywhere each take back every token.
pub async fn every_change_of_a_user_takes_back_their_tokens(backend: &dyn Backend) -> Checked {
    for change in 0..4 {
        let user = user(backend).await?;
        let (session, _) = open(backend, user, noon()).await?;
        let claims = signed(&session.grant)?;
        assert!(!is_revoked(backend, &claims).await?);

        match change {
            0 => backend.set_role(user, Role::Operator, noon()).await?,
            1 => backend.disable(user, noon()).await?,
            2 => backend.remove(user, noon()).await?,
            _ => {
                backend.sessions().end_all(user, noon()).await?;
            }
        }

        assert!(is_revoked(backend, &claims).await?, "change {change}");
        let told = backend.revocations().changes(Cursor::START).await?.revoked;
        let knows = told.iter().any(|what| {
            matches!(what, Revocation::Subject { user: of, epoch }
                if *of == user && *epoch > claims.epoch())
        });
        assert!(knows, "change {change} is told to replicas");
    }
    Ok(())
}

/// Who starts learns all that counts, and the epoch of each user.
pub async fn changes_tell_everything_from_the_start(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (session, _) = open(backend, user, noon()).await?;
    let token = Revocation::token(signed(&session.grant)?.token(), noon());
    let session = Revocation::session(session.grant.session, noon());
    revoke(backend, token).await?;
    revoke(backend, session).await?;

    let told = backend.revocations().changes(Cursor::START).await?.revoked;

    assert!(told.contains(&token));
    assert!(told.contains(&session));
    assert!(told.contains(&Revocation::Subject {
        user,
        epoch: Epoch::FIRST
    }));
    Ok(())
}

/// Who follows learns what came since.
pub async fn changes_tell_what_came_since(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (session, _) = open(backend, user, noon()).await?;
    let revocations = backend.revocations();
    let mut cursor = revocations.changes(Cursor::START).await?.cursor;

    let ended = Revocation::session(session.grant.session, noon());
    revoke(backend, ended).await?;
    let first = revocations.changes(cursor).await?;
    cursor = first.cursor;
    let epoch = backend.sessions().end_all(user, noon()).await?;
    let second = revocations.changes(cursor).await?;

    assert!(first.revoked.contains(&ended));
    let told = second.revoked.iter().any(|what| {
        matches!(what, Revocation::Subject { user: of, epoch: to }
            if *of == user && Some(*to) == epoch)
    });
    assert!(told, "{:?}", second.revoked);
    Ok(())
}

/// Nothing is forgotten before its time, and an epoch never.
pub async fn prune_keeps_what_still_counts(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (session, _) = open(backend, user, noon()).await?;
    let claims = signed(&session.grant)?;
    revoke(backend, Revocation::token(claims.token(), noon())).await?;
    let (old, _) = open(backend, user, noon()).await?;
    let old = signed(&old.grant)?;
    backend.sessions().end_all(user, noon()).await?;
    let last = noon().plus(Revocation::HOLD).minus(Duration::from_secs(1));

    backend.revocations().prune(last).await?;
    assert!(is_revoked(backend, &claims).await?);
    let far = last.plus(Revocation::HOLD);
    backend.revocations().prune(far).await?;

    assert!(is_revoked(backend, &claims).await?);
    assert!(is_revoked(backend, &old).await?);
    Ok(())
}

async fn revoke(backend: &dyn Backend, what: Revocation) -> Checked {
    backend.revocations().revoke(&what).await
}

pub(super) async fn is_revoked(
    backend: &dyn Backend,
    claims: &SignedClaims,
) -> Result<bool, StoreError> {
    backend.revocations().is_revoked(claims).await
}

async fn claims_of_a_new_session(backend: &dyn Backend) -> Result<SignedClaims, StoreError> {
    let user = user(backend).await?;
    let (session, _) = open(backend, user, noon()).await?;
    signed(&session.grant)
}

pub(super) fn signed(grant: &Grant) -> Result<SignedClaims, StoreError> {
    let broken = |why: String| StoreError::Corrupt(why);
    let keys = KeySet::new(SigningKey::generate(&SystemEntropy));
    let tokens = AccessTokens::new(TokenConfig::new("a", "b"), keys, Arc::new(SystemEntropy));
    let now: Timestamp = noon();
    let token = tokens
        .issue(grant, now)
        .map_err(|error| broken(error.to_string()))?;
    tokens
        .verify(token.expose(), now)
        .map_err(|error| broken(error.to_string()))
}
