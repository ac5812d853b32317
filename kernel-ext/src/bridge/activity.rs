//! Whether anybody uses the bridge, and whether the machine has slept.
//!
//! `server` counts its connections here; `bridge` ends when nobody came for an hour and tells the
//! clusters when the machine woke up.
//! Invariant: an idle bridge wakes up once in [`TICK`].

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// How often to look; after sleep a look is due at once.
pub(crate) const TICK: Duration = Duration::from_secs(5);

/// How far the two clocks may drift apart between two looks before it counts as sleep.
const JUMP: Duration = Duration::from_secs(5);

/// How long a bridge lives that nobody uses.
const IDLE: Duration = Duration::from_secs(3600);

/// How many connections there are, and when the last one was.
#[derive(Debug)]
pub(crate) struct Activity {
    seen: Mutex<(usize, Instant)>,
}

impl Activity {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            seen: Mutex::new((0, now)),
        }
    }

    /// Counts a connection for as long as the value lives.
    pub(crate) fn enter(&self) -> Visit<'_> {
        self.change(1, Instant::now());
        Visit(self)
    }

    /// Tells that the bridge is in use without a connection to it: a cluster is connected.
    pub(crate) fn touch(&self, now: Instant) {
        self.change(0, now);
    }

    /// Returns whether nobody was there for so long that the bridge may end.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let (open, last) = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        open == 0 && now.saturating_duration_since(last) >= IDLE
    }

    fn change(&self, by: isize, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = (seen.0.saturating_add_signed(by), now);
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Visit<'a>(&'a Activity);

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.change(-1, Instant::now());
    }
}

/// Notices sleep: the wall clock goes on while the monotonic one stands still.
#[derive(Debug)]
pub(crate) struct SleepWatch {
    monotonic: Instant,
    wall: SystemTime,
}

impl SleepWatch {
    pub(crate) const fn new(monotonic: Instant, wall: SystemTime) -> Self {
        Self { monotonic, wall }
    }

    /// Returns whether the machine slept since the last look.
    pub(crate) fn has_slept(&mut self, monotonic: Instant, wall: SystemTime) -> bool {
        let awake = monotonic.saturating_duration_since(self.monotonic);
        let passed = wall.duration_since(self.wall).unwrap_or_default();
        *self = Self { monotonic, wall };
        passed.saturating_sub(awake) > JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_idle_an_hour_after_the_last_connection() {
        let start = Instant::now();
        let activity = Activity::new(start);
        assert!(!activity.is_idle(start + IDLE / 2));
        assert!(activity.is_idle(start + IDLE));
        let visit = activity.enter();
        assert!(!activity.is_idle(start + 2 * IDLE), "somebody is there");
        drop(visit);
        activity.touch(start + IDLE);
        assert!(!activity.is_idle(start + IDLE + IDLE / 2));
        assert!(activity.is_idle(start + 2 * IDLE));
    }

    #[test]
    fn sleep_is_a_jump_of_the_wall_clock_alone() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let mut watch = SleepWatch::new(start, wall);
        let second = Duration::from_secs(1);
        assert!(!watch.has_slept(start + 10 * second, wall + 10 * second));
        assert!(watch.has_slept(start + 11 * second, wall + 17 * second));
        assert!(!watch.has_slept(start + 12 * second, wall + 18 * second));
        assert!(
            !watch.has_slept(start + 13 * second, wall),
            "a clock set back"
        );
    }
}
