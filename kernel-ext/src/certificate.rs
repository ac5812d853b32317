//! Words about a user certificate: how long it is good, and when to tell that it ends.
//!
//! Used by the bridge for a cluster's notices and by the command line.

use hpcclient_protocol::bridge::Certificate;

/// How long before its end a certificate is worth a notice.
const SOON_MS: u64 = 30 * 60 * 1000;

/// Returns what the user should know of the certificate of a login that lives.
pub(crate) fn notice(certificate: &Certificate, now_ms: u64) -> Option<String> {
    let left = certificate.valid_until_ms?.saturating_sub(now_ms);
    let when = match left {
        0 => "has ended".to_owned(),
        left if left <= SOON_MS => format!("ends in {}", span(left)),
        _ => return None,
    };
    Some(format!(
        "the certificate {when}; the connection stays, a new login will need a new one"
    ))
}

/// Returns how long a certificate is good, as `valid 3 h 10 m`.
pub(crate) fn validity(certificate: &Certificate, now_ms: u64) -> String {
    match certificate.valid_until_ms {
        None => "valid for ever".to_owned(),
        Some(end) if end <= now_ms => "ended".to_owned(),
        Some(end) => format!("valid {}", span(end - now_ms)),
    }
}

/// Returns a span in the two largest units that say something.
fn span(ms: u64) -> String {
    let minutes = ms / 60_000;
    let (days, hours) = (minutes / 1440, minutes / 60);
    match (days, hours) {
        (0, 0) if minutes == 0 => "less than a minute".to_owned(),
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {} m", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn until(valid_until_ms: Option<u64>) -> Certificate {
        Certificate {
            key_id: "me".to_owned(),
            source: "ssh-agent".to_owned(),
            valid_until_ms,
        }
    }

    #[test]
    fn a_certificate_tells_its_end_half_an_hour_before() {
        let certificate = until(Some(1_000 * MINUTE));
        let at = |minutes: u64| notice(&certificate, minutes * MINUTE);
        assert_eq!(at(969), None);
        assert_eq!(
            at(988).unwrap(),
            "the certificate ends in 12 min; the connection stays, a new login will need a new one"
        );
        assert!(at(1_000).unwrap().contains("has ended"));
        assert_eq!(notice(&until(None), u64::MAX), None);
    }

    #[test]
    fn how_long_it_is_good_is_said_in_two_units() {
        let shown = |minutes: u64| validity(&until(Some(minutes * MINUTE)), 0);
        assert_eq!(shown(190), "valid 3 h 10 m");
        assert_eq!(shown(12), "valid 12 min");
        assert_eq!(shown(3_000), "valid 2 d 2 h");
        assert_eq!(shown(0), "ended");
        assert_eq!(validity(&until(Some(1)), 0), "valid less than a minute");
        assert_eq!(validity(&until(None), 0), "valid for ever");
    }
}
