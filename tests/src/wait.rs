//! Waiting for a condition: the one place in the tests where time passes on purpose.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok(Some(value))`, or fails with the last status after the deadline.
///
/// The question returns `Ok(None)` or an error while it is too early; errors are part of the status.
///
/// # Errors
/// The deadline passed; the message says what was awaited and what was seen last.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut question: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let status = match question() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} for {what}; last seen: {status}");
        }
        pause(STEP);
    }
}

/// Lets time pass: for a delay that is the subject itself (a slow network), never to wait for something.
pub fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the one place where tests wait")]
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_deadline_names_what_was_awaited_and_seen() {
        let error = wait_for::<()>("a reply", Duration::ZERO, || bail!("port closed")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("a reply") && text.contains("port closed"),
            "{text}"
        );
    }
}
