use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::factor::TotpSecret;
use arkeep_core::testing::ManualClock;
use arkeep_core::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::{ADA, Fallible, PASSWORD, Server, picture};

const LOGIN: &str = "/api/v1/auth/login";
const TOTP: &str = "/api/v1/auth/totp";
const CODES: &str = "/api/v1/auth/recovery-codes";
const STEP_UP: &str = "/api/v1/auth/step-up";
const ME: &str = "/api/v1/users/me";

/// Ada with an authenticator, on a server whose time stands still.
struct Enrolled {
    server: Server,
    clock: Arc<ManualClock>,
    ada: Client,
    secret: TotpSecret,
    recovery: Vec<String>,
}

impl Enrolled {
    async fn new() -> Fallible<Self> {
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let server = Server::start_at(Arc::clone(&clock) as _).await?;
        let mut ada = server.set_up().await?;
        let begun = ada.post(TOTP, &json!({})).await?.expect(200)?;
        let bytes = decode(&begun.string("/secret"));
        let secret = TotpSecret::from_bytes(&bytes).ok_or("not a secret")?;
        let uri = begun.string("/otpauth_uri");
        let start = "otpauth://totp/Arkeep:ada@example.org?secret=";
        assert!(uri.starts_with(start), "{uri}");

        let code = json!({"code": secret.code_at(clock.now())});
        let confirmed = ada.post(&format!("{TOTP}/confirm"), &code).await?;
        let recovery = codes(&confirmed.expect(200)?);
        Ok(Self {
            server,
            clock,
            ada,
            secret,
            recovery,
        })
    }

    /// The code that the authenticator shows in the next half minute.
    fn next_code(&self) -> String {
        self.clock.advance(Duration::from_secs(30));
        self.secret.code_at(self.clock.now())
    }

    async fn log_in(&self, code: Option<&str>) -> Fallible<Answer> {
        log_in(&self.server, code).await
    }
}

async fn log_in(server: &Server, code: Option<&str>) -> Fallible<Answer> {
    let body = match code {
        Some(code) => json!({"email": ADA, "password": PASSWORD, "code": code}),
        None => json!({"email": ADA, "password": PASSWORD}),
    };
    server.client().post(LOGIN, &body).await
}

fn codes(answer: &Answer) -> Vec<String> {
    let codes = answer.json.get("recovery_codes");
    let codes = codes.and_then(Value::as_array);
    let text = |code: &Value| code.as_str().map(str::to_owned);
    codes.into_iter().flatten().filter_map(text).collect()
}

fn is_mfa_required(answer: &Answer) -> bool {
    answer.status == 401 && answer.code() == "mfa_required"
}

/// A12
#[tokio::test]
async fn a_login_takes_a_code_that_works_once() -> Fallible {
    let ada = Enrolled::new().await?;
    // The one that confirmed the authenticator is used already.
    let spent = ada.secret.code_at(ada.clock.now());

    assert!(is_mfa_required(&ada.log_in(None).await?));
    assert!(is_mfa_required(&ada.log_in(Some("000000")).await?));
    assert!(is_mfa_required(&ada.log_in(Some(&spent)).await?));
    let code = ada.next_code();
    ada.log_in(Some(&code)).await?.expect(200)?;
    assert!(is_mfa_required(&ada.log_in(Some(&code)).await?));
    Ok(())
}

/// A9, A12: whoever does not know the password does not learn that there is a second factor.
#[tokio::test]
async fn a_code_is_asked_for_after_the_password() -> Fallible {
    let ada = Enrolled::new().await?;
    let body = json!({"email": ADA, "password": "wrong password", "code": ada.next_code()});

    let refused = ada.server.client().post(LOGIN, &body).await?;

    assert_eq!(
        (refused.status, refused.code().as_str()),
        (401, "unauthorized")
    );
    Ok(())
}

/// A12
#[tokio::test]
async fn a_recovery_code_stands_in_once() -> Fallible {
    let mut ada = Enrolled::new().await?;
    assert_eq!(ada.recovery.len(), 10);

    ada.log_in(Some(&ada.recovery[0])).await?.expect(200)?;
    assert!(is_mfa_required(&ada.log_in(Some(&ada.recovery[0])).await?));
    let fresh = codes(&ada.ada.post(CODES, &json!({})).await?.expect(200)?);

    assert_eq!(fresh.len(), 10);
    assert!(is_mfa_required(&ada.log_in(Some(&ada.recovery[1])).await?));
    ada.log_in(Some(&fresh[0].to_uppercase()))
        .await?
        .expect(200)?;
    Ok(())
}

/// A12, V4: through a restart; sealed, and recovery codes as digests.
#[tokio::test]
async fn a_second_factor_outlives_the_server_and_lies_sealed() -> Fallible {
    let Enrolled {
        server,
        clock,
        secret,
        recovery,
        ..
    } = Enrolled::new().await?;
    let code = recovery[0].replace('-', "").to_uppercase();
    for (name, bytes, _) in picture(&server.data_dir())? {
        for hidden in [
            secret.expose().as_slice(),
            secret.to_base32().as_bytes(),
            code.as_bytes(),
        ] {
            assert!(
                !bytes.windows(hidden.len()).any(|here| here == hidden),
                "{name}"
            );
        }
    }

    let data = server.stop().await?;
    let server = Server::start_with(data, &[], Arc::clone(&clock) as _).await?;

    assert!(is_mfa_required(&log_in(&server, None).await?));
    clock.advance(Duration::from_secs(30));
    let code = secret.code_at(clock.now());
    log_in(&server, Some(&code)).await?.expect(200)?;
    Ok(())
}

/// A12
#[tokio::test]
async fn a_user_says_whether_they_have_one_and_can_take_it_away() -> Fallible {
    let mut ada = Enrolled::new().await?;
    assert_eq!(ada.ada.get(ME).await?.json["mfa"], json!(true));
    let again = ada.ada.post(TOTP, &json!({})).await?;
    assert_eq!((again.status, again.code().as_str()), (409, "conflict"));

    ada.ada.delete(TOTP).await?.expect(204)?;

    assert_eq!(ada.ada.get(ME).await?.json["mfa"], json!(false));
    ada.log_in(None).await?.expect(200)?;
    ada.ada.delete(TOTP).await?.expect(404)?;
    ada.ada.post(CODES, &json!({})).await?.expect(409)?;
    Ok(())
}

/// A12
#[tokio::test]
async fn what_is_not_confirmed_is_asked_of_nobody() -> Fallible {
    let (server, mut ada) = Server::with_admin().await?;
    ada.post(TOTP, &json!({})).await?.expect(200)?;

    let wrong = json!({"code": "000000"});
    let refused = ada
        .post(&format!("{TOTP}/confirm"), &wrong)
        .await?
        .expect(422)?;

    assert_eq!(refused.fields(), ["code"]);
    assert_eq!(ada.get(ME).await?.json["mfa"], json!(false));
    log_in(&server, None).await?.expect(200)?;
    Ok(())
}

/// A12
#[tokio::test]
async fn a_step_up_takes_a_code_in_the_passwords_place() -> Fallible {
    let mut ada = Enrolled::new().await?;
    let code = ada.next_code();
    ada.clock.advance(Duration::from_secs(5 * 60));
    ada.ada.post(CODES, &json!({})).await?.expect(403)?;
    assert!(is_mfa_required(
        &ada.ada.post(STEP_UP, &json!({"code": code})).await?
    ));

    let code = json!({"code": ada.next_code()});
    let stepped = ada.ada.post(STEP_UP, &code).await?.expect(200)?;

    ada.ada.bearer = Some(stepped.string("/access_token"));
    ada.ada.post(CODES, &json!({})).await?.expect(200)?;
    assert!(is_mfa_required(&ada.ada.post(STEP_UP, &code).await?));
    for (body, field) in [
        (json!({}), "password"),
        (json!({"password": PASSWORD, "code": "123456"}), "code"),
    ] {
        let refused = ada.ada.post(STEP_UP, &body).await?.expect(422)?;
        assert_eq!(refused.fields(), [field]);
    }
    Ok(())
}

// RFC 4648 §6.
fn decode(text: &str) -> Vec<u8> {
    let mut bits = 0_u64;
    let mut held = 0;
    let mut bytes = Vec::new();
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            _ => letter - b'2' + 26,
        };
        bits = bits << 5 | u64::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
