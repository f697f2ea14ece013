//! What an identity provider answers: its description, its keys, the answer to a code, and the
//! statement in it, as claims that are properly signed and as a header beside good claims.
#![no_main]

use std::sync::LazyLock;

use arkeep_auth::oidc::testing::{Answers, describes, proves};
use arkeep_auth::oidc::{ProvenIdentity, Provider};
use arkeep_auth::{OidcProviderId, Role};
use arkeep_core::{SystemEntropy, Timestamp};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const NOW: i64 = 1_750_000_000;
const ISSUER: &str = "https://id.example";
const CLIENT: &str = "arkeep";
const NONCE: &str = "n-0S6_WzA2Mj";
const HEADER: &str = r#"{"alg":"EdDSA","kid":"k"}"#;
const CLAIMS: &str = r#"{"iss":"https://id.example","sub":"ada","aud":"arkeep","exp":1750000300,"iat":1750000000,"nonce":"n-0S6_WzA2Mj","groups":["ops"],"email":"ada@example.org"}"#;

static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed"));
static KEY: LazyLock<String> = LazyLock::new(|| encode(SIGNER.public_key().as_ref()));
static KEYS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": *KEY});
    json!({"keys": [key]}).to_string().into_bytes()
});
static GOOD: LazyLock<String> = LazyLock::new(|| signed(HEADER.as_bytes(), CLAIMS.as_bytes()));
static PROVIDER: LazyLock<Provider> = LazyLock::new(|| Provider {
    id: OidcProviderId::mint(now(), &SystemEntropy),
    issuer: ISSUER.to_owned(),
    client_id: CLIENT.to_owned(),
    client_secret: None,
    scopes: Vec::new(),
    role_claim: Some("groups".to_owned()),
    role_map: [("ops".to_owned(), Role::Operator)].into_iter().collect(),
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 5 {
        0 => {
            if describes(ISSUER, rest).is_ok() {
                assert_eq!(object(rest)["issuer"], ISSUER);
            }
        }
        1 => {
            if let Some(who) = proven(&granted(&GOOD), rest) {
                assert_eq!(who.subject(), "ada");
                // Whatever else was among the keys, the one that signed was.
                let keys = object(rest);
                let keys = keys["keys"].as_array().expect("a list");
                assert!(keys.iter().any(|key| key["x"] == KEY.as_str()));
            }
        }
        2 => {
            if proven(rest, &KEYS).is_some() {
                // Nobody guesses a signature.
                assert_eq!(object(rest)["id_token"], GOOD.as_str());
            }
        }
        3 => {
            let token = signed(HEADER.as_bytes(), rest);
            if let Some(who) = proven(&granted(&token), &KEYS) {
                let claims = object(rest);
                assert_eq!(claims["iss"], ISSUER);
                assert_eq!(claims["nonce"], NONCE);
                assert_eq!(claims["sub"], who.subject());
                let audience = &claims["aud"];
                let several = audience.as_array();
                assert!(audience == CLIENT || several.is_some_and(|all| all.contains(&json!(CLIENT))));
                assert!(claims["exp"].as_f64().expect("a time") > (NOW - 31) as f64);
                assert!(claims["iat"].as_f64().expect("a time") < (NOW + 32) as f64);
                assert!(who.role().is_none_or(|role| role == Role::Operator));
            }
        }
        _ => {
            let token = signed(rest, CLAIMS.as_bytes());
            if proven(&granted(&token), &KEYS).is_some() {
                let header = object(rest);
                assert!(["EdDSA", "Ed25519"].contains(&header["alg"].as_str().expect("a text")));
                assert!(header.get("crit").is_none());
                assert!(header.get("kid").is_none_or(|kid| kid == "k" || kid.is_null()));
            }
        }
    }
});

fn proven(granted: &[u8], keys: &[u8]) -> Option<ProvenIdentity> {
    proves(Answers { granted, keys }, &PROVIDER, NONCE, now()).ok()
}

fn granted(token: &str) -> Vec<u8> {
    json!({"id_token": token, "token_type": "Bearer"}).to_string().into_bytes()
}

fn object(json: impl AsRef<[u8]>) -> Value {
    let value: Value = serde_json::from_slice(json.as_ref()).expect("JSON");
    assert!(value.is_object());
    value
}

fn signed(header: &[u8], payload: &[u8]) -> String {
    let text = format!("{}.{}", encode(header), encode(payload));
    let signature = SIGNER.sign(text.as_bytes());
    format!("{text}.{}", encode(signature.as_ref()))
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW)
}
