use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::super::client::Client;
use super::super::{ADA, Fallible, PASSWORD};
use super::{Replica, Site};

/// The same person at another replica.
fn at(replica: &Replica, client: &Client) -> Client {
    let mut other = Client::new(&replica.http);
    other.bearer.clone_from(&client.bearer);
    other
}

/// When the last request was sent that the other replica let in. However slow this machine is, what
/// is let in was decided after it was sent.
async fn let_in_until(client: &mut Client, began: Instant) -> Fallible<Duration> {
    let mut last = Duration::ZERO;
    loop {
        let asked = began.elapsed();
        let answer = client.get("/api/v1/users/me").await?;
        if answer.status == 401 {
            return Ok(last);
        }
        answer.expect(200)?;
        last = asked;
        if asked > Duration::from_secs(20) {
            return Err("it is let in for ever".into());
        }
    }
}

/// A3, A4: whatever takes a token back at one replica takes it back at the other, also when the first is
/// killed as soon as it has answered.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_revokes_the_other_refuses_within_a_second() -> Fallible {
    for killed in [false, true] {
        for way in ["logout", "logout-all", "disable"] {
            let site = Site::new().await?;
            let (mut one, two, mut admin) = site.two().await?;
            let new = json!({"email": "b@example.org", "password": PASSWORD, "role": "viewer"});
            let user = admin.create("/api/v1/users", &new).await?;
            let mut bob = Client::new(&one.http);
            bob.log_in("b@example.org", PASSWORD).await?;
            let mut elsewhere = at(&two, &bob);
            elsewhere.get("/api/v1/users/me").await?.expect(200)?;

            let body = json!({});
            match way {
                "disable" => {
                    let id = user["id"].as_str().unwrap_or_default();
                    let path = format!("/api/v1/users/{id}");
                    let change = json!({"enabled": false});
                    admin.patch(&path, &change).await?.expect(200)?;
                }
                _ => {
                    let path = format!("/api/v1/auth/{way}");
                    bob.post(&path, &body).await?.expect(204)?;
                }
            }
            let began = Instant::now();
            if killed {
                one.process.start_kill()?;
            }
            let last = let_in_until(&mut elsewhere, began).await?;

            assert!(last <= Duration::from_secs(1), "{way}: {last:?}");
            // For ever: a replica that starts afterwards refuses it, too.
            let three = site.start("three").await?;
            let late = at(&three, &bob).get("/api/v1/users/me").await?;
            assert_eq!(late.status, 401, "{way}");
            // And the next login is let in at once.
            Client::new(&two.http).log_in(ADA, PASSWORD).await?;
        }
    }
    Ok(())
}

/// A5: a replica that cannot read what is revoked lets nobody in.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_database_refuses_everybody() -> Fallible {
    let site = Site::new().await?;
    let (one, _two, mut admin) = site.two().await?;
    let name = site.database.get_database().unwrap_or_default().to_owned();
    let elsewhere = site.database.clone().database("postgres");
    let mut raw =
        <sqlx::postgres::PgConnection as sqlx::Connection>::connect_with(&elsewhere).await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false"
    )))
    .execute(&mut raw)
    .await?;
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(&name)
        .execute(&mut raw)
        .await?;

    let began = Instant::now();
    loop {
        let answer = admin.get("/api/v1/users/me").await?;
        // Until its copy is a second old it may answer, or fail at what it would read.
        if answer.status == 503 && began.elapsed() > Duration::from_secs(2) {
            break;
        }
        let late = began.elapsed() > Duration::from_secs(2);
        assert!(!late, "{}: {}", answer.status, answer.text);
    }
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS true"
    )))
    .execute(&mut raw)
    .await?;

    super::super::eventually(async || {
        let mut again = at(&one, &admin);
        Ok(again.get("/api/v1/users/me").await?.status == 200)
    })
    .await
}
