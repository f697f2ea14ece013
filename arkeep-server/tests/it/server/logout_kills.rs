//! The real program, killed at every step of a logout and of a theft that is found out.
//!
//! Whatever the step, both kinds of token are dead afterwards or both live: there is one commit.

use std::path::Path;

use reqwest::Method;

use super::client::Client;
use super::process::{serving, waited};
use super::{ADA, Fallible, PASSWORD, Server};

/// Whether the access token, and whether the refresh token, still gives something.
async fn alive(client: &Client) -> Fallible<(bool, bool)> {
    let mut by_access = client.clone();
    by_access.cookie = None;
    let access = by_access.get("/api/v1/users/me").await?.status == 200;
    let mut by_refresh = client.clone();
    by_refresh.bearer = None;
    let answer = by_refresh
        .send(Method::POST, "/api/v1/auth/refresh", None, &[])
        .await?;
    Ok((access, answer.status == 200))
}

/// The same client of another run of the server.
fn moved(client: &Client, address: &str) -> Client {
    let mut moved = Client::new(&format!("http://{address}"));
    moved.bearer.clone_from(&client.bearer);
    moved.cookie.clone_from(&client.cookie);
    moved
}

async fn logged_in(address: &str) -> Fallible<Client> {
    let mut client = Client::new(&format!("http://{address}"));
    client.log_in(ADA, PASSWORD).await?;
    Ok(client)
}

async fn refreshed(client: &Client) -> Fallible<Client> {
    let mut next = client.clone();
    next.bearer = None;
    let answer = next
        .send(Method::POST, "/api/v1/auth/refresh", None, &[])
        .await?
        .expect(200)?;
    next.take(&answer);
    Ok(next)
}

/// A3
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_is_killed_has_ended_both_tokens_or_none() -> Fallible {
    let dir = Server::with_admin().await?.0.stop().await?;
    let data = dir.path().join("data");

    for (point, happened) in [
        ("logout.ended", false),
        ("logout.taken-back", false),
        ("logout.committed", true),
    ] {
        for shown in ["both", "bearer", "cookie"] {
            let (mut server, address) = serving(&data, &[("ARKEEP_FAILPOINT", point)]).await?;
            let client = logged_in(&address).await?;
            let mut leaving = client.clone();
            match shown {
                "bearer" => leaving.cookie = None,
                "cookie" => leaving.bearer = None,
                _ => {}
            }
            let lost = leaving
                .send(Method::POST, "/api/v1/auth/logout", None, &[])
                .await;
            assert!(lost.is_err(), "{point} {shown}");
            assert_eq!(waited(&mut server).await?.code(), None, "{point} {shown}");

            let found = after_restart(&data, &client).await?;

            assert_eq!(found, (!happened, !happened), "{point} {shown}");
        }
    }
    Ok(())
}

/// A4, A6: the family, and every access token of its user.
#[tokio::test(flavor = "multi_thread")]
async fn a_theft_that_is_killed_has_ended_both_tokens_or_none() -> Fallible {
    let dir = Server::with_admin().await?.0.stop().await?;
    let data = dir.path().join("data");

    for (point, happened) in [
        ("theft.ended", false),
        ("theft.taken-back", false),
        ("theft.committed", true),
    ] {
        let (mut server, address) = serving(&data, &[("ARKEEP_FAILPOINT", point)]).await?;
        let stolen = logged_in(&address).await?;
        // Twice, so that no grace is left.
        let last = refreshed(&refreshed(&stolen).await?).await?;
        assert!(refreshed(&stolen).await.is_err(), "{point}");
        assert_eq!(waited(&mut server).await?.code(), None, "{point}");

        let found = after_restart(&data, &last).await?;

        assert_eq!(found, (!happened, !happened), "{point}");
    }
    Ok(())
}

async fn after_restart(data: &Path, client: &Client) -> Fallible<(bool, bool)> {
    let (mut server, address) = serving(data, &[]).await?;
    let found = alive(&moved(client, &address)).await?;
    server.kill().await?;
    Ok(found)
}
