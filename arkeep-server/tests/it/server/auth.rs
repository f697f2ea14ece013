use reqwest::Method;
use serde_json::json;

use super::{ADA, Fallible, PASSWORD, Server};

const ME: &str = "/api/v1/users/me";
const REFRESH: &str = "/api/v1/auth/refresh";

#[tokio::test]
async fn a_login_gives_a_token_and_the_cookie_of_the_contract() -> Fallible {
    let (server, _) = Server::with_admin().await?;

    let body = json!({"email": "Ada@Example.ORG", "password": PASSWORD});
    let answer = server
        .client()
        .post("/api/v1/auth/login", &body)
        .await?
        .expect(200)?;

    assert_eq!(answer.string("/token_type"), "Bearer");
    assert_eq!(answer.json.get("expires_in"), Some(&json!(900)));
    assert_eq!(answer.header("cache-control"), "no-store");
    let cookie = answer.header("set-cookie");
    let (value, attributes) = cookie.split_once("; ").unwrap_or_default();
    assert!(value.starts_with("__Host-arkeep_refresh="), "{cookie}");
    assert_eq!(
        attributes,
        "Secure; HttpOnly; SameSite=Strict; Path=/; Max-Age=604800"
    );
    Ok(())
}

/// A9
#[tokio::test]
async fn a_refused_login_says_nothing_of_why() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let eve = json!({"email": "eve@example.org", "password": PASSWORD, "role": "viewer"});
    let eve = admin.create("/api/v1/users", &eve).await?;
    let id = eve.get("id").and_then(|id| id.as_str()).unwrap_or_default();
    admin
        .patch(&format!("/api/v1/users/{id}"), &json!({"enabled": false}))
        .await?
        .expect(200)?;

    let mut answers = Vec::new();
    for (email, password) in [
        (ADA, "wrong password"),
        ("nobody@example.org", PASSWORD),
        ("eve@example.org", PASSWORD),
    ] {
        let body = json!({"email": email, "password": password});
        let mut answer = server.client().post("/api/v1/auth/login", &body).await?;
        if let Some(document) = answer.json.as_object_mut() {
            document.remove("request_id");
        }
        answers.push((
            answer.status,
            answer.json,
            answer.headers.contains_key("set-cookie"),
        ));
    }

    assert_eq!(answers[0].0, 401);
    assert!(!answers[0].2);
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    Ok(())
}

/// A6
#[tokio::test]
async fn a_refresh_rotates_the_cookie() -> Fallible {
    let (server, client) = Server::with_admin().await?;
    let mut next = client.clone();

    let answer = next.post(REFRESH, &json!({})).await?.expect(200)?;
    next.take(&answer);

    assert_ne!(next.cookie, client.cookie);
    assert_ne!(next.bearer, client.bearer);
    next.get(ME).await?.expect(200)?;
    // The successor is used; whoever shows the first one now has stolen it.
    let answer = next.post(REFRESH, &json!({})).await?.expect(200)?;
    next.take(&answer);
    let mut thief = server.client();
    thief.cookie = client.cookie;
    thief.post(REFRESH, &json!({})).await?.expect(401)?;
    next.get(ME).await?.expect(401)?;
    next.post(REFRESH, &json!({})).await?.expect(401)?;
    Ok(())
}

#[tokio::test]
async fn another_sites_page_cannot_refresh_or_log_out() -> Fallible {
    let (server, mut client) = Server::with_admin().await?;
    client.bearer = None;

    for path in [REFRESH, "/api/v1/auth/logout"] {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
            let foreign = [("origin", origin)];
            let answer = client.send(Method::POST, path, None, &foreign).await?;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "forbidden"),
                "{origin}"
            );
        }
    }
    let own = [("origin", server.base.as_str())];
    client
        .send(Method::POST, REFRESH, None, &own)
        .await?
        .expect(200)?;
    Ok(())
}

/// A3
#[tokio::test]
async fn logging_out_kills_both_tokens_whichever_is_shown() -> Fallible {
    let (server, _) = Server::with_admin().await?;
    for (shows_cookie, shows_bearer) in [(true, true), (true, false), (false, true)] {
        let mut client = server.client();
        client.log_in(ADA, PASSWORD).await?;
        let mut leaving = client.clone();
        leaving.cookie = leaving.cookie.filter(|_| shows_cookie);
        leaving.bearer = leaving.bearer.filter(|_| shows_bearer);

        let gone = leaving
            .post("/api/v1/auth/logout", &json!({}))
            .await?
            .expect(204)?;

        assert!(gone.header("set-cookie").contains("Max-Age=0"));
        client.get(ME).await?.expect(401)?;
        client.post(REFRESH, &json!({})).await?.expect(401)?;
    }
    server
        .client()
        .post("/api/v1/auth/logout", &json!({}))
        .await?
        .expect(401)?;
    Ok(())
}

/// A3, A5
#[tokio::test]
async fn what_was_revoked_stays_revoked_after_a_restart() -> Fallible {
    let (server, mut gone) = Server::with_admin().await?;
    let mut alive = server.client();
    alive.log_in(ADA, PASSWORD).await?;
    gone.post("/api/v1/auth/logout", &json!({}))
        .await?
        .expect(204)?;

    let server = Server::start_in(server.stop().await?, &[]).await?;

    for (old, status) in [(&gone, 401), (&alive, 200)] {
        let mut client = server.client();
        client.bearer = old.bearer.clone();
        client.get(ME).await?.expect(status)?;
    }
    Ok(())
}

/// A4
#[tokio::test]
async fn logging_out_everywhere_ends_every_session() -> Fallible {
    let (server, mut one) = Server::with_admin().await?;
    let mut two = server.client();
    two.log_in(ADA, PASSWORD).await?;

    one.post("/api/v1/auth/logout-all", &json!({}))
        .await?
        .expect(204)?;

    for client in [&mut one, &mut two] {
        client.get(ME).await?.expect(401)?;
        client.post(REFRESH, &json!({})).await?.expect(401)?;
    }
    two.log_in(ADA, PASSWORD).await?;
    two.get(ME).await?.expect(200)?;
    Ok(())
}

/// A4: what an administrator takes away is gone at the next request, and only what they took.
#[tokio::test]
async fn what_an_administrator_takes_away_is_gone_at_once() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let email = "viewer@example.org";
    let mut viewer = super::access::user(&server, admin.clone(), "viewer").await?;
    let path = format!("/api/v1/users/{}", viewer.get(ME).await?.string("/id"));
    let revoke = format!("{path}/revoke-sessions");

    admin.post(&revoke, &json!({})).await?.expect(204)?;
    viewer.get(ME).await?.expect(401)?;
    viewer.post(REFRESH, &json!({})).await?.expect(401)?;
    viewer.log_in(email, PASSWORD).await?;

    admin
        .patch(&path, &json!({"display_name": "V"}))
        .await?
        .expect(200)?;
    viewer.get(ME).await?.expect(200)?;
    for enabled in [false, true] {
        let patch = json!({"enabled": enabled});
        admin.patch(&path, &patch).await?.expect(200)?;
        viewer.get(ME).await?.expect(401)?;
        viewer.post(REFRESH, &json!({})).await?.expect(401)?;
    }
    viewer.log_in(email, PASSWORD).await?;

    admin.delete(&path).await?.expect(204)?;
    viewer.get(ME).await?.expect(401)?;
    viewer.post(REFRESH, &json!({})).await?.expect(401)?;
    admin.get(ME).await?.expect(200)?;
    Ok(())
}

/// A4
#[tokio::test]
async fn a_new_password_ends_every_other_session_and_this_one_goes_on() -> Fallible {
    let (server, mut client) = Server::with_admin().await?;
    let mut other = server.client();
    other.log_in(ADA, PASSWORD).await?;
    let old = client.clone();
    let new = "another horse battery";

    let wrong = json!({"password": new, "current_password": "not my password"});
    let refused = client.patch(ME, &wrong).await?.expect(422)?;
    assert_eq!(refused.fields(), ["current_password"]);
    let right = json!({"password": new, "current_password": PASSWORD});
    let answer = client.patch(ME, &right).await?.expect(200)?;
    client.take(&answer);

    client.get(ME).await?.expect(200)?;
    for mut dead in [other, old] {
        dead.get(ME).await?.expect(401)?;
    }
    assert!(server.client().log_in(ADA, PASSWORD).await.is_err());
    server.client().log_in(ADA, new).await
}

/// A4
#[tokio::test]
async fn a_change_of_role_ends_what_was_issued_before() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let body = json!({"email": "bob@example.org", "password": PASSWORD, "role": "operator"});
    let bob = admin.create("/api/v1/users", &body).await?;
    let path = format!(
        "/api/v1/users/{}",
        bob.get("id").and_then(|id| id.as_str()).unwrap_or("")
    );
    for change in [json!({"role": "viewer"}), json!({"enabled": false})] {
        let mut client = server.client();
        client.log_in("bob@example.org", PASSWORD).await?;
        client.get(ME).await?.expect(200)?;

        admin.patch(&path, &change).await?.expect(200)?;

        client.get(ME).await?.expect(401)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_session_can_be_seen_and_ended() -> Fallible {
    let (server, mut client) = Server::with_admin().await?;
    let mut other = server.client();
    other.log_in(ADA, PASSWORD).await?;

    let listed = client.get("/api/v1/auth/sessions").await?.expect(200)?;
    let items = listed
        .json
        .get("items")
        .and_then(|items| items.as_array())
        .cloned();
    let items = items.unwrap_or_default();
    assert_eq!(items.len(), 2);
    let id = |current: bool| {
        let found = items
            .iter()
            .find(|item| item.get("current") == Some(&json!(current)));
        found
            .and_then(|item| item.get("id")?.as_str())
            .unwrap_or_default()
            .to_owned()
    };

    client
        .delete(&format!("/api/v1/auth/sessions/{}", id(false)))
        .await?
        .expect(204)?;

    other.get(ME).await?.expect(401)?;
    client.get(ME).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn step_up_takes_the_password() -> Fallible {
    let (_server, mut client) = Server::with_admin().await?;

    let wrong = json!({"password": "not my password"});
    client
        .post("/api/v1/auth/step-up", &wrong)
        .await?
        .expect(401)?;
    let right = json!({"password": PASSWORD});
    let answer = client
        .post("/api/v1/auth/step-up", &right)
        .await?
        .expect(200)?;

    client.bearer = Some(answer.string("/access_token"));
    client.get(ME).await?.expect(200)?;
    Ok(())
}
