//! S12: the audit log, as requests fill it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use arkeep_server::http::audit::{Flood, TABLE, action_of};
use arkeep_server::store::audit::{AuditStore as _, Entry, verify};
use arkeep_server::store::sqlite::SqliteStore;
use reqwest::Method;
use serde_json::{Value, json};

use super::access::user;
use super::client::{Answer, Client};
use super::tokens::program;
use super::{ADA, Fallible, PASSWORD, Server};

const NOBODY: &str = "0190a0b0-0000-7000-8000-000000000000";

/// The entries that `GET /audit` shows, the newest first.
async fn newest(admin: &mut Client, count: u32) -> Fallible<Vec<Value>> {
    let path = format!("/api/v1/audit?limit={count}");
    let shown = admin.get(&path).await?.expect(200)?;
    let items = shown.json.pointer("/items").and_then(Value::as_array);
    Ok(items.cloned().unwrap_or_default())
}

/// The newest entry, which must be that of the request that was answered so.
async fn entry_of(admin: &mut Client, answer: &Answer) -> Fallible<Value> {
    let id = answer.header("x-request-id");
    let shown = newest(admin, 200).await?;
    let found = shown
        .into_iter()
        .find(|entry| entry.get("request_id").is_some_and(|of| of == id.as_str()));
    found.ok_or_else(|| format!("no entry of request {id}: {}", answer.text).into())
}

/// Everything in the log of a server that has stopped.
pub(super) async fn all(data: &std::path::Path) -> Fallible<Vec<Entry>> {
    let store = SqliteStore::open(&data.join("arkeep.db")).await?;
    let mut faults = Vec::new();
    verify(&store, &[], |fault| faults.push(fault)).await?;
    assert_eq!(faults, []);
    let entries = store.following(0, 100_000).await?;
    store.close().await;
    Ok(entries)
}

/// S12: a route that is added without a name fails.
#[tokio::test]
async fn every_route_has_a_name() -> Fallible {
    let server = Server::start().await?;

    let routes: BTreeSet<_> = server
        .rules
        .iter()
        .map(|rule| (rule.method.as_str(), rule.path))
        .collect();
    let named: BTreeSet<_> = TABLE
        .iter()
        .map(|(method, path, ..)| (*method, *path))
        .collect();

    assert_eq!(routes, named, "http/audit/actions.rs names each route");
    assert_eq!(named.len(), TABLE.len());
    Ok(())
}

/// S12, A11: every route, with who asked, what came of it, and where from.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_and_every_refusal_is_written_down() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let viewer = user(&server, admin.clone(), "viewer").await?;
    let viewers_id = viewer.clone().get("/api/v1/users/me").await?.string("/id");

    for (index, rule) in server.rules.iter().enumerate() {
        let path = rule.path.replace("{id}", NOBODY);
        let body = json!({});
        let body = Some(&body).filter(|_| rule.method != Method::GET);
        // One address has not room enough for all.
        let host = u8::try_from(10 + index / 20)?;
        let stranger = server.client_from(IpAddr::from([127, 0, 0, host]));
        let from = format!("127.0.0.{host}");
        for (mut client, who, from) in [
            (stranger, None, from),
            (viewer.clone(), Some(&viewers_id), "127.0.0.1".to_owned()),
        ] {
            if who.is_some() && rule.path.contains("/auth/logout") {
                continue;
            }
            let answer = client.send(rule.method.clone(), &path, body, &[]).await?;
            let is_refusal = [401, 403, 429].contains(&answer.status);
            if rule.method == Method::GET && !is_refusal {
                continue;
            }
            let line = format!("{} {} by {who:?}: {}", rule.method, rule.path, answer.text);

            let entry = entry_of(&mut admin, &answer)
                .await
                .map_err(|_| line.clone())?;

            let action = action_of(&rule.method, rule.path).ok_or("no name")?;
            assert_eq!(entry["action"], action.name, "{line}");
            assert_eq!(entry["address"], from.as_str(), "{line}");
            let result = if answer.status < 400 {
                "ok".to_owned()
            } else {
                answer.code()
            };
            assert_eq!(entry["result"], result.as_str(), "{line}");
            match who {
                // They judge for themselves who calls.
                _ if rule.needs == arkeep_server::http::access::Needs::Nothing => {}
                Some(id) => assert_eq!(
                    (
                        entry["actor"]["kind"].as_str(),
                        entry["actor"]["id"].as_str()
                    ),
                    (Some("user"), Some(id.as_str())),
                    "{line}"
                ),
                None => assert_eq!(entry["actor"]["kind"], "anonymous", "{line}"),
            }
            if rule.path.contains("{id}") {
                assert_eq!(entry["target"]["id"], NOBODY, "{line}");
            }
        }
    }
    let dir = server.stop().await?;
    all(&dir.path().join("data")).await?;
    Ok(())
}

/// S12
#[tokio::test]
async fn a_request_without_a_route_is_written_down_too() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;

    for (method, path) in [
        (Method::POST, "/nonsense"),
        (Method::PUT, "/api/v1/users"),
        (Method::DELETE, "/api/v1/jobs"),
    ] {
        let answer = server.client().send(method, path, None, &[]).await?;
        let entry = entry_of(&mut admin, &answer).await?;
        assert_eq!(entry["action"], "request.unknown");
        assert_eq!(entry["target"]["id"], Value::Null);
    }
    Ok(())
}

/// S12: which account was tried, from where, and how it ended; never the password.
#[tokio::test]
async fn every_login_is_written_down_with_its_outcome() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let id = admin.get("/api/v1/users/me").await?.string("/id");
    let mut bob = json!({"email": "bob@example.org", "password": PASSWORD, "role": "viewer"});
    let made = admin.create("/api/v1/users", &bob).await?;
    let bobs = made["id"].as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/users/{bobs}");
    admin
        .patch(&path, &json!({"enabled": false}))
        .await?
        .expect(200)?;
    bob["role"] = Value::Null;

    for (email, password, result, actor, target) in [
        (ADA, PASSWORD, "ok", "user", Some(&id)),
        (ADA, "wrong wrong", "unauthorized", "anonymous", Some(&id)),
        (
            "bob@example.org",
            PASSWORD,
            "unauthorized",
            "anonymous",
            Some(&bobs),
        ),
        (
            "e\u{7}v\u{202e}e\n@x",
            "wrong",
            "unauthorized",
            "anonymous",
            None,
        ),
    ] {
        let body = json!({"email": email, "password": password});
        let answer = server.client().post("/api/v1/auth/login", &body).await?;

        let entry = entry_of(&mut admin, &answer).await?;

        assert_eq!(entry["action"], "auth.login");
        assert_eq!(entry["result"], result, "{email:?}");
        assert_eq!(entry["actor"]["kind"], actor, "{email:?}");
        let plain: String = email.chars().filter(|c| c.is_ascii_graphic()).collect();
        assert_eq!(entry["actor"]["name"], plain, "{email:?}");
        assert_eq!(
            entry["target"]["id"].as_str(),
            target.map(String::as_str),
            "{email:?}"
        );
        assert!(!entry.to_string().contains(password), "{entry}");
    }

    // Somebody else's failures are throttled, and that is told apart.
    let mut stranger = server.client_from(IpAddr::from([127, 0, 0, 9]));
    let body = json!({"email": "mallory@example.org", "password": "wrong wrong"});
    let mut results = Vec::new();
    for _ in 0..7 {
        let answer = stranger.post("/api/v1/auth/login", &body).await?;
        let entry = entry_of(&mut admin, &answer).await?;
        assert_eq!(entry["actor"]["name"], "mallory@example.org");
        results.push(entry["result"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(results[..5], ["unauthorized"; 5]);
    assert_eq!(results[6], "rate_limited");
    Ok(())
}

/// S12, A6: a refresh token that is shown twice.
#[tokio::test]
async fn a_theft_is_written_down_under_its_own_name() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut admin = server.set_up().await?;
    let mut viewer = user(&server, admin.clone(), "viewer").await?;
    let id = viewer.get("/api/v1/users/me").await?.string("/id");
    viewer.bearer = None;
    let refresh = async |client: &mut Client| {
        client
            .send(Method::POST, "/api/v1/auth/refresh", None, &[])
            .await
    };
    let fine = refresh(&mut viewer).await?.expect(200)?;
    clock.advance(Duration::from_secs(11));

    let caught = refresh(&mut viewer).await?.expect(401)?;

    let entry = entry_of(&mut admin, &fine).await?;
    assert_eq!(
        (&entry["action"], &entry["result"]),
        (&json!("auth.refresh"), &json!("ok"))
    );
    assert_eq!(entry["actor"]["id"], id.as_str());
    let entry = entry_of(&mut admin, &caught).await?;
    assert_eq!(entry["action"], "security.token_reuse");
    assert_eq!(entry["result"], "unauthorized");
    assert_eq!(entry["target"], json!({"kind": "user", "id": id}));
    assert!(entry["changes"]["session"].is_string());
    Ok(())
}

/// S12, A13
#[tokio::test]
async fn a_program_is_told_apart_from_its_owner() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let mut token = program(&mut admin, &["read"]).await?;
    let id = admin
        .get("/api/v1/auth/tokens")
        .await?
        .string("/items/0/id");

    let forbidden = token
        .post("/api/v1/agents", &json!({"name": "a"}))
        .await?
        .expect(403)?;
    let path = format!("/api/v1/auth/tokens/{id}");
    let revoked = admin.delete(&path).await?.expect(204)?;
    let dead = token.get("/api/v1/users/me").await?.expect(401)?;

    let entry = entry_of(&mut admin, &forbidden).await?;
    assert_eq!(
        entry["actor"],
        json!({"kind": "token", "id": id, "name": ADA})
    );
    let entry = entry_of(&mut admin, &revoked).await?;
    assert_eq!(
        (&entry["action"], &entry["target"]["id"]),
        (&json!("token.revoke"), &json!(id))
    );
    let entry = entry_of(&mut admin, &dead).await?;
    assert_eq!(
        entry["actor"],
        json!({"kind": "anonymous", "id": id, "name": null})
    );
    assert_eq!(entry["result"], "unauthorized");
    Ok(())
}

/// S12: before and after, of each kind of thing, and secrets by name alone.
#[tokio::test]
async fn a_change_is_written_down_with_before_and_after() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let policy = super::resources::policy(&mut admin).await?;
    let provider = json!({
        "name": "corp", "issuer": "https://id.example.org", "client_id": "arkeep",
        "client_secret": "hunter2",
    });
    let rest = json!({
        "name": "rest", "kind": "rest", "location": {"url": "http://h/"},
        "credentials": {"username": "u", "password": "hunter2"},
    });
    let eve = json!({"email": "eve@example.org", "password": PASSWORD, "role": "viewer"});
    for (list, kind, body, patch, field, secret) in [
        (
            "users",
            "user",
            eve,
            json!({"role": "operator"}),
            "role",
            Some("password"),
        ),
        (
            "agents",
            "agent",
            json!({"name": "web1"}),
            json!({"name": "db2"}),
            "name",
            Some("join_token"),
        ),
        (
            "destinations",
            "destination",
            rest,
            json!({"enabled": false}),
            "enabled",
            Some("credentials"),
        ),
        (
            "policies",
            "policy",
            policy,
            json!({"tags": ["x"]}),
            "tags",
            Some("repository_password"),
        ),
        (
            "oidc-providers",
            "oidc_provider",
            provider,
            json!({"name": "it"}),
            "name",
            Some("client_secret"),
        ),
    ] {
        let made = admin
            .post(&format!("/api/v1/{list}"), &body)
            .await?
            .expect(201)?;
        let id = made.string("/id") + &made.string("/agent/id");
        let path = format!("/api/v1/{list}/{id}");
        let before = admin.get(&path).await?.expect(200)?.json[field].clone();
        let patched = admin.patch(&path, &patch).await?.expect(200)?;
        let deleted = admin.delete(&path).await?.expect(204)?;

        let entry = entry_of(&mut admin, &made).await?;
        assert_eq!(entry["action"], format!("{kind}.create"));
        assert_eq!(entry["target"], json!({"kind": kind, "id": id}));
        assert_eq!(entry["actor"]["name"], ADA);
        assert_eq!(
            entry["changes"][field],
            json!({"before": null, "after": before}),
            "{list}"
        );
        if let Some(secret) = secret {
            assert_eq!(entry["changes"][secret], "[changed]", "{list}");
        }
        let entry = entry_of(&mut admin, &patched).await?;
        assert_eq!(entry["action"], format!("{kind}.change"));
        let expected = json!({field: {"before": before, "after": patch[field]}});
        assert_eq!(entry["changes"], expected, "{list}");
        let entry = entry_of(&mut admin, &deleted).await?;
        assert_eq!(entry["action"], format!("{kind}.delete"));
        assert_eq!(
            entry["changes"][field],
            json!({"before": patch[field], "after": null}),
            "{list}"
        );
    }
    let wanted = json!({
        "name": "ci", "scopes": ["read"],
        "expires_at": arkeep_core::SystemClock.now().plus(Duration::from_secs(3_600)),
    });
    let made = admin
        .post("/api/v1/auth/tokens", &wanted)
        .await?
        .expect(201)?;
    let entry = entry_of(&mut admin, &made).await?;
    assert_eq!(entry["changes"]["scopes"]["after"], json!(["read"]));
    assert_eq!(entry["target"]["id"], made.string("/id").as_str());
    Ok(())
}

/// S12: pages, newest first, down to the first entry, which is the setup.
#[tokio::test]
async fn the_log_is_read_in_pages() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    for _ in 0..5 {
        server.client().get("/api/v1/users/me").await?.expect(401)?;
    }

    let mut path = "/api/v1/audit?limit=2".to_owned();
    let mut seqs = Vec::new();
    let mut last = Value::Null;
    loop {
        let shown = admin.get(&path).await?.expect(200)?;
        for entry in shown.json["items"].as_array().into_iter().flatten() {
            seqs.push(entry["seq"].as_u64().unwrap_or_default());
            last = entry.clone();
        }
        let Some(cursor) = shown.json["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/v1/audit?limit=2&cursor={cursor}");
    }

    assert_eq!(seqs, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(last["action"], "setup.run");
    assert_eq!(last["previous_hash"], "0".repeat(64));
    assert_eq!(last["actor"]["name"], ADA);
    Ok(())
}

/// S12: what a stranger is refused without end takes bounded room, and nothing is uncounted.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_counted_rather_than_written() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_at(Arc::clone(&clock) as _).await?;
    let mut stranger = server.client();
    let many = u64::from(Flood::BURST) * 4;

    for _ in 0..many {
        stranger.get("/api/v1/jobs").await?.expect(401)?;
    }

    let dir = server.stop().await?;
    let entries = all(&dir.path().join("data")).await?;
    let (single, folded): (Vec<_>, Vec<_>) = entries
        .iter()
        .partition(|entry| entry.says.request_id.is_some());
    assert_eq!(single.len() as u64, u64::from(Flood::BURST));
    let counted = folded.iter().map(|entry| {
        assert_eq!(
            (&*entry.says.action, &*entry.says.result),
            ("job.read", "unauthorized")
        );
        assert_eq!(entry.says.address.as_deref(), Some("127.0.0.1"));
        entry.says.changes.to_value()["times"]
            .as_u64()
            .unwrap_or_default()
    });
    assert_eq!(counted.sum::<u64>(), many - u64::from(Flood::BURST));
    Ok(())
}

/// S12: what cannot be written down is not answered, and reading goes on.
#[tokio::test]
async fn without_the_log_nothing_is_let_in() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let mut database = raw(&server.data_dir()).await?;
    sqlx::query("DROP TABLE audit_head")
        .execute(&mut database)
        .await?;

    let body = json!({"email": ADA, "password": PASSWORD});
    let refused = server
        .client()
        .post("/api/v1/auth/login", &body)
        .await?
        .expect(503)?;

    assert_eq!(refused.code(), "unavailable");
    assert!(refused.json.get("access_token").is_none());
    assert_eq!(refused.header("set-cookie"), "");
    admin
        .post("/api/v1/agents", &json!({"name": "a"}))
        .await?
        .expect(503)?;
    admin.get("/api/v1/users/me").await?.expect(200)?;
    Ok(())
}

pub(super) async fn raw(data: &std::path::Path) -> Fallible<sqlx::SqliteConnection> {
    let url = format!("sqlite://{}", data.join("arkeep.db").display());
    Ok(<sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await?)
}
