//! S15: whatever is sent, the answer is a refusal that names the field, and nothing has changed.

use arkeep_server::http::access::Needs;
use reqwest::Method;
use serde_json::Value;

use super::channels::{CHANNELS, webhook};
use super::client::Client;
use super::{Fallible, Server};

/// S15
#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_what_cannot_be_read() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let policy = super::resources::policy(&mut admin).await?;
    let made = admin.create("/api/v1/policies", &policy).await?;
    let me = admin.get("/api/v1/users/me").await?.expect(200)?;
    let ids = Ids {
        user: me.string("/id"),
        agent: policy["agent_id"].as_str().unwrap_or_default().to_owned(),
        destination: policy["destinations"][0]["destination_id"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        policy: made["id"].as_str().unwrap_or_default().to_owned(),
        provider: super::oidc::describe(&mut admin, "https://id.example").await?,
        channel: admin
            .post(
                CHANNELS,
                &webhook("hook", "https://hooks.example", &["job.failed"]),
            )
            .await?
            .expect(201)?
            .string("/id"),
    };
    let before = everything(&mut admin).await?;

    for rule in &server.rules {
        if rule.method == Method::GET || rule.method == Method::DELETE {
            continue;
        }
        // Without a cookie these end before the body; with one they would end the session.
        if rule.path.ends_with("/logout") || rule.path.ends_with("/refresh") {
            continue;
        }
        let path = ids.fill(rule.path);
        let json = "application/json";
        let deep = "[".repeat(100_000);
        let cases: [(&str, Vec<u8>, &[u16]); 9] = [
            (json, b"{\"no_such_field\":1}".to_vec(), &[400]),
            (json, b"{\"name\":\"a\",\"name\":\"b\"}".to_vec(), &[400]),
            (json, deep.into_bytes(), &[400]),
            (json, b"{\"name\":\"\xff\xfe\"}".to_vec(), &[400]),
            (json, b"{\"name\":".to_vec(), &[400]),
            (json, b"[]".to_vec(), &[400, 422]),
            (json, b"\"text\"".to_vec(), &[400, 422]),
            (json, vec![b' '; (1 << 20) + 1], &[413]),
            ("text/plain", b"{}".to_vec(), &[415]),
        ];
        for (kind, body, statuses) in cases {
            let start: String = String::from_utf8_lossy(&body).chars().take(40).collect();
            let mut client = admin.clone();
            client.cookie = None;
            if rule.needs == Needs::Nothing {
                client.bearer = None;
            }

            let body = Some((kind, body));
            let answer = client
                .send_raw(rule.method.clone(), &path, body, &[])
                .await?;

            let told = format!("{} {path} {kind} {start}: {}", rule.method, answer.text);
            assert!(
                statuses.contains(&answer.status) || is_over(rule.path, answer.status),
                "{told}"
            );
            assert_eq!(
                answer.header("content-type"),
                "application/problem+json",
                "{told}"
            );
            if answer.status == 400 {
                assert!(!answer.fields().is_empty(), "{told}");
            }
        }
    }
    assert_eq!(everything(&mut admin).await?, before);
    Ok(())
}

// The server is set up: that comes first.
fn is_over(path: &str, status: u16) -> bool {
    path == "/api/v1/setup" && status == 409
}

/// S15
#[tokio::test(flavor = "multi_thread")]
async fn every_list_refuses_what_it_does_not_know() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    for rule in server
        .rules
        .iter()
        .filter(|rule| rule.method == Method::GET)
    {
        if rule.path.contains('{') || !rule.path.starts_with("/api/v1/") {
            continue;
        }
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=many", "limit"),
            ("limit=1&limit=2", "limit"),
            ("cursor=x", "cursor"),
            ("colour=red", "colour"),
        ] {
            let answer = admin.get(&format!("{}?{query}", rule.path)).await?;
            // No lists, and what a provider adds to the address is not ours to refuse.
            let others = [
                "/api/v1/setup",
                "/api/v1/users/me",
                "/api/v1/auth/sessions",
                "/api/v1/auth/oidc/callback",
            ];
            if others.contains(&rule.path) {
                continue;
            }
            let got = (answer.status, answer.fields());
            assert_eq!(got, (400, vec![field.to_owned()]), "{}?{query}", rule.path);
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_id_that_is_none_names_nothing() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    for rule in server
        .rules
        .iter()
        .filter(|rule| rule.path.contains("{id}"))
    {
        for id in [
            "1",
            "x%00",
            "..%2f..%2fetc",
            "0190a0b0-0000-7000-8000-00000000000Z",
        ] {
            let path = rule.path.replace("{id}", id);
            let answer = admin.send(rule.method.clone(), &path, None, &[]).await?;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "not_found"),
                "{path}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_method_that_nobody_answers_is_405_with_those_that_are() -> Fallible {
    let server = Server::start().await?;

    let answer = server
        .client()
        .send(Method::PUT, "/api/v1/agents", None, &[])
        .await?;

    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "method_not_allowed")
    );
    let allowed = answer.header("allow");
    assert!(
        allowed.contains("GET") && allowed.contains("POST"),
        "{allowed}"
    );
    Ok(())
}

struct Ids {
    user: String,
    agent: String,
    destination: String,
    policy: String,
    provider: String,
    channel: String,
}

impl Ids {
    fn fill(&self, path: &str) -> String {
        let id = match path.split('/').nth(3) {
            Some("agents") => &self.agent,
            Some("users") => &self.user,
            Some("destinations") => &self.destination,
            Some("oidc-providers") => &self.provider,
            Some("channels") => &self.channel,
            _ => &self.policy,
        };
        path.replace("{id}", id)
    }
}

async fn everything(client: &mut Client) -> Fallible<Value> {
    let mut all = serde_json::Map::new();
    for name in [
        "users",
        "agents",
        "destinations",
        "policies",
        "jobs",
        "snapshots",
        "oidc-providers",
        "channels",
        "auth/tokens",
    ] {
        let listed = client.get(&format!("/api/v1/{name}")).await?.expect(200)?;
        all.insert(name.to_owned(), listed.json);
    }
    Ok(all.into())
}
