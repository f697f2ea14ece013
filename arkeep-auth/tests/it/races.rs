use std::sync::Arc;

use arkeep_auth::{RefreshToken, Role};

use crate::fixture::{House, TestResult, noon};

/// A6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_double_refreshes_have_one_successor_each() -> TestResult {
    const ROUNDS: usize = 10_000;
    let house = Arc::new(House::build().await?);
    house.add("ada@example.com", Role::Viewer).await?;
    let mut token = Arc::new(house.log_in("ada@example.com").await?.refresh);

    for round in 0..ROUNDS {
        let (left, right) = tokio::join!(
            tokio::spawn(refresh(Arc::clone(&house), Arc::clone(&token))),
            tokio::spawn(refresh(Arc::clone(&house), Arc::clone(&token))),
        );
        let (left, right) = (left?.ok_or("a winner")?, right?.ok_or("the same")?);
        assert_eq!(left.digest(), right.digest(), "round {round}");
        token = Arc::new(left);
    }
    Ok(())
}

async fn refresh(house: Arc<House>, token: Arc<RefreshToken>) -> Option<RefreshToken> {
    let pair = house.sessions.refresh(&token, &house.client, noon()).await;
    Some(pair.ok()?.refresh)
}
