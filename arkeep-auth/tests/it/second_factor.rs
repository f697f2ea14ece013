use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::factor::EnrolError;
use arkeep_auth::session::{Login, LoginError, TokenPair};
use arkeep_auth::{LoginGuard, Role, SecondFactors};
use arkeep_core::{SecretString, SystemEntropy, Timestamp};

use crate::fixture::{House, PASSWORD, TestResult, noon};

const HALF_MINUTE: Duration = Duration::from_secs(30);

fn factors(house: &House) -> SecondFactors {
    SecondFactors::new(Arc::clone(&house.store) as _, Arc::new(SystemEntropy))
}

async fn log_in(
    house: &House,
    code: Option<&str>,
    now: Timestamp,
) -> Result<TokenPair, LoginError> {
    let login = Login {
        email: "ada@example.com",
        password: &SecretString::from(PASSWORD),
        client: &house.client,
    };
    house.sessions.log_in_with_code(&login, code, now).await
}

/// A12
#[tokio::test]
async fn a_login_asks_for_a_code_that_works_once() -> TestResult {
    let house = House::build().await?.with_second_factors();
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let factors = factors(&house);
    let secret = factors.begin(ada, noon()).await?;
    assert!(
        log_in(&house, None, noon()).await.is_ok(),
        "not confirmed, not asked"
    );
    assert!(!factors.confirm(ada, "000000", noon()).await?);
    assert!(
        factors
            .confirm(ada, &secret.code_at(noon()), noon())
            .await?
    );
    let later = noon().plus(HALF_MINUTE);
    let code = secret.code_at(later);

    let without = log_in(&house, None, later).await;
    let wrong = log_in(&house, Some("not it"), later).await;
    let used = log_in(&house, Some(&secret.code_at(noon())), later).await;
    let right = log_in(&house, Some(&code), later).await;
    let again = log_in(&house, Some(&code), later).await;

    assert!(matches!(without, Err(LoginError::CodeRequired)));
    assert!(matches!(wrong, Err(LoginError::CodeRefused)));
    assert!(matches!(used, Err(LoginError::CodeRefused)));
    assert!(right.is_ok());
    assert!(matches!(again, Err(LoginError::CodeRefused)));
    Ok(())
}

/// A12
#[tokio::test]
async fn a_code_is_asked_of_nobody_who_has_not_shown_the_password() -> TestResult {
    let house = House::build().await?.with_second_factors();
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let factors = factors(&house);
    let secret = factors.begin(ada, noon()).await?;
    factors
        .confirm(ada, &secret.code_at(noon()), noon())
        .await?;

    let wrong = house
        .log_in_with("ada@example.com", "the wrong horse")
        .await;

    house.store.set_enabled(ada, false, noon());
    let disabled = house.log_in("ada@example.com").await;

    for refused in [wrong, disabled] {
        let told = matches!(refused, Err(LoginError::Refused));
        assert!(told, "no word of a second factor: {refused:?}");
    }
    Ok(())
}

/// A12
#[tokio::test]
async fn each_recovery_code_stands_in_once() -> TestResult {
    let house = House::build().await?.with_second_factors();
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let factors = factors(&house);
    assert!(matches!(
        factors.new_recovery_codes(ada).await,
        Err(EnrolError::NotEnrolled)
    ));
    let secret = factors.begin(ada, noon()).await?;
    factors
        .confirm(ada, &secret.code_at(noon()), noon())
        .await?;
    assert!(matches!(
        factors.begin(ada, noon()).await,
        Err(EnrolError::Enrolled)
    ));

    let codes = factors.new_recovery_codes(ada).await?;

    assert_eq!(codes.len(), 10);
    for code in &codes {
        assert!(log_in(&house, Some(&code.expose()), noon()).await.is_ok());
        let again = log_in(&house, Some(&code.expose()), noon()).await;
        assert!(matches!(again, Err(LoginError::CodeRefused)));
    }
    Ok(())
}

/// A12
#[tokio::test]
async fn codes_are_not_guessed() -> TestResult {
    let house = House::build().await?.with_second_factors().guarded();
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let factors = factors(&house);
    let secret = factors.begin(ada, noon()).await?;
    factors
        .confirm(ada, &secret.code_at(noon()), noon())
        .await?;
    for _ in 0..100 {
        // Asking for the code is no failure.
        let asked = log_in(&house, None, noon()).await;
        assert!(matches!(asked, Err(LoginError::CodeRequired)));
    }
    for _ in 0..LoginGuard::FREE_FAILURES {
        let refused = log_in(&house, Some("not it"), noon()).await;
        assert!(matches!(refused, Err(LoginError::CodeRefused)));
    }

    let told = log_in(&house, Some("not it"), noon()).await;

    assert!(matches!(told, Err(LoginError::Throttled { .. })));
    Ok(())
}

/// A12
#[tokio::test]
async fn a_code_is_a_step_up_once() -> TestResult {
    let house = House::build().await?.with_second_factors();
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    let caller = house.who(&pair.access).await?;
    let none = house
        .sessions
        .step_up_with_code(&caller, "000000", noon())
        .await;
    assert!(matches!(none, Err(LoginError::CodeRefused)));
    let factors = factors(&house);
    let secret = factors.begin(ada, noon()).await?;
    factors
        .confirm(ada, &secret.code_at(noon()), noon())
        .await?;
    let later = noon().plus(HALF_MINUTE * 20);
    let code = secret.code_at(later);

    let access = house
        .sessions
        .step_up_with_code(&caller, &code, later)
        .await?;
    let again = house
        .sessions
        .step_up_with_code(&caller, &code, later)
        .await;

    let caller = house.gate.authenticate(access.expose(), later).await?;
    assert!(caller.is_fresh(HALF_MINUTE, later));
    assert!(matches!(again, Err(LoginError::CodeRefused)));
    Ok(())
}
