//! When a schedule is due. No clock and no store: everything is computed from what is given.
//!
//! A *tick* is a moment that the cron expression names in its time zone. A tick is *due* a little
//! later, by a jitter that is the same on every replica, and not before its policy's window opens.

use std::str::FromStr as _;
use std::time::Duration;

use arkeep_core::policy::Schedule;
use arkeep_core::{PolicyId, Timestamp};
use croner::Cron;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Zoned};

use crate::store::policies::Window;

/// A schedule that can be computed with.
#[derive(Debug, Clone)]
pub struct Ticks {
    policy: PolicyId,
    cron: Cron,
    zone: TimeZone,
    jitter: u64,
    window: Option<Hours>,
}

/// The schedule cannot be understood. It was refused when it was written, or another program wrote
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the schedule cannot be understood")]
pub struct BadSchedule;

impl Ticks {
    /// Reads a policy's schedule and window.
    ///
    /// # Errors
    ///
    /// [`BadSchedule`] when cron, time zone or window are none.
    pub fn new(
        policy: PolicyId,
        schedule: &Schedule,
        window: Option<&Window>,
    ) -> Result<Self, BadSchedule> {
        Ok(Self {
            policy,
            cron: Cron::from_str(&schedule.cron).map_err(|_| BadSchedule)?,
            zone: zone(&schedule.timezone)?,
            jitter: u64::from(schedule.jitter),
            window: window.map(Hours::new).transpose()?,
        })
    }

    /// The latest tick after `mark` that is due at `now`, if there is one.
    ///
    /// It stands for all the ticks in between: one run catches up on any number of them.
    #[must_use]
    pub fn latest_due(&self, mark: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut from = self.at(now)?;
        for inclusive in std::iter::once(true).chain(std::iter::repeat_n(false, MOST_PENDING)) {
            let tick = self.cron.find_previous_occurrence(&from, inclusive).ok()?;
            let moment = timestamp(&tick);
            if moment <= mark {
                return None;
            }
            if self.due(moment) <= now {
                return Some(moment);
            }
            from = tick;
        }
        None
    }

    /// When the schedule is due next, after `now`, if `mark` is how far it has been seen to.
    #[must_use]
    pub fn next_due(&self, mark: Timestamp, now: Timestamp) -> Option<Timestamp> {
        // A tick that has come may still wait for its jitter or its window.
        let mut from = self.at(mark.max(now.minus(self.longest_wait())))?;
        for _ in 0..=MOST_PENDING {
            let tick = self.cron.find_next_occurrence(&from, false).ok()?;
            let due = self.due(timestamp(&tick));
            if due > now {
                return Some(due);
            }
            from = tick;
        }
        None
    }

    /// When a tick is due.
    #[must_use]
    pub fn due(&self, tick: Timestamp) -> Timestamp {
        let spread = match self.jitter {
            0 => 0,
            jitter => mix(self.policy, tick) % (jitter + 1),
        };
        let due = tick.plus(Duration::from_secs(spread));
        match &self.window {
            Some(hours) => hours.not_before(due),
            None => due,
        }
    }

    fn longest_wait(&self) -> Duration {
        let window = self.window.as_ref().map_or(0, |_| DAY);
        Duration::from_secs(self.jitter + window)
    }

    fn at(&self, moment: Timestamp) -> Option<Zoned> {
        zoned(moment, &self.zone)
    }
}

/// The hours in which a policy may run.
#[derive(Debug, Clone)]
struct Hours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Hours {
    fn new(window: &Window) -> Result<Self, BadSchedule> {
        let time = |text: &str| Time::strptime("%H:%M", text).map_err(|_| BadSchedule);
        Ok(Self {
            from: time(&window.from)?,
            to: time(&window.to)?,
            zone: zone(&window.timezone)?,
        })
    }

    fn holds(&self, time: Time) -> bool {
        if self.from <= self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }

    /// The moment itself if the window is open, else when it opens next.
    fn not_before(&self, moment: Timestamp) -> Timestamp {
        let opening = || {
            let here = zoned(moment, &self.zone)?;
            if self.holds(here.time()) {
                return Some(moment);
            }
            let today = here.date().to_datetime(self.from);
            let day = if here.time() < self.from {
                today
            } else {
                today.checked_add(SignedDuration::from_hours(24)).ok()?
            };
            let opens = self.zone.to_zoned(day).ok()?;
            Some(timestamp(&opens))
        };
        // At the end of time there is no next opening.
        opening().unwrap_or(moment)
    }
}

fn zone(name: &str) -> Result<TimeZone, BadSchedule> {
    TimeZone::get(name).map_err(|_| BadSchedule)
}

fn zoned(moment: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    let instant = jiff::Timestamp::from_millisecond(moment.as_unix_millis()).ok()?;
    Some(instant.to_zoned(zone.clone()))
}

fn timestamp(moment: &Zoned) -> Timestamp {
    Timestamp::from_unix_millis(moment.timestamp().as_millisecond())
}

/// A number that looks random and is the same for the same policy and tick, on every replica and
/// in every version: FNV-1a, finished as in SplitMix64.
fn mix(policy: PolicyId, tick: Timestamp) -> u64 {
    let id = policy.as_uuid();
    let seconds = tick.as_unix_seconds().to_be_bytes();
    let hash = id
        .as_bytes()
        .iter()
        .chain(&seconds)
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
        });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

const DAY: u64 = 86_400;
/// Ticks that may have come and wait for their jitter: a day of minutes, and a day of window.
const MOST_PENDING: usize = 2 * 1_440;

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(cron: &str, timezone: &str, jitter: u32) -> Ticks {
        within(cron, timezone, jitter, None)
    }

    fn within(cron: &str, timezone: &str, jitter: u32, window: Option<&Window>) -> Ticks {
        let schedule = Schedule {
            cron: cron.to_owned(),
            timezone: timezone.to_owned(),
            jitter,
        };
        let policy = PolicyId::from_uuid(uuid::Uuid::from_u128(7));
        Ticks::new(policy, &schedule, window).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Every tick between two moments, one look a minute.
    fn runs(ticks: &Ticks, from: &str, to: &str) -> Vec<String> {
        let (mut mark, to) = (at(from), at(to));
        let mut now = mark;
        let mut runs = Vec::new();
        while now <= to {
            if let Some(tick) = ticks.latest_due(mark, now) {
                runs.push(tick.to_string());
                mark = tick;
            }
            now = now.plus(Duration::from_secs(60));
        }
        runs
    }

    /// S3
    #[test]
    fn half_past_two_runs_once_when_the_clock_goes_forward() {
        let nightly = ticks("30 2 * * *", "Europe/Berlin", 0);

        let runs = runs(&nightly, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");

        // 02:30 does not exist on the 29th: the run comes when the gap has passed.
        assert_eq!(
            runs,
            ["2026-03-29T01:00:00.000Z", "2026-03-30T00:30:00.000Z"]
        );
    }

    /// S3
    #[test]
    fn half_past_two_runs_once_when_the_clock_goes_back() {
        let nightly = ticks("30 2 * * *", "Europe/Berlin", 0);

        let runs = runs(&nightly, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");

        assert_eq!(
            runs,
            ["2026-10-25T00:30:00.000Z", "2026-10-26T01:30:00.000Z"]
        );
    }

    /// S3
    #[test]
    fn hourly_runs_every_hour_through_both_changes() {
        let hourly = ticks("@hourly", "Europe/Berlin", 0);

        let spring = runs(&hourly, "2026-03-29T00:00:00Z", "2026-03-29T06:00:00Z");
        let autumn = runs(&hourly, "2026-10-25T00:00:00Z", "2026-10-25T06:00:00Z");

        assert_eq!((spring.len(), autumn.len()), (6, 6));
    }

    /// S3
    #[test]
    fn jitter_is_the_same_everywhere_and_within_its_bound() {
        let nightly = ticks("0 2 * * *", "UTC", 600);
        let replica = nightly.clone();
        let mut seen = std::collections::HashSet::new();

        for day in 0..100 {
            let tick = at("2026-01-01T02:00:00Z").plus(Duration::from_secs(day * DAY));
            let due = nightly.due(tick);

            assert_eq!(due, replica.due(tick));
            assert!(due.since(tick) <= Duration::from_secs(600));
            seen.insert(due.since(tick));
        }
        assert!(seen.len() > 50, "{} of 100 differ", seen.len());
    }

    /// S3
    #[test]
    fn a_tick_waits_for_its_jitter() {
        let nightly = ticks("0 2 * * *", "UTC", 3_600);
        let tick = at("2026-01-01T02:00:00Z");
        let (before, due) = (tick.minus(Duration::from_secs(1)), nightly.due(tick));
        assert!(due > tick);

        assert_eq!(nightly.latest_due(before, tick), None);
        assert_eq!(nightly.next_due(before, tick), Some(due));
        assert_eq!(nightly.latest_due(before, due), Some(tick));
        assert_ne!(nightly.next_due(tick, due), Some(due));
    }

    /// S3
    #[test]
    fn one_run_stands_for_all_that_were_missed() {
        let nightly = ticks("0 2 * * *", "UTC", 0);

        let due = nightly.latest_due(at("2025-01-01T02:00:00Z"), at("2026-06-01T12:00:00Z"));

        assert_eq!(due, Some(at("2026-06-01T02:00:00Z")));
        let nothing = nightly.latest_due(at("2026-06-01T02:00:00Z"), at("2026-06-01T12:00:00Z"));
        assert_eq!(nothing, None);
    }

    /// S3
    #[test]
    fn a_tick_waits_for_the_window_to_open() {
        let night = Window {
            from: "22:00".to_owned(),
            to: "06:00".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
        };
        let hourly = within("0 * * * *", "UTC", 0, Some(&night));

        let inside = at("2026-01-01T22:00:00Z");
        assert_eq!(hourly.due(inside), inside);
        let noon = at("2026-01-01T12:00:00Z");
        assert_eq!(hourly.due(noon), at("2026-01-01T21:00:00Z"));
        let morning = at("2026-01-01T05:00:00Z");
        assert_eq!(hourly.due(morning), at("2026-01-01T21:00:00Z"));
        let day = Window {
            from: "08:00".to_owned(),
            to: "18:00".to_owned(),
            timezone: "UTC".to_owned(),
        };
        let hourly = within("0 * * * *", "UTC", 0, Some(&day));
        let evening = at("2026-01-01T18:00:00Z");
        assert_eq!(hourly.due(evening), at("2026-01-02T08:00:00Z"));
    }

    #[test]
    fn nonsense_is_no_schedule() {
        let policy = PolicyId::from_uuid(uuid::Uuid::nil());
        for (cron, timezone) in [("61 * * * *", "UTC"), ("@daily", "Mars/Olympus")] {
            let schedule = Schedule {
                cron: cron.to_owned(),
                timezone: timezone.to_owned(),
                jitter: 0,
            };
            assert!(Ticks::new(policy, &schedule, None).is_err(), "{cron}");
        }
    }
}
