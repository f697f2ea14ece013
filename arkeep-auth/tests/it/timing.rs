//! Who cannot come in learns nothing from how long it took to be told.

use std::time::Duration;

use arkeep_auth::password::HashCost;
use arkeep_auth::session::LoginError;
use arkeep_auth::{Role, UserStore as _};
use arkeep_core::Entropy as _;
use arkeep_core::testing::SeededEntropy;
use tokio::time::Instant;

use crate::fixture::{House, PASSWORD, TestResult, noon};

const SAMPLES: usize = 2_000;
/// Beyond this, two samples are not of one distribution (Welch's t; the bound is dudect's).
const DISTINCT: f64 = 4.5;

/// A9
#[tokio::test]
async fn unknown_wrong_and_disabled_take_the_same_time() -> TestResult {
    // A small part of what a login costs, so that thousands are soon made.
    let house = House::hashing_at(HashCost::for_testing_with(1_024)).await?;
    house.add("ada@example.com", Role::Viewer).await?;
    let bob = house.add("bob@example.com", Role::Viewer).await?;
    house.store.set_enabled(bob, false, noon());

    let attempts = [
        ("eve@example.com", PASSWORD),
        ("ada@example.com", "the wrong horse"),
        ("bob@example.com", PASSWORD),
    ];
    let mut times = [const { Vec::new() }; 3];
    let mut unhashed = Vec::new();
    let order = SeededEntropy::new(9);
    for _ in 0..SAMPLES * 3 {
        // In no order, so that none always comes after another.
        let mut dice = [0];
        order.fill(&mut dice);
        let kind = usize::from(dice[0]) % 3;
        let (email, password) = attempts[kind];
        times[kind].push(refusal(&house, email, password).await?);
    }
    for _ in 0..SAMPLES {
        // What the refusal of an unknown user would cost without the dummy hash.
        let begin = Instant::now();
        assert!(
            house
                .store
                .find_by_email("eve@example.com")
                .await?
                .is_none()
        );
        unhashed.push(begin.elapsed());
    }

    let [unknown, wrong, disabled] = times;
    for (name, left, right) in [
        ("unknown and wrong", &unknown, &wrong),
        ("unknown and disabled", &unknown, &disabled),
        ("wrong and disabled", &wrong, &disabled),
    ] {
        let t = welch(left, right);
        assert!(t.abs() < DISTINCT, "{name}: |t| = {:.1}", t.abs());
    }
    let t = welch(&unhashed, &wrong);
    assert!(
        t.abs() > DISTINCT,
        "the test would see it: |t| = {:.1}",
        t.abs()
    );
    Ok(())
}

async fn refusal(house: &House, email: &str, password: &str) -> Result<Duration, LoginError> {
    let begin = Instant::now();
    let outcome = house.log_in_with(email, password).await;
    let took = begin.elapsed();
    match outcome {
        Err(LoginError::Refused) => Ok(took),
        Err(other) => Err(other),
        Ok(_) => Err(LoginError::Busy),
    }
}

/// Welch's t of the lower nine tenths: what the machine did meanwhile is in the last tenth.
fn welch(left: &[Duration], right: &[Duration]) -> f64 {
    let (left_mean, left_error) = mean_and_error(left);
    let (right_mean, right_error) = mean_and_error(right);
    (left_mean - right_mean) / (left_error + right_error).sqrt()
}

fn mean_and_error(times: &[Duration]) -> (f64, f64) {
    let mut micros: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    micros.sort_by(f64::total_cmp);
    micros.truncate(micros.len() * 9 / 10);
    let count = micros.len() as f64;
    let mean = micros.iter().sum::<f64>() / count;
    let variance = micros.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}
