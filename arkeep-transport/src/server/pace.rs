use std::time::Duration;

use tokio::time::Instant;

/// How fast one agent may speak.
///
/// Whoever is too fast is made to wait: its next message is not read before its time has come, and
/// HTTP/2 flow control holds up the agent, nobody else.
#[derive(Debug)]
pub(super) struct Pace {
    messages: Gauge,
    bytes: Gauge,
}

/// The generic cell rate algorithm (ITU-T I.371): one moment in place of a bucket.
#[derive(Debug)]
struct Gauge {
    per_second: u32,
    full_at: Instant,
}

impl Pace {
    pub(super) fn new(messages_per_second: u32, bytes_per_second: u32, now: Instant) -> Self {
        let gauge = |per_second: u32| Gauge {
            per_second: per_second.max(1),
            full_at: now,
        };
        Self {
            messages: gauge(messages_per_second),
            bytes: gauge(bytes_per_second),
        }
    }

    /// Counts a message, and says how long to wait before the next is read.
    pub(super) fn count(&mut self, bytes: usize, now: Instant) -> Duration {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.messages.add(1, now).max(self.bytes.add(bytes, now))
    }
}

impl Gauge {
    fn add(&mut self, amount: u32, now: Instant) -> Duration {
        let cost = Duration::from_secs(1) * amount / self.per_second;
        self.full_at = self.full_at.max(now) + cost;
        self.full_at.saturating_duration_since(now + BURST)
    }
}

/// How many seconds' worth may come at once.
const BURST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// T9
    #[test]
    fn a_burst_passes_and_a_flood_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(10, 1_000_000, start);

        for _ in 0..100 {
            assert_eq!(pace.count(10, start), Duration::ZERO);
        }
        assert_eq!(pace.count(10, start), Duration::from_millis(100));
        let later = start + Duration::from_secs(20);
        assert_eq!(pace.count(10, later), Duration::ZERO);
    }

    /// T9
    #[test]
    fn weight_counts_too() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000, 1_000, start);

        assert_eq!(pace.count(10_000, start), Duration::ZERO);
        assert_eq!(pace.count(1_000, start), Duration::from_secs(1));
    }
}
