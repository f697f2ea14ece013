//! Keys that the server signs with, sealed.

use std::fmt;

use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;

/// Keeps the certificate authority's key and the keys of access tokens.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Authorities, newest first.
    async fn authorities(&self) -> Result<Vec<StoredAuthority>, StoreError>;

    /// Adds the first authority. Of many callers one wins; all are told which it is.
    async fn establish_authority(
        &self,
        authority: &StoredAuthority,
    ) -> Result<StoredAuthority, StoreError>;

    /// Token keys, newest first.
    async fn token_keys(&self) -> Result<Vec<StoredTokenKey>, StoreError>;

    /// Adds the first token key. Of many callers one wins; all are told which it is.
    async fn establish_token_key(&self, key: &StoredTokenKey)
    -> Result<StoredTokenKey, StoreError>;

    /// Lets `next` sign from `from` on, and nothing before it any longer, if `last` is still the key
    /// that no other follows. Says whether it was: of many callers one wins.
    async fn follow_token_key(
        &self,
        last: &str,
        next: &StoredTokenKey,
        from: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Removes the keys that have signed nothing since `before`. Returns how many. The one that no
    /// other follows stays.
    async fn remove_token_keys(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// A root of trust of the agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAuthority {
    /// Its id, to which the key is sealed.
    pub id: String,
    /// The root certificate, DER.
    pub certificate: Vec<u8>,
    /// Sealed for [`sealed::authority_private_key`](super::sealed::authority_private_key).
    pub private_key: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A key of access tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTokenKey {
    /// Its id, to which the key is sealed: the `kid` of the tokens.
    pub id: String,
    /// The public key, 32 bytes.
    pub public_key: Vec<u8>,
    /// Sealed for [`sealed::token_key_private_key`](super::sealed::token_key_private_key).
    pub private_key: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it signs nothing more, and the next one does; its tokens are honoured until they
    /// expire. May be in the future. Nothing for the key that no other follows.
    pub retired_at: Option<Timestamp>,
}
