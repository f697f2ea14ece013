//! Access tokens: whole, as claims that are properly signed, and as a header beside good claims.
#![no_main]

use std::sync::{Arc, LazyLock};

use arkeep_auth::token::{AccessTokens, KeySet, SigningKey, TokenConfig, TokenVerifier};
use arkeep_auth::bearer_token;
use arkeep_core::{SecretSlice, SystemEntropy, Timestamp};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

const SEED: [u8; 32] = [7; 32];
const NOW: i64 = 1_750_000_000;
const CLAIMS: &str = r#"{"iss":"a","aud":"b","sub":"0197708c-a400-7000-8000-000000000001","iat":1750000000,"exp":1750000900,"jti":"0197708c-a400-7000-8000-000000000002","sid":"0197708c-a400-7000-8000-000000000003","epoch":1,"role":"viewer","auth_time":1750000000}"#;

static TOKENS: LazyLock<AccessTokens> = LazyLock::new(|| {
    let key = SigningKey::from_secret(&SecretSlice::from(SEED.to_vec())).expect("a seed");
    AccessTokens::new(TokenConfig::new("a", "b"), KeySet::new(key), Arc::new(SystemEntropy))
});
static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed"));
static HEADER: LazyLock<String> = LazyLock::new(|| {
    let kid = &TOKENS.jwks(now()).keys[0].kid;
    format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#)
});

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            // Nobody guesses a signature.
            assert!(TOKENS.verify(text, now()).is_err());
            if let Some(token) = bearer_token(text) {
                assert!(!token.is_empty() && !token.contains(' '));
            }
        }
        1 => {
            if let Ok(claims) = TOKENS.verify(&signed(HEADER.as_bytes(), rest), now()) {
                assert!(claims.expires_at().as_unix_seconds() > NOW - 5);
                assert!(claims.expires_at().as_unix_seconds() <= NOW + 86_400 + 5);
                // Whatever was read, it was one JSON object that says each thing once.
                let value: serde_json::Value = serde_json::from_slice(rest).expect("JSON");
                let members = value.as_object().expect("an object");
                assert_eq!(members["iss"], "a");
                assert_eq!(members["aud"], "b");
                let subject = members["sub"].as_str().expect("a text");
                assert!(subject.eq_ignore_ascii_case(&claims.user().to_string()));
                assert_eq!(members["role"], claims.role().as_str());
                assert!(matches!(members.len(), 10 | 11));
            }
        }
        _ => {
            if TOKENS.verify(&signed(rest, CLAIMS.as_bytes()), now()).is_ok() {
                let value: serde_json::Value = serde_json::from_slice(rest).expect("JSON");
                let ours: serde_json::Value = serde_json::from_str(&HEADER).expect("JSON");
                assert_eq!(value, ours);
            }
        }
    }
});

fn signed(header: &[u8], payload: &[u8]) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let text = format!("{}.{}", encode(header), encode(payload));
    let signature = SIGNER.sign(text.as_bytes());
    format!("{text}.{}", encode(signature.as_ref()))
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW)
}
