use std::fs;
use std::time::Duration;

use arkeep_server::store::InstanceStore as _;
use serde_json::json;

use super::super::client::Client;
use super::super::{ADA, Fallible, PASSWORD, eventually};
use super::Site;

/// S1, S2, S9: of replicas that start at once on an empty database, one makes what a first start makes.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_make_everything_once() -> Fallible {
    let site = Site::new().await?;

    let (one, two, three) = tokio::join!(site.start("one"), site.start("two"), site.start("three"));
    let replicas = [one?, two?, three?];

    let mut raw = site.raw().await?;
    for table in ["ca", "token_keys", "vault_ring"] {
        let query = format!("SELECT count(*) FROM {table}");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(&mut raw)
            .await?;
        assert_eq!(count, 1, "{table}");
    }
    let offered = ["one", "two", "three"].map(|machine| site.data(machine).join("setup-token"));
    let offered: Vec<_> = offered.iter().filter(|path| path.exists()).collect();
    let [file] = offered.as_slice() else {
        return Err(format!("{} tokens were offered", offered.len()).into());
    };
    // It is worth as much at every other replica.
    let token = fs::read_to_string(file)?;
    for replica in &replicas {
        let body = json!({
            "setup_token": token,
            "email": ADA, "password": PASSWORD, "display_name": "Ada",
        });
        let answer = Client::new(&replica.http)
            .post("/api/v1/setup", &body)
            .await?;
        let first = replica.http == replicas[0].http;
        assert_eq!(answer.status, if first { 201 } else { 409 });
    }
    eventually(async || Ok(!file.exists())).await?;
    assert!(site.store().await?.set_up_at().await?.is_some());
    // A token of one replica is one of each.
    let mut client = Client::new(&replicas[0].http);
    client.log_in(ADA, PASSWORD).await?;
    for replica in &replicas {
        let mut other = Client::new(&replica.http);
        other.bearer = client.bearer.clone();
        other.get("/api/v1/users/me").await?.expect(200)?;
    }
    Ok(())
}

/// S9: a replica that starts again before the setup offers what it has offered.
#[tokio::test(flavor = "multi_thread")]
async fn a_setup_token_outlives_the_process_that_offered_it() -> Fallible {
    let site = Site::new().await?;
    let mut one = site.start("one").await?;
    let token = fs::read_to_string(site.data("one").join("setup-token"))?;
    one.process.kill().await?;

    let one = site.start("one").await?;

    assert_eq!(
        fs::read_to_string(site.data("one").join("setup-token"))?,
        token
    );
    site.set_up(&one, "one").await?;
    Ok(())
}

/// V6: with another key, without one, or without the ring, nothing is written: no schema, no row.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_or_a_missing_ring_changes_nothing() -> Fallible {
    let site = Site::new().await?;
    let (mut one, mut two, mut admin) = site.two().await?;
    super::super::resources::policy(&mut admin).await?;
    one.process.kill().await?;
    two.process.kill().await?;
    let mut raw = site.raw().await?;
    // What a later version would bring up to date.
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version >= 9")
        .execute(&mut raw)
        .await?;
    let wrong = site.dir.path().join("wrong.key");
    super::super::vault::write(&wrong, &[8; 32], 0o600)?;
    let absent = site.dir.path().join("absent.key");
    let before = site.picture().await?;

    for key in [&wrong, &absent] {
        let key = super::super::vault::text(key);
        let refused = site
            .command(
                "three",
                &["serve", "--http-addr", "127.0.0.1:0"],
                &[("ARKEEP_VAULT_KEY_FILE", &key)],
            )
            .await?;

        assert_eq!(refused.code, Some(4), "{}", refused.errors);
        assert_eq!(site.picture().await?, before);
        assert!(!site.data("three").exists());
    }
    sqlx::query("DELETE FROM vault_ring")
        .execute(&mut raw)
        .await?;
    let before = site.picture().await?;

    for arguments in [
        &["serve", "--http-addr", "127.0.0.1:0"][..],
        &["vault", "verify"],
    ] {
        let refused = site.command("three", arguments, &[]).await?;

        assert_eq!(refused.code, Some(4), "{}", refused.errors);
        assert!(refused.errors.contains("vault_ring"), "{}", refused.errors);
        assert_eq!(site.picture().await?, before);
    }
    Ok(())
}

/// V6: a ring and key of another site.
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_of_another_site_changes_nothing() -> Fallible {
    let (site, other) = (Site::new().await?, Site::new().await?);
    for each in [&site, &other] {
        each.start("one").await?.process.kill().await?;
    }
    let ring: Vec<u8> = sqlx::query_scalar("SELECT ring FROM vault_ring")
        .fetch_one(&mut other.raw().await?)
        .await?;
    sqlx::query("UPDATE vault_ring SET ring = $1")
        .bind(ring)
        .execute(&mut site.raw().await?)
        .await?;
    let before = site.picture().await?;

    let refused = site
        .command("one", &["serve", "--http-addr", "127.0.0.1:0"], &[])
        .await?;
    let verified = site.command("one", &["vault", "verify"], &[]).await?;

    assert_eq!(refused.code, Some(4), "{}", refused.errors);
    assert_eq!(verified.code, Some(1), "{}", verified.errors);
    assert_eq!(site.picture().await?, before);
    Ok(())
}

/// A start that was killed between the schema and the ring is finished by the next.
#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_killed_is_finished_by_the_next() -> Fallible {
    for point in ["ring-writing", "ring-written"] {
        let site = Site::new().await?;
        let died = site
            .command(
                "one",
                &[
                    "serve",
                    "--http-addr",
                    "127.0.0.1:0",
                    "--grpc-addr",
                    "127.0.0.1:0",
                ],
                &[("ARKEEP_FAILPOINT", point)],
            )
            .await?;
        assert_eq!(died.code, None, "{point}: {}", died.errors);

        let one = site.start("two").await?;

        site.set_up(&one, "two").await?;
        site.done(&["vault", "verify"]).await?;
    }
    Ok(())
}

/// Commands make nothing where there is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_makes_no_server_of_an_empty_database() -> Fallible {
    let site = Site::new().await?;

    for arguments in [
        &["user", "list"][..],
        &["vault", "status"],
        &["vault", "rotate"],
    ] {
        let refused = site.command("one", arguments, &[]).await?;

        assert_eq!(refused.code, Some(3), "{}", refused.errors);
    }
    assert_eq!(site.picture().await?, "");
    Ok(())
}

/// A replica that is asked to ends in good order, whatever it listens for, and the other goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_one_in_good_order() -> Fallible {
    let site = Site::new().await?;
    let (mut one, two, mut admin) = site.two().await?;

    super::super::process::signal(&one.process, rustix::process::Signal::TERM)?;
    let status = tokio::time::timeout(PATIENCE, one.process.wait()).await??;

    assert_eq!(status.code(), Some(0));
    assert!(admin.get("/api/v1/users/me").await.is_err());
    Client::new(&two.http).log_in(ADA, PASSWORD).await
}

const PATIENCE: Duration = Duration::from_secs(60);
