//! Text without escape sequences, with its lines as a terminal would leave them.
//!
//! Used for exports and for the lines that a search finds. A carriage return goes to the start of the line and what
//! follows overwrites it, a backspace goes back by one, "erase in line" erases; every other sequence is left out. So a
//! progress bar of a thousand steps is its last step.
//! Invariants: what is held is one line of at most [`MAX_LINE`] characters; a longer one is handed out in pieces.

use super::{
    decode::Decoder,
    escapes::{Escapes, Part},
};

/// A terminal would have broken it long before.
const MAX_LINE: usize = 16 * 1024;

/// Longer than every sequence that is looked at here.
const MAX_SEQUENCE: usize = 8;

/// Makes plain text of a stream.
#[derive(Debug, Default)]
pub(super) struct Plain {
    decoder: Decoder,
    line: Line,
}

impl Plain {
    /// Appends the lines that are whole to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut String) {
        let line = &mut self.line;
        self.decoder.push(bytes, |c, _| line.next(c, out));
    }

    /// Appends the last line.
    pub(super) fn finish(&mut self, out: &mut String) {
        let line = &mut self.line;
        self.decoder.finish(|c, _| line.next(c, out));
        line.flush(out);
        line.escapes = Escapes::default();
    }
}

#[derive(Debug, Default)]
struct Line {
    escapes: Escapes,
    /// The sequence so far.
    sequence: String,
    chars: Vec<char>,
    /// Where the next character goes.
    at: usize,
}

impl Line {
    fn next(&mut self, c: char, out: &mut String) {
        match self.escapes.next(c) {
            Part::Text => self.put(c, out),
            Part::Control => self.control(c, out),
            Part::Inside => {
                if c == '\u{1b}' {
                    self.sequence.clear();
                }
                if self.sequence.len() < MAX_SEQUENCE {
                    self.sequence.push(c);
                }
            }
            Part::End => {
                if c == 'K' {
                    self.erase();
                }
                self.sequence.clear();
            }
        }
    }

    fn put(&mut self, c: char, out: &mut String) {
        if self.at >= MAX_LINE {
            self.flush(out);
        }
        if self.chars.len() < self.at {
            self.chars.resize(self.at, ' ');
        }
        match self.chars.get_mut(self.at) {
            Some(place) => *place = c,
            None => self.chars.push(c),
        }
        self.at += 1;
    }

    fn control(&mut self, c: char, out: &mut String) {
        match c {
            '\n' => {
                self.flush(out);
                out.push('\n');
            }
            '\r' => self.at = 0,
            '\u{8}' => self.at = self.at.saturating_sub(1),
            '\t' => self.put('\t', out),
            _ => {}
        }
    }

    fn erase(&mut self) {
        match self.sequence.as_str() {
            "\u{1b}[" | "\u{1b}[0" => self.chars.truncate(self.at),
            "\u{1b}[1" => {
                let places = self.chars.iter_mut().take(self.at + 1);
                places.for_each(|place| *place = ' ');
            }
            // The cursor stays where it is.
            "\u{1b}[2" => self.chars.clear(),
            _ => {}
        }
    }

    fn flush(&mut self, out: &mut String) {
        out.extend(self.chars.drain(..));
        self.at = 0;
    }
}

/// Returns a line without its sequences.
pub(super) fn line(bytes: &[u8]) -> String {
    let (mut plain, mut text) = (Plain::default(), String::new());
    plain.push(bytes, &mut text);
    plain.finish(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_what_a_terminal_leaves() {
        for (written, shown) in [
            ("plain\n", "plain\n"),
            ("dos\r\n", "dos\n"),
            ("10%\r50%\r100%\n", "100%\n"),
            ("longer\rab\n", "abnger\n"),
            ("longer\r\x1b[Kab\n", "ab\n"),
            ("longer\x1b[2K\rab\n", "ab\n"),
            ("ab\x1b[2Kc\n", "  c\n"),
            ("man\x08n\x08n page\n", "man page\n"),
            ("a_\x08b\n", "ab\n"),
            ("\x1b[1mbold\x1b[0m\x1b]0;title\x07 text\tx", "bold text\tx"),
            ("bell\x07\0 gone\n", "bell gone\n"),
            ("\x08\x08x", "x"),
        ] {
            assert_eq!(line(written.as_bytes()), shown, "{written:?}");
        }
        assert_eq!(line(b"caf\xc3\xa9 \xff"), "caf\u{e9} \u{fffd}");
    }

    #[test]
    fn a_line_without_an_end_is_not_held() {
        let (mut plain, mut out) = (Plain::default(), String::new());
        for _ in 0..100 {
            plain.push(&[b'x'; 10_000], &mut out);
            assert!(plain.line.chars.capacity() <= 2 * MAX_LINE);
        }
        plain.finish(&mut out);
        assert_eq!(out.len(), 1_000_000);
        // Nor is a sequence without an end.
        plain.push(b"\x1b]0;", &mut out);
        plain.push(&[b'y'; 10_000], &mut out);
        assert!(plain.line.sequence.len() <= MAX_SEQUENCE);
    }

    proptest! {
        #[test]
        fn pieces_read_as_the_whole_and_no_control_is_left(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), prop::sample::select(b"\x1b[]\r\n\x08K2m;ab".to_vec())], 0..200,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            let (mut plain, mut text) = (Plain::default(), String::new());
            plain.push(first, &mut text);
            plain.push(second, &mut text);
            plain.finish(&mut text);
            prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
            prop_assert_eq!(text, line(&bytes));
        }
    }
}
