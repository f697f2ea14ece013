//! What a provider answers, judged without a provider: for fuzzers.
//!
//! These are the functions that a login goes through, between the calls.

use arkeep_core::Timestamp;

use super::discovery::Metadata;
use super::login::{granted_token, proven};
use super::{DiscoveryError, IdTokenError, ProvenIdentity, Provider};

/// Reads the description of an issuer.
///
/// # Errors
///
/// [`DiscoveryError`] when it is not that issuer's, or lacks what a login needs.
pub fn describes(issuer: &str, body: &[u8]) -> Result<(), DiscoveryError> {
    Metadata::read(body, issuer).map(drop)
}

/// What a provider answers to the last two questions of a login.
#[derive(Debug, Clone, Copy)]
pub struct Answers<'a> {
    /// For the code.
    pub granted: &'a [u8],
    /// Its keys.
    pub keys: &'a [u8],
}

/// Whom the answers name.
///
/// # Errors
///
/// [`IdTokenError`] when they name nobody for this login.
pub fn proves(
    answers: Answers<'_>,
    provider: &Provider,
    nonce: &str,
    now: Timestamp,
) -> Result<ProvenIdentity, IdTokenError> {
    let token = granted_token(answers.granted)?;
    proven(&token, answers.keys, provider, nonce, now)
}
