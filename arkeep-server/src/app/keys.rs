//! Keys that the server signs with: made once, kept sealed.

use arkeep_core::{StoreError, Timestamp};
use arkeep_transport::ca::{LoadCaError, LocalCa};
use arkeep_vault::{OpenError, ParseError, SealError, Sealed, Sealer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::store::keys::StoredAuthority;
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
