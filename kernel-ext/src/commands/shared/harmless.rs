//! What another user's run wrote, made so that it cannot act on this terminal.
//!
//! Used by `shared`. Invariants: of control characters only newline and tab go through, of escape sequences only
//! colours (SGR); it does not matter how the bytes are cut.

/// No colour needs more parameters.
const LONGEST: usize = 64;

/// A stream's filter.
#[derive(Debug, Default)]
pub(super) struct Harmless {
    state: State,
    /// The beginning of a character whose rest has not come.
    cut: Vec<u8>,
    /// The parameters of the sequence that is being read.
    parameters: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence,
    /// A title, a link, a clipboard: ends with BEL or ST.
    Told,
}

impl Harmless {
    /// Returns what of the next bytes may be shown.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.cut);
        all.extend_from_slice(bytes);
        let mut out = String::with_capacity(all.len());
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (valid, invalid) = match std::str::from_utf8(rest) {
                Ok(text) => (text, None),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    let valid = std::str::from_utf8(valid).unwrap_or_default();
                    (valid, Some((after, error.error_len())))
                }
            };
            for character in valid.chars() {
                self.push(character, &mut out);
            }
            rest = match invalid {
                None => &[],
                Some((after, None)) => {
                    self.cut = after.to_vec();
                    &[]
                }
                Some((after, Some(length))) => {
                    self.push(char::REPLACEMENT_CHARACTER, &mut out);
                    after.get(length..).unwrap_or_default()
                }
            };
        }
        out.into_bytes()
    }

    fn push(&mut self, character: char, out: &mut String) {
        self.state = match (self.state, character) {
            (_, '\x1b') => State::Escape,
            // A line's end ends what was broken, so that nothing of it hides the rest.
            (_, '\n') | (State::Text, '\t') => {
                out.push(character);
                State::Text
            }
            (State::Escape, '[') => {
                self.parameters.clear();
                State::Sequence
            }
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Told,
            (State::Escape, ' '..='/') => State::Escape,
            (State::Sequence, ' '..='?') => {
                if self.parameters.len() <= LONGEST {
                    self.parameters.push(character);
                }
                State::Sequence
            }
            (State::Sequence, 'm') if self.is_colour() => {
                out.push_str("\x1b[");
                out.push_str(&self.parameters);
                out.push('m');
                State::Text
            }
            (State::Told, '\x07' | '\x18' | '\x1a' | '\u{9c}') => State::Text,
            (State::Told, _) => State::Told,
            (State::Escape | State::Sequence, _) => State::Text,
            (State::Text, _) => {
                if !character.is_control() {
                    out.push(character);
                }
                State::Text
            }
        };
    }

    fn is_colour(&self) -> bool {
        let of_colour = |c: char| c.is_ascii_digit() || matches!(c, ';' | ':');
        self.parameters.len() <= LONGEST && self.parameters.chars().all(of_colour)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(bytes: &[u8]) -> String {
        String::from_utf8(Harmless::default().take(bytes)).unwrap()
    }

    #[test]
    fn text_lines_tabs_and_colours_go_through() {
        let text = "a\tb\n\x1b[1;38;5;9mé\x1b[0m\x1b[m\x1b[4:3m";
        assert_eq!(shown(text.as_bytes()), text);
    }

    #[test]
    fn what_acts_on_a_terminal_does_not() {
        for hostile in [
            "\x1b]0;title\x07",
            "\x1b]52;c;cm0gLXJm\x1b\\",
            "\x1b[2J",
            "\x1b[6n",
            "\x1b[?1000h",
            "\x1b[>4m",
            "\x1b[ m",
            "\x1bc",
            "\x1b(0",
            "\x1bP$q\x1b\\",
            "\r\x07\x08\x0e\x7f\u{9b}",
            "\x1b[\x1b[2J",
        ] {
            assert_eq!(
                shown(format!("a{hostile}b").as_bytes()).replace("2J", ""),
                "ab",
                "{hostile:?}"
            );
        }
        assert_eq!(shown(b"a\x9b\xff"), "a\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_broken_sequence_hides_no_more_than_its_line() {
        assert_eq!(shown(b"\x1b]0;never ended\nnext"), "\nnext");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            bytes in prop::collection::vec(prop_oneof![
                any::<u8>(),
                prop::sample::select(b"\x1b[]m;1\n\x07\xc2\x9b\x80".to_vec()),
            ], 0..60),
            at in 0..60_usize,
        ) {
            let at = at.min(bytes.len());
            let mut filter = Harmless::default();
            let mut pieces = filter.take(&bytes[..at]);
            pieces.extend(filter.take(&bytes[at..]));
            let whole = Harmless::default().take(&bytes);
            prop_assert_eq!(&pieces, &whole);
            let text = String::from_utf8(whole).unwrap();
            for sequence in text.split('\x1b').skip(1) {
                let end = sequence.find('m').unwrap();
                let is_colour = sequence[1..end].chars().all(|c| c.is_ascii_digit() || ";:".contains(c));
                prop_assert!(sequence.starts_with('[') && is_colour);
            }
            prop_assert!(!text.chars().any(|c| c.is_control() && !"\n\t\x1b".contains(c)));
        }
    }
}
