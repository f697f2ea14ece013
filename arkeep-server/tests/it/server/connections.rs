use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::resources::policy;
use super::{ADA, Fallible, PASSWORD, Server};

/// S10
#[tokio::test]
async fn a_silent_crowd_keeps_nobody_else_out() -> Fallible {
    let server = Server::start().await?;
    let address: SocketAddr = server.base.trim_start_matches("http://").parse()?;

    let mut crowd = Vec::new();
    for _ in 0..1_100 {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
        crowd.push(socket.connect(address).await?);
    }

    let live = server.client().get("/health/live").await?;
    assert_eq!(live.status, 200);
    // The last one came when its address had its share, and was hung up on.
    let last = crowd.last_mut().ok_or("nobody came")?;
    let heard = tokio::time::timeout(PATIENCE, last.read(&mut [0])).await?;
    assert!(matches!(heard, Ok(0) | Err(_)), "{heard:?}");
    Ok(())
}

/// A4
#[tokio::test]
async fn a_disabled_user_follows_no_log_any_more() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let body = policy(&mut admin).await?;
    let policy = admin.create("/api/v1/policies", &body).await?;
    let run = format!(
        "/api/v1/policies/{}/run",
        policy["id"].as_str().unwrap_or_default()
    );
    let job = admin.post(&run, &json!({})).await?.expect(202)?;
    let viewer = json!({"email": "v@example.org", "password": PASSWORD, "role": "viewer"});
    let viewer = admin.create("/api/v1/users", &viewer).await?;
    let mut client = server.client();
    client.log_in("v@example.org", PASSWORD).await?;
    let log = format!("{}/api/v1/jobs/{}/log", server.base, job.string("/job_id"));
    let stream = reqwest::Client::new()
        .get(log)
        .bearer_auth(client.bearer.as_deref().unwrap_or_default())
        .header("accept", "text/event-stream")
        .send()
        .await?
        .error_for_status()?;

    let id = viewer["id"].as_str().unwrap_or_default();
    admin
        .patch(&format!("/api/v1/users/{id}"), &json!({"enabled": false}))
        .await?
        .expect(200)?;

    let followed = tokio::time::timeout(PATIENCE, stream.text()).await??;
    assert!(!followed.contains("event: end"), "{followed}");
    Ok(())
}

/// A3
#[tokio::test]
async fn a_logout_is_whole_whoever_hangs_up() -> Fallible {
    let (server, _) = Server::with_admin().await?;
    let address = server.base.trim_start_matches("http://").to_owned();
    let mut cut = 0;
    for round in 0..40_u64 {
        let mut client = server.client();
        client.log_in(ADA, PASSWORD).await?;
        let cookie = client.cookie.clone().unwrap_or_default();
        let request = format!(
            "POST /api/v1/auth/logout HTTP/1.1\r\nhost: {address}\r\ncookie: {cookie}\r\n\
             content-length: 0\r\n\r\n"
        );
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(request.as_bytes()).await?;
        // Each round hangs up a little later: before, while, and after it is worked on.
        let heard = tokio::time::timeout(Duration::from_micros(100 * round), stream.read_u8());
        cut += u32::from(heard.await.is_err());
        stream.set_zero_linger()?;
        drop(stream);

        let mut cookie_only = client.clone();
        cookie_only.bearer = None;
        let refreshed = cookie_only.post("/api/v1/auth/refresh", &json!({})).await?;
        if refreshed.status != 200 {
            // The session has ended, and its access token with it, at once or as soon as the
            // change that was cut off is through.
            super::eventually(async || {
                let me = client.clone().get("/api/v1/users/me").await?;
                Ok(me.status == 401)
            })
            .await?;
        }
    }
    assert!(cut > 0, "nobody hung up in time");
    Ok(())
}

/// S15
#[tokio::test]
async fn a_list_is_no_object_anywhere_in_a_policy() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let mut body = policy(&mut admin).await?;
    body["retention"] = json!({"keep_last": 7, "daily": 30});
    let policy = admin.create("/api/v1/policies", &body).await?;
    let path = format!(
        "/api/v1/policies/{}",
        policy["id"].as_str().unwrap_or_default()
    );

    for (field, list) in [
        ("retention", json!([])),
        ("limits", json!([5])),
        ("hooks", json!([[], [], []])),
        ("schedule", json!(["0 0 * * *", "UTC", 5])),
        ("window", json!(["22:00", "06:00", "UTC"])),
        (
            "destinations[0]",
            json!([body["destinations"][0]["destination_id"], "zz", null]),
        ),
    ] {
        let name = field.trim_end_matches("[0]");
        let value = if name == field { list } else { json!([list]) };
        let refused = admin
            .send(Method::PATCH, &path, Some(&json!({name: value})), &[])
            .await?
            .expect(422)?;
        assert_eq!(refused.fields(), [field], "{}", refused.text);
    }
    let after = admin.get(&path).await?.expect(200)?;
    assert_eq!(after.json["version"], policy["version"]);
    assert_eq!(after.json["retention"]["keep_last"], Value::from(7));
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(20);
