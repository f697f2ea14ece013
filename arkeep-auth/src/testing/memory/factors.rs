use std::collections::HashSet;

use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

use super::MemoryStore;
use crate::factor::{FactorState, FactorStore, OneUse, RecoveryDigest, TotpSecret, TotpStep};

#[derive(Debug, Default)]
pub(super) struct Factor {
    proposed: Option<TotpSecret>,
    confirmed: Option<(TotpSecret, TotpStep)>,
    recovery: HashSet<RecoveryDigest>,
}

#[async_trait]
impl FactorStore for MemoryStore {
    async fn state(&self, user: UserId) -> Result<FactorState, StoreError> {
        self.transaction(|state| {
            let Some(factor) = state.factors.get(&user) else {
                return FactorState::default();
            };
            FactorState {
                proposed: factor.proposed.clone(),
                confirmed: factor.confirmed.as_ref().map(|(secret, _)| secret.clone()),
                recovery_codes_left: u32::try_from(factor.recovery.len()).unwrap_or(u32::MAX),
            }
        })
    }

    async fn propose(
        &self,
        user: UserId,
        secret: &TotpSecret,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        self.transaction(|state| {
            state.factors.entry(user).or_default().proposed = Some(secret.clone());
        })
    }

    async fn confirm(
        &self,
        user: UserId,
        secret: &TotpSecret,
        first: TotpStep,
    ) -> Result<bool, StoreError> {
        self.transaction(|state| {
            let Some(factor) = state.factors.get_mut(&user) else {
                return false;
            };
            let proposed = factor.proposed.as_ref().map(TotpSecret::expose);
            if factor.confirmed.is_some() || proposed != Some(secret.expose()) {
                return false;
            }
            factor.proposed = None;
            factor.confirmed = Some((secret.clone(), first));
            true
        })
    }

    async fn spend(&self, user: UserId, what: &OneUse) -> Result<bool, StoreError> {
        self.transaction(|state| {
            let factor = state.factors.get_mut(&user);
            let Some((recovery, last)) = factor.and_then(|factor| {
                let Factor {
                    confirmed,
                    recovery,
                    ..
                } = factor;
                Some((recovery, &mut confirmed.as_mut()?.1))
            }) else {
                return false;
            };
            match what {
                OneUse::Step(step) if *step > *last => {
                    *last = *step;
                    true
                }
                OneUse::Step(_) => false,
                OneUse::Recovery(digest) => recovery.remove(digest),
            }
        })
    }

    async fn replace_recovery_codes(
        &self,
        user: UserId,
        codes: &[RecoveryDigest],
    ) -> Result<bool, StoreError> {
        self.transaction(|state| match state.factors.get_mut(&user) {
            Some(factor) if factor.confirmed.is_some() => {
                factor.recovery = codes.iter().copied().collect();
                true
            }
            _ => false,
        })
    }

    async fn remove(&self, user: UserId) -> Result<bool, StoreError> {
        self.transaction(|state| {
            let removed = state.factors.remove(&user);
            removed.is_some_and(|factor| factor.confirmed.is_some())
        })
    }
}
