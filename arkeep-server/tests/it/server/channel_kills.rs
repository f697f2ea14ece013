//! The real program, killed between what happened and whoever should know.

use reqwest::Method;
use serde_json::json;

use super::channels::{CHANNELS, OPTIONS, webhook};
use super::client::Client;
use super::process::{serving, waited};
use super::receiver::{Answer, Receiver};
use super::{ADA, Fallible, PASSWORD, Server, eventually};

/// S13: at least once, through every kill; twice only if it died before it could note that it had been
/// taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_happened_before_a_kill_is_told_after_it() -> Fallible {
    for (point, times) in [
        ("theft.committed", 1),
        ("notify.claimed", 1),
        ("notify.sent", 2),
    ] {
        let server = Server::start_in(tempfile::TempDir::new()?, &OPTIONS).await?;
        let mut admin = server.set_up().await?;
        let receiver = Receiver::start().await?;
        let body = webhook("hook", &receiver.url, &["security.*"]);
        admin.create(CHANNELS, &body).await?;
        let dir = server.stop().await?;
        let data = dir.path().join("data");
        let allow = ("ARKEEP_OUTBOUND_ALLOW", "127.0.0.0/8");

        let (mut killed, address) = serving(&data, &[allow, ("ARKEEP_FAILPOINT", point)]).await?;
        let mut client = Client::new(&format!("http://{address}"));
        client.log_in(ADA, PASSWORD).await?;
        // The answer may be lost with the server.
        let _ = super::channels::steal(&client).await;
        assert_eq!(waited(&mut killed).await?.code(), None, "{point}");
        assert_eq!(receiver.seen().len(), times - 1, "{point}");
        let (mut again, address) = serving(&data, &[allow]).await?;
        receiver.until(times).await?;

        assert_eq!(
            receiver.types(),
            vec!["security.token_reuse"; times],
            "{point}"
        );
        let ids: Vec<_> = receiver
            .seen()
            .iter()
            .map(|one| one.json()["id"].clone())
            .collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{point}");
        let mut client = Client::new(&format!("http://{address}"));
        client.log_in(ADA, PASSWORD).await?;
        eventually(async || {
            let mut client = client.clone();
            let shown = client.get("/api/v1/deliveries").await?.expect(200)?;
            Ok(shown.string("/items/0/state") == "delivered")
        })
        .await?;
        again.kill().await?;
    }
    Ok(())
}

/// S13: what waits for a receiver that was away waits through a kill as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_outlives_the_server() -> Fallible {
    let dir = Server::with_admin().await?.0.stop().await?;
    let data = dir.path().join("data");
    let allow = ("ARKEEP_OUTBOUND_ALLOW", "127.0.0.0/8");
    let receiver = Receiver::start().await?;
    receiver.answers(Answer::Status(502));
    let (mut first, address) = serving(&data, &[allow]).await?;
    let mut client = Client::new(&format!("http://{address}"));
    client.log_in(ADA, PASSWORD).await?;
    let body = webhook("hook", &receiver.url, &["security.*"]);
    client.create(CHANNELS, &body).await?;
    super::channels::steal(&client).await?;
    receiver.until(2).await?;
    first.kill().await?;
    let tried = receiver.seen().len();
    receiver.answers(Answer::Status(200));

    let (mut again, address) = serving(&data, &[allow]).await?;
    receiver.until(tried + 1).await?;

    let mut client = Client::new(&format!("http://{address}"));
    client.log_in(ADA, PASSWORD).await?;
    let shown = client
        .send(Method::GET, "/api/v1/deliveries", None, &[])
        .await?;
    let shown = shown.expect(200)?;
    assert_eq!(shown.json["items"].as_array().map(Vec::len), Some(1));
    assert_ne!(shown.json["items"][0]["attempts"], json!(0));
    again.kill().await?;
    Ok(())
}
