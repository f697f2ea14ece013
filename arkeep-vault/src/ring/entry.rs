//! One key of a ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use secrecy::SecretSlice;
use secrecy::zeroize::Zeroizing;

use super::{ChangeError, KeyInfo, KeyState};
use crate::xaes::KEY_LEN;
use crate::{DataKey, KeyId};

/// A key with its story. The bytes are kept for wrapping the ring again.
pub(super) struct RingEntry {
    pub(super) id: KeyId,
    pub(super) state: KeyState,
    pub(super) created_at: i64,
    pub(super) changed_at: i64,
    pub(super) messages_sealed: AtomicU64,
    pub(super) bytes: SecretSlice<u8>,
    pub(super) ready: Arc<DataKey>,
}

impl RingEntry {
    pub(super) fn new(info: KeyInfo, bytes: SecretSlice<u8>, ready: Arc<DataKey>) -> Self {
        Self {
            id: info.id,
            state: info.state,
            created_at: info.created_at,
            changed_at: info.changed_at,
            messages_sealed: AtomicU64::new(info.messages_sealed),
            bytes,
            ready,
        }
    }

    pub(super) fn generate(now: i64, others: &[Self]) -> Result<Self, ChangeError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        getrandom::fill(&mut *key).map_err(|_| ChangeError::NoRandomness)?;
        let mut id = [0; 8];
        loop {
            getrandom::fill(&mut id).map_err(|_| ChangeError::NoRandomness)?;
            if others.iter().all(|other| other.id.to_bytes() != id) {
                break;
            }
        }
        let info = KeyInfo {
            id: KeyId::from_bytes(id),
            state: KeyState::Primary,
            created_at: now,
            changed_at: now,
            messages_sealed: 0,
        };
        let ready = Arc::new(DataKey::from_array(info.id, &key));
        Ok(Self::new(info, key.to_vec().into(), ready))
    }

    pub(super) fn info(&self) -> KeyInfo {
        KeyInfo {
            id: self.id,
            state: self.state,
            created_at: self.created_at,
            changed_at: self.changed_at,
            messages_sealed: self.messages_sealed.load(Ordering::Relaxed),
        }
    }

    pub(super) fn move_to(&mut self, state: KeyState, now: i64) {
        self.state = state;
        self.changed_at = now;
    }
}

impl Clone for RingEntry {
    fn clone(&self) -> Self {
        Self::new(self.info(), self.bytes.clone(), Arc::clone(&self.ready))
    }
}
