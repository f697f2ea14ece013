use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use tokio::task::JoinSet;

use super::{ADA, Fallible, PASSWORD, Server};

/// S9
#[tokio::test(flavor = "multi_thread")]
async fn has_one_winner_among_a_hundred() -> Fallible {
    let server = Server::start().await?;
    let token = server.setup_token()?;

    let mut callers = JoinSet::new();
    for number in 0..100 {
        let (mut client, token) = (server.client(), token.clone());
        callers.spawn(async move {
            let body = json!({
                "setup_token": token,
                "email": format!("admin{number}@example.org"),
                "password": PASSWORD,
                "display_name": "Admin",
            });
            client
                .post("/api/v1/setup", &body)
                .await
                .map_or(0, |answer| answer.status)
        });
    }
    let statuses = callers.join_all().await;

    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        statuses.iter().filter(|status| **status == 409).count(),
        99,
        "{statuses:?}"
    );
    assert!(!server.data_dir().join("setup-token").exists());
    Ok(())
}

/// S9
#[tokio::test]
async fn is_done_once_also_after_a_restart() -> Fallible {
    let server = Server::start().await?;
    let token = server.setup_token()?;
    let mut client = server.set_up().await?;
    assert_eq!(
        client.get("/api/v1/setup").await?.json,
        json!({"completed": true})
    );

    let server = Server::start_in(server.stop().await?, &[]).await?;

    let body = json!({"setup_token": token, "email": "b@c", "password": PASSWORD});
    let again = server.client().post("/api/v1/setup", &body).await?;
    assert_eq!((again.status, again.code().as_str()), (409, "conflict"));
    assert!(!server.data_dir().join("setup-token").exists());
    server.client().log_in(ADA, PASSWORD).await
}

/// S9
#[tokio::test]
async fn takes_the_token_and_nothing_else() -> Fallible {
    let server = Server::start().await?;
    let mut client = server.client();

    let body = json!({"setup_token": "aks_guess", "email": ADA, "password": PASSWORD});
    let refused = client.post("/api/v1/setup", &body).await?;

    assert_eq!(
        (refused.status, refused.code().as_str()),
        (401, "unauthorized")
    );
    assert_eq!(
        client.get("/api/v1/setup").await?.json,
        json!({"completed": false})
    );
    assert!(client.log_in(ADA, PASSWORD).await.is_err());
    Ok(())
}

#[tokio::test]
async fn refuses_a_password_that_is_too_short() -> Fallible {
    let server = Server::start().await?;
    let body = json!({"setup_token": server.setup_token()?, "email": ADA, "password": "1234567"});

    let refused = server.client().post("/api/v1/setup", &body).await?;

    assert_eq!(
        (refused.status, refused.fields()),
        (422, vec!["password".to_owned()])
    );
    Ok(())
}

#[tokio::test]
async fn everything_that_is_made_is_its_owners_alone() -> Fallible {
    let server = Server::start().await?;

    let mode = |path: &std::path::Path| {
        Ok::<_, std::io::Error>(std::fs::metadata(path)?.permissions().mode() & 0o777)
    };
    assert_eq!(mode(&server.data_dir())?, 0o700);
    for entry in std::fs::read_dir(server.data_dir())? {
        let path = entry?.path();
        assert_eq!(mode(&path)?, 0o600, "{}", path.display());
    }
    assert_eq!(server.setup_token()?.trim(), server.setup_token()?);
    Ok(())
}
