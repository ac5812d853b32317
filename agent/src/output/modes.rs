//! The modes of a terminal that change what it sends, and not what it shows: mouse, paste, keypad, the cursor's shape.
//!
//! The screen model (`terminal`) keeps the others. Focus reports (1004) are left out: a terminal answers their being
//! switched on at once, and a screen that is put back asks nothing.

/// What is switched on, in the order in which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    on: Vec<u16>,
    keypad: bool,
    cursor: Option<u8>,
}

/// Of these only the last one holds, and none after any was switched off.
const MOUSE: [u16; 4] = [9, 1000, 1002, 1003];
/// The same for how the mouse is reported.
const ENCODINGS: [u16; 4] = [1005, 1006, 1015, 1016];
/// Reverse wrap, keypad, bracketed paste.
const SINGLE: [u16; 3] = [45, 66, 2004];

impl Modes {
    /// Takes a whole sequence that begins with ESC.
    pub(super) fn take(&mut self, sequence: &str) {
        match sequence {
            "\u{1b}=" => self.keypad = true,
            "\u{1b}>" => self.keypad = false,
            // Everything is as it was at first.
            "\u{1b}c" => *self = Self::default(),
            _ => {}
        }
        if let Some((modes, on)) = private(sequence) {
            modes.for_each(|mode| self.switch(mode, on));
        }
        let shape = sequence.strip_prefix("\u{1b}[");
        if let Some(shape) = shape.and_then(|rest| rest.strip_suffix(" q")) {
            let shape = if shape.is_empty() { "0" } else { shape };
            self.cursor = shape.parse().ok().filter(|shape| (1..=6).contains(shape));
        }
    }

    fn switch(&mut self, mode: u16, on: bool) {
        let group = [&MOUSE[..], &ENCODINGS]
            .into_iter()
            .find(|group| group.contains(&mode));
        match group {
            Some(group) => self.on.retain(|other| !group.contains(other)),
            None if SINGLE.contains(&mode) => self.on.retain(|other| *other != mode),
            None => return,
        }
        if on {
            self.on.push(mode);
        }
    }

    /// Returns what switches a fresh terminal to them.
    pub(super) fn to_sequences(&self) -> String {
        let mut all: String = self.on.iter().map(|on| format!("\u{1b}[?{on}h")).collect();
        if self.keypad {
            all.push_str("\u{1b}=");
        }
        if let Some(shape) = self.cursor {
            all.push_str(&format!("\u{1b}[{shape} q"));
        }
        all
    }
}

/// Returns the private modes that a sequence switches, and whether it switches them on.
pub(super) fn private(sequence: &str) -> Option<(impl Iterator<Item = u16>, bool)> {
    let rest = sequence.strip_prefix("\u{1b}[?")?;
    let (modes, on) = match rest.strip_suffix('h') {
        Some(modes) => (modes, true),
        None => (rest.strip_suffix('l')?, false),
    };
    Some((modes.split(';').filter_map(|mode| mode.parse().ok()), on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_at_the_end_is_switched_on_again() {
        let after = |sequences: &[&str]| {
            let mut modes = Modes::default();
            sequences.iter().for_each(|one| modes.take(one));
            modes.to_sequences()
        };
        assert_eq!(
            after(&["\x1b[?2004h", "\x1b[?1000;1006h", "\x1b[?1002h"]),
            "\x1b[?2004h\x1b[?1006h\x1b[?1002h"
        );
        assert_eq!(
            after(&["\x1b[?1000h", "\x1b[?1002h", "\x1b[?1000l", "\x1b[?2004l"]),
            ""
        );
        assert_eq!(after(&["\x1b=", "\x1b[4 q"]), "\x1b=\x1b[4 q");
        assert_eq!(after(&["\x1b=", "\x1b[4 q", "\x1b[ q", "\x1b>"]), "");
        assert_eq!(
            after(&[
                "\x1b[?2004h",
                "\x1bc",
                "\x1b[?1004h",
                "\x1b[?99999999h",
                "\x1b[?h"
            ]),
            ""
        );
    }
}
