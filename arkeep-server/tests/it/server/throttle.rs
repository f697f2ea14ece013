use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::LoginGuard;
use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::client::{Answer, Client};
use super::{ADA, Fallible, PASSWORD, Server};

const LOGIN: &str = "/api/v1/auth/login";
const PROXIED: [&str; 2] = ["--trusted-proxy", "127.0.0.0/8"];

async fn attempt(client: &mut Client, email: &str, password: &str, from: &str) -> Fallible<Answer> {
    let body = json!({"email": email, "password": password});
    let forwarded = [("x-forwarded-for", from)];
    client
        .send(Method::POST, LOGIN, Some(&body), &forwarded)
        .await
}

/// A9: failures only; and a header that anybody can send changes nothing.
#[tokio::test]
async fn whoever_guesses_is_made_to_wait() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    server.set_up().await?;
    let mut guesser = server.client();
    for right in 0..LoginGuard::FREE_FAILURES * 2 {
        let from = format!("203.0.113.{right}");
        attempt(&mut guesser, ADA, PASSWORD, &from)
            .await?
            .expect(200)?;
    }

    for wrong in 0..LoginGuard::FREE_FAILURES {
        let from = format!("198.51.100.{wrong}");
        attempt(&mut guesser, ADA, "wrong password", &from)
            .await?
            .expect(401)?;
    }
    // Not looked at any more, right or wrong.
    for password in ["wrong password", PASSWORD] {
        let told = attempt(&mut guesser, ADA, password, "192.0.2.7").await?;
        assert_eq!((told.status, told.code().as_str()), (429, "rate_limited"));
        assert_eq!(told.header("retry-after"), "1");
    }
    clock.advance(Duration::from_secs(1));
    attempt(&mut guesser, ADA, PASSWORD, "192.0.2.7")
        .await?
        .expect(200)?;
    Ok(())
}

/// A9
#[tokio::test]
async fn a_stranger_locks_nobody_out_of_where_they_are_known() -> Fallible {
    let server = Server::start_in(TempDir::new()?, &PROXIED).await?;
    server.set_up().await?;
    let (mut home, mut stranger) = (server.client(), server.client());
    attempt(&mut home, ADA, PASSWORD, "198.51.100.1")
        .await?
        .expect(200)?;

    let mut last = 0;
    for _ in 0..=LoginGuard::FREE_FAILURES {
        let answer = attempt(&mut stranger, ADA, "wrong password", "203.0.113.9").await?;
        last = answer.status;
    }

    assert_eq!(last, 429);
    attempt(&mut home, ADA, PASSWORD, "198.51.100.1")
        .await?
        .expect(200)?;
    // Nor does it tell who has an account.
    for _ in 0..=LoginGuard::FREE_FAILURES {
        let nobody = "nobody@example.org";
        last = attempt(&mut stranger, nobody, "wrong password", "203.0.113.10")
            .await?
            .status;
    }
    assert_eq!(last, 429);
    Ok(())
}

/// A9: an address that tries many accounts.
#[tokio::test]
async fn an_address_that_tries_many_accounts_is_made_to_wait() -> Fallible {
    let server = Server::start_in(TempDir::new()?, &PROXIED).await?;
    server.set_up().await?;
    let mut guesser = server.client();
    for account in 0..LoginGuard::FREE_FAILURES_OF_ADDRESS {
        let email = format!("user{account}@example.org");
        attempt(&mut guesser, &email, "wrong password", "203.0.113.9")
            .await?
            .expect(401)?;
    }

    let told = attempt(&mut guesser, "one.more@example.org", "x", "203.0.113.9").await?;
    let other = attempt(&mut guesser, "one.more@example.org", "x", "203.0.113.10").await?;

    assert_eq!((told.status, other.status), (429, 401));
    Ok(())
}

/// A9, A12: codes and passwords of a step-up are guesses, too.
#[tokio::test]
async fn whoever_guesses_at_a_step_up_is_made_to_wait() -> Fallible {
    let (_server, mut ada) = Server::with_admin().await?;
    let mut seen = Vec::new();
    for _ in 0..=LoginGuard::FREE_FAILURES {
        let wrong = json!({"code": "000000"});
        seen.push(ada.post("/api/v1/auth/step-up", &wrong).await?.status);
    }

    assert_eq!(seen, [401, 401, 401, 401, 401, 429]);
    let change = json!({"password": "another horse battery", "current_password": PASSWORD});
    let told = ada.patch("/api/v1/users/me", &change).await?;
    assert_eq!(
        (told.status, told.header("retry-after").as_str()),
        (429, "1")
    );
    Ok(())
}

/// A8: more logins than may wait are told to come back, at once, and the rest goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_logins_is_told_to_come_back() -> Fallible {
    let server = Server::start_in(TempDir::new()?, &PROXIED).await?;
    let mut admin = server.set_up().await?;
    // One address may not have that many connections.
    let clients = [
        server.client_from([127, 0, 0, 1].into()),
        server.client_from([127, 0, 0, 2].into()),
    ];
    let (mut storm, mut next) = (JoinSet::new(), clients.iter().cycle());
    for number in 0..400_u32 {
        let mut client = next.next().cloned().ok_or("no client")?;
        storm.spawn(async move {
            let from = format!("10.1.{}.{}", number / 256, number % 256);
            let email = format!("user{number}@example.org");
            let answer = attempt(&mut client, &email, "wrong password", &from).await;
            answer.map_err(|error| error.to_string())
        });
    }

    let told = loop {
        let answer = storm
            .join_next()
            .await
            .ok_or("nobody was turned away")???;
        if answer.status != 401 {
            break answer;
        }
    };
    admin.get("/api/v1/users/me").await?.expect(200)?;
    assert_eq!((told.status, told.code().as_str()), (503, "unavailable"));
    assert!(told.header("retry-after").parse::<u32>()? >= 1);
    Ok(())
}
