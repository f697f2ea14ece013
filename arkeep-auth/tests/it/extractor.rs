use std::sync::Arc;

use arkeep_auth::axum::{Caller, Stranger};
use arkeep_auth::session::LogOut;
use arkeep_auth::{Authenticator, Role};
use arkeep_core::Clock;
use arkeep_core::testing::ManualClock;
use axum::extract::{FromRef, FromRequestParts as _};
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;

use crate::fixture::{House, TestResult, noon};

#[derive(Clone, FromRef)]
struct Shop {
    authenticator: Authenticator,
    clock: Arc<dyn Clock>,
}

async fn ask(shop: &Shop, headers: &[&str]) -> Result<Caller, Stranger> {
    let mut request = Request::builder();
    for header in headers {
        request = request.header("authorization", *header);
    }
    let (mut parts, ()) = request
        .body(())
        .map_err(|_| Stranger::NoToken)?
        .into_parts();
    Caller::from_request_parts(&mut parts, shop).await
}

fn status(answer: Result<Caller, Stranger>) -> Option<StatusCode> {
    answer
        .err()
        .map(|stranger| stranger.into_response().status())
}

/// A3, A5
#[tokio::test]
async fn lets_known_callers_in_and_nobody_else() -> TestResult {
    let house = House::build().await?;
    let ada = house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    let shop = Shop {
        authenticator: house.gate.clone(),
        clock: Arc::new(ManualClock::at(noon())),
    };
    let bearer = format!("Bearer {}", pair.access.expose());

    let caller = ask(&shop, &[&bearer]).await?;
    assert_eq!(caller.user(), ada);
    assert!(
        ask(&shop, &[&bearer.replace("Bearer", "bEARER")])
            .await
            .is_ok()
    );

    let basic = bearer.replace("Bearer", "Basic");
    let changed = format!("{bearer}A");
    for headers in [
        &[][..],
        &[bearer.as_str(), &bearer],
        &[basic.as_str()],
        &[changed.as_str()],
        &["Bearer"],
        &["Bearer "],
    ] {
        let refused = status(ask(&shop, headers).await);
        assert_eq!(refused, Some(StatusCode::UNAUTHORIZED), "{headers:?}");
    }

    let shown = LogOut {
        refresh: Some(&pair.refresh),
        principal: None,
    };
    house.sessions.log_out(&shown, noon()).await?;
    assert_eq!(
        status(ask(&shop, &[&bearer]).await),
        Some(StatusCode::UNAUTHORIZED)
    );
    Ok(())
}

/// A5
#[tokio::test(start_paused = true)]
async fn answers_that_it_cannot_tell() -> TestResult {
    let house = House::build().await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let pair = house.log_in("ada@example.com").await?;
    let shop = Shop {
        authenticator: house.gate.clone(),
        clock: Arc::new(ManualClock::at(noon())),
    };
    house.store.set_broken(true);
    tokio::time::advance(std::time::Duration::from_secs(2)).await;

    let answer = ask(&shop, &[&format!("Bearer {}", pair.access.expose())]).await;

    assert_eq!(status(answer), Some(StatusCode::SERVICE_UNAVAILABLE));
    Ok(())
}
