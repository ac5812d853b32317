//! The oracle of the loss tests: numbered lines, each exactly once and in order.

use anyhow::{Result, bail};

/// Checks that `bytes` are the lines 1 to `last`, each once.
///
/// # Errors
/// The first line that is not what it should be, or the number of lines.
pub fn check_numbered_lines(bytes: &[u8], last: u32) -> Result<()> {
    let mut expected = 0_u32;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        expected += 1;
        let number = line
            .strip_suffix(b"\n")
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse().ok());
        if number != Some(expected) {
            let shown = String::from_utf8_lossy(line.get(..80).unwrap_or(line)).into_owned();
            bail!("line {expected} reads {shown:?}");
        }
    }
    if expected != last {
        bail!("{expected} lines instead of {last}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_a_doubled_and_a_cut_line_are_seen() {
        assert!(check_numbered_lines(b"1\n2\n3\n", 3).is_ok());
        assert!(check_numbered_lines(b"1\n3\n", 3).is_err());
        assert!(check_numbered_lines(b"1\n2\n2\n3\n", 3).is_err());
        assert!(check_numbered_lines(b"1\n2\n3", 3).is_err());
        assert!(check_numbered_lines(b"1\n2\n", 3).is_err());
    }
}
