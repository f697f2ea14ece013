use serde_json::json;

use super::super::channels::{CHANNELS, steal, webhook};
use super::super::client::Client;
use super::super::receiver::{Answer, Receiver};
use super::super::{ADA, Fallible, PASSWORD, eventually};
use super::Site;

/// S2, S13: two servers tell a receiver of each event once, in order, also of those that happened while
/// it was away.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_tell_once_and_in_order() -> Fallible {
    let site = Site::new().await?;
    let allow = [("ARKEEP_OUTBOUND_ALLOW", "127.0.0.0/8")];
    let one = site.start_with("one", &allow).await?;
    let mut admin = site.set_up(&one, "one").await?;
    let two = site.start_with("two", &allow).await?;
    let receiver = Receiver::start().await?;
    receiver.answers(Answer::Status(500));
    let body = webhook("hook", &receiver.url, &["security.*"]);
    admin.create(CHANNELS, &body).await?;

    for at in [&one, &two, &one, &two] {
        let mut client = Client::new(&at.http);
        client.log_in(ADA, PASSWORD).await?;
        steal(&client).await?;
    }
    receiver.until(1).await?;
    receiver.answers(Answer::Status(200));
    admin.log_in(ADA, PASSWORD).await?;
    eventually(async || {
        let mut admin = admin.clone();
        let path = "/api/v1/deliveries?state=delivered";
        let shown = admin.get(path).await?.expect(200)?;
        Ok(shown.json["items"].as_array().map(Vec::len) == Some(4))
    })
    .await?;

    let shown = admin.get("/api/v1/deliveries").await?.expect(200)?;
    let mut written: Vec<_> = shown.json["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| item["id"].clone())
        .collect();
    written.reverse();
    let told = receiver.seen().into_iter();
    let mut told: Vec<_> = told.map(|one| one.json()["id"].clone()).collect();
    let attempts: u64 = shown.json["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["attempts"].as_u64())
        .sum();
    assert_eq!(json!(attempts), json!(told.len()), "each attempt was noted");
    told.dedup();
    assert_eq!(told, written);
    Ok(())
}
