use std::path::Path;

use serde_json::json;

use super::super::process::run;
use super::super::{Fallible, Server};

async fn ca(data: &Path, arguments: &[&str]) -> Fallible<(Option<i32>, String)> {
    let data = data.to_string_lossy();
    let all = [&["ca"], arguments, &["--data-dir", &data]].concat();
    let ended = run(&all, &[]).await?;
    Ok((ended.code, ended.output + &ended.errors))
}

/// T7
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_work_beside_a_server_and_without_one() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let data = server.data_dir();
    let (_, token) = super::machine::join_token(&mut admin, "first").await?;

    let (code, fingerprint) = ca(&data, &["fingerprint"]).await?;
    assert_eq!(code, Some(0), "{fingerprint}");
    assert_eq!(fingerprint.trim(), token.fingerprint().to_string());
    let (code, told) = ca(&data, &["rotate"]).await?;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("a new root is announced"), "{told}");
    let shown = admin.get("/api/v1/ca").await?.expect(200)?.json;
    assert_eq!(shown["phase"], json!("announced"), "the server sees it");

    let dir = server.stop().await?;
    let data = dir.path().join("data");
    let (code, status) = ca(&data, &["status"]).await?;
    assert_eq!(code, Some(0), "{status}");
    assert!(status.starts_with("announced since "), "{status}");
    assert_eq!(status.matches("BEGIN CERTIFICATE").count(), 2, "{status}");
    assert!(status.contains("every agent is ready"), "{status}");
    let (code, told) = ca(&data, &["rotate", "--force"]).await?;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("wait until"), "{told}");
    let (code, again) = ca(&data, &["fingerprint"]).await?;
    assert_eq!((code, again), (Some(0), fingerprint), "the old one signs");
    Ok(())
}
