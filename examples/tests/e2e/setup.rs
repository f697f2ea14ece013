//! The first administrator.

use arkeep_examples::{Programs, Server};
use serde_json::json;

use crate::fleet::{Outcome, PASSWORD, scratch};

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn has_one_winner_among_a_hundred() -> Outcome {
    let scratch = scratch()?;
    let server = Server::start(&Programs::find()?, &scratch.path().join("server"), &[]).await?;
    let token = server.setup_token()?;

    let mut callers = tokio::task::JoinSet::new();
    for number in 0..100 {
        let api = server.api();
        let body = json!({
            "setup_token": token,
            "email": format!("admin{number}@example.com"),
            "password": PASSWORD,
            "display_name": "Administrator",
        });
        callers.spawn(async move { api.post("/api/v1/setup", &body).await });
    }
    let mut created = 0;
    while let Some(answer) = callers.join_next().await {
        let answer = answer??;
        match answer.status {
            201 => created += 1,
            // Overloaded callers are told to come back; they have made nothing.
            409 | 503 => {}
            status => panic!("{status}: {}", answer.text),
        }
    }

    assert_eq!(created, 1);
    assert!(
        !server.data_dir().join("setup-token").exists(),
        "the setup token is still there"
    );
    let body = json!({
        "setup_token": token,
        "email": "late@example.com",
        "password": PASSWORD,
        "display_name": "Late",
    });
    let late = server.api().post("/api/v1/setup", &body).await?;
    assert_eq!(late.status, 409);
    assert_eq!(
        server.api().get("/api/v1/setup").await?.json,
        json!({"completed": true})
    );
    Ok(())
}

/// A3: after a logout both tokens are dead, also after a kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_survives_a_kill() -> Outcome {
    let scratch = scratch()?;
    let mut server = Server::start(&Programs::find()?, &scratch.path().join("server"), &[]).await?;
    let mut api = server.set_up("admin@example.com", PASSWORD).await?;
    api.refresh().await?;
    api.get("/api/v1/agents").await?.expect(200)?;

    api.post("/api/v1/auth/logout", &json!({}))
        .await?
        .expect(204)?;
    let before = api.get("/api/v1/agents").await?;
    server.process().kill_9().await?;
    server.start_again().await?;
    let after = api.get("/api/v1/agents").await?;

    assert_eq!((before.status, after.status), (401, 401));
    assert!(api.refresh().await.is_err(), "the refresh token lives");
    Ok(())
}
