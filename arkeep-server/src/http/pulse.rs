//! Does the work behind the requests go on?

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arkeep_core::{Clock, Timestamp};

/// Beats whenever the background work comes round; alive while the last beat is young.
#[derive(Debug)]
pub struct Pulse {
    clock: Arc<dyn Clock>,
    last: AtomicI64,
}

impl Pulse {
    /// Alive from now on, for a first round's time.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let last = AtomicI64::new(clock.now().as_unix_millis());
        Self { clock, last }
    }

    /// A round was made.
    pub fn beat(&self) {
        self.last
            .store(self.clock.now().as_unix_millis(), Ordering::Relaxed);
    }

    /// Whether a round was made within [`Self::PATIENCE`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let last = Timestamp::from_unix_millis(self.last.load(Ordering::Relaxed));
        self.clock.now().since(last) < Self::PATIENCE
    }

    /// How long a round may take.
    pub const PATIENCE: Duration = Duration::from_secs(60);
}

#[cfg(test)]
mod tests {
    use arkeep_core::testing::ManualClock;

    use super::*;

    #[test]
    fn stops_when_no_round_is_made() {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let pulse = Pulse::new(Arc::clone(&clock) as Arc<dyn Clock>);

        clock.advance(Pulse::PATIENCE);
        assert!(!pulse.is_alive());

        pulse.beat();
        assert!(pulse.is_alive());
    }
}
