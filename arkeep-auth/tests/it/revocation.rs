//! The copy of what is revoked, and how long things stay in it.

use std::time::Duration;

use arkeep_auth::revocation::{Cursor, RevocationSet, Verdict};
use arkeep_auth::token::{ConfigError, TokenConfig, TokenVerifier as _};
use arkeep_auth::{Epoch, Revocation, RevocationStore as _, Role, SessionId, TokenId};
use arkeep_core::{SystemEntropy, UserId};

use crate::fixture::{House, TestResult, noon};

const SECOND: Duration = Duration::from_secs(1);

/// A4: longer than any token can live, on any replica whose clock is less than a day off.
#[test]
fn what_is_revoked_outlives_every_token_and_a_day_more() -> Result<(), ConfigError> {
    let day = Duration::from_secs(86_400);
    let longest = TokenConfig::new("i", "a").lifetime(day)?;
    let until = noon().plus(2 * day);

    assert_eq!(longest.outlived_by(), day + 5 * SECOND);
    let (token, session) = (
        TokenId::mint(noon(), &SystemEntropy),
        SessionId::mint(noon(), &SystemEntropy),
    );
    assert_eq!(
        Revocation::token(token, noon()),
        Revocation::Token { token, until }
    );
    assert_eq!(
        Revocation::session(session, noon()),
        Revocation::Session { session, until }
    );
    Ok(())
}

/// A4
#[tokio::test]
async fn the_copy_says_how_old_it_is() -> TestResult {
    let house = House::build().await?;
    tokio::time::pause();
    house.cache.refresh().await?;
    assert_eq!(house.cache.age(), Duration::ZERO);

    tokio::time::advance(3 * SECOND).await;
    assert_eq!(house.cache.age(), 3 * SECOND);
    house.cache.refresh().await?;

    assert_eq!(house.cache.age(), Duration::ZERO);
    Ok(())
}

/// A4: at one second it decides, and a moment later it does not.
#[tokio::test]
async fn a_copy_decides_for_one_second() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    tokio::time::pause();
    house.cache.refresh().await?;
    house.store.set_broken(true);

    tokio::time::advance(SECOND).await;
    house.who(&pair.access).await?;
    tokio::time::advance(Duration::from_millis(1)).await;

    assert!(house.who(&pair.access).await.is_err());
    Ok(())
}

/// A4: the copy forgets with the store, and says what the store says.
#[tokio::test]
async fn pruning_the_copy_prunes_the_store() -> TestResult {
    let house = House::build().await?;
    for _ in 0..3 {
        let session = SessionId::mint(noon(), &SystemEntropy);
        let what = Revocation::session(session, noon());
        house.cache.revoke(&what).await?;
    }

    assert_eq!(house.cache.prune(noon()).await?, 0);
    let over = noon().plus(Revocation::HOLD).plus(SECOND);
    assert_eq!(house.cache.prune(over).await?, 3);
    assert_eq!(house.cache.prune(over).await?, 0);
    Ok(())
}

/// A4
#[tokio::test]
async fn a_session_is_remembered_to_its_last_second() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    let claims = house.tokens.verify(pair.access.expose(), noon())?;
    let mut set = RevocationSet::default();
    set.add(&Revocation::Subject {
        user: claims.user(),
        epoch: claims.epoch(),
    });
    assert_eq!(set.judge(&claims), Verdict::Live);
    set.add(&Revocation::session(claims.session(), noon()));

    let until = noon().plus(Revocation::HOLD);
    assert_eq!(set.prune(until), 0);
    assert_eq!(set.judge(&claims), Verdict::Revoked);
    assert_eq!(set.prune(until.plus(SECOND)), 1);
    assert_eq!(set.judge(&claims), Verdict::Live);
    Ok(())
}

/// A4
#[test]
fn the_latest_epoch_is_known() {
    let (ada, bob) = (
        UserId::mint(noon(), &SystemEntropy),
        UserId::mint(noon(), &SystemEntropy),
    );
    let mut set = RevocationSet::default();
    for epoch in [2, 3, 1].map(Epoch::from_i64) {
        set.add(&Revocation::Subject { user: ada, epoch });
    }

    assert_eq!(set.epoch(ada), Some(Epoch::from_i64(3)));
    assert_eq!(set.epoch(bob), None);
}

#[test]
fn a_cursor_is_what_the_store_made_it() {
    assert_eq!(Cursor::from_i64(7).as_i64(), 7);
    assert_eq!(Cursor::START.as_i64(), 0);
}

/// A4
#[tokio::test]
async fn a_caller_names_the_token_that_they_showed() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;

    let caller = house.who(&pair.access).await?;

    assert_eq!(caller.token(), Some(pair.access.id));
    assert_eq!(caller.session(), Some(pair.session.grant.session));
    assert_eq!(caller.api_token(), None);
    Ok(())
}
