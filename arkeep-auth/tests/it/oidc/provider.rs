//! A provider that says whatever a test wants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::Fallible;

/// The provider.
pub(super) struct Hostile {
    pub(super) issuer: String,
    pub(super) signer: Signer,
    script: Arc<Mutex<Script>>,
}

/// What it says.
#[derive(Default)]
struct Script {
    metadata: Value,
    keys: Value,
    token: Option<String>,
    overrides: HashMap<String, (u16, String)>,
    silent: bool,
    exchange: Option<Exchange>,
    calls: usize,
}

/// What it was sent for a code.
#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) basic: Option<String>,
    pub(super) body: HashMap<String, String>,
}

impl Exchange {
    pub(super) fn field(&self, name: &str) -> String {
        self.body.get(name).cloned().unwrap_or_default()
    }
}

impl Hostile {
    pub(super) async fn start() -> Fallible<Self> {
        let signer = Signer::new()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let script = Arc::new(Mutex::new(Script {
            metadata: json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize?tenant=1"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks"),
            }),
            keys: signer.jwks(),
            ..Script::default()
        }));
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            issuer,
            signer,
            script,
        })
    }

    pub(super) fn describe(&self, change: impl FnOnce(&mut Value)) {
        self.change(|script| change(&mut script.metadata));
    }

    pub(super) fn publish(&self, change: impl FnOnce(&mut Value)) {
        self.change(|script| change(&mut script.keys));
    }

    pub(super) fn grant(&self, token: String) {
        self.change(|script| script.token = Some(token));
    }

    pub(super) fn refuse_codes(&self) {
        self.change(|script| script.token = None);
    }

    pub(super) fn say(&self, path: &str, status: u16, body: &str) {
        let said = (status, body.to_owned());
        self.change(|script| script.overrides.insert(path.to_owned(), said));
    }

    pub(super) fn fall_silent(&self) {
        self.change(|script| script.silent = true);
    }

    pub(super) fn last_exchange(&self) -> Exchange {
        self.change(|script| script.exchange.clone()).unwrap()
    }

    pub(super) fn calls(&self) -> usize {
        self.change(|script| script.calls)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20)
        .await
        .unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let silent = {
        let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
        script.calls += 1;
        script.silent
    };
    if silent {
        std::future::pending::<()>().await;
    }
    let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((status, text)) = script.overrides.get(&path) {
        let status = StatusCode::from_u16(*status).unwrap_or_default();
        let elsewhere = [(header::LOCATION, "/elsewhere")];
        return (status, elsewhere, text.clone()).into_response();
    }
    match path.as_str() {
        "/.well-known/openid-configuration" => axum::Json(script.metadata.clone()).into_response(),
        "/jwks" => axum::Json(script.keys.clone()).into_response(),
        "/token" => {
            let basic = parts.headers.get(header::AUTHORIZATION);
            let basic = basic
                .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
                .and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
            let body = std::str::from_utf8(&body).unwrap_or_default();
            let pairs = reqwest::Url::parse(&format!("x:/?{body}")).unwrap();
            let body = pairs.query_pairs().into_owned().collect();
            script.exchange = Some(Exchange { basic, body });
            match &script.token {
                Some(token) => axum::Json(json!({"id_token": token})).into_response(),
                None => {
                    let error = axum::Json(json!({"error": "invalid_grant"}));
                    (StatusCode::BAD_REQUEST, error).into_response()
                }
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// One key of each kind.
pub(super) struct Signer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    pub(super) fn new() -> Fallible<Self> {
        Ok(Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048)?,
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            ed: Ed25519KeyPair::generate()?,
        })
    }

    pub(super) fn jwks(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "e": "AQAB", "n": encode(self.modulus())},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": encode(self.ed.public_key())},
            {"kty": "new", "kid": "new", "what": 1},
        ]})
    }

    // RFC 8017 A.1.1: the first of two numbers; the key has 2,048 bits.
    fn modulus(&self) -> &[u8] {
        &self.rsa.public_key().as_ref()[9..265]
    }

    pub(super) fn sign(&self, algorithm: &str, claims: &Value) -> String {
        let kid = match algorithm {
            "ES256" => "ec",
            "EdDSA" => "ed",
            _ => "rsa",
        };
        let header = json!({"alg": algorithm, "kid": kid, "typ": "JWT"});
        let signed = join(&header.to_string(), &claims.to_string());
        let random = SystemRandom::new();
        let signature = match algorithm {
            "ES256" => self
                .ec
                .sign(&random, signed.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            "EdDSA" => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            "PS256" => self.by_rsa(&RSA_PSS_SHA256, &signed),
            _ => self.by_rsa(&RSA_PKCS1_SHA256, &signed),
        };
        format!("{signed}.{}", encode(signature))
    }

    pub(super) fn rs256(&self, claims: &Value) -> String {
        self.sign("RS256", claims)
    }

    /// Signed as RS256, whatever the header says.
    pub(super) fn rs256_as(&self, header: &Value, claims: &Value) -> String {
        let signed = join(&header.to_string(), &claims.to_string());
        format!(
            "{signed}.{}",
            encode(self.by_rsa(&RSA_PKCS1_SHA256, &signed))
        )
    }

    pub(super) fn rs256_text(&self, claims: &str) -> String {
        let signed = join(r#"{"alg":"RS256","kid":"rsa"}"#, claims);
        format!(
            "{signed}.{}",
            encode(self.by_rsa(&RSA_PKCS1_SHA256, &signed))
        )
    }

    pub(super) fn hmac_under_the_public_key(&self, claims: &Value) -> String {
        let signed = join(r#"{"alg":"HS256","kid":"rsa"}"#, &claims.to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.modulus());
        format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes())))
    }

    fn by_rsa(&self, scheme: &'static dyn RsaEncoding, signed: &str) -> Vec<u8> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        let random = SystemRandom::new();
        self.rsa
            .sign(scheme, &random, signed.as_bytes(), &mut signature)
            .unwrap();
        signature
    }
}

/// RFC 7636 §4.2.
pub(super) fn s256(verifier: &str) -> String {
    encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

fn join(header: &str, payload: &str) -> String {
    format!("{}.{}", encode(header), encode(payload))
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
