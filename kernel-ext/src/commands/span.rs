//! Spans of time as they are typed: `90`, `1.5s`, `10m`, `2h`, `1d`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than anybody means, and far from any overflow.
const LONGEST: f64 = 1e9;

/// Reads a span; a bare number is seconds.
///
/// # Errors
/// What a span looks like.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let found = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
    let (number, unit) = found.unwrap_or((text, 1.0));
    let seconds = number.parse::<f64>().map_or(-1.0, |number| number * unit);
    // Zero, NaN and what is too long are not `>` and `<` here.
    if seconds > 0.0 && seconds < LONGEST {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("a time is a number of seconds, or such as 90s, 10m, 2h, 1d".to_owned())
    }
}

/// Returns a span in milliseconds, at least one.
pub(super) fn to_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Returns the moment so long ago, in milliseconds since 1970.
pub(super) fn ago_ms(span: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| to_ms(now.saturating_sub(span)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units_and_nonsense_is_refused() {
        for (text, ms) in [
            ("90", 90_000),
            ("1.5s", 1500),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0.0001", 1),
        ] {
            assert_eq!(parse(text).map(to_ms), Ok(ms), "{text}");
        }
        for text in ["", "s", "-1", "0", "NaN", "inf", "1e99", "5 m", "5w", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
