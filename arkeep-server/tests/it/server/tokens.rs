use std::sync::Arc;
use std::time::Duration;

use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use serde_json::json;

use super::client::Client;
use super::{Fallible, PASSWORD, Server, picture};

const TOKENS: &str = "/api/v1/auth/tokens";
const ME: &str = "/api/v1/users/me";

/// A client that shows a new token of this owner.
pub(super) async fn program(owner: &mut Client, scopes: &[&str]) -> Fallible<Client> {
    let wanted = json!({"name": "a program", "scopes": scopes, "expires_at": FAR});
    let made = owner.post(TOKENS, &wanted).await?.expect(201)?;
    let mut program = owner.clone();
    program.cookie = None;
    program.bearer = Some(made.string("/token"));
    Ok(program)
}

/// A13
#[tokio::test]
async fn a_token_is_shown_once_listed_and_revoked_at_once() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;

    let wanted = json!({"name": "monitoring", "scopes": ["read", "run"], "expires_at": FAR});
    let made = admin.post(TOKENS, &wanted).await?.expect(201)?;

    let token = made.string("/token");
    assert!(token.starts_with("akt_"), "{token}");
    let path = made.header("location");
    assert_eq!(path, format!("{TOKENS}/{}", made.string("/id")));
    let mut program = admin.clone();
    program.cookie = None;
    program.bearer = Some(token.clone());
    program.get(ME).await?.expect(200)?;
    let listed = admin.get(TOKENS).await?.expect(200)?;
    assert!(!listed.text.contains(&token) && !listed.text.contains("akt_"));
    let item = &listed.json["items"][0];
    assert_eq!(item["name"], "monitoring");
    assert_eq!(item["scopes"], json!(["read", "run"]));
    assert!(item["last_used_at"].is_string(), "{item}");

    admin.delete(&path).await?.expect(204)?;

    program.get(ME).await?.expect(401)?;
    admin.delete(&path).await?.expect(404)?;
    assert_eq!(admin.get(TOKENS).await?.json["items"], json!([]));
    Ok(())
}

/// A13: through a restart, and no longer than it was made for.
#[tokio::test]
async fn a_token_lives_until_it_expires_and_lies_as_a_digest() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let expires_at = SystemClock.now().plus(Duration::from_secs(3_600));
    let wanted = json!({"name": "n", "scopes": ["read"], "expires_at": expires_at});
    let token = admin
        .post(TOKENS, &wanted)
        .await?
        .expect(201)?
        .string("/token");
    let secret = token.as_bytes()[24..].to_vec();
    for (name, bytes, _) in picture(&server.data_dir())? {
        assert!(
            !bytes.windows(secret.len()).any(|here| here == secret),
            "{name}"
        );
    }

    let clock = Arc::new(ManualClock::at(expires_at.minus(Duration::from_millis(1))));
    let data = server.stop().await?;
    let server = Server::start_with(data, &[], Arc::clone(&clock) as _).await?;
    let mut program = server.client();
    program.bearer = Some(token);

    program.get(ME).await?.expect(200)?;
    clock.advance(Duration::from_millis(1));
    program.get(ME).await?.expect(401)?;
    Ok(())
}

/// A13: a token is never more than its owner.
#[tokio::test]
async fn a_token_follows_its_owner() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let mut bob = super::access::user(&server, admin.clone(), "operator").await?;
    let id = bob.get(ME).await?.string("/id");
    let path = format!("/api/v1/users/{id}");
    let mut token = program(&mut bob, &["policies"]).await?;
    let empty = json!({});
    token.post("/api/v1/policies", &empty).await?.expect(422)?;

    admin
        .patch(&path, &json!({"role": "viewer"}))
        .await?
        .expect(200)?;
    token.post("/api/v1/policies", &empty).await?.expect(403)?;
    token.get(ME).await?.expect(200)?;
    admin
        .patch(&path, &json!({"enabled": false}))
        .await?
        .expect(200)?;
    token.get(ME).await?.expect(401)?;
    Ok(())
}

/// A13: a program has no session, makes no token, and does not outlive its revocation that way.
#[tokio::test]
async fn a_program_cannot_touch_its_owners_account() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let mut token = program(&mut admin, &["admin"]).await?;

    let wanted = json!({"name": "child", "scopes": ["admin"], "expires_at": FAR});
    token.post(TOKENS, &wanted).await?.expect(403)?;
    let change = json!({"password": "another horse battery", "current_password": PASSWORD});
    token.patch(ME, &change).await?.expect(403)?;
    let step_up = json!({"password": PASSWORD});
    token
        .post("/api/v1/auth/step-up", &step_up)
        .await?
        .expect(403)?;
    let gone = token.post("/api/v1/auth/logout", &json!({})).await?;
    assert_eq!(gone.status, 401);

    admin.get(ME).await?.expect(200)?;
    Ok(())
}

/// A13, S15
#[tokio::test]
async fn a_token_that_makes_no_sense_is_refused_by_field() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let cases = [
        (json!({"scopes": ["read"], "expires_at": FAR}), 422, "name"),
        (
            json!({"name": "", "scopes": ["read"], "expires_at": FAR}),
            422,
            "name",
        ),
        (
            json!({"name": "a\u{0}b", "scopes": ["read"], "expires_at": FAR}),
            422,
            "name",
        ),
        (
            json!({"name": "n".repeat(101), "scopes": ["read"], "expires_at": FAR}),
            422,
            "name",
        ),
        (
            json!({"name": "n", "scopes": [], "expires_at": FAR}),
            422,
            "scopes",
        ),
        (
            json!({"name": "n", "scopes": ["root"], "expires_at": FAR}),
            422,
            "scopes",
        ),
        (
            json!({"name": "n", "scopes": ["re\u{430}d"], "expires_at": FAR}),
            422,
            "scopes",
        ),
        (
            json!({"name": "n", "scopes": "read", "expires_at": FAR}),
            422,
            "scopes",
        ),
        (json!({"name": "n", "scopes": ["read"]}), 422, "expires_at"),
        (
            json!({"name": "n", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}),
            422,
            "expires_at",
        ),
        (
            json!({"name": "n", "scopes": ["read"], "expires_at": 7}),
            422,
            "expires_at",
        ),
        (
            json!({"name": "n", "scopes": ["read"], "expires_at": FAR, "owner": "x"}),
            400,
            "owner",
        ),
    ];
    for (body, status, field) in cases {
        let refused = admin.post(TOKENS, &body).await?;
        let got = (refused.status, refused.fields());
        assert_eq!(got, (status, vec![field.to_owned()]), "{body}");
    }
    assert_eq!(admin.get(TOKENS).await?.json["items"], json!([]));
    Ok(())
}

const FAR: &str = "2099-01-01T00:00:00Z";
