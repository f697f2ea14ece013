use std::error::Error;
use std::fs;

use arkeep_auth::revocation::RevocationSet;
use arkeep_auth::{Revocation, TokenId};
use arkeep_core::testing::SeededEntropy;

use crate::fixture::{TestResult, noon};

/// A14
#[test]
fn a_revoked_token_takes_at_most_64_bytes() -> TestResult {
    const TOKENS: usize = 1_000_000;
    let entropy = SeededEntropy::new(14);
    let before = resident_bytes()?;

    let mut set = RevocationSet::default();
    for _ in 0..TOKENS {
        let token = TokenId::mint(noon(), &entropy);
        set.add(&Revocation::token(token, noon()));
    }

    let each = resident_bytes()?.saturating_sub(before) / TOKENS;
    assert!(each <= 64, "{each} bytes each");
    assert_eq!(set.prune(noon().plus(Revocation::HOLD * 2)), 1_000_000);
    Ok(())
}

/// Linux tells it in pages of 4 KiB.
fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).ok_or("a second field")?.parse()?;
    Ok(pages * 4_096)
}
