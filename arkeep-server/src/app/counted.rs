//! A vault that is counted.

use std::sync::Arc;

use arkeep_core::SecretSlice;
use arkeep_vault::{Binding, OpenError, SealError, Sealed, Sealer};

use crate::http::metrics::Metrics;

/// Counts what the vault behind it does.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) sealer: Arc<dyn Sealer>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Sealer for Counted {
    fn seal(&self, secret: &SecretSlice<u8>, binding: &Binding) -> Result<Sealed, SealError> {
        let sealed = self.sealer.seal(secret, binding);
        self.metrics.vault_operation("seal", result(&sealed));
        sealed
    }

    fn open(&self, sealed: &Sealed, binding: &Binding) -> Result<SecretSlice<u8>, OpenError> {
        let opened = self.sealer.open(sealed, binding);
        self.metrics.vault_operation("open", result(&opened));
        opened
    }
}

fn result<T, E>(outcome: &Result<T, E>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(_) => "failed",
    }
}
