use std::sync::Arc;

use arkeep_core::{Entropy, StoreError, Timestamp, UserId};

use super::{FactorStore, OneUse, RecoveryCode, TotpSecret};

/// Enrols second factors and checks them.
#[derive(Debug, Clone)]
pub struct SecondFactors {
    store: Arc<dyn FactorStore>,
    entropy: Arc<dyn Entropy>,
}

impl SecondFactors {
    /// Keeps them in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn FactorStore>, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, entropy }
    }

    /// Makes a secret for the user's authenticator, to be shown once. It counts after
    /// [`confirm`](Self::confirm).
    pub async fn begin(&self, user: UserId, now: Timestamp) -> Result<TotpSecret, EnrolError> {
        if self.is_enrolled(user).await? {
            return Err(EnrolError::Enrolled);
        }
        let secret = TotpSecret::generate(self.entropy.as_ref());
        self.store.propose(user, &secret, now).await?;
        Ok(secret)
    }

    /// Makes the secret count, if the user's authenticator has it: `code` shows that.
    ///
    /// Returns `false` for a wrong code, and when there is nothing to confirm.
    pub async fn confirm(
        &self,
        user: UserId,
        code: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(secret) = self.store.state(user).await?.proposed else {
            return Ok(false);
        };
        match secret.step_of(code, now) {
            Some(step) => self.store.confirm(user, &secret, step).await,
            None => Ok(false),
        }
    }

    /// Whether a login asks this user for a code.
    pub async fn is_enrolled(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.store.state(user).await?.confirmed.is_some())
    }

    /// Whether a code of the authenticator or a recovery code is right, and uses it up.
    pub async fn check(
        &self,
        user: UserId,
        code: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some(secret) = self.store.state(user).await?.confirmed else {
            return Ok(false);
        };
        let what = match (secret.step_of(code, now), RecoveryCode::parse(code)) {
            (Some(step), _) => OneUse::Step(step),
            (None, Some(recovery)) => OneUse::Recovery(recovery.digest()),
            (None, None) => return Ok(false),
        };
        self.store.spend(user, &what).await
    }

    /// Makes new recovery codes in place of all earlier ones, to be shown once.
    pub async fn new_recovery_codes(&self, user: UserId) -> Result<Vec<RecoveryCode>, EnrolError> {
        let codes: Vec<RecoveryCode> = (0..RecoveryCode::COUNT)
            .map(|_| RecoveryCode::generate(self.entropy.as_ref()))
            .collect();
        let digests: Vec<_> = codes.iter().map(RecoveryCode::digest).collect();
        if self.store.replace_recovery_codes(user, &digests).await? {
            Ok(codes)
        } else {
            Err(EnrolError::NotEnrolled)
        }
    }

    /// Asks the user for no code any more. Returns `false` when none was asked for.
    pub async fn remove(&self, user: UserId) -> Result<bool, StoreError> {
        self.store.remove(user).await
    }
}

/// A second factor was not set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolError {
    /// There is one already. Remove it first.
    #[error("a second factor is set up already")]
    Enrolled,
    /// There is none that recovery codes could stand in for. Set one up first.
    #[error("no second factor is set up")]
    NotEnrolled,
    /// A store could not answer. Worth a retry.
    #[error("the second factor could not be kept")]
    Unavailable(#[from] StoreError),
}
