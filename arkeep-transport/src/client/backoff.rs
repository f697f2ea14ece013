use std::time::Duration;

use arkeep_core::Entropy;

/// How long to wait before the next attempt to connect.
///
/// Full jitter: the pause is drawn anew each time from the whole span between a second and a
/// ceiling, and the ceiling doubles with each failure. A thousand agents that lost their server in
/// the same instant come back spread over seconds, and a server that stays away is asked about twice
/// a minute by each.
///
/// # Example
///
/// ```
/// # use arkeep_core::SystemEntropy;
/// # use arkeep_transport::client::Backoff;
/// # use std::time::Duration;
/// let mut backoff = Backoff::default();
/// let pause = backoff.next(&SystemEntropy);
/// assert!(pause >= Duration::from_secs(1) && pause <= Duration::from_secs(60));
///
/// // A minute of health, and the next failure is the first again.
/// backoff.was_up_for(Duration::from_secs(60));
/// assert_eq!(backoff, Backoff::default());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause.
    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let mut random = [0; 8];
        entropy.fill(&mut random);
        let pause = pause(self.failures, u64::from_le_bytes(random));
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Tells how long a connection lasted. A minute of health makes up for every failure before.
    pub fn was_up_for(&mut self, up: Duration) {
        if up >= HEALTHY {
            self.failures = 0;
        }
    }
}

/// The pause after so many failures, for a number drawn from all 64-bit numbers.
fn pause(failures: u32, random: u64) -> Duration {
    let ceiling = FIRST_CEILING
        .saturating_mul(2_u32.saturating_pow(failures.min(16)))
        .min(LONGEST);
    let span = u64::try_from(ceiling.saturating_sub(SHORTEST).as_millis()).unwrap_or(u64::MAX);
    SHORTEST + Duration::from_millis(random % (span + 1))
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Long enough that a server's restart is not followed by all of its agents at once.
const FIRST_CEILING: Duration = Duration::from_secs(8);
const HEALTHY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use arkeep_core::testing::SeededEntropy;
    use proptest::prelude::*;

    use super::*;

    /// T8
    #[test]
    fn a_thousand_agents_do_not_come_back_in_one_second() {
        let mut per_second = [0; 61];
        for agent in 0..1000 {
            let pause = Backoff::default().next(&SeededEntropy::new(agent));
            per_second[usize::try_from(pause.as_secs()).unwrap()] += 1;
        }

        assert!(
            per_second.iter().all(|count| *count < 250),
            "{per_second:?}"
        );
    }

    /// T8
    #[test]
    fn a_short_connection_does_not_reset_the_pauses() {
        let mut backoff = Backoff::default();
        backoff.next(&SeededEntropy::new(1));

        backoff.was_up_for(Duration::from_secs(59));
        assert_ne!(backoff, Backoff::default());

        backoff.was_up_for(Duration::from_secs(60));
        assert_eq!(backoff, Backoff::default());
    }

    proptest! {
        /// T8
        #[test]
        fn stays_within_its_bounds(failures: u32, random: u64) {
            let pause = pause(failures, random);

            prop_assert!(pause >= Duration::from_secs(1));
            prop_assert!(pause <= Duration::from_secs(60));
        }
    }
}
