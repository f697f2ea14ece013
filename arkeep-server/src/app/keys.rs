//! Keys that the server signs with: made once, kept sealed.

use arkeep_auth::{SigningKey, token::KeySet, token::VerificationKey};
use arkeep_core::{Entropy, StoreError, Timestamp};
use arkeep_transport::ca::{LoadCaError, LocalCa};
use arkeep_vault::{OpenError, ParseError, SealError, Sealed, Sealer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::store::keys::{StoredAuthority, StoredTokenKey};
use crate::store::{KeyStore, sealed};

/// The server's keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The database does not answer. Worth a retry.
    #[error("the keys cannot be read or stored")]
    Store(#[from] StoreError),

    /// A key does not open: the ring is another server's, or somebody altered the database. Exit
    /// with 4.
    #[error("a stored key does not open with this key ring")]
    Open(#[from] OpenError),

    /// What is stored is no sealed key. Exit with 4.
    #[error("a stored key is not sealed")]
    NotSealed(#[from] ParseError),

    /// A new key cannot be sealed.
    #[error("a new key cannot be sealed")]
    Seal(#[from] SealError),

    /// The stored authority cannot be used.
    #[error("the certificate authority cannot be used")]
    Authority(#[from] LoadCaError),

    /// A stored token key cannot be used.
    #[error("a token key cannot be used")]
    TokenKey(#[from] arkeep_auth::token::KeyRefused),
}

/// Makes the first root, unless somebody has.
pub(crate) async fn establish_authority(
    keys: &dyn KeyStore,
    sealer: &dyn Sealer,
    now: Timestamp,
) -> Result<(), KeysError> {
    if keys.authorities().await?.is_empty() {
        // Another replica may be first; its authority is everybody's then.
        keys.establish_authority(&new_authority(sealer, now)?)
            .await?;
    }
    Ok(())
}

/// A new root, with its key sealed.
pub(crate) fn new_authority(
    sealer: &dyn Sealer,
    now: Timestamp,
) -> Result<StoredAuthority, KeysError> {
    let (authority, key) = LocalCa::generate(now)?;
    let id = authority.fingerprint().to_string();
    let binding = sealed::authority_private_key(&id);
    Ok(StoredAuthority {
        certificate: authority.root_der().to_vec(),
        private_key: sealer.seal_str(&key, &binding)?.into_bytes(),
        id,
        created_at: now,
    })
}

/// The authority that is stored here.
pub(crate) fn authority_from(
    sealer: &dyn Sealer,
    stored: &StoredAuthority,
) -> Result<LocalCa, KeysError> {
    let binding = sealed::authority_private_key(&stored.id);
    let key = sealer.open_str(&Sealed::parse(&stored.private_key)?, &binding)?;
    Ok(LocalCa::load(&pem(&stored.certificate), &key)?)
}

/// The keys of access tokens. The first caller makes one.
pub(crate) async fn token_keys(
    keys: &dyn KeyStore,
    sealer: &dyn Sealer,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<KeySet, KeysError> {
    let mut stored = keys.token_keys().await?;
    if !stored.iter().any(|key| key.retired_at.is_none()) {
        let new = SigningKey::generate(entropy);
        let public = new.verification_key();
        let id = public.kid().to_owned();
        let binding = sealed::token_key_private_key(&id);
        let new = StoredTokenKey {
            public_key: public.as_bytes().to_vec(),
            private_key: sealer.seal(&new.to_secret(), &binding)?.into_bytes(),
            id,
            created_at: now,
            retired_at: None,
        };
        stored.insert(0, keys.establish_token_key(&new).await?);
    }
    let mut set: Option<KeySet> = None;
    for key in stored {
        set = Some(match set.take() {
            None if key.retired_at.is_none() => {
                let binding = sealed::token_key_private_key(&key.id);
                let seed = sealer.open(&Sealed::parse(&key.private_key)?, &binding)?;
                KeySet::new(SigningKey::from_secret(&seed)?)
            }
            None => continue,
            Some(set) => set.honour(VerificationKey::from_bytes(&key.public_key)?),
        });
    }
    set.ok_or_else(|| StoreError::Corrupt("no token key is in force".to_owned()).into())
}

// RFC 7468 §2.
fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
