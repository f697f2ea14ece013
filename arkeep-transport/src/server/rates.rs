use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use arkeep_core::AgentId;

use super::PortConfig;

/// How often certificates may be asked for.
///
/// Each costs a signature, a check of another and a transaction, and a stranger's costs as much as
/// an agent's. Whoever asks too often is told when to come back.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) enrollments: Rate<Network>,
    pub(super) renewals: Rate<AgentId>,
}

impl Rates {
    pub(super) fn of(config: &PortConfig) -> Self {
        Self {
            enrollments: Rate::new(config.enrollments_per_minute, config.enrollments_at_once),
            renewals: Rate::new(config.renewals_per_minute, config.renewals_at_once),
        }
    }
}

/// Where a stranger comes from: whoever has one IPv6 address has the 2^64 beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & !u128::from(u64::MAX);
                Self(Ipv6Addr::from_bits(network).into())
            }
            address => Self(address),
        }
    }
}

/// The generic cell rate algorithm (ITU-T I.371), one moment for each key.
#[derive(Debug)]
pub(super) struct Rate<K> {
    cost: Duration,
    burst: Duration,
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash + Copy> Rate<K> {
    fn new(per_minute: u32, at_once: u32) -> Self {
        let cost = Duration::from_secs(60) / per_minute.max(1);
        Self {
            cost,
            burst: cost * at_once.max(1),
            full_at: Mutex::default(),
        }
    }

    /// Counts one, or says how long to wait; what is refused is not counted.
    pub(super) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_KEYS {
            all.retain(|_, full_at| *full_at > now);
        }
        if all.len() >= MOST_KEYS {
            // Somebody has more addresses than we have room. Whoever asked least is forgotten.
            let least = all.iter().min_by_key(|(_, full_at)| **full_at);
            if let Some(least) = least.map(|(key, _)| *key) {
                all.remove(&least);
            }
        }
        let full_at = all.entry(key).or_insert(now);
        let next = (*full_at).max(now) + self.cost;
        let wait = next.saturating_duration_since(now + self.burst);
        if wait.is_zero() {
            *full_at = next;
            Ok(())
        } else {
            Err(wait)
        }
    }
}

const MOST_KEYS: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// T9
    #[test]
    fn whoever_asks_too_often_is_told_when_to_come_back() {
        let (rate, start) = (Rate::new(2, 2), Instant::now());

        assert_eq!(rate.take(1, start), Ok(()));
        assert_eq!(rate.take(1, start), Ok(()));
        assert_eq!(rate.take(1, start), Err(MINUTE / 2));
        assert_eq!(rate.take(2, start), Ok(()), "somebody else");
        // Having been refused costs nothing.
        assert_eq!(rate.take(1, start), Err(MINUTE / 2));
        assert_eq!(rate.take(1, start + MINUTE / 2), Ok(()));
        assert_eq!(rate.take(1, start + MINUTE / 2), Err(MINUTE / 2));
    }

    /// T9
    #[test]
    fn what_is_remembered_is_bounded() {
        let (rate, start) = (Rate::new(1, 5), Instant::now());
        for key in 0..MOST_KEYS + 100 {
            assert_eq!(rate.take(key, start), Ok(()));
        }

        assert!(rate.full_at.lock().unwrap().len() <= MOST_KEYS);
        assert_eq!(rate.take(0, start + MINUTE * 60), Ok(()));
        assert_eq!(rate.full_at.lock().unwrap().len(), 1);
    }

    /// T9
    #[test]
    fn the_addresses_of_one_network_are_one() {
        let network = |text: &str| Network::of(text.parse().unwrap());

        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
