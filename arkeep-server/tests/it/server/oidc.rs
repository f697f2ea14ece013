//! A10: logins through identity providers, on the running server.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]

#[path = "../../../../arkeep-auth/tests/it/oidc/provider.rs"]
#[expect(dead_code, reason = "the tests of arkeep-auth use the rest of it")]
mod provider;

use arkeep_core::{Clock as _, SystemClock};
use reqwest::Url;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Answer, Client};
use super::{ADA, Fallible, PASSWORD, Server, picture};
use provider::Hostile;

pub(super) const PROVIDERS: &str = "/api/v1/oidc-providers";
pub(super) const OPTIONS: [&str; 4] = [
    "--public-url",
    "https://backup.example",
    "--outbound-allow",
    "127.0.0.0/8",
];
const ME: &str = "/api/v1/users/me";
const REFRESH: &str = "/api/v1/auth/refresh";
const CANARY: &str = "canary-of-the-client-secret";

/// A server with a provider that says what a test wants.
struct Stage {
    server: Server,
    admin: Client,
    hostile: Hostile,
    provider: String,
}

/// A login on its way.
struct Under {
    browser: Client,
    state: String,
    nonce: String,
}

impl Stage {
    async fn new() -> Fallible<Self> {
        let server = Server::start_in(TempDir::new()?, &OPTIONS).await?;
        let mut admin = server.set_up().await?;
        let hostile = Hostile::start().await?;
        let provider = describe(&mut admin, &hostile.issuer).await?;
        Ok(Self {
            server,
            admin,
            hostile,
            provider,
        })
    }

    fn path(&self) -> String {
        format!("{PROVIDERS}/{}", self.provider)
    }

    async fn begin(&self) -> Fallible<Under> {
        let mut browser = self.server.client();
        let sent = browser.get(&login(&self.provider)).await?.expect(303)?;
        let asked = Url::parse(&sent.header("location"))?;
        let query = |name: &str| {
            let mut pairs = asked.query_pairs();
            let found = pairs.find(|(key, _)| key == name);
            found
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        browser.cookie = sent.cookies().pop();
        Ok(Under {
            browser,
            state: query("state"),
            nonce: query("nonce"),
        })
    }

    /// What the provider says when it is asked about this login.
    fn grant(&self, under: &Under, claims: &Value) {
        let now = SystemClock.now().as_unix_seconds();
        let mut all = json!({
            "iss": self.hostile.issuer, "aud": "arkeep", "iat": now, "exp": now + 300,
            "nonce": under.nonce,
        });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.hostile.grant(self.hostile.signer.rs256(&all));
    }

    /// A whole login of who has these claims.
    async fn log_in(&self, claims: &Value) -> Fallible<Answer> {
        let mut under = self.begin().await?;
        self.grant(&under, claims);
        let path = back(&under.state);
        under.browser.get(&path).await
    }

    /// The same for who must get in, as a client with their tokens.
    async fn enter(&self, claims: &Value) -> Fallible<Client> {
        let answer = self.log_in(claims).await?.expect(303)?;
        let mut client = self.server.client();
        client.cookie = answer.cookies().into_iter().next();
        let tokens = client.post(REFRESH, &json!({})).await?.expect(200)?;
        client.take(&tokens);
        Ok(client)
    }
}

/// Makes a provider whose `ops` are operators and `root` administrators.
pub(super) async fn describe(admin: &mut Client, issuer: &str) -> Fallible<String> {
    let body = json!({
        "name": format!("provider {issuer}"), "issuer": issuer, "client_id": "arkeep",
        "client_secret": CANARY, "role_claim": "groups",
        "role_map": {"ops": "operator", "root": "admin", "watch": "viewer"},
    });
    Ok(admin
        .post(PROVIDERS, &body)
        .await?
        .expect(201)?
        .string("/id"))
}

pub(super) fn login(provider: &str) -> String {
    format!("/api/v1/auth/oidc/{provider}/login")
}

fn back(state: &str) -> String {
    format!("/api/v1/auth/oidc/callback?code=a-code&state={state}&session_state=x")
}

fn bob(groups: &[&str]) -> Value {
    json!({"sub": "b0b", "email": "bob@example.org", "name": "Bob", "groups": groups})
}

/// A10
#[tokio::test]
async fn a_first_login_makes_a_user_with_the_role_of_their_groups() -> Fallible {
    let mut stage = Stage::new().await?;
    let mut stranger = stage.server.client();
    let offered = stranger
        .get("/api/v1/auth/oidc/providers")
        .await?
        .expect(200)?;
    assert_eq!(offered.json["items"][0]["id"], json!(stage.provider));
    assert_eq!(
        offered.json["items"][0].as_object().map(|one| one.len()),
        Some(2)
    );

    let answer = stage.log_in(&bob(&["ops", "other"])).await?.expect(303)?;
    let mut first = stage.enter(&bob(&["ops"])).await?;

    // No token is in an address: the page gets it for the cookie.
    assert_eq!(answer.header("location"), "https://backup.example/");
    let cookies = answer.cookies();
    assert!(cookies[0].starts_with("__Host-arkeep_refresh="));
    assert_eq!(cookies[1], "__Host-arkeep_login=");
    let me = first.get(ME).await?.expect(200)?.json;
    assert_eq!(
        (
            me["email"].as_str(),
            me["display_name"].as_str(),
            me["role"].as_str()
        ),
        (Some("bob@example.org"), Some("Bob"), Some("operator"))
    );
    let identity = json!([{"provider": stage.provider, "subject": "b0b"}]);
    assert_eq!(me["identities"], identity);
    assert!(me["last_login_at"].is_string());
    let users = stage.admin.get("/api/v1/users").await?.expect(200)?;
    assert_eq!(users.json["items"].as_array().map(Vec::len), Some(2));
    // They have no password, and no other way in.
    let body = json!({"email": "bob@example.org", "password": PASSWORD});
    let refused = stranger.post("/api/v1/auth/login", &body).await?;
    assert_eq!(refused.status, 401);
    Ok(())
}

/// A10
#[tokio::test]
async fn an_address_in_common_joins_nobody() -> Fallible {
    let mut stage = Stage::new().await?;
    for email in [ADA, "ADA@EXAMPLE.ORG"] {
        let claims = json!({
            "sub": "eve", "email": email, "email_verified": true, "groups": ["root"],
        });

        let refused = stage.log_in(&claims).await?;

        assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"));
        assert_eq!(refused.cookies(), ["__Host-arkeep_login="]);
    }
    for claims in [
        json!({"sub": "eve", "groups": ["root"]}),
        json!({"sub": "eve", "email": "no address", "groups": ["root"]}),
    ] {
        stage.log_in(&claims).await?.expect(403)?;
    }
    let users = stage.admin.get("/api/v1/users").await?.expect(200)?;
    assert_eq!(users.json["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(users.json["items"][0]["identities"], json!([]));
    Ok(())
}

/// A4, A10
#[tokio::test]
async fn the_role_follows_the_groups() -> Fallible {
    let mut stage = Stage::new().await?;
    let mut operator = stage.enter(&bob(&["ops"])).await?;
    assert_eq!(operator.get(ME).await?.string("/role"), "operator");

    let mut viewer = stage.enter(&bob(&["watch"])).await?;

    // What was issued to the operator is dead.
    operator.get(ME).await?.expect(401)?;
    assert_eq!(viewer.get(ME).await?.string("/role"), "viewer");

    for groups in [&["unknown"][..], &[]] {
        let out = stage.log_in(&bob(groups)).await?;
        assert_eq!((out.status, out.code().as_str()), (403, "forbidden"));
    }
    viewer.get(ME).await?.expect(401)?;
    viewer.post(REFRESH, &json!({})).await?.expect(401)?;
    let users = stage.admin.get("/api/v1/users").await?.expect(200)?;
    assert_eq!(users.json["items"].as_array().map(Vec::len), Some(2));
    Ok(())
}

/// A4, A10: disabled or removed, with everybody who came in through it.
#[tokio::test]
async fn a_dead_provider_is_dead() -> Fallible {
    let mut stage = Stage::new().await?;
    let mut inside = stage.enter(&bob(&["ops"])).await?;
    let mut under = stage.begin().await?;
    stage.grant(&under, &bob(&["ops"]));

    let off = json!({"enabled": false});
    let path = stage.path();
    stage.admin.patch(&path, &off).await?.expect(200)?;

    inside.get(ME).await?.expect(401)?;
    inside.post(REFRESH, &json!({})).await?.expect(401)?;
    let mut stranger = stage.server.client();
    stranger.get(&login(&stage.provider)).await?.expect(404)?;
    under.browser.get(&back(&under.state)).await?.expect(404)?;
    let offered = stranger
        .get("/api/v1/auth/oidc/providers")
        .await?
        .expect(200)?;
    assert_eq!(offered.json["items"], json!([]));

    stage
        .admin
        .patch(&path, &json!({"enabled": true}))
        .await?
        .expect(200)?;
    let mut inside = stage.enter(&bob(&["ops"])).await?;
    let mut ada = stage.admin.clone();
    stage.admin.delete(&path).await?.expect(204)?;

    inside.get(ME).await?.expect(401)?;
    stranger.get(&login(&stage.provider)).await?.expect(404)?;
    // Whoever came in another way stays, and the user is still listed.
    let users = ada.get("/api/v1/users").await?.expect(200)?;
    assert_eq!(users.json["items"][0]["email"], "bob@example.org");
    assert_eq!(users.json["items"][0]["identities"], json!([]));
    Ok(())
}

const TOKENS: &str = "/api/v1/auth/tokens";

/// A program of this person's, and how it fares with what takes an operator and the scope `run`.
async fn program(stage: &Stage, owner: &mut Client) -> Fallible<Client> {
    let wanted = json!({
        "name": "nightly", "scopes": ["run"], "expires_at": "2126-01-01T00:00:00.000Z",
    });
    let made = owner.post(TOKENS, &wanted).await?.expect(201)?;
    let mut program = stage.server.client();
    program.bearer = Some(made.string("/token"));
    assert_eq!(fares(&mut program).await?, (200, 404));
    Ok(program)
}

async fn fares(program: &mut Client) -> Fallible<(u16, u16)> {
    let read = program.get("/api/v1/jobs").await?.status;
    let nowhere = "/api/v1/jobs/01930000-0000-7000-8000-000000000000/cancel";
    let run = program.post(nowhere, &json!({})).await?.status;
    Ok((read, run))
}

/// A4, A13: the tokens of programs go with the link, and do not come back with it.
#[tokio::test]
async fn programs_go_with_the_link_of_their_owner() -> Fallible {
    for way in ["disabled", "removed", "no role"] {
        let mut stage = Stage::new().await?;
        let mut inside = stage.enter(&bob(&["ops"])).await?;
        let mut nightly = program(&stage, &mut inside).await?;
        let mut ada = stage.admin.clone();
        let mut of_ada = program(&stage, &mut ada).await?;
        let path = stage.path();

        match way {
            "disabled" => {
                let off = json!({"enabled": false});
                stage.admin.patch(&path, &off).await?.expect(200)?;
            }
            "removed" => {
                stage.admin.delete(&path).await?.expect(204)?;
            }
            _ => {
                stage.log_in(&bob(&["unknown"])).await?.expect(403)?;
            }
        }

        assert_eq!(fares(&mut nightly).await?, (401, 401), "{way}");
        assert_eq!(fares(&mut of_ada).await?, (200, 404), "{way}");
        if way == "removed" {
            continue;
        }
        let on = json!({"enabled": true});
        stage.admin.patch(&path, &on).await?.expect(200)?;
        let mut again = stage.enter(&bob(&["ops"])).await?;
        assert_eq!(fares(&mut nightly).await?, (401, 401), "{way}");
        let listed = again.get(TOKENS).await?.expect(200)?;
        assert_eq!(listed.json["items"], json!([]), "{way}");
    }
    Ok(())
}

/// A4, A13: a program is what its owner is at that moment.
#[tokio::test]
async fn programs_follow_the_standing_of_their_owner() -> Fallible {
    let mut stage = Stage::new().await?;
    let mut inside = stage.enter(&bob(&["ops"])).await?;
    let mut nightly = program(&stage, &mut inside).await?;
    let user = format!("/api/v1/users/{}", inside.get(ME).await?.string("/id"));

    stage.enter(&bob(&["watch"])).await?;
    assert_eq!(fares(&mut nightly).await?, (200, 403), "a viewer's");
    stage.enter(&bob(&["ops"])).await?;
    assert_eq!(fares(&mut nightly).await?, (200, 404), "an operator's");
    for (enabled, expected) in [(false, (401, 401)), (true, (200, 404))] {
        let change = json!({"enabled": enabled});
        stage.admin.patch(&user, &change).await?.expect(200)?;
        assert_eq!(fares(&mut nightly).await?, expected, "{enabled}");
    }
    stage.admin.delete(&user).await?.expect(204)?;
    assert_eq!(fares(&mut nightly).await?, (401, 401), "nobody's");
    Ok(())
}

/// A4, A10: a link is lost with its provider or its user, and by no patch.
#[tokio::test]
async fn no_patch_takes_an_identity_away_or_adds_one() -> Fallible {
    let mut stage = Stage::new().await?;
    let mut inside = stage.enter(&bob(&["ops"])).await?;
    let me = inside.get(ME).await?.expect(200)?;
    let path = format!("/api/v1/users/{}", me.string("/id"));
    let other = json!([{"provider": stage.provider, "subject": "eve"}]);

    for identities in [json!([]), Value::Null, other] {
        let patch = json!({"identities": identities});
        for (client, path) in [(&mut stage.admin, path.as_str()), (&mut inside, ME)] {
            let refused = client.patch(path, &patch).await?.expect(400)?;
            assert_eq!(refused.fields(), ["identities"]);
        }
    }

    let after = inside.get(ME).await?.expect(200)?;
    assert_eq!(after.json["identities"], me.json["identities"]);
    Ok(())
}

/// S12, A10: who came in through a provider, and who did not.
#[tokio::test]
async fn a_login_through_a_provider_is_in_the_audit_log() -> Fallible {
    let mut stage = Stage::new().await?;
    let mut inside = stage.enter(&bob(&["ops"])).await?;
    let id = inside.get(ME).await?.string("/id");
    let unknown = stage.log_in(&bob(&["unknown"])).await?;
    let stray = stage.server.client().get(&back("nonsense")).await?;

    let shown = stage.admin.get("/api/v1/audit").await?.expect(200)?;
    let entries = shown.json["items"].as_array().unwrap();
    let of = |result: &str| {
        let fits =
            |entry: &&Value| entry["action"] == "auth.oidc_login" && entry["result"] == result;
        entries.iter().find(fits).cloned().unwrap_or_default()
    };

    let came = of("ok");
    assert_eq!(
        came["actor"],
        json!({"kind": "user", "id": id, "name": "bob@example.org"})
    );
    assert_eq!(came["changes"]["admitted"], "bob@example.org");
    assert_eq!(came["changes"]["role"], "operator");
    assert_eq!(came["changes"]["provider"], stage.provider.as_str());
    let refused = of("forbidden");
    assert_eq!(refused["request_id"], unknown.header("x-request-id"));
    assert_eq!(refused["actor"]["kind"], "anonymous");
    assert_eq!(refused["target"]["id"], id.as_str());
    assert_eq!(refused["changes"]["sessions"], "[ended]");
    let lost = of("unauthorized");
    assert_eq!(lost["request_id"], stray.header("x-request-id"));
    Ok(())
}

/// A10: the state, the cookie, and what is sent twice, cut, or by somebody else.
#[tokio::test]
async fn a_callback_is_one_browsers_for_one_use() -> Fallible {
    let stage = Stage::new().await?;
    let refused = |answer: Answer| (answer.status, answer.code(), answer.cookies());
    let unauthorized = || {
        let gone = vec!["__Host-arkeep_login=".to_owned()];
        (401, "unauthorized".to_owned(), gone)
    };
    let (mut mine, theirs) = (stage.begin().await?, stage.begin().await?);
    stage.grant(&mine, &bob(&["ops"]));
    let own = mine.browser.cookie.clone().unwrap_or_default();

    for cookie in [
        None,
        theirs.browser.cookie.clone(),
        Some(format!("{own}; {own}")),
        Some(own[..own.len() - 1].to_owned()),
        Some(own.replace("__Host-", "")),
        Some("__Host-arkeep_login=".to_owned()),
    ] {
        mine.browser.cookie = cookie.clone();
        let answer = mine.browser.get(&back(&mine.state)).await?;
        assert_eq!(refused(answer), unauthorized(), "{cookie:?}");
    }
    mine.browser.cookie = Some(own);
    for path in [back(""), back(&theirs.state), back(&mine.state[1..])] {
        let answer = mine.browser.get(&path).await?;
        assert_eq!(refused(answer), unauthorized(), "{path}");
    }
    let callback = "/api/v1/auth/oidc/callback";
    for (query, status, field) in [
        ("code=x".to_owned(), 401, "state"),
        (
            format!("code=x&state={0}&state={0}", mine.state),
            400,
            "state",
        ),
        (format!("code=x&code=y&state={}", mine.state), 400, "code"),
        (
            format!("code={}&state={}", "x".repeat(5_000), mine.state),
            400,
            "code",
        ),
    ] {
        let answer = mine.browser.get(&format!("{callback}?{query}")).await?;
        assert_eq!(
            (answer.status, answer.fields()),
            (status, vec![field.to_owned()])
        );
    }

    // None of that has used it up; this does.
    let path = back(&mine.state);
    mine.browser.get(&path).await?.expect(303)?;
    assert_eq!(refused(mine.browser.get(&path).await?), unauthorized());
    Ok(())
}

/// A10: what the provider says is judged; why it was refused is for the log.
#[tokio::test]
async fn a_refused_statement_lets_nobody_in_and_says_nothing_of_why() -> Fallible {
    let mut stage = Stage::new().await?;
    let mut details = Vec::new();
    for (name, value) in [
        ("iss", json!("https://evil.example")),
        ("aud", json!("another")),
        ("nonce", json!("another")),
        ("exp", json!(1)),
    ] {
        let mut claims = bob(&["root"]);
        claims[name] = value;
        let refused = stage.log_in(&claims).await?.expect(401)?;
        details.push(refused.string("/detail"));
    }
    details.dedup();
    assert_eq!(details.len(), 1);
    let denied = stage.begin().await?;
    let mut browser = denied.browser;
    let path = format!(
        "/api/v1/auth/oidc/callback?error=access_denied&state={}",
        denied.state
    );
    browser.get(&path).await?.expect(401)?;
    let users = stage.admin.get("/api/v1/users").await?.expect(200)?;
    assert_eq!(users.json["items"].as_array().map(Vec::len), Some(1));
    Ok(())
}

/// A10
#[tokio::test]
async fn a_disabled_user_does_not_come_in_through_a_provider() -> Fallible {
    let mut stage = Stage::new().await?;
    let id = stage
        .enter(&bob(&["ops"]))
        .await?
        .get(ME)
        .await?
        .string("/id");
    let path = format!("/api/v1/users/{id}");
    stage
        .admin
        .patch(&path, &json!({"enabled": false}))
        .await?
        .expect(200)?;

    stage.log_in(&bob(&["ops"])).await?.expect(401)?;
    Ok(())
}

/// V4, A10
#[tokio::test]
async fn a_client_secret_is_sealed_and_never_shown() -> Fallible {
    let mut stage = Stage::new().await?;
    let path = stage.path();
    let seen = stage.admin.get(&path).await?.expect(200)?;
    let listed = stage.admin.get(PROVIDERS).await?.expect(200)?;
    let changed = stage
        .admin
        .patch(&path, &json!({"name": "other"}))
        .await?
        .expect(200)?;
    for answer in [&seen, &listed, &changed] {
        assert!(!answer.text.contains(CANARY), "{}", answer.text);
    }
    assert_eq!(changed.json["client_secret_set"], json!(true));
    for (name, bytes, _) in picture(&stage.server.data_dir())? {
        let held = bytes
            .windows(CANARY.len())
            .any(|here| here == CANARY.as_bytes());
        assert!(!held, "{name}");
    }
    // It was kept, and it opens.
    stage.enter(&bob(&["ops"])).await?;
    let sent = stage.hostile.last_exchange().basic;
    assert_eq!(sent, Some(format!("arkeep:{CANARY}")));
    assert_eq!(stage.hostile.last_exchange().field("code"), "a-code");

    let cleared = json!({"client_secret": null});
    let cleared = stage.admin.patch(&path, &cleared).await?.expect(200)?;
    assert_eq!(cleared.json["client_secret_set"], json!(false));
    stage.enter(&bob(&["ops"])).await?;
    let sent = stage.hostile.last_exchange();
    assert_eq!(
        (sent.basic, sent.body["client_id"].as_str()),
        (None, "arkeep")
    );
    assert!(stage.hostile.calls() > 0);
    Ok(())
}

/// S15, A10
#[tokio::test]
async fn a_provider_that_makes_no_sense_is_refused_by_field() -> Fallible {
    let (_server, mut admin) = Server::with_admin().await?;
    let first = describe(&mut admin, "https://id.example").await?;
    let good = json!({"name": "n", "issuer": "https://other.example", "client_id": "c"});
    for (name, value, status) in [
        ("name", json!(""), 422),
        ("name", json!("provider https://id.example"), 409),
        ("issuer", json!("https://id.example"), 409),
        ("issuer", json!("http://id.example"), 422),
        ("issuer", json!("https://id.example/?a=b"), 422),
        ("issuer", json!("https://user@id.example"), 422),
        ("issuer", json!("id.example"), 422),
        ("issuer", json!(7), 422),
        ("client_id", json!(""), 422),
        ("client_id", json!("a\nb"), 422),
        ("client_secret", json!(""), 422),
        ("scopes[0]", json!(["two words"]), 422),
        ("role_claim", json!(""), 422),
        ("role_map.ops", json!({"ops": "root"}), 422),
        ("role_map", json!({"": "admin"}), 422),
        ("enabled", json!("yes"), 422),
        ("colour", json!("red"), 400),
    ] {
        let mut body = good.clone();
        let member = name.split(['[', '.']).next().unwrap_or_default();
        body[member] = value;
        let refused = admin.post(PROVIDERS, &body).await?;
        let got = (refused.status, refused.fields());
        assert_eq!(got, (status, vec![name.to_owned()]), "{body}");
    }
    let path = format!("{PROVIDERS}/{first}");
    let moved = json!({"issuer": "https://evil.example"});
    let refused = admin.patch(&path, &moved).await?.expect(422)?;
    assert_eq!(refused.fields(), ["issuer"]);
    let listed = admin.get(PROVIDERS).await?.expect(200)?;
    assert_eq!(listed.json["items"].as_array().map(Vec::len), Some(1));
    Ok(())
}

/// A10: where browsers come back to is never what a request says.
#[tokio::test]
async fn a_server_that_does_not_know_its_address_sends_nobody_away() -> Fallible {
    let (server, mut admin) = Server::with_admin().await?;
    let id = describe(&mut admin, "https://id.example").await?;
    let mut browser = server.client();

    browser.get(&login(&id)).await?.expect(409)?;

    browser.get(&back("x")).await?.expect(409)?;
    Ok(())
}
