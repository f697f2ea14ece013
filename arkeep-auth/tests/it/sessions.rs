use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::session::{
    ChangePasswordError, LogOut, LoginError, RefreshError, RefreshToken, SealedSuccessor,
};
use arkeep_auth::testing::MemoryStore;
use arkeep_auth::user::{Credentials, PasswordChange};
use arkeep_auth::{AuthError, Epoch, HashCost, PasswordHash, Role, SessionStore as _, UserStore};
use arkeep_core::{SecretString, StoreError, SystemEntropy, UserId};
use async_trait::async_trait;

use crate::fixture::{House, PASSWORD, TestResult, noon};

/// A3
#[tokio::test]
async fn logout_kills_both_tokens_whichever_is_shown() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    for (cookie, bearer) in [(true, false), (false, true), (true, true)] {
        let pair = house.log_in("ada@example.com").await?;
        let caller = house.who(&pair.access).await?;
        let shown = LogOut {
            refresh: cookie.then_some(&pair.refresh),
            principal: bearer.then_some(&caller),
        };

        let ended = house.sessions.log_out(&shown, noon()).await?;

        assert_eq!(
            ended,
            [(caller.user(), caller.session().ok_or("a session")?)]
        );
        assert!(matches!(
            house.who(&pair.access).await,
            Err(AuthError::Revoked)
        ));
        let refreshed = house
            .sessions
            .refresh(&pair.refresh, &house.client, noon())
            .await;
        assert!(matches!(refreshed, Err(RefreshError::Refused)));
    }
    Ok(())
}

/// A3
#[tokio::test]
async fn logout_also_kills_access_tokens_of_earlier_refreshes() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let first = house.log_in("ada@example.com").await?;
    let second = house
        .sessions
        .refresh(&first.refresh, &house.client, noon())
        .await?;

    let shown = LogOut {
        refresh: Some(&second.refresh),
        principal: None,
    };
    house.sessions.log_out(&shown, noon()).await?;

    assert!(matches!(
        house.who(&first.access).await,
        Err(AuthError::Revoked)
    ));
    assert!(matches!(
        house.who(&second.access).await,
        Err(AuthError::Revoked)
    ));
    Ok(())
}

/// A3
#[tokio::test]
async fn a_logout_outlives_the_process_and_reaches_other_replicas() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let other = House::on(Arc::clone(&house.store), Arc::clone(&house.tokens)).await?;
    let pair = house.log_in("ada@example.com").await?;
    assert!(other.who(&pair.access).await.is_ok());

    let shown = LogOut {
        refresh: Some(&pair.refresh),
        principal: None,
    };
    house.sessions.log_out(&shown, noon()).await?;
    other.cache.refresh().await?;
    let restarted = House::on(Arc::clone(&house.store), Arc::clone(&house.tokens)).await?;

    assert!(matches!(
        other.who(&pair.access).await,
        Err(AuthError::Revoked)
    ));
    assert!(matches!(
        restarted.who(&pair.access).await,
        Err(AuthError::Revoked)
    ));
    Ok(())
}

/// A4
#[tokio::test]
async fn logging_out_everywhere_spares_a_login_right_after() -> TestResult {
    let house = House::build().await?;
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    house.add("bob@example.com", Role::Viewer).await?;
    let one = house.log_in("ada@example.com").await?;
    let two = house.log_in("ada@example.com").await?;
    let bob = house.log_in("bob@example.com").await?;

    house.sessions.log_out_everywhere(ada, noon()).await?;
    let after = house.log_in("ada@example.com").await?;

    for dead in [&one, &two] {
        assert!(matches!(
            house.who(&dead.access).await,
            Err(AuthError::Revoked)
        ));
        let refreshed = house
            .sessions
            .refresh(&dead.refresh, &house.client, noon())
            .await;
        assert!(matches!(refreshed, Err(RefreshError::Refused)));
    }
    assert!(house.who(&after.access).await.is_ok());
    assert!(house.who(&bob.access).await.is_ok());
    Ok(())
}

/// A4
#[tokio::test]
async fn a_change_of_role_is_felt_by_the_next_request() -> TestResult {
    let house = House::build().await?;
    let ada = house.add("ada@example.com", Role::Admin).await?;
    let pair = house.log_in("ada@example.com").await?;

    house.store.set_role(ada, Role::Viewer);
    house.cache.refresh().await?;

    assert!(matches!(
        house.who(&pair.access).await,
        Err(AuthError::Revoked)
    ));
    let next = house
        .sessions
        .refresh(&pair.refresh, &house.client, noon())
        .await?;
    assert_eq!(house.who(&next.access).await?.role(), Role::Viewer);
    Ok(())
}

/// A4
#[tokio::test]
async fn changing_ones_password_keeps_this_session_and_ends_the_others() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let here = house.log_in("ada@example.com").await?;
    let there = house.log_in("ada@example.com").await?;
    let caller = house.who(&here.access).await?;
    let (old, new) = (
        SecretString::from(PASSWORD),
        SecretString::from("another horse"),
    );

    let wrong = house
        .sessions
        .change_password(&caller, &new, &new, noon())
        .await;
    let short = SecretString::from("short");
    let weak = house
        .sessions
        .change_password(&caller, &old, &short, noon())
        .await;
    let pair = house
        .sessions
        .change_password(&caller, &old, &new, noon())
        .await?;

    assert!(matches!(
        wrong,
        Err(ChangePasswordError::Login(LoginError::Refused))
    ));
    assert!(matches!(weak, Err(ChangePasswordError::New(_))));
    for dead in [&here, &there] {
        assert!(matches!(
            house.who(&dead.access).await,
            Err(AuthError::Revoked)
        ));
        let refreshed = house
            .sessions
            .refresh(&dead.refresh, &house.client, noon())
            .await;
        assert!(matches!(refreshed, Err(RefreshError::Refused)));
    }
    assert_eq!(house.who(&pair.access).await?.session(), caller.session());
    assert!(
        house
            .sessions
            .refresh(&pair.refresh, &house.client, noon())
            .await
            .is_ok()
    );
    assert!(matches!(
        house.log_in("ada@example.com").await,
        Err(LoginError::Refused)
    ));
    assert!(
        house
            .log_in_with("ada@example.com", "another horse")
            .await
            .is_ok()
    );
    Ok(())
}

/// A6
#[tokio::test]
async fn reuse_kills_the_family_and_every_access_token() -> TestResult {
    let house = House::build().await?;
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let stolen = house.log_in("ada@example.com").await?;
    let elsewhere = house.log_in("ada@example.com").await?;
    let next = house
        .sessions
        .refresh(&stolen.refresh, &house.client, noon())
        .await?;

    let later = noon().plus(Duration::from_secs(11));
    let reused = house
        .sessions
        .refresh(&stolen.refresh, &house.client, later)
        .await;

    assert!(matches!(reused, Err(RefreshError::Reused { user, session })
            if user == ada && session == stolen.session.grant.session));
    for pair in [&stolen, &next, &elsewhere] {
        assert!(matches!(
            house.who(&pair.access).await,
            Err(AuthError::Revoked)
        ));
    }
    let owner = house
        .sessions
        .refresh(&next.refresh, &house.client, later)
        .await;
    assert!(matches!(owner, Err(RefreshError::Refused)));
    let other = house
        .sessions
        .refresh(&elsewhere.refresh, &house.client, later)
        .await?;
    let caller = house.gate.authenticate(other.access.expose(), later).await;
    assert!(caller.is_ok());
    Ok(())
}

/// A6
#[tokio::test]
async fn a_lost_answer_is_given_again() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;

    let lost = house
        .sessions
        .refresh(&pair.refresh, &house.client, noon())
        .await?;
    let again = house
        .sessions
        .refresh(&pair.refresh, &house.client, noon())
        .await?;

    assert_eq!(lost.refresh.digest(), again.refresh.digest());
    assert!(house.who(&again.access).await.is_ok());
    let next = house
        .sessions
        .refresh(&again.refresh, &house.client, noon())
        .await?;
    assert!(house.who(&next.access).await.is_ok());
    Ok(())
}

/// A9
#[tokio::test]
async fn unknown_wrong_and_disabled_get_one_answer() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let bob = house.add("bob@example.com", Role::Viewer).await?;
    house.store.set_enabled(bob, false, noon());

    let attempts = [
        house.log_in("eve@example.com").await,
        house.log_in_with("ada@example.com", "wrong horse").await,
        house.log_in("bob@example.com").await,
        house
            .log_in_with("ada@example.com", &"x".repeat(2_000))
            .await,
    ];

    for attempt in attempts {
        assert!(matches!(attempt, Err(LoginError::Refused)), "{attempt:?}");
    }
    Ok(())
}

/// A5
#[tokio::test(start_paused = true)]
async fn nobody_comes_in_while_the_truth_cannot_be_had() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    house.store.set_broken(true);

    assert!(house.who(&pair.access).await.is_ok(), "the copy is young");
    tokio::time::advance(Duration::from_millis(1_001)).await;

    assert!(matches!(
        house.who(&pair.access).await,
        Err(AuthError::Unavailable(_))
    ));
    assert!(house.cache.refresh().await.is_err());
    assert!(matches!(
        house.log_in("ada@example.com").await,
        Err(LoginError::Unavailable(_))
    ));
    let restarted = House::on(Arc::clone(&house.store), Arc::clone(&house.tokens)).await;
    assert!(restarted.is_err(), "no replica starts without it");

    house.store.set_broken(false);
    assert!(house.who(&pair.access).await.is_ok());
    Ok(())
}

/// A4
#[tokio::test(start_paused = true)]
async fn an_old_copy_asks_the_store_for_every_request() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let other = House::on(Arc::clone(&house.store), Arc::clone(&house.tokens)).await?;
    let pair = house.log_in("ada@example.com").await?;
    let shown = LogOut {
        refresh: Some(&pair.refresh),
        principal: None,
    };
    house.sessions.log_out(&shown, noon()).await?;

    tokio::time::advance(Duration::from_millis(1_001)).await;

    assert!(matches!(
        other.who(&pair.access).await,
        Err(AuthError::Revoked)
    ));
    Ok(())
}

/// A4
#[tokio::test]
async fn a_newer_epoch_than_the_copys_is_a_question_to_the_store() -> TestResult {
    let house = House::build().await?;
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let other = House::on(Arc::clone(&house.store), Arc::clone(&house.tokens)).await?;

    house.sessions.log_out_everywhere(ada, noon()).await?;
    let fresh = house.log_in("ada@example.com").await?;

    assert!(other.who(&fresh.access).await.is_ok());
    house.sessions.log_out_everywhere(ada, noon()).await?;
    assert!(matches!(
        other.who(&fresh.access).await,
        Err(AuthError::Revoked)
    ));
    Ok(())
}

#[tokio::test]
async fn a_step_up_makes_the_session_fresh_and_keeps_its_cookie() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    let caller = house.who(&pair.access).await?;
    let five_minutes = Duration::from_secs(300);
    let later = noon().plus(five_minutes);
    assert!(caller.is_fresh(five_minutes, noon()));
    assert!(!caller.is_fresh(five_minutes, later));

    let password = SecretString::from(PASSWORD);
    let access = house.sessions.step_up(&caller, &password, later).await?;

    let caller = house.gate.authenticate(access.expose(), later).await?;
    assert!(caller.is_fresh(five_minutes, later));
    assert!(
        !caller.is_fresh(five_minutes, noon()),
        "no proof comes from the future"
    );
    let wrong = SecretString::from("wrong horse");
    let refused = house.sessions.step_up(&caller, &wrong, later).await;
    assert!(matches!(refused, Err(LoginError::Refused)));
    let next = house
        .sessions
        .refresh(&pair.refresh, &house.client, later)
        .await?;
    assert!(
        house
            .gate
            .authenticate(next.access.expose(), later)
            .await?
            .is_fresh(five_minutes, later)
    );
    Ok(())
}

/// A5
#[tokio::test]
async fn what_is_known_to_be_dead_is_refused_also_while_the_store_is_away() -> TestResult {
    let house = House::build().await?;
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let one = house.log_in("ada@example.com").await?;
    house.sessions.log_out_everywhere(ada, noon()).await?;
    let two = house.log_in("ada@example.com").await?;
    let shown = LogOut {
        refresh: Some(&two.refresh),
        principal: None,
    };
    house.sessions.log_out(&shown, noon()).await?;

    house.store.set_broken(true);

    for dead in [&one, &two] {
        assert!(matches!(
            house.who(&dead.access).await,
            Err(AuthError::Revoked)
        ));
    }
    Ok(())
}

/// A3
#[tokio::test]
async fn the_last_access_token_of_a_forgotten_session_can_be_logged_out() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let mut pair = house.log_in("ada@example.com").await?;
    let end = pair.session.ends_at;
    for days in [6, 12, 18, 24, 29] {
        let now = noon().plus(Duration::from_secs(days * 86_400));
        pair = house
            .sessions
            .refresh(&pair.refresh, &house.client, now)
            .await?;
    }
    let last = end.minus(Duration::from_secs(60));
    let pair = house
        .sessions
        .refresh(&pair.refresh, &house.client, last)
        .await?;
    house.sessions.prune(end).await?;
    let caller = house.gate.authenticate(pair.access.expose(), end).await?;

    let shown = LogOut {
        refresh: None,
        principal: Some(&caller),
    };
    house.sessions.log_out(&shown, end).await?;

    let after = house.gate.authenticate(pair.access.expose(), end).await;
    assert!(matches!(after, Err(AuthError::Revoked)));
    Ok(())
}

/// Users to whom something happens just after they were looked up.
#[derive(Debug)]
struct Interrupted {
    store: Arc<MemoryStore>,
    password: Option<PasswordHash>,
}

#[async_trait]
impl UserStore for Interrupted {
    async fn find_by_email(&self, email: &str) -> Result<Option<Credentials>, StoreError> {
        let found = self.store.find_by_email(email).await?;
        if let Some(user) = &found {
            match &self.password {
                None => {
                    self.store.end_all(user.user, noon()).await?;
                }
                Some(new) => {
                    let change = PasswordChange {
                        user: user.user,
                        new: new.clone(),
                        epoch: user.epoch,
                        keep: None,
                        now: noon(),
                    };
                    self.store.change_password(&change).await?;
                }
            }
        }
        Ok(found)
    }

    async fn find(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        self.store.find(user).await
    }

    async fn rehash(
        &self,
        user: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        self.store.rehash(user, old, new).await
    }

    async fn change_password(&self, change: &PasswordChange) -> Result<Option<Epoch>, StoreError> {
        self.store.change_password(change).await
    }
}

/// A4
#[tokio::test]
async fn a_login_goes_on_when_everything_was_taken_back_while_it_was_checked() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let users = Interrupted {
        store: Arc::clone(&house.store),
        password: None,
    };
    let house = house.with_users(Arc::new(users));

    let pair = house.log_in("ada@example.com").await?;

    assert!(house.who(&pair.access).await.is_ok());
    Ok(())
}

/// A4
#[tokio::test]
async fn a_password_that_is_changed_while_it_is_checked_opens_nothing() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let new = SecretString::from("another horse");
    let users = Interrupted {
        store: Arc::clone(&house.store),
        password: Some(house.passwords.hash(&new).await?),
    };
    let house = house.with_users(Arc::new(users));

    let refused = house.log_in("ada@example.com").await;

    assert!(matches!(refused, Err(LoginError::Refused)), "{refused:?}");
    Ok(())
}

/// A7: a hash of lower parameters is replaced at the next login, one of the present ones stays.
#[tokio::test]
async fn a_login_strengthens_a_hash_that_is_too_weak_and_no_other() -> TestResult {
    let weak = House::hashing_at(HashCost::for_testing_with(64)).await?;
    let ada = weak.add("ada@example.com", Role::Viewer).await?;
    let (store, tokens) = (Arc::clone(&weak.store), Arc::clone(&weak.tokens));
    let strong = HashCost::for_testing_with(128);
    let strong = House::assemble(store, tokens, strong).await?;
    let mut seen = Vec::new();

    for house in [&weak, &strong, &strong] {
        house.log_in("ada@example.com").await?;
        let stored = house.store.find(ada).await?.and_then(|ada| ada.password);
        seen.push(stored.ok_or("no password")?.as_str().to_owned());
    }

    assert!(seen[0].contains("m=64,"), "{}", seen[0]);
    assert!(seen[1].contains("m=128,"), "{}", seen[1]);
    assert_eq!(seen[1], seen[2]);
    Ok(())
}

/// A6: what a store keeps of a successor, for the store, is what opens later.
#[test]
fn a_sealed_successor_is_its_bytes() -> TestResult {
    let (spent, next) = (
        RefreshToken::generate(&SystemEntropy),
        RefreshToken::generate(&SystemEntropy),
    );
    let sealed = spent.seal_successor(&next, &SystemEntropy);

    let kept = SealedSuccessor::from_bytes(sealed.as_bytes().to_vec());

    let opened = spent.open_successor(&kept).ok_or("it opens")?;
    assert_eq!(opened.digest(), next.digest());
    assert!(next.open_successor(&kept).is_none());
    Ok(())
}

/// A6: sessions are listed while they live, and forgotten when they are over.
#[tokio::test]
async fn sessions_are_listed_and_pruned() -> TestResult {
    let house = House::build().await?;
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    for _ in 0..3 {
        house.log_in("ada@example.com").await?;
    }
    let over = noon().plus(Duration::from_secs(30 * 24 * 60 * 60));

    assert_eq!(house.sessions.list(ada, noon()).await?.len(), 3);
    assert_eq!(house.sessions.prune(noon()).await?, 0);
    assert_eq!(house.sessions.prune(over).await?, 3);
    assert!(house.sessions.list(ada, noon()).await?.is_empty());
    Ok(())
}
