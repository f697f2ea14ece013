//! A10: a login through a provider that somebody else wrote, as a process of its own.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Url;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::oidc::{OPTIONS, describe, login};
use super::{Fallible, Server};

/// `oidc-provider-mock` of Python's package index.
struct Real {
    issuer: String,
    http: reqwest::Client,
    // Killed when it is dropped.
    _process: Child,
}

impl Real {
    /// None where it is not installed.
    async fn start() -> Fallible<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let spawned = command(PROGRAM)
            .args(["--require-nonce", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(process) = spawned else {
            return Ok(None);
        };
        let real = Self {
            // It calls itself what it is called.
            issuer: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            _process: process,
        };
        real.is_ready().await?;
        Ok(Some(real))
    }

    async fn is_ready(&self) -> Fallible {
        let address = format!("{}/.well-known/openid-configuration", self.issuer);
        for _ in 0..600 {
            if self.http.get(&address).send().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("the provider does not begin to answer".into())
    }

    /// Logs a user in there and returns the path and query that the browser is sent back to.
    async fn authorize(&self, location: &str, subject: &str) -> Fallible<String> {
        let answer = self
            .http
            .post(location)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("sub={subject}"))
            .send()
            .await?;
        let back = answer.headers().get("location");
        let back = Url::parse(back.ok_or("nowhere to go")?.to_str()?)?;
        assert_eq!(
            back.origin().ascii_serialization(),
            "https://backup.example"
        );
        Ok(format!(
            "{}?{}",
            back.path(),
            back.query().unwrap_or_default()
        ))
    }
}

/// A10
#[tokio::test(flavor = "multi_thread")]
async fn a_real_provider_lets_a_user_in() -> Fallible {
    let server = Server::start_in(TempDir::new()?, &OPTIONS).await?;
    let mut admin = server.set_up().await?;
    let Some(real) = Real::start().await? else {
        return skipped(
            "a_real_provider_lets_a_user_in",
            "oidc-provider-mock is missing",
        );
    };
    let claims = json!({"email": "bob@example.org", "name": "Bob", "groups": ["ops"]});
    let user = format!("{}/users/b0b", real.issuer);
    real.http
        .put(user)
        .json(&claims)
        .send()
        .await?
        .error_for_status()?;
    let provider = describe(&mut admin, &real.issuer).await?;
    let mut browser = server.client();
    let sent = browser.get(&login(&provider)).await?.expect(303)?;
    browser.cookie = sent.cookies().pop();
    let cookie = browser.cookie.clone();

    let back = real.authorize(&sent.header("location"), "b0b").await?;
    let entered = browser.get(&back).await?.expect(303)?;

    browser.cookie = entered.cookies().into_iter().next();
    let tokens = browser
        .post("/api/v1/auth/refresh", &json!({}))
        .await?
        .expect(200)?;
    browser.take(&tokens);
    let me = browser.get("/api/v1/users/me").await?.expect(200)?;
    assert_eq!(
        (
            me.string("/email"),
            me.string("/role"),
            me.string("/identities/0/subject")
        ),
        (
            "bob@example.org".to_owned(),
            "operator".to_owned(),
            "b0b".to_owned()
        )
    );
    // The same answer once more: neither the state nor the code is good again.
    let mut replayed = server.client();
    replayed.cookie = cookie;
    replayed.get(&back).await?.expect(401)?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the provider is a program of its own"
)]
fn command(program: &str) -> Command {
    Command::new(program)
}

#[expect(clippy::disallowed_methods, reason = "the test script says where")]
fn skipped(name: &str, why: &str) -> Fallible {
    if let Some(list) = std::env::var_os("ARKEEP_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().append(true).open(list)?;
        writeln!(list, "{name}: {why}")?;
    }
    Ok(())
}

const PROGRAM: &str = "oidc-provider-mock";
