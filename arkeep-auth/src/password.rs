//! Passwords: hashed slowly, a few at a time.
//!
//! A password is kept as an Argon2id hash in PHC form. Making one takes memory and time on purpose,
//! so the number of hashes at work is bounded, the queue before them is bounded, and they run at
//! low priority: a storm of logins slows logins down and little else.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use arkeep_auth::password::{HashCost, HashPool, Passwords};
//! use arkeep_core::{SecretString, SystemEntropy};
//!
//! # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # rt.block_on(async {
//! let pool = HashPool::start(HashPool::default_threads(), 64)?;
//! let passwords = Passwords::new(HashCost::default(), pool, Arc::new(SystemEntropy));
//!
//! let hash = passwords.hash(&SecretString::from("correct horse battery")).await?;
//! let check = passwords.verify(&SecretString::from("wrong horse"), Some(&hash)).await?;
//! assert!(!check.matches());
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod common;
mod cost;
mod memory;
mod pool;

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::phc;
use argon2::{Algorithm, Params, Version};
use arkeep_core::{Entropy, ExposeSecret, SecretString};

pub use cost::{CostError, HashCost};
pub use pool::HashPool;

/// The shortest password, in bytes.
pub const MIN_BYTES: usize = 8;
/// The longest password, in bytes.
pub const MAX_BYTES: usize = 1024;

/// An Argon2id hash in PHC form, as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes over a hash that was stored. Whether it can be used shows when it is.
    #[must_use]
    pub fn from_stored(phc: impl Into<String>) -> Self {
        Self(phc.into())
    }

    /// The PHC string, to be stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash([REDACTED])")
    }
}

/// What a password is to a stored hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordCheck {
    /// It is the one.
    Matches,
    /// It is the one, and its hash is weaker than what is made today.
    MatchesOutdated,
    /// It is another, or there is none to compare with.
    Differs,
    /// The stored hash is no Argon2id hash, or costs more than is allowed. Nobody comes in with it.
    Unusable,
}

impl PasswordCheck {
    /// Whether the password is the one.
    #[must_use]
    pub const fn matches(self) -> bool {
        matches!(self, Self::Matches | Self::MatchesOutdated)
    }
}

/// A password was not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Ask for a longer one.
    #[error("the password is shorter than 8 bytes")]
    TooShort,
    /// Ask for a shorter one.
    #[error("the password is longer than 1024 bytes")]
    TooLong,
    /// Ask for one that is not among the first that anybody would try.
    #[error("the password is one of the 3,000 commonest")]
    Common,
    /// The queue is full. Worth a retry after a second.
    #[error("too many passwords are being hashed")]
    Busy,
    /// The hash could not be computed: no memory, or the pool was stopped.
    #[error("the password could not be hashed")]
    Hashing,
}

impl PasswordError {
    /// Whether another password would do.
    #[must_use]
    pub const fn is_about_the_password(self) -> bool {
        matches!(self, Self::TooShort | Self::TooLong | Self::Common)
    }
}

/// Makes and checks password hashes.
#[derive(Debug, Clone)]
pub struct Passwords {
    cost: HashCost,
    dummy: PasswordHash,
    pool: HashPool,
    entropy: Arc<dyn Entropy>,
}

impl Passwords {
    /// Hashes at `cost`, on the threads of `pool`.
    #[must_use]
    pub fn new(cost: HashCost, pool: HashPool, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            cost,
            dummy: dummy(cost, entropy.as_ref()),
            pool,
            entropy,
        }
    }

    /// Hashes a new password, if it will do.
    pub async fn hash(&self, password: &SecretString) -> Result<PasswordHash, PasswordError> {
        acceptable(password)?;
        self.rehash(password).await
    }

    /// Hashes a password that is in use already, and so is not judged again.
    pub(crate) async fn rehash(
        &self,
        password: &SecretString,
    ) -> Result<PasswordHash, PasswordError> {
        let mut salt = [0; phc::Salt::RECOMMENDED_LENGTH];
        self.entropy.fill(&mut salt);
        let password = password.clone();
        let params = self.cost.params();
        let parts = phc::ParamsString::try_from(&params);
        let output = self
            .pool
            .run(move |memory| memory.hash(password.expose_secret().as_bytes(), &salt, params))
            .await?;
        let hash = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: parts.map_err(|_| PasswordError::Hashing)?,
            salt: Some(phc::Salt::new(&salt).map_err(|_| PasswordError::Hashing)?),
            hash: Some(output.ok_or(PasswordError::Hashing)?),
        };
        Ok(PasswordHash(hash.to_string()))
    }

    /// Compares a password with a stored hash.
    ///
    /// Takes the time of one hash also when there is nothing to compare with: without a stored
    /// hash, with an unusable one, and with a password that can be nobody's.
    pub async fn verify(
        &self,
        password: &SecretString,
        stored: Option<&PasswordHash>,
    ) -> Result<PasswordCheck, PasswordError> {
        // The dummy takes the same road as a stored hash, down to the parsing.
        let given = stored.unwrap_or(&self.dummy);
        let too_long = password.expose_secret().len() > MAX_BYTES;
        let (target, otherwise) = match parse(given) {
            Some(hash) if stored.is_none() || too_long => (hash, Some(PasswordCheck::Differs)),
            Some(hash) => (hash, None),
            None => {
                let dummy = parse(&self.dummy).ok_or(PasswordError::Hashing)?;
                (dummy, Some(PasswordCheck::Unusable))
            }
        };
        let password = if too_long {
            SecretString::default()
        } else {
            password.clone()
        };
        // Asked whatever the answer will be: a match must not take longer than a mistake.
        let outdated = self.cost.exceeds(&target);
        let (Some(salt), Some(wanted), Ok(params)) =
            (target.salt, target.hash, Params::try_from(&target))
        else {
            return Err(PasswordError::Hashing);
        };
        let made = self
            .pool
            .run(move |memory| memory.hash(password.expose_secret().as_bytes(), &salt, params))
            .await?;
        // Outputs are compared in constant time, as their type promises.
        let matches = made.is_some_and(|made| made == wanted);
        Ok(match otherwise {
            Some(answer) => answer,
            None if !matches => PasswordCheck::Differs,
            None if outdated => PasswordCheck::MatchesOutdated,
            None => PasswordCheck::Matches,
        })
    }
}

fn acceptable(password: &SecretString) -> Result<(), PasswordError> {
    let password = password.expose_secret();
    match password.len() {
        ..MIN_BYTES => Err(PasswordError::TooShort),
        MIN_BYTES..=MAX_BYTES if common::is_common(password) => Err(PasswordError::Common),
        MIN_BYTES..=MAX_BYTES => Ok(()),
        _ => Err(PasswordError::TooLong),
    }
}

/// Reads a stored hash that may be used: Argon2id, and not dearer than the ceiling.
fn parse(stored: &PasswordHash) -> Option<phc::PasswordHash> {
    let hash = phc::PasswordHash::new(&stored.0).ok()?;
    let is_argon2id = hash.algorithm == Algorithm::Argon2id.ident();
    let is_current = hash.version == Some(Version::V0x13.into());
    let complete = hash.salt.is_some() && hash.hash.is_some();
    let params = Params::try_from(&hash).ok()?;
    (is_argon2id && is_current && complete && HashCost::allows(&params)).then_some(hash)
}

/// A hash of no password, as dear as a real one: there is nothing to be found that gives it.
#[expect(
    clippy::expect_used,
    reason = "16 and 32 bytes are lengths that a PHC string takes"
)]
fn dummy(cost: HashCost, entropy: &dyn Entropy) -> PasswordHash {
    let mut salt = [0; phc::Salt::RECOMMENDED_LENGTH];
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    entropy.fill(&mut salt);
    entropy.fill(&mut output);
    let hash = phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: phc::ParamsString::try_from(&cost.params()).expect("parameters are written"),
        salt: Some(phc::Salt::new(&salt).expect("a salt of 16 bytes")),
        hash: Some(phc::Output::new(&output).expect("an output of 32 bytes")),
    };
    PasswordHash(hash.to_string())
}

#[cfg(test)]
mod tests;
