//! The wall clock in the form the protocol has it, one that follows it but never jumps, and the time since boot.
//!
//! Called wherever a time is stored or told. Not here: intervals, which use the monotonic clock.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

/// Returns the milliseconds since 1970; 0 when the clock stands before that.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or(0)
}

/// Returns nanoseconds since 1970 that never run backwards in this process: the wall clock as it stood
/// at the first call, and the time since boot from there on. For what is compared with each other later.
#[must_use]
pub fn steady_ns() -> u64 {
    static ANCHOR: OnceLock<Anchor> = OnceLock::new();
    let boot = since_boot();
    ANCHOR
        .get_or_init(|| Anchor {
            wall: since_1970(),
            boot,
        })
        .at(boot)
}

/// Returns [`steady_ns`] in milliseconds.
#[must_use]
pub fn steady_ms() -> u64 {
    steady_ns() / 1_000_000
}

/// One moment on both clocks.
struct Anchor {
    wall: Duration,
    boot: Duration,
}

impl Anchor {
    fn at(&self, boot: Duration) -> u64 {
        let wall = self.wall + boot.saturating_sub(self.boot);
        u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The clock that goes on while the node sleeps, and that nobody can set.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Returns the milliseconds since the node started, sleep included. Nobody can set this clock.
#[must_use]
pub fn since_boot_ms() -> u64 {
    u64::try_from(since_boot().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steady_clock_starts_at_the_wall_clock_and_goes_with_the_time_since_boot_only() {
        let second = Duration::from_secs(1);
        let anchor = Anchor {
            wall: 1000 * second,
            boot: 50 * second,
        };
        // Whatever the wall clock is set to meanwhile, it is not asked again.
        assert_eq!(anchor.at(52 * second), 1_002_000_000_000);
        assert_eq!(anchor.at(49 * second), 1_000_000_000_000);
        let (before, now) = (now_ms(), steady_ms());
        assert!(now.abs_diff(before) < 60_000, "{now} is not {before}");
        assert!(steady_ns() <= steady_ns());
    }
}
