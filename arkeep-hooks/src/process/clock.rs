//! Time that nobody sets.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(super) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(now.tv_nsec).unwrap_or(0))
}
