//! S12: `arkeep-server audit`, and what other commands leave in the log.

use std::path::Path;

use arkeep_server::store::audit::Head;
use reqwest::Method;
use serde_json::{Value, json};

use super::audit::{all, raw};
use super::client::Client;
use super::process::{run, run_with_input, serving};
use super::{ADA, Fallible, PASSWORD, Server};

async fn exported(data: &Path) -> Fallible<String> {
    let data = data.to_string_lossy();
    let ended = run(&["audit", "export", "--data-dir", &data], &[]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    Ok(ended.output)
}

async fn verified(data: &Path, noted: &[&str]) -> Fallible<(Option<i32>, Vec<String>)> {
    let data = data.to_string_lossy();
    let mut arguments = vec!["audit", "verify", "--data-dir", &data];
    for head in noted {
        arguments.extend(["--noted", head]);
    }
    let ended = run(&arguments, &[]).await?;
    let lines = ended.output.lines().map(str::to_owned).collect();
    Ok((ended.code, lines))
}

/// S12
#[tokio::test]
async fn the_chain_is_exported_and_verified_beside_the_server() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    admin
        .create("/api/v1/agents", &json!({"name": "db1"}))
        .await?;
    let shown = admin.get("/api/v1/audit").await?.expect(200)?;

    let lines = exported(&server.data_dir()).await?;
    let (code, told) = verified(&server.data_dir(), &[]).await?;

    let mut lines = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()?;
    lines.reverse();
    assert_eq!(json!(lines), shown.json["items"]);
    let head: Head = told.last().ok_or("nothing")?.parse()?;
    assert_eq!(code, Some(0));
    assert_eq!(told[0], "3 entries, 0 faults; the chain ends with");
    assert_eq!(head.seq, 3);
    assert_eq!(head.hash.to_string(), lines[0]["hash"]);
    Ok(())
}

/// S12
#[tokio::test]
async fn a_chain_that_was_tampered_with_is_told() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    for name in ["a", "b", "c"] {
        admin
            .create("/api/v1/agents", &json!({"name": name}))
            .await?;
    }
    let dir = server.stop().await?;
    let data = dir.path().join("data");
    let (_, told) = verified(&data, &[]).await?;
    let noted = told.last().ok_or("nothing")?.clone();
    let mut database = raw(&data).await?;
    for statement in [
        "DROP TRIGGER audit_is_not_changed",
        "DROP TRIGGER audit_is_not_removed",
        "UPDATE audit SET actor_name = 'eve@example.org' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 4",
    ] {
        sqlx::query(statement).execute(&mut database).await?;
    }

    let (code, told) = verified(&data, &[&noted]).await?;
    assert_eq!(code, Some(1));
    assert_eq!(
        told[..3],
        [
            "entry 2 was changed",
            "entry 4 is missing",
            "5 entries, 2 faults; the chain ends with"
        ]
    );

    for statement in [
        "DELETE FROM audit WHERE seq > 1",
        "UPDATE audit_head SET seq = 1, hash = (SELECT hash FROM audit)",
    ] {
        sqlx::query(statement).execute(&mut database).await?;
    }
    assert_eq!(verified(&data, &[]).await?.0, Some(0));
    let (code, told) = verified(&data, &[&noted]).await?;
    assert_eq!(
        (code, told[0].as_str()),
        (Some(1), "entries 2 to 5 are missing")
    );
    let (code, _) = verified(&data, &["5:nonsense"]).await?;
    assert_eq!(code, Some(2));
    Ok(())
}

/// S12: what the operator does beside the server is in the same chain.
#[tokio::test]
async fn an_operator_leaves_entries_too() -> Fallible {
    let (server, _) = Server::with_admin().await?;
    let data = server.data_dir().to_string_lossy().into_owned();
    let secret = "another horse battery";
    let typed = format!("{secret}\n");
    let bob = "bob@example.org";
    for arguments in [
        &["user", "create", "--data-dir", &data, bob][..],
        &["user", "reset-password", "--data-dir", &data, bob],
        &["user", "disable", "--data-dir", &data, bob],
        &["vault", "rotate", "--data-dir", &data],
        &["vault", "rekey", "--data-dir", &data],
    ] {
        let ended = run_with_input(arguments, &typed).await?;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.errors);
    }
    let failed = run_with_input(&["user", "create", "--data-dir", &data, bob], &typed).await?;
    assert_eq!(failed.code, Some(1));

    let dir = server.stop().await?;
    let entries = all(&dir.path().join("data")).await?;

    let by_operator: Vec<_> = entries
        .iter()
        .filter(|entry| entry.says.actor.kind == "operator")
        .map(|entry| entry.says.action.to_string())
        .collect();
    assert_eq!(
        by_operator,
        [
            "user.create",
            "user.reset_password",
            "user.disable",
            "vault.rotate",
            "vault.rekey"
        ]
    );
    assert!(!format!("{entries:?}").contains(secret));
    assert!(format!("{entries:?}").contains(bob));
    Ok(())
}

/// S12: what was answered is in the log, also when the server dies that moment.
#[tokio::test]
async fn an_answered_request_is_in_the_log_of_a_killed_server() -> Fallible {
    let dir = Server::with_admin().await?.0.stop().await?;
    let data = dir.path().join("data");
    let (mut server, address) = serving(&data, &[]).await?;
    let mut client = Client::new(&format!("http://{address}"));
    client.log_in(ADA, PASSWORD).await?;
    let answer = client
        .post("/api/v1/agents", &json!({"name": "db1"}))
        .await?
        .expect(201)?;

    server.kill().await?;

    let entries = all(&data).await?;
    let last = entries.last().ok_or("no entry")?;
    assert_eq!(last.says.action, "agent.create");
    assert_eq!(last.says.request_id, Some(answer.header("x-request-id")));
    Ok(())
}

const CANARY: &str = "canary-5d1e0a9b42";

/// S12, V4: no secret that was sent, in whatever place a secret is sent, and none that was given out.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let mut given = vec![PASSWORD.to_owned()];
    given.extend(admin.bearer.clone());
    given.extend(
        admin
            .cookie
            .clone()
            .and_then(|cookie| Some(cookie.split_once('=')?.1.to_owned())),
    );
    let rest = json!({
        "name": "rest", "kind": "rest", "location": {"url": "http://h/"},
        "credentials": {"username": "u", "password": CANARY},
    });
    let mut policy = super::resources::policy(&mut admin).await?;
    policy["repository_password"] = json!(CANARY);
    let provider = json!({
        "name": "corp", "issuer": "https://id.example.org", "client_id": "arkeep",
        "client_secret": CANARY,
    });
    let token = json!({"name": "ci", "scopes": ["read"], "expires_at": "2099-01-01T00:00:00.000Z"});
    let requests = [
        (
            Method::POST,
            "/auth/login",
            json!({"email": ADA, "password": CANARY, "code": CANARY}),
        ),
        (
            Method::POST,
            "/auth/login",
            json!({"email": ADA, "password": PASSWORD, CANARY: 1}),
        ),
        (Method::POST, "/auth/step-up", json!({"password": CANARY})),
        (Method::POST, "/auth/step-up", json!({"code": CANARY})),
        (
            Method::POST,
            "/setup",
            json!({"setup_token": CANARY, "email": ADA, "password": CANARY}),
        ),
        (
            Method::POST,
            "/users",
            json!({"email": "b@example.org", "password": CANARY, "role": "viewer"}),
        ),
        (
            Method::PATCH,
            "/users/me",
            json!({"password": CANARY, "current_password": CANARY}),
        ),
        (Method::POST, "/destinations", rest),
        (
            Method::POST,
            "/destinations",
            json!({"name": "x", "kind": CANARY, "location": CANARY}),
        ),
        (Method::POST, "/policies", policy),
        (Method::POST, "/oidc-providers", provider),
        (Method::POST, "/auth/totp", json!({})),
        (Method::POST, "/auth/totp/confirm", json!({"code": CANARY})),
        (Method::POST, "/auth/recovery-codes", json!({})),
        (Method::POST, "/auth/tokens", token),
        (Method::POST, "/agents", json!({"name": "web1"})),
        (Method::POST, "/auth/refresh", json!({CANARY: CANARY})),
    ];
    for (method, path, body) in requests {
        let path = format!("/api/v1{path}");
        let answer = admin
            .send(method, &path, Some(&body), &[("x-api-key", CANARY)])
            .await?;
        for pointer in [
            "/access_token",
            "/secret",
            "/token",
            "/join_token",
            "/repository_password",
        ] {
            given.push(answer.string(pointer));
        }
    }
    let lists = admin.get("/api/v1/destinations").await?.expect(200)?;
    let path = format!("/api/v1/destinations/{}", lists.string("/items/0/id"));
    let patch = json!({"credentials": {"username": "v", "password": CANARY}});
    admin.patch(&path, &patch).await?.expect(200)?;
    let mut stranger = server.client();
    stranger.bearer = Some(format!("akt_{CANARY}"));
    stranger.cookie = Some(format!("__Host-arkeep_refresh={CANARY}"));
    stranger.get("/api/v1/users/me").await?.expect(401)?;
    let query = format!("/api/v1/auth/oidc/callback?state={CANARY}&code={CANARY}");
    stranger.get(&query).await?;

    let log = exported(&server.data_dir()).await?;

    assert!(log.lines().count() > 20, "{log}");
    assert!(!log.contains(CANARY), "{log}");
    given.retain(|secret| !secret.is_empty());
    assert!(given.len() >= 6, "{given:?}");
    for secret in given {
        assert!(!log.contains(&secret), "{secret}");
    }
    Ok(())
}
