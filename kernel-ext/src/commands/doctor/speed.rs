//! How fast the way is, and whether the node's clock is ours.

use std::time::{Duration, Instant, SystemTime};

use hpcclient_client::{Agent, ClientError};
use hpcclient_protocol::status::AgentStatus;

use super::finding::{Finding, bytes, span};

const TRIPS: usize = 10;

/// What is typed is echoed so late that it disturbs.
const SLOW: Duration = Duration::from_millis(300);

/// Times of runs and files would mislead.
const SKEW_MS: u64 = 30_000;

/// How much is downloaded, and for how long at most.
const AMOUNT: u64 = 8 << 20;
const LONGEST: Duration = Duration::from_secs(5);

/// Bytes a second below which output is late.
const TRICKLE: u64 = 500_000;

/// Some round trips to the agent.
#[derive(Debug)]
pub(super) struct Trips {
    /// The last answer.
    pub(super) status: AgentStatus,
    /// How long each took, sorted.
    times: Vec<Duration>,
    /// How far the node's clock is ahead of ours in milliseconds, and how exact that is.
    skew: Option<(i64, u64)>,
}

/// Asks the agent some times, one after another.
pub(super) async fn trips(agent: &Agent) -> Result<Trips, ClientError> {
    // The first one may wait for the connection.
    let mut status = agent.status().await?;
    let (mut times, mut skew) = (Vec::new(), None);
    for _ in 0..TRIPS {
        let (start, sent_ms) = (Instant::now(), now_ms());
        status = agent.status().await?;
        let took = start.elapsed();
        // The quickest answer says the most about the clock.
        if status.now_ms > 0 && times.iter().all(|time| took < *time) {
            skew = Some(ahead(sent_ms, took, status.now_ms));
        }
        times.push(took);
    }
    times.sort();
    Ok(Trips {
        status,
        times,
        skew,
    })
}

/// Returns how far a clock is ahead that was read half way through a trip, and how exact that is.
fn ahead(sent_ms: u64, took: Duration, theirs_ms: u64) -> (i64, u64) {
    let half = u64::try_from(took.as_millis() / 2).unwrap_or(u64::MAX);
    let ours = sent_ms.saturating_add(half);
    (
        theirs_ms.cast_signed().saturating_sub(ours.cast_signed()),
        half,
    )
}

impl Trips {
    pub(super) fn latency(&self) -> Finding {
        let at = |index: usize| self.times.get(index).copied().unwrap_or_default();
        let median = at(self.times.len() / 2);
        let detail = format!(
            "{} to the agent and back (median of {}, {} to {})",
            milliseconds(median),
            self.times.len(),
            milliseconds(at(0)),
            milliseconds(at(self.times.len().saturating_sub(1))),
        );
        if median < SLOW {
            Finding::ok("latency", detail)
        } else {
            let fix = "each key waits that long for its echo: a nearer network, or another VPN";
            Finding::warn("latency", detail, fix)
        }
    }

    pub(super) fn clock(&self) -> Option<Finding> {
        let (ahead, exact) = self.skew?;
        let off = ahead.unsigned_abs();
        let word = if ahead < 0 { "behind" } else { "ahead" };
        let shown = if off < 10_000 {
            format!("{off} ms")
        } else {
            span(off / 1000)
        };
        let detail = format!("the node's is {shown} {word}, ± {exact} ms");
        let is_off = off.saturating_sub(exact) > SKEW_MS;
        Some(if is_off {
            let fix = "set this machine's clock (NTP), or tell the site if it is the node's; times \
                       of runs are the node's, and certificates may be refused";
            Finding::warn("clock", detail, fix)
        } else {
            Finding::ok("clock", detail)
        })
    }
}

/// Downloads some bytes that cannot be compressed.
pub(super) async fn throughput(agent: &Agent) -> Finding {
    match agent.measure(AMOUNT, LONGEST).await {
        Ok((count, took)) => judge_throughput(count, took),
        Err(error) => Finding::of_error("throughput", &error.into()),
    }
}

fn judge_throughput(count: u64, took: Duration) -> Finding {
    let micros = took.as_micros().max(1);
    let rate = u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX);
    let detail = format!(
        "{}/s ({} in {})",
        bytes(rate),
        bytes(count),
        milliseconds(took)
    );
    if rate >= TRICKLE {
        Finding::ok("throughput", detail)
    } else {
        let fix = "compare with `scp`: if that is faster, it is ours to mend; please report it";
        Finding::warn("throughput", detail, fix)
    }
}

fn milliseconds(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{ByteString, status::AgentHello};

    use super::{super::finding::State, *};

    fn trips(times: &[u64], skew: (i64, u64)) -> Trips {
        let hello = AgentHello {
            version: "1".to_owned(),
            protocol: 1,
            build: String::new(),
            socket: String::new(),
            host: "n".to_owned(),
            pid: 1,
            boot_id: None,
        };
        let status = AgentStatus {
            hello,
            user: "me".to_owned(),
            home: ByteString::from("/home/me"),
            started_ms: 0,
            now_ms: 0,
            queued: 0,
            running: 0,
            sessions: 0,
            resident: 0,
            free_bytes: 0,
            store_bytes: 0,
            store_limit: 0,
            supervisors: 0,
            max_supervisors: 0,
        };
        Trips {
            status,
            times: times.iter().copied().map(Duration::from_millis).collect(),
            skew: Some(skew),
        }
    }

    #[test]
    fn the_middle_counts() {
        let quick = trips(&[1, 2, 900], (0, 0)).latency();
        assert_eq!(quick.state, State::Ok);
        assert_eq!(
            quick.detail,
            "2.0 ms to the agent and back (median of 3, 1.0 ms to 900 ms)"
        );
        assert_eq!(trips(&[299, 301, 302], (0, 0)).latency().state, State::Warn);
    }

    #[test]
    fn a_clock_is_wrong_only_beyond_what_the_trip_leaves_open() {
        for (skew, state, words) in [
            ((12, 1), State::Ok, "12 ms ahead"),
            ((-30_000, 0), State::Ok, "30 s behind"),
            ((-30_001, 0), State::Warn, "30 s behind"),
            ((31_000, 2_000), State::Ok, "31 s ahead"),
            ((7_200_000, 10), State::Warn, "2 h 0 m ahead"),
        ] {
            let finding = trips(&[1], skew).clock().unwrap();
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.detail.contains(words), "{finding:?}");
        }
        let trip = Duration::from_millis(40);
        assert_eq!(ahead(1000, trip, 1020), (0, 20));
        assert_eq!(ahead(1000, trip, 500), (-520, 20));
    }

    #[test]
    fn a_trickle_is_told() {
        let good = judge_throughput(8 << 20, Duration::from_millis(500));
        assert_eq!(
            (good.state, good.detail.as_str()),
            (State::Ok, "16 MiB/s (8.0 MiB in 500 ms)")
        );
        assert_eq!(
            judge_throughput(100, Duration::from_secs(5)).state,
            State::Warn
        );
        assert_eq!(judge_throughput(0, Duration::ZERO).state, State::Warn);
    }
}
