//! Promises of a [`SessionStore`].

use std::time::Duration;

use arkeep_core::{StoreError, SystemEntropy, Timestamp, UserId};
use tokio::task::JoinSet;

use super::revocation_store::{is_revoked, signed};
use super::{Backend, Checked, DAY, GRACE, epoch, new_session, noon, open, rotation, user};
use crate::id::{Epoch, SessionId};
use crate::revocation::{Cursor, Revocation};
use crate::role::Role;
use crate::session::{Ending, OpenOutcome, RefreshToken, Renewal, RotateOutcome, SessionStore};

const SECOND: Duration = Duration::from_secs(1);

/// Runs every case.
pub async fn all(backend: &dyn Backend) -> Checked {
    open_reads_role_and_epoch_of_the_user(backend).await?;
    open_refuses_who_is_disabled_or_unknown(backend).await?;
    open_refuses_credentials_of_an_earlier_epoch(backend).await?;
    rotate_exchanges_a_token_once(backend).await?;
    rotate_reads_role_and_epoch_anew(backend).await?;
    rotate_has_one_winner_among_a_hundred(backend).await?;
    rotate_gives_a_retry_the_same_successor(backend).await?;
    rotate_ends_the_grace_in_time(backend).await?;
    rotate_ends_the_grace_when_the_successor_is_used(backend).await?;
    rotate_keeps_a_chain_of_retries_apart(backend).await?;
    rotate_punishes_reuse_once(backend).await?;
    rotate_punishes_one_family_only(backend).await?;
    rotate_takes_back_every_access_token_of_whom_it_punishes(backend).await?;
    rotate_refuses_what_is_too_old(backend).await?;
    rotate_never_outlives_the_session(backend).await?;
    rotate_refuses_a_disabled_user(backend).await?;
    rotate_knows_no_stranger(backend).await?;
    end_refuses_every_token_of_the_session(backend).await?;
    end_takes_back_every_access_token_of_the_session(backend).await?;
    end_says_the_same_when_asked_again(backend).await?;
    end_spares_what_is_not_the_callers(backend).await?;
    end_all_ends_every_session_and_counts_the_epoch_up(backend).await?;
    end_all_takes_back_every_access_token(backend).await?;
    end_all_spares_a_login_right_after(backend).await?;
    renew_takes_the_time_of_authentication(backend).await?;
    renew_replaces_every_earlier_token(backend).await?;
    renew_refuses_what_is_over_or_anothers(backend).await?;
    list_shows_live_sessions_newest_first(backend).await?;
    prune_forgets_only_what_is_over(backend).await
}

/// What is granted is what the user is.
pub async fn open_reads_role_and_epoch_of_the_user(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    backend.set_role(user, Role::Operator, noon()).await?;
    let epoch = epoch(backend, user).await?;

    let (session, _) = open(backend, user, noon()).await?;

    assert_eq!(session.grant.user, user);
    assert_eq!(session.grant.role, Role::Operator);
    assert_eq!(session.grant.epoch, epoch);
    assert_eq!(session.grant.auth_time, noon());
    assert_eq!(session.ends_at, noon().plus(DAY * 30));
    Ok(())
}

/// Nobody opens a session for who may not come in.
pub async fn open_refuses_who_is_disabled_or_unknown(backend: &dyn Backend) -> Checked {
    let disabled = user(backend).await?;
    backend.disable(disabled, noon()).await?;
    let epoch = epoch(backend, disabled).await?;
    let stranger = UserId::mint(noon(), &SystemEntropy);

    for (user, epoch) in [(disabled, epoch), (stranger, Epoch::FIRST)] {
        let token = RefreshToken::generate(&SystemEntropy);
        let new = new_session(user, epoch, &token, noon());
        assert_eq!(backend.sessions().open(&new).await?, OpenOutcome::Refused);
        let next = RefreshToken::generate(&SystemEntropy);
        let outcome = rotate(backend, &token, &next, noon()).await?;
        assert_eq!(outcome, RotateOutcome::Unknown);
    }
    Ok(())
}

/// A password that was changed while it was being checked opens nothing.
pub async fn open_refuses_credentials_of_an_earlier_epoch(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let before = epoch(backend, user).await?;
    backend.sessions().end_all(user, noon()).await?;

    let token = RefreshToken::generate(&SystemEntropy);
    let new = new_session(user, before, &token, noon());
    let outcome = backend.sessions().open(&new).await?;

    assert_eq!(outcome, OpenOutcome::EpochMoved);
    Ok(())
}

/// A token gives its successor, and the successor gives the next.
pub async fn rotate_exchanges_a_token_once(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, mut token) = open(backend, user, noon()).await?;
    let mut now = noon();

    for _ in 0..5 {
        now = now.plus(DAY);
        let next = RefreshToken::generate(&SystemEntropy);
        let outcome = rotate(backend, &token, &next, now).await?;
        assert_eq!(outcome, RotateOutcome::Rotated(opened));
        token = next;
    }
    Ok(())
}

/// A refresh grants what the user is by now.
pub async fn rotate_reads_role_and_epoch_anew(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (_, token) = open(backend, user, noon()).await?;
    backend.set_role(user, Role::Admin, noon()).await?;
    let epoch = epoch(backend, user).await?;

    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, noon()).await?;

    let RotateOutcome::Rotated(session) = outcome else {
        return Err(unexpected(&outcome));
    };
    assert_eq!(session.grant.role, Role::Admin);
    assert_eq!(session.grant.epoch, epoch);
    assert_eq!(session.grant.auth_time, noon());
    Ok(())
}

/// Of a hundred simultaneous uses of one token one makes a successor, and all others get that one.
pub async fn rotate_has_one_winner_among_a_hundred(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (_, token) = open(backend, user, noon()).await?;

    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let sessions = backend.sessions();
        let successor = RefreshToken::generate(&SystemEntropy);
        let call = rotation(&token, &successor, noon());
        calls.spawn(async move { (sessions.rotate(&call).await, successor.digest()) });
    }
    let mut winners = Vec::new();
    let mut retried = Vec::new();
    for (outcome, successor) in calls.join_all().await {
        match outcome? {
            RotateOutcome::Rotated(_) => winners.push(successor),
            RotateOutcome::Retried {
                sealed_successor, ..
            } => retried.extend(token.open_successor(&sealed_successor)),
            other => return Err(unexpected(&other)),
        }
    }

    assert_eq!(winners.len(), 1, "one successor");
    assert_eq!(retried.len(), 99, "everybody else is told the same");
    for successor in &retried {
        assert!(winners.contains(&successor.digest()));
    }
    Ok(())
}

/// Who lost the answer gets the same one.
pub async fn rotate_gives_a_retry_the_same_successor(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, token) = open(backend, user, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &token, &next, noon()).await?;

    for after in [Duration::ZERO, SECOND, SECOND * 9] {
        let other = RefreshToken::generate(&SystemEntropy);
        let outcome = rotate(backend, &token, &other, noon().plus(after)).await?;
        let RotateOutcome::Retried {
            session,
            sealed_successor,
        } = outcome
        else {
            return Err(unexpected(&outcome));
        };
        assert_eq!(session, opened);
        let kept = token.open_successor(&sealed_successor);
        assert_eq!(kept.map(|kept| kept.digest()), Some(next.digest()));
        let stray = rotate(backend, &other, &next, noon()).await?;
        assert_eq!(stray, RotateOutcome::Unknown, "there is one successor");
    }

    let last = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &next, &last, noon().plus(SECOND * 9)).await?;
    assert_eq!(outcome, RotateOutcome::Rotated(opened));
    Ok(())
}

/// After the grace a retry is reuse.
pub async fn rotate_ends_the_grace_in_time(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (_, token) = open(backend, user, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &token, &next, noon()).await?;

    let outcome = rotate(backend, &token, &next, noon().plus(GRACE)).await?;

    assert!(
        matches!(outcome, RotateOutcome::Reused { .. }),
        "{outcome:?}"
    );
    Ok(())
}

/// Once the successor was used the answer had arrived: a retry is reuse, within the grace too.
pub async fn rotate_ends_the_grace_when_the_successor_is_used(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (_, token) = open(backend, user, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    let last = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &token, &next, noon()).await?;
    rotate(backend, &next, &last, noon().plus(SECOND)).await?;

    let outcome = rotate(backend, &token, &next, noon().plus(SECOND * 2)).await?;

    assert!(
        matches!(outcome, RotateOutcome::Reused { .. }),
        "{outcome:?}"
    );
    Ok(())
}

/// The grace is of the last token spent only, also when refreshes follow one another quickly.
pub async fn rotate_keeps_a_chain_of_retries_apart(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, first) = open(backend, user, noon()).await?;
    let second = RefreshToken::generate(&SystemEntropy);
    let third = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &first, &second, noon()).await?;
    rotate(backend, &second, &third, noon()).await?;

    let retry = rotate(backend, &second, &first, noon()).await?;

    let RotateOutcome::Retried {
        session,
        sealed_successor,
    } = retry
    else {
        return Err(unexpected(&retry));
    };
    assert_eq!(session, opened);
    let kept = second.open_successor(&sealed_successor);
    assert_eq!(kept.map(|kept| kept.digest()), Some(third.digest()));
    Ok(())
}

/// Reuse ends the family and counts the epoch up, and a second reuse does nothing more: a dead
/// token is no means to log its owner out.
pub async fn rotate_punishes_reuse_once(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, token) = open(backend, user, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &token, &next, noon()).await?;
    let later = noon().plus(DAY);

    let outcome = rotate(backend, &token, &next, later).await?;

    let expected = opened.grant.epoch.next();
    assert_eq!(
        outcome,
        RotateOutcome::Reused {
            user,
            session: opened.grant.session,
            epoch: expected,
        }
    );
    assert_eq!(epoch(backend, user).await?, expected);
    assert!(backend.sessions().list(user, later).await?.is_empty());
    for dead in [&token, &next] {
        let stray = RefreshToken::generate(&SystemEntropy);
        let outcome = rotate(backend, dead, &stray, later).await?;
        assert_eq!(outcome, RotateOutcome::Ended);
    }
    assert_eq!(epoch(backend, user).await?, expected);
    Ok(())
}

/// A theft of one session leaves the others their refresh tokens.
pub async fn rotate_punishes_one_family_only(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (_, stolen) = open(backend, user, noon()).await?;
    let (other, token) = open(backend, user, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &stolen, &next, noon()).await?;
    rotate(backend, &stolen, &next, noon().plus(DAY)).await?;

    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, noon().plus(DAY)).await?;

    let RotateOutcome::Rotated(session) = outcome else {
        return Err(unexpected(&outcome));
    };
    assert_eq!(session.grant.session, other.grant.session);
    assert_eq!(session.grant.epoch, other.grant.epoch.next());
    Ok(())
}

/// Reuse is one step: with the family, every access token of the user is dead.
pub async fn rotate_takes_back_every_access_token_of_whom_it_punishes(
    backend: &dyn Backend,
) -> Checked {
    let user = user(backend).await?;
    let (stolen, token) = open(backend, user, noon()).await?;
    let (other, _) = open(backend, user, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &token, &next, noon()).await?;
    let before = backend.revocations().changes(Cursor::START).await?.cursor;

    rotate(backend, &token, &next, noon().plus(DAY)).await?;

    for session in [stolen, other] {
        assert!(is_revoked(backend, &signed(&session.grant)?).await?);
    }
    let told = backend.revocations().changes(before).await?.revoked;
    let epoch = stolen.grant.epoch.next();
    assert!(told.contains(&Revocation::Subject { user, epoch }));
    Ok(())
}

/// A token that nobody used for a week is no use.
pub async fn rotate_refuses_what_is_too_old(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, token) = open(backend, user, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);

    let late = rotate(backend, &token, &next, noon().plus(DAY * 7)).await?;
    let in_time = rotate(backend, &token, &next, noon().plus(DAY * 7).minus(SECOND)).await?;

    assert_eq!(late, RotateOutcome::Expired);
    assert_eq!(in_time, RotateOutcome::Rotated(opened));
    Ok(())
}

/// A family ends after thirty days, however often it was refreshed.
pub async fn rotate_never_outlives_the_session(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, mut token) = open(backend, user, noon()).await?;
    for day in [6, 12, 18, 24, 29] {
        let next = RefreshToken::generate(&SystemEntropy);
        let outcome = rotate(backend, &token, &next, noon().plus(DAY * day)).await?;
        assert_eq!(outcome, RotateOutcome::Rotated(opened));
        token = next;
    }

    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, noon().plus(DAY * 30)).await?;

    assert_eq!(outcome, RotateOutcome::Expired);
    Ok(())
}

/// Who is disabled gets nothing more.
pub async fn rotate_refuses_a_disabled_user(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (_, token) = open(backend, user, noon()).await?;
    backend.disable(user, noon()).await?;

    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, noon()).await?;

    assert!(
        matches!(outcome, RotateOutcome::Ended | RotateOutcome::UserDisabled),
        "{outcome:?}"
    );
    Ok(())
}

/// A token that was never given out opens nothing and harms nobody.
pub async fn rotate_knows_no_stranger(backend: &dyn Backend) -> Checked {
    let stranger = RefreshToken::generate(&SystemEntropy);
    let next = RefreshToken::generate(&SystemEntropy);

    let outcome = rotate(backend, &stranger, &next, noon()).await?;

    assert_eq!(outcome, RotateOutcome::Unknown);
    let outcome = rotate(backend, &next, &stranger, noon()).await?;
    assert_eq!(outcome, RotateOutcome::Unknown);
    Ok(())
}

/// After a logout neither the token nor its predecessor gives anything, within the grace too.
pub async fn end_refuses_every_token_of_the_session(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    for by_predecessor in [false, true] {
        let (opened, token) = open(backend, user, noon()).await?;
        let next = RefreshToken::generate(&SystemEntropy);
        rotate(backend, &token, &next, noon()).await?;
        let shown = if by_predecessor { &token } else { &next };

        let ended = backend
            .sessions()
            .end(&Ending::Token(shown.digest()), noon())
            .await?;

        assert_eq!(ended, Some((user, opened.grant.session)));
        for dead in [&token, &next] {
            let stray = RefreshToken::generate(&SystemEntropy);
            let outcome = rotate(backend, dead, &stray, noon()).await?;
            assert_eq!(outcome, RotateOutcome::Ended);
        }
    }
    assert_eq!(epoch(backend, user).await?, Epoch::FIRST);
    Ok(())
}

/// Ending is one step: when it returns, the truth that access tokens are judged by has it, whether
/// the session was named or a refresh token was shown; and another session's tokens live on.
pub async fn end_takes_back_every_access_token_of_the_session(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    for by_token in [false, true] {
        let (opened, token) = open(backend, user, noon()).await?;
        let (other, _) = open(backend, user, noon()).await?;
        let session = opened.grant.session;
        let which = if by_token {
            Ending::Token(token.digest())
        } else {
            Ending::Session { user, session }
        };
        let before = backend.revocations().changes(Cursor::START).await?.cursor;

        backend.sessions().end(&which, noon()).await?;

        assert!(is_revoked(backend, &signed(&opened.grant)?).await?);
        assert!(!is_revoked(backend, &signed(&other.grant)?).await?);
        let told = backend.revocations().changes(before).await?.revoked;
        assert!(told.contains(&Revocation::session(session, noon())));

        let later = noon().plus(SECOND);
        backend.sessions().end(&which, later).await?;
        let told = backend.revocations().changes(before).await?.revoked;
        assert!(
            told.contains(&Revocation::session(session, later)),
            "ending again holds on for longer"
        );
    }
    Ok(())
}

/// Who could not be answered asks again, and is told the same.
pub async fn end_says_the_same_when_asked_again(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, token) = open(backend, user, noon()).await?;
    let session = opened.grant.session;

    for which in [
        Ending::Session { user, session },
        Ending::Session { user, session },
        Ending::Token(token.digest()),
    ] {
        let ended = backend.sessions().end(&which, noon()).await?;
        assert_eq!(ended, Some((user, session)));
    }
    Ok(())
}

/// Nobody ends another's session, and an unknown one is nobody's.
pub async fn end_spares_what_is_not_the_callers(backend: &dyn Backend) -> Checked {
    let owner = user(backend).await?;
    let stranger = user(backend).await?;
    let (opened, token) = open(backend, owner, noon()).await?;

    for which in [
        Ending::Session {
            user: stranger,
            session: opened.grant.session,
        },
        Ending::Session {
            user: stranger,
            session: SessionId::mint(noon(), &SystemEntropy),
        },
        Ending::Token(RefreshToken::generate(&SystemEntropy).digest()),
    ] {
        assert_eq!(backend.sessions().end(&which, noon()).await?, None);
    }

    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, noon()).await?;
    assert_eq!(outcome, RotateOutcome::Rotated(opened));
    Ok(())
}

/// Everything of one user ends, nothing of another.
pub async fn end_all_ends_every_session_and_counts_the_epoch_up(backend: &dyn Backend) -> Checked {
    let owner = user(backend).await?;
    let other = user(backend).await?;
    let (opened, one) = open(backend, owner, noon()).await?;
    let (_, two) = open(backend, owner, noon()).await?;
    let (spared, theirs) = open(backend, other, noon()).await?;

    let epoch = backend.sessions().end_all(owner, noon()).await?;

    assert_eq!(epoch, Some(opened.grant.epoch.next()));
    for dead in [&one, &two] {
        let next = RefreshToken::generate(&SystemEntropy);
        let outcome = rotate(backend, dead, &next, noon()).await?;
        assert_eq!(outcome, RotateOutcome::Ended);
    }
    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &theirs, &next, noon()).await?;
    assert_eq!(outcome, RotateOutcome::Rotated(spared));
    let stranger = UserId::mint(noon(), &SystemEntropy);
    assert_eq!(backend.sessions().end_all(stranger, noon()).await?, None);
    Ok(())
}

/// Ending all is one step: no access token from before is honoured when it returns.
pub async fn end_all_takes_back_every_access_token(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, _) = open(backend, user, noon()).await?;

    backend.sessions().end_all(user, noon()).await?;

    assert!(is_revoked(backend, &signed(&opened.grant)?).await?);
    Ok(())
}

/// A login in the same millisecond is of the new epoch.
pub async fn end_all_spares_a_login_right_after(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let epoch = backend.sessions().end_all(user, noon()).await?;

    let (opened, token) = open(backend, user, noon()).await?;

    assert_eq!(Some(opened.grant.epoch), epoch);
    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, noon()).await?;
    assert_eq!(outcome, RotateOutcome::Rotated(opened));
    Ok(())
}

/// A step-up is seen by this session's tokens, also by those of the next refresh.
pub async fn renew_takes_the_time_of_authentication(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, token) = open(backend, user, noon()).await?;
    let later = noon().plus(DAY);
    let renewal = Renewal {
        user,
        session: opened.grant.session,
        epoch: opened.grant.epoch,
        refresh: None,
        now: later,
    };

    let renewed = backend.sessions().renew(&renewal).await?;

    let mut expected = opened;
    expected.grant.auth_time = later;
    assert_eq!(renewed, Some(expected));
    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, later).await?;
    assert_eq!(outcome, RotateOutcome::Rotated(expected));
    Ok(())
}

/// A new pair for the session leaves one token alive, and the old ones are no sign of theft.
pub async fn renew_replaces_every_earlier_token(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (opened, first) = open(backend, user, noon()).await?;
    let second = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &first, &second, noon()).await?;
    let renewed = RefreshToken::generate(&SystemEntropy);
    let renewal = Renewal {
        user,
        session: opened.grant.session,
        epoch: opened.grant.epoch,
        refresh: Some((renewed.digest(), noon().plus(DAY * 7))),
        now: noon(),
    };

    let session = backend.sessions().renew(&renewal).await?;

    assert_eq!(session, Some(opened));
    for dead in [&first, &second] {
        let stray = RefreshToken::generate(&SystemEntropy);
        let outcome = rotate(backend, dead, &stray, noon()).await?;
        assert_eq!(outcome, RotateOutcome::Unknown);
    }
    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &renewed, &next, noon()).await?;
    assert_eq!(outcome, RotateOutcome::Rotated(opened));
    Ok(())
}

/// A proof of identity is worth nothing to a session that ended, to another's, or after the
/// user's epoch moved.
pub async fn renew_refuses_what_is_over_or_anothers(backend: &dyn Backend) -> Checked {
    let owner = user(backend).await?;
    let stranger = user(backend).await?;
    let (opened, _) = open(backend, owner, noon()).await?;
    let (ended, _) = open(backend, owner, noon()).await?;
    let which = Ending::Session {
        user: owner,
        session: ended.grant.session,
    };
    backend.sessions().end(&which, noon()).await?;
    let good = Renewal {
        user: owner,
        session: opened.grant.session,
        epoch: opened.grant.epoch,
        refresh: None,
        now: noon(),
    };

    for bad in [
        Renewal {
            user: stranger,
            ..good.clone()
        },
        Renewal {
            session: ended.grant.session,
            ..good.clone()
        },
        Renewal {
            epoch: opened.grant.epoch.next(),
            ..good.clone()
        },
        Renewal {
            now: opened.ends_at,
            ..good.clone()
        },
    ] {
        assert_eq!(backend.sessions().renew(&bad).await?, None, "{bad:?}");
    }
    assert_eq!(backend.sessions().renew(&good).await?, Some(opened));
    Ok(())
}

/// The list shows where each live session was used last.
pub async fn list_shows_live_sessions_newest_first(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (old, token) = open(backend, user, noon()).await?;
    let (new, _) = open(backend, user, noon().plus(SECOND)).await?;
    let (ended, _) = open(backend, user, noon().plus(SECOND)).await?;
    let which = Ending::Session {
        user,
        session: ended.grant.session,
    };
    backend.sessions().end(&which, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    rotate(backend, &token, &next, noon().plus(DAY)).await?;

    let list = backend.sessions().list(user, noon().plus(DAY)).await?;

    let ids: Vec<SessionId> = list.iter().map(|info| info.id).collect();
    assert_eq!(ids, [new.grant.session, old.grant.session]);
    let used: Vec<(Timestamp, Option<&str>)> = list
        .iter()
        .map(|info| (info.last_used_at, info.client.user_agent()))
        .collect();
    assert_eq!(
        used,
        [
            (noon().plus(SECOND), Some("conformance")),
            (noon().plus(DAY), Some("conformance, later")),
        ]
    );
    assert!(
        list.iter()
            .all(|info| info.created_at <= noon().plus(SECOND))
    );
    assert!(
        backend
            .sessions()
            .list(user, old.ends_at.plus(SECOND))
            .await?
            .is_empty()
    );
    Ok(())
}

/// A session is kept while it lives, and while its access tokens might.
pub async fn prune_forgets_only_what_is_over(backend: &dyn Backend) -> Checked {
    let user = user(backend).await?;
    let (live, token) = open(backend, user, noon()).await?;
    let (ended, dead) = open(backend, user, noon()).await?;
    let which = Ending::Token(dead.digest());
    backend.sessions().end(&which, noon()).await?;

    backend.sessions().prune(noon()).await?;
    let kept = backend.sessions().end(&which, noon()).await?;
    let after_hold = noon().plus(Revocation::HOLD);
    backend.sessions().prune(after_hold).await?;
    let forgotten = backend.sessions().end(&which, noon()).await?;
    let next = RefreshToken::generate(&SystemEntropy);
    let outcome = rotate(backend, &token, &next, after_hold).await?;
    backend.sessions().prune(live.ends_at).await?;
    let gone = rotate(backend, &next, &token, live.ends_at).await?;

    assert_eq!(kept, Some((user, ended.grant.session)));
    assert_eq!(forgotten, None);
    assert_eq!(outcome, RotateOutcome::Rotated(live));
    assert_eq!(gone, RotateOutcome::Unknown);
    Ok(())
}

async fn rotate(
    backend: &dyn Backend,
    presented: &RefreshToken,
    successor: &RefreshToken,
    now: Timestamp,
) -> Result<RotateOutcome, StoreError> {
    let sessions: std::sync::Arc<dyn SessionStore> = backend.sessions();
    sessions.rotate(&rotation(presented, successor, now)).await
}

fn unexpected(outcome: &RotateOutcome) -> StoreError {
    StoreError::Corrupt(format!("an outcome that was not promised: {outcome:?}"))
}
