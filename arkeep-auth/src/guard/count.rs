use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use arkeep_core::Timestamp;

use super::{LoginGuard, Throttled};

/// Failures by key, of which the oldest are forgotten when there are too many.
#[derive(Debug)]
pub(super) struct Counts<K>(HashMap<K, Count>);

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    last: Timestamp,
    /// For a known address: the last time that somebody came in.
    seen: Timestamp,
}

/// What adding a failure changed, so that it can be taken back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Charge {
    before: Timestamp,
    at: Timestamp,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Counts<K> {
    /// Whether one more attempt may be made.
    pub(super) fn may(&self, key: &K, free: u32, now: Timestamp) -> Result<(), Throttled> {
        let Some(count) = self.0.get(key) else {
            return Ok(());
        };
        let Some(over) = count.failures(now).checked_sub(free) else {
            return Ok(());
        };
        // A clock that stepped back must not make anybody wait for longer than the longest wait.
        let wait = wait(over).saturating_sub(now.since(count.last));
        if wait.is_zero() {
            return Ok(());
        }
        Err(Throttled {
            retry_after: Duration::from_secs(
                wait.as_millis().div_ceil(1_000).try_into().unwrap_or(1),
            ),
        })
    }

    /// Counts a failure.
    pub(super) fn add(&mut self, key: K, now: Timestamp) -> Charge {
        self.make_room(&key, now);
        let count = self.0.entry(key).or_insert(Count::new(now));
        let charge = Charge {
            before: count.last,
            at: now,
        };
        count.failures = count.failures(now).saturating_add(1);
        count.last = now;
        charge
    }

    /// Takes a failure back.
    pub(super) fn give_back(&mut self, key: &K, charge: Charge) {
        if let Some(count) = self.0.get_mut(key) {
            count.failures = count.failures.saturating_sub(1);
            if count.last == charge.at {
                count.last = charge.before;
            }
        }
    }

    /// Counts a failure of a key that is known, if it may be made.
    pub(super) fn charge(&mut self, key: K, now: Timestamp) -> Result<Charge, Throttled> {
        self.may(&key, LoginGuard::FREE_FAILURES, now)?;
        Ok(self.add(key, now))
    }

    /// Knows a key from now, without a failure.
    pub(super) fn begin(&mut self, key: K, now: Timestamp) {
        self.make_room(&key, now);
        self.0.insert(key, Count::new(now));
    }

    /// Knows a key, and leaves what was counted for it as it is.
    pub(super) fn recognise(&mut self, key: K, now: Timestamp) {
        if self.contains(&key, now) {
            if let Some(count) = self.0.get_mut(&key) {
                count.seen = now;
            }
        } else {
            self.begin(key, now);
        }
    }

    pub(super) fn contains(&self, key: &K, now: Timestamp) -> bool {
        self.0
            .get(key)
            .is_some_and(|count| now.since(count.seen) < LoginGuard::KNOWN_FOR)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn make_room(&mut self, key: &K, now: Timestamp) {
        if self.0.len() < LoginGuard::CAPACITY || self.0.contains_key(key) {
            return;
        }
        self.0.retain(|_, count| !count.is_over(now));
        if self.0.len() < LoginGuard::CAPACITY {
            return;
        }
        // A tenth at once, so that a flood does not sort at every step.
        let mut times: Vec<Timestamp> = self.0.values().map(|count| count.last).collect();
        let (_, cut, _) = times.select_nth_unstable(LoginGuard::CAPACITY / 10);
        let cut = *cut;
        self.0.retain(|_, count| count.last > cut);
    }
}

impl Count {
    const fn new(now: Timestamp) -> Self {
        Self {
            failures: 0,
            last: now,
            seen: now,
        }
    }

    fn failures(&self, now: Timestamp) -> u32 {
        if now.since(self.last) >= LoginGuard::FORGOTTEN_AFTER {
            0
        } else {
            self.failures
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.failures(now) == 0 && now.since(self.seen) >= LoginGuard::KNOWN_FOR
    }
}

/// One second after the last free failure, and twice as long after each further one.
fn wait(over: u32) -> Duration {
    let seconds = 1_u64.checked_shl(over).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LoginGuard::LONGEST_WAIT)
}
