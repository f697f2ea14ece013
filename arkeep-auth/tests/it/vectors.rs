//! Tokens that others made.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arkeep_auth::token::{
    AccessTokens, ConfigError, Grant, KeySet, SigningKey, TokenConfig, TokenIssuer, TokenVerifier,
    VerificationKey, VerifyError,
};
use arkeep_auth::{Epoch, Role, SessionId};
use arkeep_core::{SecretSlice, SystemEntropy, Timestamp, UserId};
use serde_json::Value;

use crate::fixture::{TestResult, noon};

const ISSUER: &str = "https://backup.example";

/// A1
#[test]
fn the_good_token_is_accepted() -> TestResult {
    let token = fs::read_to_string(vectors().join("tokens/good.txt"))?;
    let token = token.lines().nth(2).ok_or("a third line")?;

    let claims = tokens()?.verify(token, noon())?;

    assert_eq!(claims.role(), Role::Viewer);
    assert_eq!(claims.epoch(), Epoch::FIRST);
    assert_eq!(claims.auth_time(), noon());
    assert_eq!(claims.expires_at(), noon().plus(Duration::from_secs(900)));
    Ok(())
}

/// A2
#[test]
fn every_hostile_token_is_refused_for_its_trick() -> TestResult {
    let tokens = tokens()?;
    let mut seen = 0;
    for entry in fs::read_dir(vectors().join("tokens"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|kind| kind != "txt") || path.ends_with("good.txt") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let mut lines = text.splitn(3, '\n');
        let (_why, expected, token) = (lines.next(), lines.next(), lines.next());

        let refused = tokens.verify(token.ok_or("a third line")?, noon());

        let refused = refused.err().map(|error| format!("{error:?}"));
        assert_eq!(refused.as_deref(), expected, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 40, "{seen} hostile tokens");
    Ok(())
}

/// A2
#[test]
fn every_wycheproof_jws_is_refused() -> TestResult {
    assert_eq!(refused_of("wycheproof/json_web_signature_test.json")?, 401);
    Ok(())
}

/// A2
#[test]
fn every_wycheproof_jwk_is_refused() -> TestResult {
    assert_eq!(refused_of("wycheproof/json_web_key_test.json")?, 26);
    Ok(())
}

/// A2
#[test]
fn the_signed_text_of_rfc_8037_is_no_access_token() -> TestResult {
    // RFC 8037 A.4: our key, our algorithm, and a signature that is good. The unit tests of the
    // keys show that.
    let jws = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
               hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

    assert_eq!(tokens()?.verify(jws, noon()), Err(VerifyError::Header));
    Ok(())
}

/// A2
#[test]
fn no_changed_or_cut_token_is_accepted() -> TestResult {
    let tokens = tokens()?;
    let issued = tokens.issue(&grant(), noon())?;
    let token = issued.expose();

    for at in 0..token.len() {
        assert!(tokens.verify(&token[..at], noon()).is_err(), "cut at {at}");
        for bit in 0..7 {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes)?;
            assert!(
                tokens.verify(&changed, noon()).is_err(),
                "bit {bit} of {at}"
            );
        }
    }
    Ok(())
}

/// A2
#[test]
fn clocks_may_differ_by_five_seconds_and_no_more() -> TestResult {
    let tokens = tokens()?;
    let issued = tokens.issue(&grant(), noon())?;
    let at = |millis| Timestamp::from_unix_millis(noon().as_unix_millis() + millis);
    let verify = |millis| tokens.verify(issued.expose(), at(millis)).map(|_| ());

    assert_eq!(verify(-5_001), Err(VerifyError::NotYetValid));
    assert_eq!(verify(-5_000), Ok(()));
    assert_eq!(verify(904_999), Ok(()));
    assert_eq!(verify(905_000), Err(VerifyError::Expired));
    let config = TokenConfig::new(ISSUER, ISSUER);
    let six = config.clone().leeway(Duration::from_millis(5_001));
    assert_eq!(six.err(), Some(ConfigError::Leeway));
    let long = config.clone().lifetime(Duration::from_secs(86_401));
    assert_eq!(long.err(), Some(ConfigError::Lifetime));
    let none = config.clone().lifetime(Duration::from_millis(999));
    assert_eq!(none.err(), Some(ConfigError::Lifetime));
    // The limits themselves are within.
    for seconds in [1, 86_400] {
        let limit = config.clone().lifetime(Duration::from_secs(seconds))?;
        let limit = limit.leeway(Duration::from_secs(5))?;
        let tokens = AccessTokens::new(limit, KeySet::new(known_key()?), Arc::new(SystemEntropy));
        let issued = tokens.issue(&grant(), noon())?;
        assert_eq!(issued.expires_at, noon().plus(Duration::from_secs(seconds)));
        tokens.verify(issued.expose(), noon())?;
    }
    Ok(())
}

/// A1
#[test]
fn an_old_key_is_honoured_until_its_time_is_over() -> TestResult {
    let tokens = tokens()?;
    let old = tokens.issue(&grant(), noon())?;
    let overlap = noon().plus(Duration::from_secs(60));
    let next = || SigningKey::from_secret(&SecretSlice::from(vec![7; 32]));

    tokens
        .replace_keys(KeySet::new(next()?).honour(known_key()?.verification_key().until(overlap)));
    let new = tokens.issue(&grant(), noon())?;

    assert_eq!(tokens.jwks(noon()).keys.len(), 2);
    assert!(tokens.verify(old.expose(), noon()).is_ok());
    assert!(tokens.verify(new.expose(), noon()).is_ok());
    assert_eq!(
        tokens.verify(old.expose(), overlap),
        Err(VerifyError::UnknownKey)
    );
    assert!(tokens.verify(new.expose(), overlap).is_ok());
    assert_eq!(tokens.jwks(overlap).keys.len(), 1);
    tokens.replace_keys(KeySet::new(next()?));
    assert_eq!(
        tokens.verify(old.expose(), noon()),
        Err(VerifyError::UnknownKey)
    );
    Ok(())
}

/// A1
#[test]
fn the_published_key_is_the_one_that_verifies() -> TestResult {
    let published = tokens()?.jwks(noon());
    let json = serde_json::to_value(&published)?;

    assert_eq!(
        json,
        serde_json::json!({"keys": [{
            "kty": "OKP",
            "crv": "Ed25519",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            "use": "sig",
            "alg": "EdDSA",
        }]})
    );
    let key = known_key()?.verification_key();
    assert_eq!(
        VerificationKey::from_bytes(key.as_bytes())?.kid(),
        key.kid()
    );
    Ok(())
}

fn refused_of(file: &str) -> Result<usize, Box<dyn Error>> {
    let tokens = tokens()?;
    let data: Value = serde_json::from_slice(&fs::read(vectors().join(file))?)?;
    let mut refused = 0;
    let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned();
    for group in list(&data, "testGroups").ok_or("groups")? {
        for test in list(&group, "tests").ok_or("tests")? {
            // Some of them are the JSON form of a JWS, which is an object here.
            let jws = match test.get("jws").ok_or("a token")? {
                Value::String(compact) => compact.clone(),
                other => other.to_string(),
            };
            assert!(tokens.verify(&jws, noon()).is_err(), "{test}");
            refused += 1;
        }
    }
    Ok(refused)
}

fn tokens() -> Result<AccessTokens, Box<dyn Error>> {
    let config = TokenConfig::new(ISSUER, ISSUER);
    let keys = KeySet::new(known_key()?);
    Ok(AccessTokens::new(config, keys, Arc::new(SystemEntropy)))
}

/// RFC 8037 A.1.
fn known_key() -> Result<SigningKey, Box<dyn Error>> {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let seed: Result<Vec<u8>, _> = (0..32)
        .map(|at| u8::from_str_radix(&seed[at * 2..at * 2 + 2], 16))
        .collect();
    Ok(SigningKey::from_secret(&SecretSlice::from(seed?))?)
}

fn grant() -> Grant {
    Grant {
        user: UserId::mint(noon(), &SystemEntropy),
        session: SessionId::mint(noon(), &SystemEntropy),
        epoch: Epoch::FIRST,
        role: Role::Viewer,
        auth_time: noon(),
    }
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}
