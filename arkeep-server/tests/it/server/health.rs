use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::{Fallible, Server};

#[tokio::test]
async fn it_is_ready_before_it_is_set_up() -> Fallible {
    let server = Server::start().await?;
    let mut client = server.client();

    let live = client.get("/health/live").await?.expect(200)?;
    let ready = client.get("/health/ready").await?.expect(200)?;

    assert_eq!(live.text, "ok");
    assert_eq!(
        ready.json,
        json!({
            "status": "healthy",
            "checks": {"database": {"status": "ok"}, "scheduler": {"status": "ok"}},
        })
    );
    Ok(())
}

#[tokio::test]
async fn latencies_are_for_those_who_are_logged_in() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;

    let ready = admin.get("/health/ready").await?.expect(200)?;

    assert!(
        ready
            .json
            .pointer("/checks/database/latency_ms")
            .is_some_and(|ms| ms.is_number())
    );
    Ok(())
}

#[tokio::test]
async fn metrics_are_for_the_networks_that_were_named() -> Fallible {
    let token = TempDir::new()?;
    let file = token.path().join("token");
    std::fs::write(&file, "open-sesame\n")?;
    let file = file.to_str().ok_or("not text")?;
    let near = Server::start().await?;
    let far = [
        "--metrics-allow",
        "192.0.2.0/24",
        "--metrics-token-file",
        file,
    ];
    let far = Server::start_in(TempDir::new()?, &far).await?;

    near.client().get("/health/live").await?.expect(200)?;
    let text = near.client().get("/metrics").await?.expect(200)?.text;
    let line = r#"arkeep_http_requests_total{method="GET",route="/health/live",status="200"} 1"#;
    assert!(text.lines().any(|have| have == line), "{text}");

    let mut client = far.client();
    let refused = client.get("/metrics").await?;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (403, "forbidden")
    );
    let forged = [("x-forwarded-for", "192.0.2.7")];
    client
        .send(Method::GET, "/metrics", None, &forged)
        .await?
        .expect(403)?;
    client.bearer = Some("wrong".to_owned());
    client.get("/metrics").await?.expect(403)?;
    client.bearer = Some("open-sesame".to_owned());
    client.get("/metrics").await?.expect(200)?;
    Ok(())
}

/// S10
#[tokio::test]
async fn behind_a_trusted_proxy_the_forwarded_address_is_judged() -> Fallible {
    let options = [
        "--trusted-proxy",
        "127.0.0.1",
        "--metrics-allow",
        "192.0.2.0/24",
    ];
    let server = Server::start_in(TempDir::new()?, &options).await?;
    let mut client = server.client();

    for (said, status) in [
        ("192.0.2.7", 200),
        ("198.51.100.1", 403),
        ("192.0.2.7, 198.51.100.1", 403),
        ("198.51.100.1, 192.0.2.7", 200),
    ] {
        let said = [("x-forwarded-for", said)];
        client
            .send(Method::GET, "/metrics", None, &said)
            .await?
            .expect(status)?;
    }
    client.get("/metrics").await?.expect(403)?;
    Ok(())
}

/// S10
#[tokio::test]
async fn every_answer_wears_the_headers() -> Fallible {
    let plain = Server::start().await?;
    let proxied = Server::start_in(TempDir::new()?, &["--behind-proxy"]).await?;

    for path in [
        "/health/live",
        "/api/v1/users/me",
        "/no/such/place",
        "/metrics",
    ] {
        let answer = plain.client().get(path).await?;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("cross-origin-opener-policy", "same-origin"),
            ("strict-transport-security", ""),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-request-id").len(), 36);

        let answer = proxied.client().get(path).await?;
        assert!(
            answer
                .header("strict-transport-security")
                .starts_with("max-age="),
            "{path}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_problem_names_its_request() -> Fallible {
    let server = Server::start().await?;

    let answer = server.client().get("/api/v1/users/me").await?;

    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    assert_eq!(answer.string("/request_id"), answer.header("x-request-id"));
    let mut document = answer.json;
    if let Some(members) = document.as_object_mut() {
        members.remove("request_id");
    }
    insta::assert_snapshot!(document, @r#"{"code":"unauthorized","detail":"log in first","status":401,"title":"Unauthorized","type":"about:blank"}"#);
    Ok(())
}

#[tokio::test]
async fn the_public_keys_hold_nothing_else() -> Fallible {
    let server = Server::start().await?;

    let answer = server
        .client()
        .get("/.well-known/jwks.json")
        .await?
        .expect(200)?;

    let keys = answer
        .json
        .get("keys")
        .and_then(|keys| keys.as_array())
        .cloned();
    let keys = keys.unwrap_or_default();
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].get("kty"), Some(&json!("OKP")));
    assert_eq!(keys[0].get("d"), None);
    // Whoever keeps a copy has the next key long before it signs.
    let kept = answer.header("cache-control");
    assert_eq!(kept, "public, max-age=300");
    Ok(())
}

#[tokio::test]
async fn https_is_served_with_a_certificate_of_our_own_authority() -> Fallible {
    let server = Server::start_in(TempDir::new()?, &["--tls-auto"]).await?;
    let ca = super::process::run(
        &[
            "ca",
            "status",
            "--data-dir",
            &server.data_dir().to_string_lossy(),
        ],
        &[],
    )
    .await?;
    let (_, pem) = ca.output.split_once("-----BEGIN").ok_or("no certificate")?;
    let root = reqwest::Certificate::from_pem(format!("-----BEGIN{pem}").as_bytes())?;
    let (_, port) = server.base.rsplit_once(':').ok_or("no port")?;
    let http = reqwest::Client::builder()
        .tls_certs_only([root])
        .resolve(
            "localhost",
            server.base.trim_start_matches("http://").parse()?,
        )
        .build()?;

    let answer = http
        .get(format!("https://localhost:{port}/health/live"))
        .send()
        .await?;

    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("strict-transport-security"));
    Ok(())
}
