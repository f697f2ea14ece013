//! S15 for logins: what is missing, wrong, huge, doubled or looks like something else.

use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use reqwest::Method;
use serde_json::json;

use super::{ADA, Fallible, PASSWORD, Server};

const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const ME: &str = "/api/v1/users/me";

/// A body that one route refuses, with which status, and naming which field.
type Case = (&'static str, String, u16, &'static str);

fn text(length: usize) -> String {
    "x".repeat(length)
}

/// S15
#[tokio::test(flavor = "multi_thread")]
async fn every_field_that_makes_no_sense_is_named() -> Fallible {
    let (server, mut ada) = Server::with_admin().await?;
    let login =
        |email: &str, password: &str| json!({"email": email, "password": password}).to_string();
    let cases: Vec<Case> = vec![
        (
            LOGIN,
            json!({"password": PASSWORD}).to_string(),
            422,
            "email",
        ),
        (LOGIN, json!({"email": ADA}).to_string(), 422, "password"),
        (
            LOGIN,
            json!({"email": 7, "password": PASSWORD}).to_string(),
            422,
            "email",
        ),
        (
            LOGIN,
            json!({"email": null, "password": PASSWORD}).to_string(),
            422,
            "email",
        ),
        (
            LOGIN,
            json!({"email": ADA, "password": [PASSWORD]}).to_string(),
            422,
            "password",
        ),
        (
            LOGIN,
            json!({"email": ADA, "password": PASSWORD, "code": 123456}).to_string(),
            422,
            "code",
        ),
        (
            LOGIN,
            json!({"email": ADA, "password": PASSWORD, "Code": "1"}).to_string(),
            400,
            "Code",
        ),
        (
            LOGIN,
            json!({"email": ADA, "password": PASSWORD, "c\u{43e}de": "1"}).to_string(),
            400,
            "c\u{43e}de",
        ),
        (LOGIN, login(&text(255), PASSWORD), 422, "email"),
        (LOGIN, login(&text(1_000_000), PASSWORD), 422, "email"),
        (LOGIN, login(ADA, &text(1_025)), 422, "password"),
        (LOGIN, login(ADA, &text(1_000_000)), 422, "password"),
        (
            LOGIN,
            json!({"email": ADA, "password": PASSWORD, "code": text(65)}).to_string(),
            422,
            "code",
        ),
        (
            LOGIN,
            format!(r#"{{"email":"{ADA}","password":"x","password":"{PASSWORD}"}}"#),
            400,
            "password",
        ),
        (
            LOGIN,
            format!(r#"{{"email":"{ADA}","em\u0061il":"eve@x","password":"{PASSWORD}"}}"#),
            400,
            "email",
        ),
        ("/api/v1/auth/step-up", "{}".to_owned(), 422, "password"),
        (
            "/api/v1/auth/step-up",
            json!({"password": 7}).to_string(),
            422,
            "password",
        ),
        (
            "/api/v1/auth/step-up",
            json!({"password": text(1_025)}).to_string(),
            422,
            "password",
        ),
        (
            "/api/v1/auth/step-up",
            json!({"code": {}}).to_string(),
            422,
            "code",
        ),
        (
            "/api/v1/auth/step-up",
            json!({"code": text(65)}).to_string(),
            422,
            "code",
        ),
        (
            "/api/v1/auth/step-up",
            r#"{"code":"1","code":"2"}"#.to_owned(),
            400,
            "code",
        ),
        ("/api/v1/auth/totp/confirm", "{}".to_owned(), 422, "code"),
        (
            "/api/v1/auth/totp/confirm",
            json!({"code": 123456}).to_string(),
            422,
            "code",
        ),
        (
            "/api/v1/auth/totp/confirm",
            json!({"code": "\u{ff11}23456"}).to_string(),
            422,
            "code",
        ),
        (
            "/api/v1/auth/totp/confirm",
            json!({"code": text(100_000)}).to_string(),
            422,
            "code",
        ),
        (
            "/api/v1/auth/totp",
            json!({"secret": "A"}).to_string(),
            400,
            "secret",
        ),
        (
            "/api/v1/auth/recovery-codes",
            json!({"count": 99}).to_string(),
            400,
            "count",
        ),
        (
            "/api/v1/auth/logout-all",
            json!({"user": "eve"}).to_string(),
            400,
            "user",
        ),
    ];

    for (path, body, status, field) in cases {
        let start: String = body.chars().take(80).collect();
        let raw = Some(("application/json", body.into_bytes()));
        let refused = ada.send_raw(Method::POST, path, raw, &[]).await?;
        let got = (refused.status, refused.fields());
        assert_eq!(got, (status, vec![field.to_owned()]), "{path} {start}");
        assert!(refused.text.len() < 1_000, "{path} {start}");
    }

    // Nothing has changed: the same login lives, and none was counted as a failure.
    ada.get(ME).await?.expect(200)?;
    assert_eq!(ada.get(ME).await?.json["mfa"], json!(false));
    server.client().log_in(ADA, PASSWORD).await
}

/// A9, S15: what looks like Ada is not Ada, and is told what a stranger is told.
#[tokio::test]
async fn whoever_looks_alike_is_a_stranger() -> Fallible {
    let (server, _) = Server::with_admin().await?;
    for (email, password) in [
        ("\u{430}da@example.org", PASSWORD),
        ("ada@example\u{2024}org", PASSWORD),
        ("ada\u{200b}@example.org", PASSWORD),
        ("ada@example.org ", PASSWORD),
        (" ada@example.org", PASSWORD),
        ("ada@example.org\u{0}", PASSWORD),
        ("\u{ff41}da@example.org", PASSWORD),
        (ADA, "c\u{43e}rrect horse battery"),
        (ADA, "correct horse battery "),
        (ADA, "Correct horse battery"),
    ] {
        // From another server each time: this one would make a guesser wait.
        let body = json!({"email": email, "password": password});
        let refused = server.client().post(LOGIN, &body).await?;
        let told = (refused.status, refused.string("/detail"));
        assert_eq!(
            told,
            (401, "wrong address or password".to_owned()),
            "{email:?}"
        );
    }
    Ok(())
}

/// S15, A3: cookies that are doubled, cut, renamed or brought by another site's page.
#[tokio::test]
async fn a_cookie_that_is_not_the_one_we_gave_changes_nothing() -> Fallible {
    let (server, mut ada) = Server::with_admin().await?;
    let own = ada.cookie.clone().unwrap_or_default();
    let (_, value) = own.split_once('=').unwrap_or_default();
    let mut last = value.to_owned();
    last.pop();
    for cookie in [
        format!("{own}; {own}"),
        format!("__Host-arkeep_refresh=x; {own}"),
        format!("{own}; __Host-arkeep_refresh="),
        format!("__Host-arkeep_refresh={last}"),
        format!("__Host-arkeep_refresh=\"{value}\""),
        format!("__Host-arkeep_refresh={value}="),
        format!("arkeep_refresh={value}"),
        format!("__host-arkeep_refresh={value}"),
        format!("__Host-arkeep_refresh={}", text(20_000)),
        "__Host-arkeep_refresh".to_owned(),
        ";;=;".to_owned(),
    ] {
        for path in [REFRESH, LOGOUT] {
            let mut client = server.client();
            client.cookie = Some(cookie.clone());
            let answer = client.post(path, &json!({})).await?;
            let start: String = cookie.chars().take(60).collect();
            assert_eq!(answer.status, 401, "{path} {start}: {}", answer.text);
        }
    }
    for host in ["https://evil.example", "null", "http://127.0.0.1"] {
        for path in [REFRESH, LOGOUT] {
            let mut client = server.client();
            client.cookie = Some(own.clone());
            let foreign = [("origin", host)];
            client
                .send(Method::POST, path, None, &foreign)
                .await?
                .expect(403)?;
        }
    }

    ada.get(ME).await?.expect(200)?;
    ada.post(REFRESH, &json!({})).await?.expect(200)?;
    Ok(())
}

/// A2, A4: a server whose clock was an hour fast or slow refuses, and goes on.
#[tokio::test]
async fn a_clock_that_is_an_hour_off_refuses_and_breaks_nothing() -> Fallible {
    const HOUR: Duration = Duration::from_secs(3_600);
    let now = SystemClock.now();
    let server = Server::start_at(Arc::new(ManualClock::at(now))).await?;
    let ada = server.set_up().await?;
    let mut data = server.stop().await?;
    let mut cookie = ada.cookie.clone();

    for then in [now.minus(HOUR), now.plus(HOUR)] {
        let clock = Arc::new(ManualClock::at(then));
        let server = Server::start_with(data, &[], clock).await?;
        let mut client = server.client();
        client.bearer = ada.bearer.clone();
        client.get(ME).await?.expect(401)?;
        client.bearer = None;
        client.cookie = cookie;
        let refreshed = client.post(REFRESH, &json!({})).await?.expect(200)?;
        client.take(&refreshed);
        client.get(ME).await?.expect(200)?;
        cookie = client.cookie.clone();
        data = server.stop().await?;
    }
    Ok(())
}
