//! Randomness, injected.

use std::fmt;

/// A source of random bytes fit for keys and tokens.
///
/// [`SystemEntropy`] asks the operating system; `testing::SeededEntropy` repeats itself.
///
/// # Security
///
/// Secrets are made from it. A production implementation must be a cryptographically secure
/// generator.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills `out` completely.
    fn fill(&self, out: &mut [u8]);
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::expect_used,
        reason = "a system that gives no randomness can make no key; there is nothing to go on with"
    )]
    fn fill(&self, out: &mut [u8]) {
        getrandom::fill(out).expect("the operating system gives randomness");
    }
}
