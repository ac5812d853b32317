//! The `Range` header (RFC 9110, section 14).
//!
//! Called by `http/files`. Only one range is honoured; for several, or for what cannot be read, the
//! whole file is the permitted answer.

/// What a request asks for of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// The bytes from `start` up to but not including `end`; never empty.
    Part { start: u64, end: u64 },
    /// Nothing that exists.
    Outside,
}

/// Reads a `Range` header for a file of this size.
pub(super) fn asked_range(header: &[u8], size: u64) -> Asked {
    let text = str::from_utf8(header).ok();
    let range = text.and_then(|text| text.trim().strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.trim().split_once('-')) else {
        return Asked::Whole;
    };
    let (start, end) = match (number(first), number(last)) {
        // The last so many bytes.
        (None, Some(count)) if first.is_empty() => (size.saturating_sub(count), size),
        (Some(start), None) if last.is_empty() => (start, size),
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(size)),
        _ => return Asked::Whole,
    };
    if start < end {
        Asked::Part { start, end }
    } else {
        Asked::Outside
    }
}

fn number(text: &str) -> Option<u64> {
    // `parse` also takes a plus sign, which the header does not.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_the_rest_means_the_whole() {
        let part = |start, end| Asked::Part { start, end };
        for (header, asked) in [
            ("bytes=0-", part(0, 100)),
            ("bytes=10-19", part(10, 20)),
            ("bytes=90-1000", part(90, 100)),
            ("bytes=-30", part(70, 100)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=0-99999999999999999999999", part(0, 100)),
            ("bytes=100-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=5-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
        ] {
            assert_eq!(asked_range(header.as_bytes(), 100), asked, "{header}");
        }
        assert_eq!(asked_range(b"bytes=0-", 0), Asked::Outside);
    }
}
