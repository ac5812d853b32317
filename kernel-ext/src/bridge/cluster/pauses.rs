//! How long to wait between the attempts to make a lost connection again.
//!
//! Used by `again` and `hold`. Plain arithmetic; the waiting is theirs.

use std::time::Duration;

/// The first pause between attempts to reconnect.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause while no server was reached.
pub(super) const LONGEST_UNREACHED: Duration = Duration::from_secs(2);

/// The longest pause between attempts that reached a server.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The shortest pause before a server that was reached is asked again because something happened.
pub(super) const FLOOR: Duration = Duration::from_secs(2);

/// How long to wait before a try, counted from the beginning of the wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    pub(super) whole: Duration,
    /// Once somebody wants the connection.
    pub(super) after_connect: Duration,
    /// Once the machine woke, or its network or the certificate changed.
    pub(super) after_event: Duration,
}

impl Rest {
    /// Returns a pause with what may be left of it when something happens; `is_dropped` where one
    /// connection after the other is lost at once.
    pub(super) fn of(whole: Duration, is_reached: bool, is_dropped: bool) -> Self {
        let after_event = if is_reached {
            whole.min(FLOOR)
        } else {
            Duration::ZERO
        };
        // A node that drops each login is not asked more often because somebody insists.
        let after_connect = if is_reached && is_dropped {
            whole
        } else {
            after_event
        };
        Self {
            whole,
            after_connect,
            after_event,
        }
    }
}

/// The pauses after the next attempts.
#[derive(Debug)]
pub(super) struct Pauses {
    unreached: Duration,
    reached: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self::after(Duration::ZERO)
    }
}

impl Pauses {
    pub(super) fn after(rest: Duration) -> Self {
        Self {
            unreached: FIRST_PAUSE,
            reached: FIRST_PAUSE.max(rest),
        }
    }

    pub(super) fn next(&mut self, is_reached: bool) -> Duration {
        let (pause, longest) = if is_reached {
            (&mut self.reached, LONGEST_PAUSE)
        } else {
            (&mut self.unreached, LONGEST_UNREACHED)
        };
        let now = (*pause).min(longest);
        *pause = (now * 2).min(longest);
        now
    }
}

/// Returns a pause with up to a half added, so that many clients do not come back at once.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8; 1];
    // Without randomness there is no jitter, and the pause still holds.
    let _ = getrandom::fill(&mut byte);
    pause + pause.mul_f64(f64::from(byte[0]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_tried_every_two_seconds_and_a_server_less_and_less() {
        let mut pauses = Pauses::default();
        let millis = |pause: Duration| pause.as_millis();
        let network: Vec<_> = (0..5).map(|_| millis(pauses.next(false))).collect();
        assert_eq!(network, [500, 1_000, 2_000, 2_000, 2_000]);
        let server: Vec<_> = (0..8).map(|_| millis(pauses.next(true))).collect();
        assert_eq!(
            server,
            [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
        assert_eq!(millis(pauses.next(false)), 2_000, "the network again");
    }

    #[test]
    fn a_pause_is_jittered_by_half_at_most() {
        let pause = jittered(FIRST_PAUSE);
        assert!((FIRST_PAUSE..=FIRST_PAUSE * 3 / 2).contains(&pause));
    }
}
