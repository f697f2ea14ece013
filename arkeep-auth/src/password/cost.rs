use argon2::Params;
use argon2::password_hash::phc;

/// What one hash costs.
///
/// At least the parameters of OWASP ASVS 5 (appendix C), at most a ceiling that keeps a planted
/// hash from taking the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    memory_kib: u32,
    passes: u32,
}

/// The cost is outside of what is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// Choose more memory or more passes.
    #[error("weaker than 46 MiB and 1 pass, 19 MiB and 2, or 12 MiB and 3")]
    TooWeak,
    /// Choose less memory or fewer passes.
    #[error("dearer than 256 MiB or 16 passes")]
    TooDear,
}

impl HashCost {
    /// So much memory, so many passes over it, in one lane.
    pub const fn new(memory_kib: u32, passes: u32) -> Result<Self, CostError> {
        let strong = match passes {
            0 => false,
            1 => memory_kib >= 47_104,
            2 => memory_kib >= 19_456,
            _ => memory_kib >= 12_288,
        };
        if !strong {
            return Err(CostError::TooWeak);
        }
        if memory_kib > MAX_MEMORY_KIB || passes > MAX_PASSES {
            return Err(CostError::TooDear);
        }
        Ok(Self { memory_kib, passes })
    }

    /// So cheap that tests are quick. It protects nothing.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub const fn for_testing() -> Self {
        Self::for_testing_with(64)
    }

    /// One pass over so much memory, however little.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub const fn for_testing_with(memory_kib: u32) -> Self {
        Self {
            memory_kib,
            passes: 1,
        }
    }

    #[expect(
        clippy::expect_used,
        reason = "`new` takes only what is far inside the limits of Argon2"
    )]
    pub(super) fn params(self) -> Params {
        Params::new(
            self.memory_kib,
            self.passes,
            LANES,
            Some(Params::DEFAULT_OUTPUT_LEN),
        )
        .expect("parameters are within Argon2's limits")
    }

    /// Whether a stored hash may be computed at all.
    pub(super) const fn allows(stored: &Params) -> bool {
        stored.m_cost() <= MAX_MEMORY_KIB
            && stored.t_cost() <= MAX_PASSES
            && stored.p_cost() <= MAX_LANES
    }

    /// Whether a hash made today would be stronger than this one.
    pub(super) fn exceeds(self, stored: &phc::PasswordHash) -> bool {
        let output = stored.hash.as_ref().map_or(0, |output| output.len());
        Params::try_from(stored).map_or(true, |stored| {
            stored.m_cost() < self.memory_kib
                || stored.t_cost() < self.passes
                || output < Params::DEFAULT_OUTPUT_LEN
        })
    }
}

impl Default for HashCost {
    /// 19 MiB and 2 passes.
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            passes: 2,
        }
    }
}

const LANES: u32 = 1;
const MAX_LANES: u32 = 4;
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
