//! Refusals without end, in bounded space.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arkeep_core::Timestamp;
use serde_json::{Map, Value, json};

use super::actions::{Action, FLOOD};

/// Keeps a stranger from filling the disk with what they are refused.
///
/// Every refusal may be written as long as there is room for it. Each network (an IPv4 address, or
/// the first 64 bits of an IPv6 address) has room for [`BURST`](Self::BURST) of them, each user and
/// token for [`BURST_OF_KNOWN`](Self::BURST_OF_KNOWN); one comes back every
/// [`PAUSE`](Self::PAUSE). All strangers together have room for
/// [`BURST_OF_ALL`](Self::BURST_OF_ALL), one of which comes back every
/// [`PAUSE_OF_ALL`](Self::PAUSE_OF_ALL), so that many addresses give no more.
///
/// What finds no room is counted by where it comes from, what it was and how it ended. Each minute
/// the counts are written: those of the [`TOLD`](Self::TOLD) largest one by one, and one sum for
/// all others. A server that is killed loses the counts of its last minute, never an entry.
///
/// A theft that is found out is always written, and so is all that succeeded, but for refreshes:
/// they are treated like refusals, since whoever is logged in may refresh without end.
#[derive(Debug, Default)]
pub struct Flood {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    strangers: Option<Bucket>,
    each: HashMap<String, Bucket>,
    counts: HashMap<Key, Count>,
    others: Count,
}

/// Where something comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A user or a token.
    Known(String),
    /// Somebody at an address.
    Stranger(Option<String>),
}

type Key = (Source, Action, Cow<'static, str>);

#[derive(Debug, Clone, Default)]
struct Count {
    count: u64,
    span: Option<(Timestamp, Timestamp)>,
}

/// Something that was counted rather than written.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) source: Source,
    pub(super) action: Action,
    pub(super) result: Cow<'static, str>,
    pub(super) particulars: Map<String, Value>,
}

impl Flood {
    /// So many refusals of one network are written at once.
    pub const BURST: u32 = 50;
    /// So many refusals of one user or token are written at once.
    pub const BURST_OF_KNOWN: u32 = 200;
    /// One more of either may be written after each of these.
    pub const PAUSE: Duration = Duration::from_secs(30);
    /// So many refusals of all strangers together are written at once.
    pub const BURST_OF_ALL: u32 = 1_000;
    /// One more of them may be written after each of these.
    pub const PAUSE_OF_ALL: Duration = Duration::from_secs(5);
    /// So many counts are told one by one.
    pub const TOLD: usize = 5;
    /// So many sources are told apart.
    const MOST: usize = 10_000;

    /// Whether there is room for one more entry. If not, it is counted.
    pub(super) fn admit(
        &self,
        source: &Source,
        action: Action,
        result: &str,
        now: Timestamp,
    ) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let own = state.has_room(source, now);
        let all = match source {
            Source::Known(_) => true,
            // Asked only by who has room of their own, so that one cannot use up everybody's.
            Source::Stranger(_) if own => state
                .strangers
                .get_or_insert(Bucket::full(Self::BURST_OF_ALL, now))
                .take(Self::PAUSE_OF_ALL, now),
            Source::Stranger(_) => false,
        };
        if own && all {
            return true;
        }
        let known = state.counts.len() < Self::MOST;
        match state
            .counts
            .entry((source.clone(), action, result.to_owned().into()))
        {
            Entry::Occupied(mut count) => count.get_mut().add(1, now, now),
            Entry::Vacant(place) if known => place.insert(Count::default()).add(1, now, now),
            Entry::Vacant(_) => state.others.add(1, now, now),
        }
        false
    }

    /// What was counted since the last time.
    pub(super) fn take(&self) -> Vec<Folded> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts: Vec<_> = std::mem::take(&mut state.counts).into_iter().collect();
        let mut others = std::mem::take(&mut state.others);
        drop(state);
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(count.count));
        let mut told = Vec::new();
        for (index, ((source, action, result), count)) in counts.into_iter().enumerate() {
            if index < Self::TOLD {
                told.push(Folded {
                    source,
                    action,
                    result,
                    particulars: count.particulars(),
                });
            } else if let Some((first, last)) = count.span {
                others.add(count.count, first, last);
            }
        }
        if others.count > 0 {
            told.push(Folded {
                source: Source::Stranger(None),
                action: FLOOD,
                result: "refused".into(),
                particulars: others.particulars(),
            });
        }
        told
    }
}

impl State {
    fn has_room(&mut self, source: &Source, now: Timestamp) -> bool {
        if self.each.len() >= Flood::MOST {
            self.each
                .retain(|_, bucket| !bucket.is_full(Flood::PAUSE, now));
        }
        let full = self.each.len() >= Flood::MOST;
        match self.each.entry(source.network()) {
            Entry::Occupied(mut bucket) => bucket.get_mut().take(Flood::PAUSE, now),
            Entry::Vacant(_) if full => false,
            Entry::Vacant(place) => place
                .insert(Bucket::full(source.burst(), now))
                .take(Flood::PAUSE, now),
        }
    }
}

impl Source {
    const fn burst(&self) -> u32 {
        match self {
            Self::Known(_) => Flood::BURST_OF_KNOWN,
            Self::Stranger(_) => Flood::BURST,
        }
    }

    /// Whoever has one IPv6 address has as many as they like of its network.
    fn network(&self) -> String {
        match self {
            Self::Known(id) => format!("id {id}"),
            Self::Stranger(None) => "nowhere".to_owned(),
            Self::Stranger(Some(address)) => match address.parse() {
                Ok(IpAddr::V6(address)) => {
                    let [a, b, c, d, ..] = address.segments();
                    format!("{a:x}:{b:x}:{c:x}:{d:x}")
                }
                _ => address.clone(),
            },
        }
    }
}

impl Count {
    fn add(&mut self, count: u64, first: Timestamp, last: Timestamp) {
        self.count = self.count.saturating_add(count);
        let (from, to) = self.span.unwrap_or((first, last));
        self.span = Some((from.min(first), to.max(last)));
    }

    fn particulars(&self) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("times".to_owned(), json!(self.count));
        if let Some((first, last)) = self.span {
            all.insert("first_at".to_owned(), json!(first));
            all.insert("last_at".to_owned(), json!(last));
        }
        all
    }
}

/// Room that is used up, and comes back piece by piece.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    holds: u32,
    left: u32,
    since: Timestamp,
}

impl Bucket {
    const fn full(holds: u32, now: Timestamp) -> Self {
        Self {
            holds,
            left: holds,
            since: now,
        }
    }

    fn refill(&mut self, pause: Duration, now: Timestamp) {
        let pause = pause.as_millis().max(1);
        let pieces = now.since(self.since).as_millis() / pause;
        let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(pieces).min(self.holds);
        if self.left == self.holds || now < self.since {
            self.since = now;
        } else {
            let used = Duration::from_millis(u64::try_from(pause).unwrap_or(u64::MAX));
            self.since = self.since.plus(used.saturating_mul(pieces));
        }
    }

    fn take(&mut self, pause: Duration, now: Timestamp) -> bool {
        self.refill(pause, now);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    fn is_full(&mut self, pause: Duration, now: Timestamp) -> bool {
        self.refill(pause, now);
        self.left == self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: Action = super::super::actions::UNKNOWN;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH.plus(Duration::from_secs(seconds))
    }

    fn from(address: &str) -> Source {
        Source::Stranger(Some(address.to_owned()))
    }

    fn admitted(flood: &Flood, source: &Source, times: u32, now: Timestamp) -> u32 {
        let admit = |_: &u32| flood.admit(source, WHAT, "unauthorized", now);
        u32::try_from((0..times).filter(admit).count()).unwrap()
    }

    /// S12
    #[test]
    fn one_address_has_its_room_and_no_more() {
        let flood = Flood::default();
        let source = from("192.0.2.1");

        assert_eq!(admitted(&flood, &source, 1_000, at(0)), Flood::BURST);
        assert_eq!(admitted(&flood, &source, 10, at(29)), 0);
        assert_eq!(admitted(&flood, &source, 10, at(30)), 1);
        assert_eq!(admitted(&flood, &source, 10, at(120)), 3);
        let day = admitted(&flood, &source, 1_000, at(86_400));
        assert_eq!(day, Flood::BURST);
    }

    /// S12
    #[test]
    fn what_was_not_written_is_counted() {
        let flood = Flood::default();
        let source = from("192.0.2.1");
        admitted(&flood, &source, 1_000, at(0));
        admitted(&flood, &source, 1, at(7));

        let told = flood.take();

        assert_eq!(told.len(), 1);
        let told = &told[0];
        assert_eq!((&told.source, told.action), (&source, WHAT));
        assert_eq!(told.particulars["times"], json!(951));
        assert_eq!(told.particulars["first_at"], json!(at(0)));
        assert_eq!(told.particulars["last_at"], json!(at(7)));
        assert!(flood.take().is_empty());
    }

    /// S12: more addresses are no way around it, and neither are those of one network.
    #[test]
    fn many_addresses_have_the_room_of_all() {
        let flood = Flood::default();
        let mut written = 0;
        for number in 0..30_000_u32 {
            let [_, b, c, d] = number.to_be_bytes();
            let source = from(&format!("10.{b}.{c}.{d}"));
            written += admitted(&flood, &source, 1, at(0));
        }
        assert_eq!(written, Flood::BURST_OF_ALL);

        let told = flood.take();
        assert_eq!(told.len(), Flood::TOLD + 1);
        let sum: u64 = told
            .iter()
            .filter_map(|told| told.particulars["times"].as_u64())
            .sum();
        assert_eq!(sum, 30_000 - u64::from(Flood::BURST_OF_ALL));

        let flood = Flood::default();
        let near: u32 = (0..100)
            .map(|host| admitted(&flood, &from(&format!("2001:db8::{host:x}")), 10, at(0)))
            .sum();
        assert_eq!(near, Flood::BURST);
    }

    /// S12: a flood of strangers takes no room from who is logged in.
    #[test]
    fn who_is_known_has_room_of_their_own() {
        let flood = Flood::default();
        for host in 0..=255 {
            admitted(&flood, &from(&format!("192.0.2.{host}")), 100, at(0));
        }

        let known = Source::Known("ada".to_owned());

        let written = admitted(&flood, &known, 1_000, at(0));
        assert_eq!(written, Flood::BURST_OF_KNOWN);
    }

    #[test]
    fn a_clock_that_steps_back_gives_no_room_and_takes_none() {
        let flood = Flood::default();
        let source = from("192.0.2.1");
        admitted(&flood, &source, 49, at(1_000));

        assert_eq!(admitted(&flood, &source, 10, at(0)), 1);
        assert_eq!(admitted(&flood, &source, 10, at(30)), 1);
    }
}
