//! A second proof of who somebody is: codes from an authenticator, and codes on paper.
//!
//! A time-based code (RFC 6238) is good for half a minute and for one use: the step of time that it
//! belongs to is spent with it. Ten recovery codes stand in when the authenticator is lost; each
//! works once, and only their digests are kept.
//!
//! ```
//! use std::sync::Arc;
//! use arkeep_auth::factor::SecondFactors;
//! use arkeep_auth::testing::MemoryStore;
//! use arkeep_core::{SystemEntropy, Timestamp, UserId};
//!
//! # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # rt.block_on(async {
//! let now = Timestamp::from_unix_seconds(1_750_000_000);
//! let factors = SecondFactors::new(Arc::new(MemoryStore::default()), Arc::new(SystemEntropy));
//! let ada = UserId::mint(now, &SystemEntropy);
//!
//! let secret = factors.begin(ada, now).await?;
//! let picture = secret.uri("Backup", "ada@example.com");
//! assert!(picture.starts_with("otpauth://totp/Backup:ada@example.com?"));
//! let code = secret.code_at(now);
//! assert!(factors.confirm(ada, &code, now).await?);
//! assert!(!factors.check(ada, &code, now).await?, "a code works once");
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod recovery;
mod service;
mod totp;

use std::fmt;

use arkeep_core::{StoreError, Timestamp, UserId};
use async_trait::async_trait;

pub use recovery::{RecoveryCode, RecoveryDigest};
pub use service::{EnrolError, SecondFactors};
#[cfg(feature = "oidc")]
pub(crate) use totp::percent;
pub use totp::{TotpSecret, TotpStep};

/// What a store knows of a user's second factor.
#[derive(Debug, Default)]
pub struct FactorState {
    /// Shown to the user, who has not shown a code of it yet. It proves nothing.
    pub proposed: Option<TotpSecret>,
    /// Asked for at each login.
    pub confirmed: Option<TotpSecret>,
    /// How many recovery codes are left.
    pub recovery_codes_left: u32,
}

/// Something that works once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneUse {
    /// The step of time that a code belongs to.
    Step(TotpStep),
    /// A recovery code.
    Recovery(RecoveryDigest),
}

/// Keeps second factors and remembers what was used.
///
/// `testing::MemoryStore` is one in this process; `arkeep-server` keeps them in its database.
///
/// # Security
///
/// The secret of an authenticator has to be read again, so it cannot be kept as a digest: seal it.
/// [`spend`](Self::spend) is one conditional statement: of two callers with one code, one is told
/// `true`.
///
/// # Cost
///
/// A login asks for the state once, and spends once.
#[async_trait]
pub trait FactorStore: fmt::Debug + Send + Sync {
    /// What is kept of a user. For a stranger that is nothing.
    async fn state(&self, user: UserId) -> Result<FactorState, StoreError>;

    /// Keeps a secret that is not confirmed, in place of an earlier one that was not.
    async fn propose(
        &self,
        user: UserId,
        secret: &TotpSecret,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Makes the proposed secret count from after `first`, the step of the code that confirmed it.
    ///
    /// Returns `false` and changes nothing when another is confirmed already, or `secret` is no
    /// longer the one that is proposed.
    async fn confirm(
        &self,
        user: UserId,
        secret: &TotpSecret,
        first: TotpStep,
    ) -> Result<bool, StoreError>;

    /// Uses something up. Returns `false` when it was used before.
    ///
    /// A step is used when it is not later than the last one. A recovery code is used when it is not
    /// there.
    async fn spend(&self, user: UserId, what: &OneUse) -> Result<bool, StoreError>;

    /// Replaces all recovery codes. Returns `false` and changes nothing for a user without a
    /// confirmed secret.
    async fn replace_recovery_codes(
        &self,
        user: UserId,
        codes: &[RecoveryDigest],
    ) -> Result<bool, StoreError>;

    /// Forgets everything of a user. Returns `false` when there was no confirmed secret.
    async fn remove(&self, user: UserId) -> Result<bool, StoreError>;
}
