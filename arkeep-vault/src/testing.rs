//! What a test of another crate needs: the promises of the traits, and keys that can be made to
//! fail.
//!
//! A conformance suite is a list of promises, each with the wording of the trait's documentation.
//! Run the suite against an implementation of your own with the macro of its name:
//!
//! ```
//! mod my_sealer {
//!     use arkeep_vault::{Keyring, Vault};
//!
//!     arkeep_vault::sealer_conformance!(|| Vault::new(Keyring::generate(0).unwrap()));
//! }
//! # fn main() {}
//! ```

pub mod key_provider;
pub mod key_wrapper;
pub mod sealer;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{ChangeError, DataKey, KeyError, KeyId, KeyProvider, Keyring, RingFormatError};

/// Keys in memory, which come and go as a test says.
///
/// Clones share their keys, so a test keeps one and gives the other to a [`Vault`](crate::Vault).
#[derive(Debug, Clone)]
pub struct MemoryKeys {
    state: Arc<RwLock<State>>,
}

#[derive(Debug)]
struct State {
    ring: Keyring,
    reachable: bool,
}

impl MemoryKeys {
    /// One key, made at time zero.
    ///
    /// # Errors
    ///
    /// When the operating system gives no random bytes.
    pub fn new() -> Result<Self, ChangeError> {
        let state = State {
            ring: Keyring::generate(0)?,
            reachable: true,
        };
        Ok(Self {
            state: Arc::new(RwLock::new(state)),
        })
    }

    /// The keys vanish or come back, as those of a service do.
    pub fn set_reachable(&self, reachable: bool) {
        self.write().reachable = reachable;
    }

    /// The key that seals.
    #[must_use]
    pub fn primary(&self) -> KeyId {
        self.read().ring.primary()
    }

    /// Changes the ring.
    ///
    /// # Errors
    ///
    /// Those of the change.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Keyring) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        change(&mut self.write().ring)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self) -> Result<RwLockReadGuard<'_, State>, KeyError> {
        let state = self.read();
        match state.reachable {
            true => Ok(state),
            false => Err(KeyError::Unavailable {
                source: "the test made the keys vanish".into(),
            }),
        }
    }
}

impl KeyProvider for MemoryKeys {
    fn current(&self) -> Result<Arc<DataKey>, KeyError> {
        self.reach()?.ring.current()
    }

    fn by_id(&self, id: KeyId) -> Result<Arc<DataKey>, KeyError> {
        self.reach()?.ring.by_id(id)
    }
}

/// Reads the list of keys of a ring as it is before it is encrypted, for a fuzzer that has no
/// chance to guess a ring key.
///
/// # Errors
///
/// [`RingFormatError`], as for a ring.
pub fn parse_key_list(bytes: &[u8]) -> Result<Keyring, RingFormatError> {
    crate::ring::decode(bytes)
}

/// A promise that an implementation does not keep.
#[derive(PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    fn because(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// A test that fails prints the error in this form.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Broken {}

/// What a promise comes to.
pub type Kept = Result<(), Broken>;

/// The promise is kept when `condition` holds.
fn kept(condition: bool, otherwise: impl fmt::Display) -> Kept {
    match condition {
        true => Ok(()),
        false => Err(Broken::because(otherwise)),
    }
}
