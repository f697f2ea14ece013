use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::session::{Client, Login, LoginError};
use arkeep_auth::{LoginGuard, Role};
use arkeep_core::SecretString;

use crate::fixture::{House, PASSWORD, TestResult, noon};

async fn try_from(house: &House, address: &str, password: &str) -> Result<(), LoginError> {
    let login = Login {
        email: "ada@example.com",
        password: &SecretString::from(password),
        client: &Client::new(address.parse().ok(), None),
    };
    house.sessions.log_in(&login, noon()).await.map(|_| ())
}

/// A9
#[tokio::test]
async fn a_guesser_waits_and_the_right_password_does_not_help() -> TestResult {
    let house = House::build().await?.guarded();
    house.add("ada@example.com", Role::Viewer).await?;
    for _ in 0..LoginGuard::FREE_FAILURES {
        let refused = try_from(&house, "203.0.113.9", "the wrong horse").await;
        assert!(matches!(refused, Err(LoginError::Refused)));
    }

    for password in ["the wrong horse", PASSWORD] {
        let told = try_from(&house, "203.0.113.9", password).await;
        assert!(
            matches!(told, Err(LoginError::Throttled { retry_after })
                if retry_after == Duration::from_secs(1)),
            "{told:?}"
        );
    }
    Ok(())
}

/// A9
#[tokio::test]
async fn the_owner_comes_in_from_where_they_have_a_session_also_after_a_restart() -> TestResult {
    let house = House::build().await?.guarded();
    house.add("ada@example.com", Role::Viewer).await?;
    try_from(&house, "198.51.100.7", PASSWORD).await?;
    let restarted = House::on(Arc::clone(&house.store), Arc::clone(&house.tokens)).await?;
    let restarted = restarted.guarded();
    while !matches!(
        try_from(&restarted, "203.0.113.9", "the wrong horse").await,
        Err(LoginError::Throttled { .. })
    ) {}

    let elsewhere = try_from(&restarted, "203.0.113.10", PASSWORD).await;
    let home = try_from(&restarted, "198.51.100.7", PASSWORD).await;

    assert!(matches!(elsewhere, Err(LoginError::Throttled { .. })));
    assert!(home.is_ok(), "{home:?}");
    Ok(())
}

/// A9
#[tokio::test]
async fn an_attempt_that_no_store_decided_is_no_failure() -> TestResult {
    let house = House::build().await?.guarded();
    house.add("ada@example.com", Role::Viewer).await?;
    house.store.set_broken(true);
    for _ in 0..100 {
        let answer = try_from(&house, "203.0.113.9", PASSWORD).await;
        assert!(matches!(answer, Err(LoginError::Unavailable(_))));
    }
    house.store.set_broken(false);

    try_from(&house, "203.0.113.9", PASSWORD).await?;
    Ok(())
}

/// A9
#[tokio::test]
async fn a_stolen_access_token_does_not_guess_the_password() -> TestResult {
    let house = House::build().await?.guarded();
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    let caller = house.who(&pair.access).await?;
    let wrong = SecretString::from("the wrong horse");
    for _ in 0..LoginGuard::FREE_FAILURES {
        let refused = house.sessions.step_up(&caller, &wrong, noon()).await;
        assert!(matches!(refused, Err(LoginError::Refused)));
    }

    let told = house.sessions.step_up(&caller, &wrong, noon()).await;

    assert!(matches!(told, Err(LoginError::Throttled { .. })));
    house.log_in("ada@example.com").await?;
    Ok(())
}
