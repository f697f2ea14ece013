//! The compact form of a JWS (RFC 7515 §7.1), narrowed to the one shape that we issue.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::VerifyError;
use super::keys::{KeySet, VerificationKey};
use arkeep_core::Timestamp;

/// A token longer than this is refused before anything else is looked at.
pub(super) const MAX_TOKEN_BYTES: usize = 4 * 1024;
pub(super) const ALGORITHM: &str = "EdDSA";
pub(super) const TYPE: &str = "at+jwt";

/// A token that was cut into its parts and believed in nothing.
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signed: &'a str,
}

// A list of what is allowed, not of what is refused: `crit`, `jwk`, `jku`, `x5u`, `x5c`, `b64`,
// `zip` and whatever comes after them are members that we never write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    typ: Cow<'a, str>,
    #[serde(borrow)]
    kid: Cow<'a, str>,
}

/// Returns the payload of a token that a key of `keys` signed.
pub(super) fn open(token: &str, keys: &KeySet, now: Timestamp) -> Result<Vec<u8>, VerifyError> {
    let parts = cut(token)?;
    let key = choose_key(parts.header, keys, now)?;
    let signature = decode(parts.signature)?;
    if !key.verifies(parts.signed.as_bytes(), &signature) {
        return Err(VerifyError::Signature);
    }
    decode(parts.payload)
}

fn cut(token: &str) -> Result<Parts<'_>, VerifyError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(VerifyError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(VerifyError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(VerifyError::Malformed)?;
    if payload.contains('.') {
        return Err(VerifyError::Malformed);
    }
    Ok(Parts {
        header,
        payload,
        signature,
        signed,
    })
}

fn choose_key<'k>(
    header: &str,
    keys: &'k KeySet,
    now: Timestamp,
) -> Result<&'k VerificationKey, VerifyError> {
    let json = decode(header)?;
    let header: Header<'_> = parse_object(&json).ok_or(VerifyError::Header)?;
    if header.typ != TYPE {
        return Err(VerifyError::Header);
    }
    let key = keys.find(&header.kid, now).ok_or(VerifyError::UnknownKey)?;
    // The key says which algorithm it is for. The token may only agree.
    if header.alg != key.algorithm() {
        return Err(VerifyError::Header);
    }
    Ok(key)
}

/// Reads a JSON object into a struct. serde would take an array for a struct as well.
pub(super) fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(json).ok()
}

// The engine refuses padding, foreign characters and bits that stand for nothing, so that each
// token has one spelling.
fn decode(part: &str) -> Result<Vec<u8>, VerifyError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| VerifyError::Malformed)
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A2
    #[test]
    fn a_token_has_three_parts_and_at_most_four_kibibytes() {
        let long = |bytes: usize| format!("a.b.{}", "c".repeat(bytes - 4));

        assert!(cut(&long(MAX_TOKEN_BYTES)).is_ok());
        for bad in [&long(MAX_TOKEN_BYTES + 1), "", "a", "a.b", "a.b.c.d"] {
            let refused = cut(bad).err();
            assert_eq!(refused, Some(VerifyError::Malformed), "{}", bad.len());
        }
        let parts = cut("a.b.c").ok();
        let parts = parts.map(|all| (all.header, all.payload, all.signature, all.signed));
        assert_eq!(parts, Some(("a", "b", "c", "a.b")));
        assert_eq!(MAX_TOKEN_BYTES, 4_096);
    }
}
