use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The keys of a provider (RFC 7517 §5).
#[derive(Debug, Deserialize)]
pub(super) struct Jwks {
    keys: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl Jwks {
    /// The one key that this token can be of. A name that several keys have names none.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: &str) -> Option<ParsedPublicKey> {
        // Kinds of keys that we do not know are no reason to refuse the ones we do (RFC 7517 §5).
        let known = self
            .keys
            .iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let mut fitting =
            known.filter(|key| key.fits(algorithm) && (kid.is_none() || key.kid.as_deref() == kid));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => key.parse(algorithm),
            _ => None,
        }
    }
}

impl Jwk {
    // The key says what it is for. The token may only agree: no algorithm of a shared secret is here.
    fn fits(&self, algorithm: &str) -> bool {
        let kind = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => ["RS256", "PS256"].contains(&algorithm),
            ("EC", Some("P-256")) => algorithm == "ES256",
            ("OKP", Some("Ed25519")) => ["EdDSA", "Ed25519"].contains(&algorithm),
            _ => false,
        };
        let signs = self
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig");
        let agrees = self.alg.as_deref().is_none_or(|own| own == algorithm);
        kind && signs && agrees
    }

    fn parse(&self, algorithm: &str) -> Option<ParsedPublicKey> {
        match algorithm {
            "ES256" => {
                // SEC 1 §2.3.3: a point in full.
                let (x, y) = (coordinate(&self.x)?, coordinate(&self.y)?);
                let point = [[4].as_slice(), &x, &y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()
            }
            "EdDSA" | "Ed25519" => ParsedPublicKey::new(&ED25519, coordinate(&self.x)?).ok(),
            _ => {
                let (n, e) = (number(&self.n)?, number(&self.e)?);
                let scheme = match algorithm {
                    "PS256" => &RSA_PSS_2048_8192_SHA256,
                    _ => &RSA_PKCS1_2048_8192_SHA256,
                };
                RsaPublicKeyComponents { n, e }
                    .to_parsed_public_key(scheme)
                    .ok()
            }
        }
    }
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()
}

fn coordinate(text: &Option<String>) -> Option<Vec<u8>> {
    bytes(text).filter(|bytes| bytes.len() == 32)
}

// Some write a zero in front, as in ASN.1.
fn number(text: &Option<String>) -> Option<Vec<u8>> {
    let bytes = bytes(text)?;
    let digits: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    (!digits.is_empty()).then_some(digits)
}

/// Reads a JSON object. serde would take an array for a structure as well, and bytes that are no
/// UTF-8 in members that nobody asked for.
pub(super) fn read<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let text = str::from_utf8(json).ok()?;
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X2: found by the fuzz target `auth_oidc`.
    #[test]
    fn what_is_no_text_is_no_object_wherever_it_lies() {
        #[derive(Debug, Deserialize)]
        struct Any {}

        assert!(read::<Any>(br#" {"x":"y"}"#).is_some());
        for json in [&b"{\"x\":\"\xff\"}"[..], b"[]", b"", b"{} {}"] {
            assert!(read::<Any>(json).is_none(), "{json:?}");
        }
    }
}
