//! One line of the doctor's report, and how lines are printed.
//!
//! Invariants: texts have been through `visible`; what is not `ok` has a fix; no line is wider than
//! [`WIDTH`] unless a single word is.

use hpcclient_protocol::ApiError;
use hpcclient_ssh::visible;
use serde::Serialize;

/// How wide the report is, in characters.
const WIDTH: usize = 100;

/// Where a finding's text starts: after the state and the check's name.
const INDENT: usize = 22;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) state: State,
    pub(super) detail: String,
    pub(super) fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum State {
    Ok,
    Warn,
    Fail,
}

impl Finding {
    pub(super) fn ok(check: &'static str, detail: impl AsRef<str>) -> Self {
        Self {
            check,
            state: State::Ok,
            detail: visible(detail.as_ref()),
            fix: None,
        }
    }

    pub(super) fn warn(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self {
            state: State::Warn,
            fix: Some(visible(fix.as_ref())),
            ..Self::ok(check, detail)
        }
    }

    pub(super) fn fail(check: &'static str, detail: impl AsRef<str>, fix: impl AsRef<str>) -> Self {
        Self {
            state: State::Fail,
            ..Self::warn(check, detail, fix)
        }
    }

    /// Tells an error with its causes; its hints are the fix.
    pub(super) fn of_error(check: &'static str, error: &ApiError) -> Self {
        let mut detail = error.message.clone();
        for cause in &error.causes {
            detail.push_str(": ");
            detail.push_str(cause);
        }
        let fix = if error.hints.is_empty() {
            "the bridge's log says more: bridge.log beside the bridge's state".to_owned()
        } else {
            error.hints.join("; ")
        };
        Self::fail(check, detail, fix)
    }
}

/// Returns the report.
pub(super) fn text(findings: &[Finding], colours: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let (word, colour) = match finding.state {
            State::Ok => ("ok", 32),
            State::Warn => ("warn", 33),
            State::Fail => ("fail", 31),
        };
        let word = if colours {
            format!("\u{1b}[{colour}m{word:<4}\u{1b}[0m")
        } else {
            format!("{word:<4}")
        };
        let mut start = format!("{word}  {:<14}  ", finding.check);
        for line in wrapped(&finding.detail, WIDTH - INDENT) {
            text.push_str(format!("{start}{line}").trim_end());
            text.push('\n');
            start = " ".repeat(INDENT);
        }
        let fix = finding.fix.as_deref().unwrap_or_default();
        let mut start = format!("{}fix: ", " ".repeat(INDENT));
        for line in wrapped(fix, WIDTH - INDENT - 5) {
            text.push_str(&format!("{start}{line}\n"));
            start = " ".repeat(INDENT + 5);
        }
    }
    text
}

/// Breaks lines at spaces; a line that fits stays as it is.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.chars().count() <= width {
            lines.push(line.to_owned());
            continue;
        }
        let mut open = String::new();
        for word in line.split_whitespace() {
            let longer = open.chars().count() + 1 + word.chars().count();
            if !open.is_empty() && longer > width {
                lines.push(std::mem::take(&mut open));
            }
            if !open.is_empty() {
                open.push(' ');
            }
            open.push_str(word);
        }
        lines.push(open);
    }
    lines
}

/// Returns an amount of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in units {
        let (whole, one) = (count >> shift, 1_u64 << shift);
        if whole >= 10 {
            return format!("{whole} {unit}");
        }
        if whole >= 1 {
            let tenth = u128::from(count % one) * 10 / u128::from(one);
            return format!("{whole}.{tenth} {unit}");
        }
    }
    format!("{count} bytes")
}

/// Returns a number of things for people.
pub(super) fn number(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{} thousand", count / 1000),
        _ => format!("{} million", count / 1_000_000),
    }
}

/// Returns a stretch of time for people, in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} m {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {} m", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::ErrorCode;

    use super::*;

    #[test]
    fn a_report_is_aligned_and_narrow_and_each_problem_has_its_fix_below() {
        let long = "word ".repeat(40);
        let findings = [
            Finding::ok("config", "two clusters"),
            Finding::warn("authentication", &long, "do this"),
            Finding::fail("home", "full\nreally", &long),
        ];
        let report = text(&findings, false);
        let lines: Vec<_> = report.lines().collect();
        assert_eq!(lines[0], "ok    config          two clusters");
        assert!(lines[1].starts_with("warn  authentication  word word"));
        assert!(lines[2].starts_with("                      word"));
        assert!(report.contains("\n                      fix: do this\n"));
        assert!(report.contains("\nfail  home            full\n                      really\n"));
        assert!(
            lines.iter().all(|line| line.chars().count() <= WIDTH),
            "{report}"
        );
        assert!(!report.contains('\u{1b}'));
        assert!(text(&findings, true).starts_with("\u{1b}[32mok  \u{1b}[0m  config "));
    }

    #[test]
    fn json_has_every_field_and_nothing_of_a_server_acts() {
        let finding = Finding::ok("node", "a\u{1b}[2Jb");
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(
            json,
            r#"{"check":"node","state":"ok","detail":"a\\u{1b}[2Jb","fix":null}"#
        );
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_hints() {
        let error = ApiError::new(ErrorCode::ConnectFailed, "cannot reach x")
            .caused_by(&std::io::Error::other("refused"))
            .hint("VPN")
            .hint("ssh x");
        let finding = Finding::of_error("login", &error);
        assert_eq!(finding.detail, "cannot reach x: refused");
        assert_eq!(finding.fix.as_deref(), Some("VPN; ssh x"));
    }

    #[test]
    fn amounts_are_short() {
        for (count, shown) in [(999, "999 bytes"), (1536, "1.5 KiB"), (12 << 30, "12 GiB")] {
            assert_eq!(bytes(count), shown);
        }
        for (count, shown) in [
            (7, "7 s"),
            (185, "3 m 5 s"),
            (11_400, "3 h 10 m"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(span(count), shown);
        }
        assert_eq!(number(1_234_567), "1234 thousand");
    }
}
