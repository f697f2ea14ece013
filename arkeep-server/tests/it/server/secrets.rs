//! V4: a secret that was sent in is nowhere to be found in what lies on the disk or comes back.

use reqwest::Method;
use serde_json::json;

use super::process::run;
use super::{Fallible, Server, picture};

const CANARY: &str = "canary-8f3a1c77e0";

/// V4
#[tokio::test]
async fn a_secret_is_in_no_file_and_no_answer() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let mut answers = String::new();
    let kinds = [
        (
            "rest",
            json!({"url": "http://h/"}),
            json!({"username": "u", "password": CANARY}),
        ),
        (
            "s3",
            json!({"endpoint": "https://s3.example", "bucket": "b"}),
            json!({"access_key_id": "id", "secret_access_key": CANARY, "session_token": CANARY}),
        ),
        (
            "sftp",
            json!({"host": "h", "user": "u", "path": "/b", "known_hosts": "h ssh-ed25519 AAAA"}),
            json!({"private_key": CANARY}),
        ),
        (
            "rclone",
            json!({"remote": "r", "path": "b"}),
            json!({"config": CANARY}),
        ),
    ];
    for (kind, location, credentials) in kinds {
        let body =
            json!({"name": kind, "kind": kind, "location": location, "credentials": credentials});
        answers += &admin
            .post("/api/v1/destinations", &body)
            .await?
            .expect(201)?
            .text;
        // In a place where it does not belong.
        let misplaced = json!({"name": kind, "kind": CANARY, "location": CANARY, CANARY: 1});
        let refused = admin.post("/api/v1/destinations", &misplaced).await?;
        assert_eq!(refused.status, 400);
        let misplaced = json!({"name": kind, "kind": kind, "location": CANARY, "enabled": CANARY});
        answers += &admin
            .post("/api/v1/destinations", &misplaced)
            .await?
            .expect(422)?
            .text;
    }
    let mut policy = super::resources::policy(&mut admin).await?;
    policy["repository_password"] = json!(CANARY);
    answers += &admin
        .post("/api/v1/policies", &policy)
        .await?
        .expect(201)?
        .text;
    for path in ["destinations", "policies", "agents"] {
        answers += &admin
            .get(&format!("/api/v1/{path}"))
            .await?
            .expect(200)?
            .text;
    }
    answers += &admin.get("/metrics").await?.text;

    assert!(!answers.contains(CANARY), "{answers}");
    // With the write-ahead log, as it lies there while the server runs.
    let files = picture(&server.data_dir())?;
    assert!(files.iter().any(|(name, ..)| name == "arkeep.db-wal"));
    for (name, bytes, _) in &files {
        assert!(!holds(bytes, CANARY.as_bytes()), "{name}");
    }
    let databases = files.iter().filter(|(name, ..)| name.ends_with(".db"));
    assert_eq!(
        databases
            .map(|(name, ..)| name.as_str())
            .collect::<Vec<_>>(),
        ["arkeep.db"]
    );
    Ok(())
}

/// V4: every route by every method, on everything that there is, with bodies of nothing and of
/// secrets in every place where one could stand.
#[tokio::test]
async fn a_secret_is_in_no_answer_of_any_route() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let body = json!({
        "name": "rest",
        "kind": "rest",
        "location": {"url": "http://h/"},
        "credentials": {"username": "u", "password": CANARY},
    });
    admin.create("/api/v1/destinations", &body).await?;
    let mut policy = super::resources::policy(&mut admin).await?;
    policy["repository_password"] = json!(CANARY);
    let policy = admin.create("/api/v1/policies", &policy).await?;
    let policy = policy["id"].as_str().unwrap_or_default();
    let run = format!("/api/v1/policies/{policy}/run");
    admin.post(&run, &json!({})).await?.expect(202)?;
    let hook = json!({"name": "hook", "kind": "webhook", "secret": CANARY,
        "config": {"url": "https://127.0.0.1:9/"}, "events": ["job.failed"]});
    admin.create("/api/v1/channels", &hook).await?;
    let mut secrets = json!({"credentials": {"username": "u", "password": CANARY}});
    for name in [
        "secret",
        "password",
        "current_password",
        "new_password",
        "repository_password",
        "client_secret",
        "setup_token",
        "code",
    ] {
        secrets[name] = json!(CANARY);
    }
    let mut routes: Vec<_> = server.rules.iter().collect();
    // Reading before changing, and what may end the caller's own session at the end.
    routes.sort_by_key(|rule| {
        let ends = rule.path.contains("/auth/") || rule.path.contains("/users");
        let methods = [Method::GET, Method::POST, Method::PATCH, Method::DELETE];
        let method = methods.iter().position(|method| *method == rule.method);
        (ends && rule.method != Method::GET, method)
    });

    let (mut answered, mut changed) = (0, 0);
    // One ends with the server alone.
    for rule in routes.iter().filter(|rule| !rule.path.ends_with("/events")) {
        let mut paths = vec![rule.path.to_owned()];
        if let Some((list, rest)) = rule.path.split_once("/{") {
            let rest = rest.split_once('}').map_or("", |(_, rest)| rest);
            let listed = admin.get(list).await?.json;
            let items = listed["items"].as_array().into_iter().flatten();
            let ids = items.filter_map(|item| item["id"].as_str());
            paths = ids.map(|id| format!("{list}/{id}{rest}")).collect();
        }
        let bodies = match rule.method {
            Method::GET => vec![None],
            _ => vec![Some(json!({})), Some(secrets.clone())],
        };
        for (path, body) in paths
            .iter()
            .flat_map(|path| bodies.iter().map(move |b| (path, b)))
        {
            let asked = admin.send(rule.method.clone(), path, body.as_ref(), &[]);
            let answer = asked.await?;

            let line = format!("{} {path}: {}", rule.method, answer.text);
            assert!(!answer.text.contains(CANARY), "{line}");
            assert!(!format!("{:?}", answer.headers).contains(CANARY), "{line}");
            assert_ne!(answer.status, 500, "{line}");
            match rule.method {
                Method::GET => answered += u32::from(answer.status == 200),
                _ => changed += u32::from(answer.status < 500),
            }
        }
    }

    assert!(answered >= 20, "only {answered} answered");
    assert!(changed >= 60, "only {changed} were asked");
    Ok(())
}

/// V6
#[tokio::test]
async fn the_vault_can_be_verified_beside_the_server() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let policy = super::resources::policy(&mut admin).await?;
    admin.create("/api/v1/policies", &policy).await?;
    let data = server.data_dir().to_string_lossy().into_owned();

    let verified = run(&["vault", "verify", "--data-dir", &data], &[]).await?;
    let status = run(&["vault", "status", "--data-dir", &data], &[]).await?;

    assert_eq!(verified.code, Some(0), "{}", verified.errors);
    assert_eq!(verified.output, "3 sealed values open, 0 do not\n");
    assert_eq!(status.code, Some(0), "{}", status.errors);
    assert!(status.output.contains("primary"), "{}", status.output);
    Ok(())
}

/// V2, V6
#[tokio::test]
async fn a_blob_that_was_moved_is_named_by_the_verification() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    for name in ["one", "two"] {
        let body = json!({
            "name": name,
            "kind": "rest",
            "location": {"url": "http://h/"},
            "credentials": {"username": "u", "password": name},
        });
        admin.create("/api/v1/destinations", &body).await?;
    }
    let dir = server.stop().await?;
    let data = dir.path().join("data");
    let url = format!("sqlite://{}", data.join("arkeep.db").display());
    let mut database = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await?;
    sqlx::query(
        "UPDATE destinations SET credentials = \
         (SELECT credentials FROM destinations WHERE name = 'two') WHERE name = 'one'",
    )
    .execute(&mut database)
    .await?;
    sqlx::Connection::close(database).await?;

    let verified = run(
        &["vault", "verify", "--data-dir", &data.to_string_lossy()],
        &[],
    )
    .await?;

    assert_eq!(verified.code, Some(1), "{}", verified.errors);
    assert!(
        verified.output.contains("destinations.credentials "),
        "{}",
        verified.output
    );
    assert!(
        verified
            .output
            .ends_with("3 sealed values open, 1 do not\n"),
        "{}",
        verified.output
    );
    Ok(())
}

#[tokio::test]
async fn the_fingerprint_is_the_one_that_join_tokens_carry() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let made = admin
        .create("/api/v1/agents", &json!({"name": "db1"}))
        .await?;
    let token: arkeep_transport::token::JoinToken =
        made["join_token"].as_str().unwrap_or_default().parse()?;

    let data = server.data_dir().to_string_lossy().into_owned();
    let printed = run(&["ca", "fingerprint", "--data-dir", &data], &[]).await?;

    assert_eq!(printed.output, format!("{}\n", token.fingerprint()));
    Ok(())
}

/// A4
#[tokio::test]
async fn a_reset_password_ends_every_session_of_a_running_server() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let data = server.data_dir().to_string_lossy().into_owned();
    let new = "another horse battery";

    let program = super::process::run_with_input(
        &["user", "reset-password", "--data-dir", &data, super::ADA],
        &format!("{new}\n"),
    )
    .await?;
    assert_eq!(program.code, Some(0), "{}", program.errors);

    let patience = std::time::Duration::from_secs(2);
    tokio::time::timeout(patience, async {
        while admin.get("/api/v1/users/me").await?.status != 401 {}
        Ok::<(), Box<dyn std::error::Error>>(())
    })
    .await??;
    server.client().log_in(super::ADA, new).await
}

/// A4
#[tokio::test]
async fn an_account_is_made_and_disabled_beside_a_running_server() -> Fallible {
    let (server, _) = Server::with_admin().await?;
    let data = server.data_dir().to_string_lossy().into_owned();
    let password = "another horse battery";
    let create = ["user", "create", "--data-dir", &data, "--role", "operator"];
    let bob = [&create[..], &["bob@example.org"]].concat();

    let made = super::process::run_with_input(&bob, &format!("{password}\n")).await?;
    assert_eq!(made.code, Some(0), "{}", made.errors);
    let mut client = server.client();
    client.log_in("bob@example.org", password).await?;
    let me = client.get("/api/v1/users/me").await?.expect(200)?;
    assert_eq!(me.string("/role"), "operator");

    for (arguments, input, told) in [
        (bob.clone(), "another horse battery\n", "same email"),
        (
            [&create[..], &["no address"]].concat(),
            "another horse battery\n",
            "an address such as",
        ),
        ([&create[..], &["eve@example.org"]].concat(), "short\n", "8"),
    ] {
        let refused = super::process::run_with_input(&arguments, input).await?;
        assert_eq!(refused.code, Some(1), "{arguments:?}");
        assert!(refused.errors.contains(told), "{}", refused.errors);
    }

    let disable = ["user", "disable", "--data-dir", &data];
    let disabled = run(&[&disable[..], &["bob@example.org"]].concat(), &[]).await?;
    assert_eq!(disabled.code, Some(0), "{}", disabled.errors);
    let patience = std::time::Duration::from_secs(2);
    tokio::time::timeout(patience, async {
        while client.get("/api/v1/users/me").await?.status != 401 {}
        Ok::<(), Box<dyn std::error::Error>>(())
    })
    .await??;
    let last = run(&[&disable[..], &[super::ADA]].concat(), &[]).await?;
    assert_eq!(last.code, Some(1), "the last administrator stays");
    Ok(())
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
