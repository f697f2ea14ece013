//! When a signing key is followed by the next.

use std::fmt;
use std::time::Duration;

use arkeep_core::{StoreError, Timestamp};
use async_trait::async_trait;

/// For how long a key signs, and for how long the next one is published before it does.
///
/// Whoever verifies with a copy of the published keys must hold the next key when it begins to sign.
/// So it is made [`overlap`](Self::overlap) before: a day, or a quarter of a life that is shorter
/// than four days.
///
/// ```
/// use std::time::Duration;
/// use arkeep_auth::token::KeyLife;
/// use arkeep_core::Timestamp;
///
/// let day = Duration::from_secs(86_400);
/// let life = KeyLife::default();
/// let made = Timestamp::from_unix_seconds(1_750_000_000);
///
/// assert!(!life.is_due(made, made.plus(88 * day)));
/// assert!(life.is_due(made, made.plus(89 * day)));
/// assert_eq!(life.overlap(), day);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyLife(Duration);

impl KeyLife {
    /// The shortest: its overlap is a quarter of an hour.
    pub const MIN: Duration = Duration::from_secs(60 * 60);
    /// The longest: ten years.
    pub const MAX: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

    /// A life of this length. `None` when it is shorter than [`MIN`](Self::MIN) or longer than
    /// [`MAX`](Self::MAX).
    #[must_use]
    pub fn new(life: Duration) -> Option<Self> {
        (Self::MIN..=Self::MAX)
            .contains(&life)
            .then_some(Self(life))
    }

    /// For how long a key is published before it signs.
    #[must_use]
    pub fn overlap(self) -> Duration {
        LONGEST_OVERLAP.min(self.0 / 4)
    }

    /// Whether a key that was made at `since` should be followed by another, which signs an
    /// [`overlap`](Self::overlap) later.
    ///
    /// A key that was made as far in the future as a life is long was made by a clock that was
    /// wrong. Waiting for it would be waiting for ever, so it is due as well.
    #[must_use]
    pub fn is_due(self, since: Timestamp, now: Timestamp) -> bool {
        let before = self.0.saturating_sub(self.overlap());
        now >= since.plus(before) || since >= now.plus(self.0)
    }
}

impl Default for KeyLife {
    /// 90 days.
    fn default() -> Self {
        Self(Duration::from_secs(90 * 24 * 60 * 60))
    }
}

/// Learns of keys that another replica has made.
///
/// An [`Authenticator`](crate::Authenticator) asks it about a token that names a key which nobody
/// here knows, and then tries the token once more.
///
/// # Security
///
/// The token was not checked: anybody can name a key, any number of times a second. An
/// implementation bounds how often it looks, also when looking fails.
#[async_trait]
pub trait KeyFollower: fmt::Debug + Send + Sync {
    /// Sees to it that the verifier knows the keys that there were a moment ago.
    ///
    /// When they cannot be had, return an error: the token is then neither accepted nor refused.
    async fn look_again(&self) -> Result<(), StoreError>;
}

const LONGEST_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// A1
    #[test]
    fn a_life_lasts_from_an_hour_to_ten_years() {
        assert!(KeyLife::new(HOUR).is_some());
        assert!(KeyLife::new(KeyLife::MAX).is_some());
        assert_eq!(KeyLife::new(HOUR - Duration::from_millis(1)), None);
        assert_eq!(KeyLife::new(KeyLife::MAX + Duration::from_millis(1)), None);
    }

    /// A1
    #[test]
    fn the_next_key_is_due_an_overlap_before_the_end() -> Result<(), &'static str> {
        let since = Timestamp::from_unix_seconds(1_750_000_000);
        let day = 24 * HOUR;
        for (life, overlap) in [
            (HOUR, HOUR / 4),
            (2 * day, day / 2),
            (4 * day, day),
            (90 * day, day),
        ] {
            let life_of = KeyLife::new(life).ok_or("a life")?;
            let due = since.plus(life - overlap);

            assert_eq!(life_of.overlap(), overlap, "{life:?}");
            assert!(life_of.is_due(since, due), "{life:?}");
            assert!(!life_of.is_due(since, due.minus(Duration::from_millis(1))));
        }
        Ok(())
    }

    /// A1
    #[test]
    fn a_key_of_a_clock_that_was_wrong_does_not_stay() -> Result<(), &'static str> {
        let now = Timestamp::from_unix_seconds(1_750_000_000);
        let life = KeyLife::new(HOUR).ok_or("a life")?;

        assert!(life.is_due(now.plus(HOUR), now));
        assert!(!life.is_due(now.plus(HOUR - Duration::from_millis(1)), now));
        Ok(())
    }
}
