//! S13, S11: channels over the API, and what comes out at their other end.

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use by_definition::hmac_sha256;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::client::Client;
use super::receiver::{Answer, Receiver};
use super::{ADA, Fallible, PASSWORD, Server, eventually};

pub(super) const CHANNELS: &str = "/api/v1/channels";
pub(super) const OPTIONS: [&str; 2] = ["--outbound-allow", "127.0.0.0/8"];
const SECRET: &str = "canary-of-a-channel";

/// HMAC by its definition (RFC 2104), over a hash that the program does not use for it.
mod by_definition {
    use aws_lc_rs::digest::{SHA256, digest};

    pub(super) fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
        let mut block = [0_u8; 64];
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        let padded = |with: u8| block.iter().map(move |byte| byte ^ with);
        let inner: Vec<u8> = padded(0x36).chain(message.iter().copied()).collect();
        let inner = digest(&SHA256, &inner);
        let outer: Vec<u8> = padded(0x5c).chain(inner.as_ref().iter().copied()).collect();
        let tag = digest(&SHA256, &outer);
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

async fn start() -> Fallible<(Server, Client)> {
    let server = Server::start_in(TempDir::new()?, &OPTIONS).await?;
    let admin = server.set_up().await?;
    Ok((server, admin))
}

pub(super) fn webhook(name: &str, url: &str, events: &[&str]) -> Value {
    json!({"name": name, "kind": "webhook", "config": {"url": url}, "secret": SECRET,
        "events": events})
}

/// Shows a refresh token that was spent before its successor was.
pub(super) async fn steal(client: &Client) -> Fallible {
    let stolen = client.clone();
    let mut last = client.clone();
    last.bearer = None;
    for _ in 0..2 {
        let answer = last.send(Method::POST, REFRESH, None, &[]).await?;
        last.take(&answer.expect(200)?);
        last.bearer = None;
    }
    let mut thief = stolen;
    thief.bearer = None;
    let refused = thief.send(Method::POST, REFRESH, None, &[]).await?;
    refused.expect(401)?;
    Ok(())
}

const REFRESH: &str = "/api/v1/auth/refresh";

/// A6, S13: from a stolen token to whoever should know, with a signature that says who tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_theft_reaches_a_webhook_signed() -> Fallible {
    let (server, mut admin) = start().await?;
    let receiver = Receiver::start().await?;
    let body = webhook("hook", &receiver.url, &["security.*", "job.failed"]);
    admin.create(CHANNELS, &body).await?;

    steal(&admin).await?;
    receiver.until(1).await?;

    let seen = receiver.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].path, "POST /hook");
    assert_eq!(seen[0].header("content-type"), "application/json");
    let told = seen[0].json();
    assert_eq!(told["type"], "security.token_reuse");
    assert_eq!(told["data"]["email"], ADA);
    assert_eq!(told["title"], format!("A login of {ADA} was stolen"));
    let fields: Vec<_> = told.as_object().ok_or("no object")?.keys().collect();
    assert_eq!(
        fields,
        ["data", "id", "occurred_at", "text", "title", "type"]
    );
    let signature = seen[0].header("x-arkeep-signature");
    let (time, tag) = signature
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .ok_or("another form")?;
    let age = SystemClock.now().as_unix_seconds() - time.parse::<i64>()?;
    assert!((0..60).contains(&age), "{signature}");
    let signed = [time.as_bytes(), b".", &seen[0].body].concat();
    assert_eq!(tag, hmac_sha256(SECRET.as_bytes(), &signed));

    admin.log_in(ADA, PASSWORD).await?;
    eventually(async || {
        let mut admin = admin.clone();
        let shown = admin.get("/api/v1/deliveries").await?.expect(200)?;
        Ok(shown.string("/items/0/state") == "delivered")
    })
    .await?;
    let shown = admin.get("/api/v1/deliveries?state=delivered").await?;
    assert_eq!(shown.json["items"][0]["id"], told["id"]);
    assert_eq!(shown.json["items"][0]["attempts"], 1);
    let metrics = admin.get("/metrics").await?.text;
    let line = r#"arkeep_deliveries_total{channel_kind="webhook",result="delivered"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    server.stop().await?;
    Ok(())
}

/// S13: what a dead channel does not take is told to the others all the same, and to it in order once
/// it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_channel_harms_no_other() -> Fallible {
    let (_server, mut admin) = start().await?;
    let (alive, dead, silent) = (
        Receiver::start().await?,
        Receiver::start().await?,
        Receiver::start().await?,
    );
    dead.answers(Answer::Status(500));
    silent.answers(Answer::Silence);
    for (name, receiver) in [("silent", &silent), ("dead", &dead), ("alive", &alive)] {
        let body = webhook(name, &receiver.url, &["security.token_reuse"]);
        admin.create(CHANNELS, &body).await?;
    }

    for count in 1..=3 {
        steal(&admin).await?;
        admin.log_in(ADA, PASSWORD).await?;
        alive.until(count).await?;
    }

    let waits = async |count: usize, said: &str| {
        let mut admin = admin.clone();
        let waiting = admin.get("/api/v1/deliveries?state=pending").await?;
        let items = waiting.json["items"].as_array().map(Vec::len);
        Ok(items == Some(count) && waiting.text.contains(said))
    };
    eventually(async || waits(6, "the receiver answers with status 500").await).await?;
    dead.answers(Answer::Status(200));
    eventually(async || waits(3, "").await).await?;
    let stolen = |receiver: &Receiver| -> Vec<_> {
        let told = receiver.seen().into_iter();
        told.map(|one| one.json()["data"]["session_id"].clone())
            .collect()
    };
    let mut taken = stolen(&dead);
    taken.dedup();
    assert_eq!(taken, stolen(&alive), "none before the one ahead of it");
    Ok(())
}

/// S11
#[tokio::test(flavor = "multi_thread")]
async fn the_own_machine_is_not_called_whatever_its_name() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let receiver = Receiver::start().await?;
    let port = receiver.url.rsplit(':').next().unwrap_or_default();
    for (name, url) in [
        ("loopback", format!("http://127.0.0.1:{port}")),
        ("by name", format!("http://localhost:{port}")),
        ("mapped", format!("https://[::ffff:127.0.0.1]:{port}")),
        ("as a number", format!("https://2130706433:{port}")),
        ("version 6", format!("http://[::1]:{port}")),
        ("metadata", "https://169.254.169.254/latest".to_owned()),
    ] {
        let made = admin
            .create(CHANNELS, &webhook(name, &url, &["job.failed"]))
            .await?;
        let id = made["id"].as_str().unwrap_or_default();
        let test = format!("{CHANNELS}/{id}/test");
        let tested = admin.post(&test, &json!({})).await?.expect(200)?;

        assert_eq!(tested.json["delivered"], false, "{url}");
        assert_eq!(
            tested.json["error"], "the address may not be called",
            "{url}"
        );
    }
    for url in [
        "http://hooks.example.org/",
        "ftp://hooks.example.org",
        "https://user:pass@hooks.example.org",
        "/hook",
        "",
    ] {
        let refused = admin
            .post(CHANNELS, &webhook("x", url, &["job.failed"]))
            .await?;
        assert_eq!(refused.status, 422, "{url}: {}", refused.text);
        assert_eq!(refused.fields(), ["config.url"], "{url}");
    }
    assert!(receiver.seen().is_empty());
    Ok(())
}

/// S11
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() -> Fallible {
    let (_server, mut admin) = start().await?;
    let (receiver, inside) = (Receiver::start().await?, Receiver::start().await?);
    receiver.answers(Answer::Redirect(inside.url.clone()));
    let body = webhook("hook", &receiver.url, &["job.failed"]);
    let made = admin.create(CHANNELS, &body).await?;
    let id = made["id"].as_str().unwrap_or_default();

    let tested = admin
        .post(&format!("{CHANNELS}/{id}/test"), &json!({}))
        .await?
        .expect(200)?;

    assert_eq!(tested.json["error"], "the receiver answers with status 307");
    assert_eq!((receiver.seen().len(), inside.seen().len()), (1, 0));
    Ok(())
}

/// V4
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_in_and_does_not_come_out() -> Fallible {
    let (server, mut admin) = start().await?;
    let receiver = Receiver::start().await?;
    let body = webhook("hook", &receiver.url, &["job.failed"]);
    let made = admin.post(CHANNELS, &body).await?.expect(201)?;
    let path = made.header("location");
    assert_eq!(path, format!("{CHANNELS}/{}", made.string("/id")));
    let expected = json!({
        "id": made.json["id"], "version": 1, "name": "hook", "kind": "webhook",
        "config": {"url": receiver.url}, "secret_set": true, "events": ["job.failed"],
        "enabled": true,
    });
    assert_eq!(made.json, expected);
    let mut answers = made.text;

    let found = admin.get(&path).await?.expect(200)?;
    assert_eq!(found.json, expected);
    let tag = found.header("etag");
    let patch = json!({"events": ["job.failed", "job.missed"], "name": "other"});
    let changed = admin.patch(&path, &patch).await?.expect(200)?;
    assert_eq!(
        (
            changed.json["version"].clone(),
            changed.json["secret_set"].clone()
        ),
        (json!(2), json!(true))
    );
    let stale = [("if-match", tag.as_str())];
    for method in [Method::PATCH, Method::DELETE] {
        let refused = admin.send(method, &path, Some(&json!({})), &stale).await?;
        assert_eq!(refused.status, 412, "{}", refused.text);
    }
    let gone = admin.patch(&path, &json!({"secret": null})).await?;
    assert_eq!(gone.expect(200)?.json["secret_set"], false);
    let test = format!("{path}/test");
    let tested = admin.post(&test, &json!({})).await?.expect(200)?;
    assert_eq!(tested.json, json!({"delivered": true, "error": null}));
    let seen = receiver.seen();
    assert_eq!(seen[0].json()["type"], "test");
    assert_eq!(seen[0].header("x-arkeep-signature"), "");
    let again = admin.patch(&path, &json!({"secret": SECRET})).await?;
    answers += &again.expect(200)?.text;
    answers += &admin.get(CHANNELS).await?.expect(200)?.text;
    answers += &admin.get("/api/v1/audit").await?.expect(200)?.text;
    assert!(!answers.contains(SECRET), "{answers}");
    assert!(answers.contains("channel.create"), "{answers}");
    for (name, bytes, _) in super::picture(&server.data_dir())? {
        let held = bytes
            .windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes());
        assert!(!held, "{name}");
    }
    admin.delete(&path).await?.expect(204)?;
    admin.get(&path).await?.expect(404)?;
    Ok(())
}

/// S12: the audit log keeps what it was told for good, and a path may be as good as a secret.
#[tokio::test]
async fn the_audit_log_is_told_where_an_address_leads_and_no_more() -> Fallible {
    let (_server, mut admin) = start().await?;
    let url = |path: &str| format!("https://hooks.example.org:8443/{path}?token={path}");
    let body = webhook("hook", &url("hunter2"), &["job.failed"]);
    let made = admin.post(CHANNELS, &body).await?.expect(201)?;
    let path = made.header("location");
    let patch = json!({"config": {"url": url("hunter3")}, "secret": null});
    admin.patch(&path, &patch).await?.expect(200)?;
    admin.delete(&path).await?.expect(204)?;

    let told = admin.get("/api/v1/audit").await?.expect(200)?.text;

    assert!(!told.contains("hunter"), "{told}");
    assert!(told.contains("https://hooks.example.org:8443"), "{told}");
    assert!(told.contains("config.url"), "{told}");
    Ok(())
}

#[tokio::test]
async fn nonsense_is_refused_field_by_field() -> Fallible {
    let (_server, mut admin) = start().await?;
    let fine = webhook("hook", "https://hooks.example.org/", &["job.failed"]);
    admin.create(CHANNELS, &fine).await?;
    for (patch, field) in [
        (json!({"name": ""}), "name"),
        (json!({"kind": "pigeon"}), "kind"),
        (json!({"config": {}}), "config"),
        (json!({"config": {"url": "https://x", "more": 1}}), "config"),
        (json!({"config": 7}), "config"),
        (
            json!({"config": {"url": "https://x.example/\n"}}),
            "config.url",
        ),
        (
            json!({"config": {"url": " https://x.example/"}}),
            "config.url",
        ),
        (
            json!({"config": {"url": "https://x.example\\@y.example"}}),
            "config.url",
        ),
        (json!({"secret": ""}), "secret"),
        (json!({"events": []}), "events"),
        (json!({"events": ["snapshot.missing"]}), "events[0]"),
        (json!({"events": ["job.failed", "job.failed"]}), "events[1]"),
        (
            json!({"kind": "ntfy", "config": {"url": "https://n.example", "topic": "a b"}}),
            "config.topic",
        ),
        (json!({"kind": "healthchecks", "secret": "a?b"}), "secret"),
    ] {
        let mut body = fine.clone();
        for (name, value) in patch.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let refused = admin.post(CHANNELS, &body).await?;
        assert_eq!(refused.status, 422, "{patch}: {}", refused.text);
        assert_eq!(refused.fields(), [field], "{patch}");
    }
    let second = admin.post(CHANNELS, &fine).await?;
    assert_eq!(
        (second.status, second.fields()),
        (409, vec!["name".to_owned()])
    );
    let filter = admin.get("/api/v1/deliveries?state=lost").await?;
    assert_eq!(
        (filter.status, filter.fields()),
        (400, vec!["state".to_owned()])
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ntfy_and_healthchecks_get_what_they_understand() -> Fallible {
    let (_server, mut admin) = start().await?;
    let receiver = Receiver::start().await?;
    let base = receiver.url.trim_end_matches("/hook").to_owned();
    for (name, kind, config) in [
        ("phone", "ntfy", json!({"url": base, "topic": "backups"})),
        (
            "watch",
            "healthchecks",
            json!({"url": format!("{base}/ping")}),
        ),
    ] {
        let body = json!({"name": name, "kind": kind, "config": config, "secret": "s3cret-token",
            "events": ["job.failed"]});
        let made = admin.create(CHANNELS, &body).await?;
        let id = made["id"].as_str().unwrap_or_default();
        let path = format!("{CHANNELS}/{id}");
        let tested = admin.post(&format!("{path}/test"), &json!({})).await?;
        assert_eq!(tested.expect(200)?.json["delivered"], true, "{kind}");

        // Whoever answers there is shown the secret.
        let moved = json!({"config": {"url": "https://elsewhere.example"}});
        let refused = admin.patch(&path, &moved).await?;
        assert_eq!(
            (refused.status, refused.fields()),
            (422, vec!["secret".to_owned()])
        );
    }

    let seen = receiver.seen();
    assert_eq!(seen[0].path, "POST /");
    assert_eq!(seen[0].header("authorization"), "Bearer s3cret-token");
    assert_eq!(seen[0].json()["topic"], "backups");
    assert_eq!(seen[0].json()["title"], "Arkeep can reach you here");
    assert_eq!(seen[1].path, "POST /ping/s3cret-token/log");
    assert!(seen[1].body.starts_with(b"Arkeep can reach you here\n"));
    Ok(())
}

/// A mail server that takes everything, and what it was told.
async fn mail_server() -> Fallible<(u16, tokio::task::JoinHandle<std::io::Result<String>>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let serve = async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = BufReader::new(stream);
        let (mut heard, mut in_mail) = (String::new(), false);
        stream.write_all(b"220 hi\r\n").await?;
        while stream.read_line(&mut heard).await? > 0 {
            let line = heard.lines().last().unwrap_or_default();
            let answer = match (in_mail, line) {
                (true, ".") => "250 taken\r\n",
                (true, _) => continue,
                (_, "DATA") => "354 go on\r\n",
                (_, line) if line.starts_with("AUTH") => "235 welcome\r\n",
                (_, line) if line.starts_with("EHLO") => "250-me\r\n250 AUTH PLAIN\r\n",
                _ => "250 ok\r\n",
            };
            in_mail = line == "DATA";
            stream.write_all(answer.as_bytes()).await?;
        }
        Ok(heard)
    };
    Ok((port, tokio::spawn(serve)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_handed_over() -> Fallible {
    let (_server, mut admin) = start().await?;
    let (port, heard) = mail_server().await?;
    let body = json!({
        "name": "people", "kind": "email", "secret": "hunter2", "events": ["job.failed"],
        "config": {"host": "127.0.0.1", "port": port, "tls": "none", "username": "ada",
            "from": "arkeep@example.org", "to": ["ada@example.org", "bob@example.org"]},
    });
    let made = admin.create(CHANNELS, &body).await?;
    let path = format!("{CHANNELS}/{}", made["id"].as_str().unwrap_or_default());

    let tested = admin.post(&format!("{path}/test"), &json!({})).await?;

    assert_eq!(
        tested.expect(200)?.json,
        json!({"delivered": true, "error": null})
    );
    let heard = heard.await??;
    for line in [
        "AUTH PLAIN AGFkYQBodW50ZXIy\r\n",
        "MAIL FROM:<arkeep@example.org>\r\n",
        "RCPT TO:<ada@example.org>\r\n",
        "RCPT TO:<bob@example.org>\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "\r\n.\r\nQUIT\r\n",
    ] {
        assert!(heard.contains(line), "{line}: {heard}");
    }
    for (config, field) in [
        (json!({"tls": "none", "host": "mail.example"}), "config.tls"),
        (
            json!({"tls": "starttls", "host": "mail example"}),
            "config.host",
        ),
        (json!({"from": "a@b>\r\nDATA"}), "config.from"),
        (json!({"to": []}), "config.to"),
        (
            json!({"to": ["ada@example.org", "Ada <ada@example.org>"]}),
            "config.to[1]",
        ),
        (json!({"username": null}), "config.username"),
    ] {
        let mut other = body.clone();
        for (name, value) in config.as_object().into_iter().flatten() {
            other["config"][name] = value.clone();
        }
        let refused = admin.post(CHANNELS, &other).await?;
        assert_eq!(
            (refused.status, refused.fields()),
            (422, vec![field.to_owned()]),
            "{config}"
        );
    }
    Ok(())
}

/// S11
#[tokio::test(flavor = "multi_thread")]
async fn no_mail_goes_to_the_own_machine() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let (port, heard) = mail_server().await?;
    for host in ["127.0.0.1", "localhost", "::1"] {
        let body = json!({
            "name": host, "kind": "email", "events": ["job.failed"],
            "config": {"host": host, "port": port, "tls": "none",
                "from": "arkeep@example.org", "to": ["ada@example.org"]},
        });
        let made = admin.create(CHANNELS, &body).await?;
        let path = format!("{CHANNELS}/{}", made["id"].as_str().unwrap_or_default());
        let tested = admin
            .post(&format!("{path}/test"), &json!({}))
            .await?
            .expect(200)?;
        assert_eq!(
            tested.json["error"], "the address may not be called",
            "{host}"
        );
    }
    assert!(!heard.is_finished());
    heard.abort();
    Ok(())
}

/// S13: a run whose agent stayed away until its deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_never_began_is_told() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_with(TempDir::new()?, &OPTIONS, clock.clone()).await?;
    let mut admin = server.set_up().await?;
    let receiver = Receiver::start().await?;
    let body = webhook("hook", &receiver.url, &["job.missed"]);
    admin.create(CHANNELS, &body).await?;
    let mut policy = super::resources::policy(&mut admin).await?;
    policy["deadline"] = json!(60);
    let policy = admin.create("/api/v1/policies", &policy).await?;
    let run = format!(
        "/api/v1/policies/{}/run",
        policy["id"].as_str().unwrap_or_default()
    );
    let job = admin.post(&run, &json!({})).await?.expect(202)?;

    clock.advance(Duration::from_secs(61));
    receiver.until(1).await?;

    let told = receiver.seen()[0].json();
    assert_eq!(told["type"], "job.missed");
    assert_eq!(told["title"], "Backup of nightly on db1 did not run");
    assert_eq!(told["data"]["job_id"], job.json["job_id"]);
    assert_eq!(told["data"]["state"], "expired");
    Ok(())
}

/// S6, S13: a channel that is dead for a day is given up on, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_day_in_vain_it_is_shown_as_given_up() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_with(TempDir::new()?, &OPTIONS, clock.clone()).await?;
    let mut admin = server.set_up().await?;
    let dead = Receiver::start().await?;
    dead.answers(Answer::Status(503));
    let body = webhook("dead", &dead.url, &["security.token_reuse"]);
    admin.create(CHANNELS, &body).await?;
    steal(&admin).await?;
    admin.log_in(ADA, PASSWORD).await?;
    dead.until(1).await?;
    eventually(async || {
        let mut admin = admin.clone();
        let shown = admin.get("/api/v1/deliveries").await?.expect(200)?;
        Ok(shown.json["items"][0]["attempts"] != 0)
    })
    .await?;

    clock.advance(Duration::from_secs(24 * 60 * 60));
    let mut admin = server.client();
    admin.log_in(ADA, PASSWORD).await?;
    eventually(async || {
        let mut admin = admin.clone();
        let shown = admin.get("/api/v1/deliveries?state=given_up").await?;
        Ok(shown.expect(200)?.json["items"].as_array().map(Vec::len) == Some(1))
    })
    .await?;
    let shown = admin.get("/api/v1/deliveries").await?.expect(200)?;
    assert_eq!(
        shown.string("/items/0/error"),
        "the receiver answers with status 503"
    );
    assert_eq!(shown.json["items"][0]["next_attempt_at"], Value::Null);
    Ok(())
}

/// S13: nothing was tried while the server was off, so nothing was tried in vain.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_off_for_a_day_gives_nothing_up() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_with(TempDir::new()?, &OPTIONS, clock.clone()).await?;
    let mut admin = server.set_up().await?;
    let dead = Receiver::start().await?;
    dead.answers(Answer::Status(503));
    let body = webhook("dead", &dead.url, &["security.token_reuse"]);
    admin.create(CHANNELS, &body).await?;
    steal(&admin).await?;
    dead.until(1).await?;
    let attempts = async |server: &Server| -> Fallible<(u64, String)> {
        let mut admin = server.client();
        admin.log_in(ADA, PASSWORD).await?;
        let shown = admin.get("/api/v1/deliveries").await?.expect(200)?;
        let attempts = shown.json["items"][0]["attempts"].as_u64();
        Ok((
            attempts.ok_or("no attempts")?,
            shown.string("/items/0/state"),
        ))
    };
    eventually(async || Ok(attempts(&server).await?.0 > 0)).await?;
    let dir = server.stop().await?;
    let before = dead.seen().len();

    clock.advance(Duration::from_secs(25 * 60 * 60));
    let server = Server::start_with(dir, &OPTIONS, clock.clone()).await?;
    dead.until(before + 1).await?;
    eventually(async || Ok(attempts(&server).await?.0 > before as u64)).await?;

    assert_eq!(attempts(&server).await?.1, "pending");
    Ok(())
}

/// S7: an agent that never connected, and a server that looks by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_is_not_kept_is_told() -> Fallible {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let server = Server::start_with(TempDir::new()?, &OPTIONS, clock.clone()).await?;
    let mut admin = server.set_up().await?;
    let receiver = Receiver::start().await?;
    let body = webhook("hook", &receiver.url, &["policy.overdue"]);
    admin.create(CHANNELS, &body).await?;
    let mut policy = super::resources::policy(&mut admin).await?;
    policy["max_age"] = json!(3_600);
    let policy = admin.create("/api/v1/policies", &policy).await?;

    clock.advance(Duration::from_secs(3_600));
    receiver.until(1).await?;

    let told = receiver.seen()[0].json();
    assert_eq!(told["type"], "policy.overdue");
    assert_eq!(told["data"]["policy_id"], policy["id"]);
    let text = told["text"].as_str().unwrap_or_default();
    assert!(text.ends_with("There never was one."), "{text}");
    Ok(())
}
