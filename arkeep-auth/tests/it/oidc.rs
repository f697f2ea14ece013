//! A10: logins through providers that are not what they should be.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so"
)]

mod provider;

use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::OidcProviderId;
use arkeep_auth::Role;
use arkeep_auth::oidc::{
    Answer, BeginError, Begun, FinishError, HttpWeb, IdTokenError, LoginSecret, ProvenIdentity,
    Provider, Reach, RelyingParty, ResumeError, RoleMap, WebError,
};
use arkeep_auth::testing::{MemoryStore, conformance};
use arkeep_core::{SecretString, SystemEntropy, Timestamp};
use serde_json::{Value, json};

use crate::fixture::TestResult;
use provider::{Hostile, Signer};

const REDIRECT: &str = "https://backup.example/api/v1/auth/oidc/callback";
const CLIENT: &str = "arkeep client";
const SECRET: &str = "a secret: with + and %";

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// A relying party and the provider that it believes in.
struct Stage {
    party: RelyingParty,
    provider: Provider,
    hostile: Hostile,
    store: Arc<MemoryStore>,
}

impl Stage {
    async fn new() -> Fallible<Self> {
        Self::within(Reach::also(|address| address.is_loopback())).await
    }

    async fn within(reach: Reach) -> Fallible<Self> {
        let hostile = Hostile::start().await?;
        let store = Arc::new(MemoryStore::default());
        let party = RelyingParty::new(
            HttpWeb::new(builder()?, reach)?,
            Arc::clone(&store) as _,
            Arc::new(SystemEntropy),
            REDIRECT,
        );
        let provider = Provider {
            id: OidcProviderId::mint(now(), &SystemEntropy),
            issuer: hostile.issuer.clone(),
            client_id: CLIENT.to_owned(),
            client_secret: Some(SecretString::from(SECRET)),
            scopes: vec!["email".to_owned(), "openid".to_owned()],
            role_claim: Some("groups".to_owned()),
            role_map: [("ops".to_owned(), Role::Operator)].into_iter().collect(),
        };
        Ok(Self {
            party,
            provider,
            hostile,
            store,
        })
    }

    /// What the provider would say of this login if it were honest.
    fn honest(&self, begun: &Begun) -> Value {
        json!({
            "iss": self.provider.issuer, "sub": "ada", "aud": CLIENT,
            "exp": now().as_unix_seconds() + 300, "iat": now().as_unix_seconds(),
            "nonce": query(begun, "nonce"), "groups": ["ops"],
            "email": "ada@example.org", "name": "Ada",
        })
    }

    fn answer(&self, begun: &Begun) -> Answer {
        Answer {
            state: Some(query(begun, "state")),
            code: Some("a code".to_owned()),
            ..Answer::default()
        }
    }

    /// A whole login, in which the provider says `token` of the honest claims.
    async fn log_in(
        &self,
        token: impl FnOnce(&Signer, Value) -> String,
    ) -> Result<ProvenIdentity, FinishError> {
        let begun = self.party.begin(&self.provider, now()).await.unwrap();
        let token = token(&self.hostile.signer, self.honest(&begun));
        self.hostile.grant(token);
        let answer = self.answer(&begun);
        let pending = self
            .party
            .resume(begun.secret, answer, now())
            .await
            .unwrap();
        self.party.finish(pending, &self.provider, now()).await
    }

    /// The same, with one claim changed; null takes it away.
    async fn log_in_with(&self, name: &str, value: Value) -> Result<ProvenIdentity, FinishError> {
        self.log_in(|signer, mut claims| {
            match value.is_null() {
                true => drop(claims.as_object_mut().unwrap().remove(name)),
                false => claims[name] = value,
            }
            signer.rs256(&claims)
        })
        .await
    }
}

fn builder() -> Fallible<reqwest::ClientBuilder> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    Ok(reqwest::Client::builder().tls_backend_preconfigured(tls))
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_750_000_000)
}

fn query(begun: &Begun, name: &str) -> String {
    let url = reqwest::Url::parse(&begun.location).unwrap();
    let mut pairs = url.query_pairs().filter(|(key, _)| key == name);
    let (_, value) = pairs.next().unwrap();
    assert!(pairs.next().is_none(), "{name} comes twice");
    value.into_owned()
}

#[track_caller]
fn refused(login: Result<ProvenIdentity, FinishError>) -> IdTokenError {
    match login {
        Err(FinishError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A10
#[tokio::test]
async fn an_honest_login_proves_an_identity() -> TestResult {
    let stage = Stage::new().await?;

    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let who = stage
            .log_in(|signer, claims| signer.sign(algorithm, &claims))
            .await?;

        assert_eq!(
            (who.issuer(), who.subject()),
            (stage.provider.issuer.as_str(), "ada")
        );
        assert_eq!(
            (who.email(), who.name()),
            (Some("ada@example.org"), Some("Ada"))
        );
        assert_eq!(who.role(), Some(Role::Operator));
        assert_eq!(who.provider(), stage.provider.id);
    }
    Ok(())
}

/// A10: PKCE, and the redirect URI of the configuration at both ends.
#[tokio::test]
async fn the_question_and_the_exchange_belong_together() -> TestResult {
    let stage = Stage::new().await?;
    let begun = stage.party.begin(&stage.provider, now()).await?;
    stage
        .hostile
        .grant(stage.hostile.signer.rs256(&stage.honest(&begun)));
    let asked = |name| query(&begun, name);
    assert_eq!(asked("response_type"), "code");
    assert_eq!(asked("client_id"), CLIENT);
    assert_eq!(asked("scope"), "openid email");
    assert_eq!(asked("redirect_uri"), REDIRECT);
    assert_eq!(asked("code_challenge_method"), "S256");
    let (challenge, answer) = (asked("code_challenge"), stage.answer(&begun));

    let pending = stage.party.resume(begun.secret, answer, now()).await?;
    stage.party.finish(pending, &stage.provider, now()).await?;

    let sent = stage.hostile.last_exchange();
    assert_eq!(sent.field("grant_type"), "authorization_code");
    assert_eq!(sent.field("code"), "a code");
    assert_eq!(sent.field("redirect_uri"), REDIRECT);
    assert_eq!(provider::s256(&sent.field("code_verifier")), challenge);
    // RFC 6749 §2.3.1.
    let basic = "arkeep%20client:a%20secret%3A%20with%20%2B%20and%20%25";
    assert_eq!(sent.basic.as_deref(), Some(basic));
    Ok(())
}

/// A10
#[tokio::test]
async fn a_password_goes_into_the_body_only_where_nothing_else_will_do() -> TestResult {
    let stage = Stage::new().await?;
    stage.hostile.describe(|metadata| {
        metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    });

    stage.log_in(|signer, claims| signer.rs256(&claims)).await?;

    let sent = stage.hostile.last_exchange();
    assert_eq!(
        (sent.basic, sent.body["client_secret"].as_str()),
        (None, SECRET)
    );
    Ok(())
}

/// A10: wrong issuer, wrong audience, wrong nonce, expired, of the future.
#[tokio::test]
async fn a_statement_for_somebody_else_or_another_time_is_refused() -> TestResult {
    use IdTokenError::{Audience, Claims, Issuer, Nonce, Time};
    let stage = Stage::new().await?;
    let slash = format!("{}/", stage.provider.issuer);
    let at = |away: i64| json!(now().as_unix_seconds() + away);
    for (name, value, error) in [
        ("iss", json!("https://evil.example"), Issuer),
        ("iss", json!(slash), Issuer),
        ("iss", json!(stage.provider.issuer.to_uppercase()), Issuer),
        ("iss", Value::Null, Claims),
        ("aud", json!("another client"), Audience),
        ("aud", json!([]), Audience),
        ("aud", json!([CLIENT, "another client"]), Audience),
        ("aud", json!("ARKEEP CLIENT"), Audience),
        ("aud", Value::Null, Claims),
        ("azp", json!("another client"), Audience),
        ("nonce", json!("another"), Nonce),
        ("nonce", json!(""), Nonce),
        ("nonce", Value::Null, Claims),
        ("exp", at(-31), Time),
        ("exp", at(-30), Time),
        ("exp", json!(253_402_300_800_i64), Time),
        ("exp", json!(-1), Time),
        ("exp", json!(1e300), Time),
        ("exp", json!("tomorrow"), Claims),
        ("exp", Value::Null, Claims),
        ("iat", at(31), Time),
        ("iat", at(3_600), Time),
        ("iat", at(-600), Time),
        ("iat", Value::Null, Claims),
        ("sub", json!(""), Claims),
        ("sub", json!("a\u{0}b"), Claims),
        ("sub", json!("s".repeat(256)), Claims),
        ("sub", json!(["ada"]), Claims),
        ("sub", Value::Null, Claims),
    ] {
        let line = format!("{name}: {value}");
        assert_eq!(
            refused(stage.log_in_with(name, value).await),
            error,
            "{line}"
        );
    }
    for (name, value) in [
        ("aud", json!([CLIENT])),
        ("azp", json!(CLIENT)),
        ("exp", at(-29)),
        ("exp", json!(253_402_300_799_i64)),
        ("iat", at(29)),
        ("iat", at(30)),
        ("iat", at(-599)),
        ("sub", json!("s".repeat(255))),
        ("iat", json!(now().as_unix_seconds() as f64 - 0.5)),
    ] {
        let line = format!("{name}: {value}");
        assert!(stage.log_in_with(name, value).await.is_ok(), "{line}");
    }
    Ok(())
}

/// A10: `alg: none`, an HMAC under the public key, other headers.
#[tokio::test]
async fn a_token_does_not_choose_how_it_is_checked() -> TestResult {
    use IdTokenError::{Header, Key, Malformed, Signature};
    let stage = Stage::new().await?;
    for (header, error) in [
        (json!({"alg": "none"}), Header),
        (json!({"alg": "None", "kid": "rsa"}), Header),
        (json!({"alg": "HS256", "kid": "rsa"}), Header),
        (json!({"alg": "RS1", "kid": "rsa"}), Header),
        (
            json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}),
            Header,
        ),
        (
            json!({"alg": "RS256", "kid": "rsa", "typ": "at+jwt"}),
            Header,
        ),
        (json!({"kid": "rsa"}), Header),
        (json!({"alg": "ES256", "kid": "rsa"}), Key),
        (json!({"alg": "EdDSA", "kid": "rsa"}), Key),
        (json!({"alg": "RS256", "kid": "unknown"}), Key),
        (json!({"alg": "PS256", "kid": "rsa"}), Signature),
    ] {
        let login = stage.log_in(|signer, claims| signer.rs256_as(&header, &claims));
        assert_eq!(refused(login.await), error, "{header}");
    }
    let hmac = stage.log_in(|signer, claims| signer.hmac_under_the_public_key(&claims));
    assert_eq!(refused(hmac.await), Header);
    for (cut, error) in [(".", Malformed), ("..", Header), ("a.b.c.d", Malformed)] {
        let login = stage.log_in(|_, _| cut.to_owned());
        assert_eq!(refused(login.await), error, "{cut}");
    }
    let unsigned = stage.log_in(|signer, claims| {
        let token = signer.rs256(&claims);
        token.rsplit_once('.').unwrap().0.to_owned() + "."
    });
    assert_eq!(refused(unsigned.await), Signature);
    let twice = stage.log_in(|signer, claims| {
        let text = claims.to_string().replacen('{', r#"{"nonce":"first","#, 1);
        signer.rs256_text(&text)
    });
    assert_eq!(refused(twice.await), IdTokenError::Claims);
    let long = stage.log_in(|signer, mut claims| {
        claims["padding"] = json!("x".repeat(40_000));
        signer.rs256(&claims)
    });
    assert_eq!(refused(long.await), Malformed);
    Ok(())
}

/// A10
#[tokio::test]
async fn swapped_keys_sign_for_nobody() -> TestResult {
    let stage = Stage::new().await?;
    let other = Signer::new()?;

    let forged = stage.log_in(|_, claims| other.rs256(&claims)).await;
    assert_eq!(refused(forged), IdTokenError::Signature);

    // Two keys of one name: which of them is meant nobody can say.
    stage.hostile.publish(|keys| {
        let mut second = other.jwks()["keys"][0].clone();
        second["kid"] = json!("rsa");
        keys["keys"].as_array_mut().unwrap().push(second);
    });
    let either = stage.log_in(|signer, claims| signer.rs256(&claims)).await;
    assert_eq!(refused(either), IdTokenError::Key);

    for (name, value) in [("use", "enc"), ("alg", "RS512"), ("kty", "oct")] {
        let stage = Stage::new().await?;
        stage
            .hostile
            .publish(|keys| keys["keys"][0][name] = json!(value));
        let login = stage.log_in(|signer, claims| signer.rs256(&claims)).await;
        assert_eq!(refused(login), IdTokenError::Key, "{name}");
    }
    Ok(())
}

/// A10: a provider's new key is known as soon as it signs.
#[tokio::test]
async fn a_new_key_is_known_at_once() -> TestResult {
    let stage = Stage::new().await?;
    stage.log_in(|signer, claims| signer.rs256(&claims)).await?;
    let next = Signer::new()?;

    stage.hostile.publish(|keys| *keys = next.jwks());

    stage.log_in(|_, claims| next.rs256(&claims)).await?;
    let old = stage.log_in(|signer, claims| signer.rs256(&claims)).await;
    assert_eq!(refused(old), IdTokenError::Signature);
    Ok(())
}

/// A10
#[tokio::test]
async fn a_replayed_code_brings_no_second_login() -> TestResult {
    let stage = Stage::new().await?;
    let begun = stage.party.begin(&stage.provider, now()).await?;
    let first = stage.hostile.signer.rs256(&stage.honest(&begun));

    // The provider would give the same statement for the same code again.
    let again = stage.log_in(|_, _| first).await;
    assert_eq!(refused(again), IdTokenError::Nonce);

    // An honest one says what RFC 6749 §5.2 has for it.
    let begun = stage.party.begin(&stage.provider, now()).await?;
    stage.hostile.refuse_codes();
    let answer = stage.answer(&begun);
    let pending = stage.party.resume(begun.secret, answer, now()).await?;
    let spent = stage.party.finish(pending, &stage.provider, now()).await;
    assert!(matches!(spent, Err(FinishError::Denied)));
    Ok(())
}

/// A10: the state has one use within ten minutes, by the browser that it was made for.
#[tokio::test]
async fn a_state_is_one_browsers_for_one_use() -> TestResult {
    let stage = Stage::new().await?;
    let begin = async || stage.party.begin(&stage.provider, now()).await;
    let is_refused =
        |outcome: Result<_, ResumeError>| matches!(outcome.map(drop), Err(ResumeError::Refused));

    let (mine, theirs) = (begin().await?, begin().await?);
    for state in [None, Some(String::new()), Some(query(&theirs, "state"))] {
        let answer = Answer {
            state,
            ..stage.answer(&mine)
        };
        let outcome = stage.party.resume(mine.secret.clone(), answer, now()).await;
        assert!(is_refused(outcome));
    }
    // What was tried with a wrong state has not used it up.
    let answer = stage.answer(&mine);
    stage
        .party
        .resume(mine.secret.clone(), answer.clone(), now())
        .await?;
    assert!(is_refused(
        stage.party.resume(mine.secret, answer, now()).await
    ));

    let late = begin().await?;
    let answer = stage.answer(&late);
    let end = now().plus(Duration::from_secs(600));
    assert!(is_refused(
        stage.party.resume(late.secret, answer, end).await
    ));
    assert!(stage.party.prune(end).await? >= 1);
    Ok(())
}

/// A10: RFC 9207, and a provider that was changed under way.
#[tokio::test]
async fn the_answer_is_of_the_provider_that_was_asked() -> TestResult {
    let stage = Stage::new().await?;
    let finish = async |iss: Option<&str>, provider: &Provider| {
        let begun = stage.party.begin(&stage.provider, now()).await.unwrap();
        stage
            .hostile
            .grant(stage.hostile.signer.rs256(&stage.honest(&begun)));
        let iss = iss.map(str::to_owned);
        let answer = Answer {
            iss,
            ..stage.answer(&begun)
        };
        let pending = stage
            .party
            .resume(begun.secret, answer, now())
            .await
            .unwrap();
        stage.party.finish(pending, provider, now()).await
    };
    let own = stage.provider.issuer.clone();

    assert!(finish(Some(&own), &stage.provider).await.is_ok());
    let foreign = finish(Some("https://evil.example"), &stage.provider).await;
    assert!(matches!(foreign, Err(FinishError::Mixed)));
    let mut other = stage.provider.clone();
    other.id = OidcProviderId::mint(now(), &SystemEntropy);
    assert!(matches!(
        finish(None, &other).await,
        Err(FinishError::Mixed)
    ));

    let strict = Stage::new().await?;
    strict.hostile.describe(|metadata| {
        metadata["authorization_response_iss_parameter_supported"] = json!(true);
    });
    let silent = strict.log_in(|signer, claims| signer.rs256(&claims)).await;
    assert!(matches!(silent, Err(FinishError::Mixed)));
    Ok(())
}

/// A10
#[tokio::test]
async fn who_says_no_at_the_provider_is_refused() -> TestResult {
    let stage = Stage::new().await?;
    for (code, error) in [
        (None, None),
        (None, Some("access_denied")),
        (Some("a code"), Some("access_denied")),
    ] {
        let begun = stage.party.begin(&stage.provider, now()).await?;
        let answer = Answer {
            code: code.map(str::to_owned),
            error: error.map(str::to_owned),
            ..stage.answer(&begun)
        };
        let pending = stage.party.resume(begun.secret, answer, now()).await?;
        let outcome = stage.party.finish(pending, &stage.provider, now()).await;
        assert!(
            matches!(outcome, Err(FinishError::Denied)),
            "{code:?} {error:?}"
        );
    }
    Ok(())
}

/// A10
#[tokio::test]
async fn a_provider_describes_itself_and_nobody_else() -> TestResult {
    for (name, value) in [
        ("issuer", json!("https://evil.example")),
        (
            "authorization_endpoint",
            json!("http://evil.example/authorize"),
        ),
        ("token_endpoint", json!("http://evil.example/token")),
        (
            "token_endpoint",
            json!("https://user:pass@evil.example/token"),
        ),
        ("jwks_uri", json!("file:///etc/passwd")),
        ("jwks_uri", Value::Null),
        ("code_challenge_methods_supported", json!(["plain"])),
    ] {
        let stage = Stage::new().await?;
        stage
            .hostile
            .describe(|metadata| metadata[name] = value.clone());
        let begun = stage.party.begin(&stage.provider, now()).await;
        assert!(
            matches!(begun, Err(BeginError::Provider(_))),
            "{name}: {value}"
        );
    }
    for text in ["", "[]", "null", "<html>", r#"[{"issuer":"x"}]"#] {
        let stage = Stage::new().await?;
        stage
            .hostile
            .say("/.well-known/openid-configuration", 200, text);
        let begun = stage.party.begin(&stage.provider, now()).await;
        assert!(matches!(begun, Err(BeginError::Provider(_))), "{text}");
    }
    Ok(())
}

/// A10, S11: huge, slow, and sending us elsewhere.
#[tokio::test]
async fn an_answer_is_bounded_in_size_time_and_place() -> TestResult {
    for path in ["/token", "/jwks"] {
        for (status, body) in [
            (200, "x".repeat(300 * 1024)),
            (302, String::new()),
            (500, String::new()),
        ] {
            let stage = Stage::new().await?;
            stage.hostile.say(path, status, &body);
            let login = stage.log_in(|signer, claims| signer.rs256(&claims)).await;
            assert!(
                matches!(login, Err(FinishError::Provider(_))),
                "{path} {status}"
            );
        }
    }
    let stage = Stage::new().await?;
    let begun = stage.party.begin(&stage.provider, now()).await?;
    stage.hostile.fall_silent();
    let answer = stage.answer(&begun);
    let pending = stage.party.resume(begun.secret, answer, now()).await?;
    // Nothing else waits here, so the clock goes to the limit at once.
    tokio::time::pause();
    let slow = stage.party.finish(pending, &stage.provider, now()).await;
    let slow = slow.map_err(|error| format!("{error:?}"));
    assert!(
        slow.as_ref().is_err_and(|text| text.contains("Slow")),
        "{slow:?}"
    );
    Ok(())
}

/// S11
#[tokio::test]
async fn an_address_of_this_machine_is_out_of_reach() -> TestResult {
    let stage = Stage::within(Reach::default()).await?;
    let port = stage
        .provider
        .issuer
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
    ] {
        let mut provider = stage.provider.clone();
        provider.issuer = format!("http://{host}:{port}");
        let begun = stage.party.begin(&provider, now()).await;
        assert!(matches!(begun, Err(BeginError::Provider(_))), "{host}");
    }
    assert_eq!(stage.hostile.calls(), 0);
    Ok(())
}

/// A5, A10
#[tokio::test]
async fn a_store_that_is_down_begins_and_ends_no_login() -> TestResult {
    let stage = Stage::new().await?;
    let begun = stage.party.begin(&stage.provider, now()).await?;
    stage.store.set_broken(true);

    let again = stage.party.begin(&stage.provider, now()).await;
    let answer = stage.answer(&begun);
    let resumed = stage.party.resume(begun.secret, answer, now()).await;

    assert!(matches!(again, Err(BeginError::Unavailable(_))));
    assert!(matches!(resumed, Err(ResumeError::Unavailable(_))));
    Ok(())
}

/// A10: nothing that is printed holds a secret.
#[tokio::test]
async fn no_text_shows_a_secret() -> TestResult {
    let stage = Stage::new().await?;
    let begun = stage.party.begin(&stage.provider, now()).await?;
    let cookie = begun.secret.cookie();
    let value = cookie.split(['=', ';']).nth(1).unwrap_or_default();

    let printed = format!("{begun:?} {:?} {:?}", stage.provider, WebError::Slow);

    assert!(
        !printed.contains(value) && !printed.contains(SECRET),
        "{printed}"
    );
    assert!(LoginSecret::clear().ends_with("Path=/; Max-Age=0"));
    Ok(())
}

/// A10
#[tokio::test]
async fn login_states_in_memory_keep_their_promises() -> TestResult {
    let provider = OidcProviderId::mint(now(), &SystemEntropy);
    conformance::login_state_store::all(Arc::new(MemoryStore::default()), provider).await?;
    assert_eq!(RoleMap::default().iter().count(), 0);
    Ok(())
}
