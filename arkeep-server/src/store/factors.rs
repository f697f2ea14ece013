//! Second factors, sealed on their way into the database.
//!
//! The secret of an authenticator must be read at each login, so it cannot be a digest. The tables
//! hold it sealed ([`FactorRecords`]); [`SealedFactors`] seals and opens, and is what logins use.

use std::fmt;
use std::sync::Arc;

use arkeep_auth::factor::{FactorState, FactorStore, OneUse, RecoveryDigest, TotpSecret, TotpStep};
use arkeep_core::{ExposeSecret as _, SecretSlice, StoreError, Timestamp, UserId};
use arkeep_vault::{Sealed, Sealer};
use async_trait::async_trait;

use super::sealed;

/// Keeps second factors as they are sealed.
///
/// Each method is one transaction.
#[async_trait]
pub trait FactorRecords: fmt::Debug + Send + Sync {
    /// What is kept of a user.
    async fn factor(&self, user: UserId) -> Result<StoredFactor, StoreError>;

    /// Keeps a secret that nobody has confirmed. One that is confirmed stays.
    async fn propose_sealed(&self, user: UserId, secret: &[u8]) -> Result<(), StoreError>;

    /// Makes a secret count from after `first`. Returns `false` and changes nothing unless exactly
    /// these bytes are proposed.
    async fn confirm_sealed(
        &self,
        user: UserId,
        secret: &[u8],
        first: TotpStep,
    ) -> Result<bool, StoreError>;

    /// As [`FactorStore::spend`].
    async fn spend_once(&self, user: UserId, what: &OneUse) -> Result<bool, StoreError>;

    /// As [`FactorStore::replace_recovery_codes`].
    async fn replace_codes(
        &self,
        user: UserId,
        codes: &[RecoveryDigest],
    ) -> Result<bool, StoreError>;

    /// As [`FactorStore::remove`].
    async fn remove_factor(&self, user: UserId) -> Result<bool, StoreError>;
}

/// What is kept of a user's second factor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredFactor {
    /// Sealed for [`sealed::second_factor_secret`].
    pub secret: Option<Vec<u8>>,
    /// Whether the user has shown a code of it.
    pub confirmed: bool,
    /// How many recovery codes are left.
    pub recovery_codes_left: u32,
}

/// A [`FactorStore`] over sealed records.
#[derive(Debug, Clone)]
pub struct SealedFactors {
    records: Arc<dyn FactorRecords>,
    sealer: Arc<dyn Sealer>,
}

impl SealedFactors {
    /// Seals what it keeps in `records`.
    #[must_use]
    pub fn new(records: Arc<dyn FactorRecords>, sealer: Arc<dyn Sealer>) -> Self {
        Self { records, sealer }
    }

    fn open(&self, user: UserId, blob: &[u8]) -> Result<TotpSecret, StoreError> {
        let corrupt = || StoreError::Corrupt("column second_factors.secret".to_owned());
        let sealed = Sealed::parse(blob).map_err(|_| corrupt())?;
        let binding = sealed::second_factor_secret(user);
        let secret = self
            .sealer
            .open(&sealed, &binding)
            .map_err(StoreError::unavailable)?;
        TotpSecret::from_bytes(secret.expose_secret()).ok_or_else(corrupt)
    }
}

#[async_trait]
impl FactorStore for SealedFactors {
    async fn state(&self, user: UserId) -> Result<FactorState, StoreError> {
        let stored = self.records.factor(user).await?;
        let secret = stored
            .secret
            .map(|blob| self.open(user, &blob))
            .transpose()?;
        let (proposed, confirmed) = match stored.confirmed {
            true => (None, secret),
            false => (secret, None),
        };
        Ok(FactorState {
            proposed,
            confirmed,
            recovery_codes_left: stored.recovery_codes_left,
        })
    }

    async fn propose(
        &self,
        user: UserId,
        secret: &TotpSecret,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        let secret = SecretSlice::from(secret.expose().to_vec());
        let binding = sealed::second_factor_secret(user);
        let sealed = self
            .sealer
            .seal(&secret, &binding)
            .map_err(StoreError::unavailable)?;
        self.records
            .propose_sealed(user, &sealed.into_bytes())
            .await
    }

    async fn confirm(
        &self,
        user: UserId,
        secret: &TotpSecret,
        first: TotpStep,
    ) -> Result<bool, StoreError> {
        // The same secret may be sealed anew meanwhile, when the vault's key is replaced.
        for _ in 0..ATTEMPTS {
            let stored = self.records.factor(user).await?;
            let (Some(blob), false) = (stored.secret, stored.confirmed) else {
                return Ok(false);
            };
            if self.open(user, &blob)?.expose() != secret.expose() {
                return Ok(false);
            }
            if self.records.confirm_sealed(user, &blob, first).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn spend(&self, user: UserId, what: &OneUse) -> Result<bool, StoreError> {
        self.records.spend_once(user, what).await
    }

    async fn replace_recovery_codes(
        &self,
        user: UserId,
        codes: &[RecoveryDigest],
    ) -> Result<bool, StoreError> {
        self.records.replace_codes(user, codes).await
    }

    async fn remove(&self, user: UserId) -> Result<bool, StoreError> {
        self.records.remove_factor(user).await
    }
}

const ATTEMPTS: usize = 3;
