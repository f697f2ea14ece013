use std::time::Duration;

use arkeep_core::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};
use subtle::ConstantTimeEq as _;

use super::Provider;
use super::jwks::{Jwks, read};

/// A provider's statement is not accepted. Refuse the login; the cause is for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdTokenError {
    /// Not a token in compact form, or longer than any would be.
    #[error("the ID token is malformed")]
    Malformed,
    /// An algorithm or a header that is not for us.
    #[error("the ID token's header is refused")]
    Header,
    /// No key of the provider's, or not exactly one, can have signed it.
    #[error("no key of the provider fits the ID token")]
    Key,
    /// The provider did not sign it.
    #[error("the ID token's signature is wrong")]
    Signature,
    /// Something is missing that must be there.
    #[error("the ID token's claims are refused")]
    Claims,
    /// It is another issuer's.
    #[error("the ID token is another issuer's")]
    Issuer,
    /// It is for somebody else.
    #[error("the ID token is for another audience")]
    Audience,
    /// It is of another login.
    #[error("the ID token is of another login")]
    Nonce,
    /// It is too old, or of the future.
    #[error("the ID token is not of this time")]
    Time,
}

/// What a statement says, once the signature is the provider's and it is meant for this login.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    pub(super) all: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    // RFC 7515 §4.1.11: whoever does not understand what is critical must refuse.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

// Members that decide something: one that comes twice is refused.
#[derive(Deserialize)]
struct Deciding {
    iss: String,
    sub: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    exp: Number,
    iat: Number,
    nonce: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Checks a statement (OpenID Connect Core 1.0 §3.1.3.7).
pub(super) fn check(
    token: &str,
    keys: &Jwks,
    provider: &Provider,
    nonce: &str,
    now: Timestamp,
) -> Result<Claims, IdTokenError> {
    let payload = open(token, keys)?;
    let claims: Deciding = read(&payload).ok_or(IdTokenError::Claims)?;
    if claims.iss != provider.issuer {
        return Err(IdTokenError::Issuer);
    }
    let (ours, several) = match &claims.aud {
        Audience::One(audience) => (*audience == provider.client_id, false),
        Audience::Several(all) => (all.contains(&provider.client_id), all.len() > 1),
    };
    let authorized = match &claims.azp {
        Some(party) => *party == provider.client_id,
        None => !several,
    };
    if !ours || !authorized {
        return Err(IdTokenError::Audience);
    }
    if !bool::from(claims.nonce.as_bytes().ct_eq(nonce.as_bytes())) {
        return Err(IdTokenError::Nonce);
    }
    let (issued, expires) = (time(&claims.iat)?, time(&claims.exp)?);
    if expires.plus(LEEWAY) <= now || now.plus(LEEWAY) < issued || issued.plus(OLDEST) <= now {
        return Err(IdTokenError::Time);
    }
    let plain = !claims.sub.is_empty() && !claims.sub.chars().any(char::is_control);
    // Core 1.0 §2: at most 255 ASCII characters. Some providers use more of Unicode.
    if !plain || claims.sub.len() > 255 {
        return Err(IdTokenError::Claims);
    }
    let all: Map<String, Value> = read(&payload).ok_or(IdTokenError::Claims)?;
    let text = |name: &str| all.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Claims {
        subject: claims.sub,
        email: text("email"),
        name: text("name").or_else(|| text("preferred_username")),
        all,
    })
}

/// Returns the payload of a token that one of the keys signed.
fn open(token: &str, keys: &Jwks) -> Result<Vec<u8>, IdTokenError> {
    if token.len() > MOST {
        return Err(IdTokenError::Malformed);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(IdTokenError::Malformed);
    };
    let signed = format!("{header}.{payload}");
    let header: Header = read(&decode(header)?).ok_or(IdTokenError::Header)?;
    let is_id_token = header
        .typ
        .as_deref()
        .is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
    if header.crit.is_some() || !is_id_token || !ALGORITHMS.contains(&header.alg.as_str()) {
        return Err(IdTokenError::Header);
    }
    let key = keys
        .find(header.kid.as_deref(), &header.alg)
        .ok_or(IdTokenError::Key)?;
    key.verify_sig(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| IdTokenError::Signature)?;
    decode(payload)
}

fn decode(part: &str) -> Result<Vec<u8>, IdTokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| IdTokenError::Malformed)
}

// RFC 7519 §2: a number, which some providers write with a fraction.
fn time(number: &Number) -> Result<Timestamp, IdTokenError> {
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float is cut towards zero and saturates"
        )]
        (None, Some(seconds)) if seconds.is_finite() => seconds as i64,
        _ => return Err(IdTokenError::Claims),
    };
    // Far beyond any date, and far from where milliseconds overflow.
    match (0..=LAST).contains(&seconds) {
        true => Ok(Timestamp::from_unix_seconds(seconds)),
        false => Err(IdTokenError::Time),
    }
}

const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"];
const MOST: usize = 32 * 1024;
const LAST: i64 = 253_402_300_799;
/// How far two honest clocks may be apart.
const LEEWAY: Duration = Duration::from_secs(30);
/// A statement is made in answer to a question that was just asked.
const OLDEST: Duration = Duration::from_secs(10 * 60);
