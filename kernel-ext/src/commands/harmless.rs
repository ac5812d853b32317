//! What another user's run wrote, made so that it cannot act on this terminal.
//!
//! Used by `shared` for lines, and by `console` for a screen. Invariants: of control characters only newline and tab go
//! through, of escape sequences only colours (SGR); to a screen also what moves, erases and sets how keys are told, and
//! nothing that the terminal answers, that names or prints something, or that reaches the clipboard; it does not matter
//! how the bytes are cut.

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
    /// Whether a whole screen is drawn, not lines.
    draws: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence,
    /// One with more than its last character.
    Odd,
    /// Which set of characters, after its place.
    Set(char),
    /// A title, a link, a clipboard: ends with BEL or ST.
    Told,
}

impl Harmless {
    /// Returns the filter for a console, which draws a whole screen.
    pub(super) fn for_screen() -> Self {
        Self {
            draws: true,
            ..Self::default()
        }
    }

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
            (State::Text, '\r' | '\x07' | '\x08' | '\x0e' | '\x0f') if self.draws => {
                out.push(character);
                State::Text
            }
            (State::Escape, '7' | '8' | '=' | '>' | 'D' | 'E' | 'H' | 'M') if self.draws => {
                out.extend(['\x1b', character]);
                State::Text
            }
            (State::Escape, '(' | ')') if self.draws => State::Set(character),
            (State::Set(place), '0' | 'A' | 'B') => {
                out.extend(['\x1b', place, character]);
                State::Text
            }
            (State::Escape, '[') => {
                self.parameters.clear();
                State::Sequence
            }
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::Told,
            (State::Escape | State::Odd, ' '..='/') => State::Odd,
            (State::Sequence, ' '..='?') => {
                if self.parameters.len() <= LONGEST {
                    self.parameters.push(character);
                }
                State::Sequence
            }
            (State::Sequence, _) if self.is_colour(character) || self.draws(character) => {
                out.push_str("\x1b[");
                out.push_str(&self.parameters);
                out.push(character);
                State::Text
            }
            (State::Told, '\x07' | '\x18' | '\x1a' | '\u{9c}') => State::Text,
            (State::Told, _) => State::Told,
            (State::Escape | State::Odd | State::Sequence | State::Set(_), _) => State::Text,
            (State::Text, _) => {
                if !character.is_control() {
                    out.push(character);
                }
                State::Text
            }
        };
    }

    fn is_colour(&self, last: char) -> bool {
        last == 'm' && is_numbers(&self.parameters)
    }

    /// Whether a sequence only draws. What is not known here is not let through.
    fn draws(&self, last: char) -> bool {
        let parameters = self.parameters.as_str();
        self.draws
            && match last {
                '@'
                | 'A'..='M'
                | 'P'
                | 'S'
                | 'T'
                | 'X'
                | 'Z'
                | '`'
                | 'a'
                | 'b'
                | 'd'..='g'
                | 'r' => is_numbers(parameters),
                's' | 'u' => parameters.is_empty(),
                // Modes: the screen, the cursor, the mouse. Of those without `?` one locks the keyboard.
                'h' | 'l' => {
                    parameters == "4" || parameters.strip_prefix('?').is_some_and(are_drawing)
                }
                'q' => parameters.strip_suffix(' ').is_some_and(is_numbers),
                'p' => parameters == "!",
                _ => false,
            }
    }
}

/// The private modes that only draw, or tell how keys and the mouse are reported once somebody uses them. Others resize or
/// raise the window, are answered, or make the terminal another one that is not put back.
const DRAWING: [&str; 19] = [
    "1", "5", "6", "7", "12", "25", "47", "66", "1000", "1002", "1003", "1006", "1007", "1015",
    "1047", "1048", "1049", "2004", "2026",
];

fn are_drawing(modes: &str) -> bool {
    modes.split(';').all(|mode| DRAWING.contains(&mode))
}

fn is_numbers(parameters: &str) -> bool {
    let of_numbers = |c: char| c.is_ascii_digit() || matches!(c, ';' | ':');
    parameters.len() <= LONGEST && parameters.chars().all(of_numbers)
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
    fn a_screen_is_drawn_and_nothing_is_answered_or_named() {
        let drawn =
            |text: &str| String::from_utf8(Harmless::for_screen().take(text.as_bytes())).unwrap();
        let screen = "\x1b[?1049h\x1b[H\x1b[2J\x1b[1;31mred\x1b[0m\r\n\x08\x1b[3;4H\x1b[K\x1b(0lqk\x1b(B\x1b7\x1b8\x1b[?25l\x1b[2 q";
        assert_eq!(drawn(screen), screen);
        for hostile in [
            "\x1b]0;title\x07",
            "\x1b]52;c;cm0gLXJm\x1b\\",
            "\x1b[6n",
            "\x1b[c",
            "\x1b[>c",
            "\x1bZ",
            "\x1bc",
            "\x05",
            "\x1b[21t",
            "\x1b[5i",
            "\x1b[>q",
            "\x1b[?u",
            "\x1b[?25$p",
            "\x1b[2h",
            "\x1b[?2l",
            "\x1b[?3h",
            "\x1b[?1001h",
            "\x1b[?1004h",
            "\x1b[?2048h",
            "\x1b[?25;2l",
            "\x1b#8",
            "\x1b*H",
            "\x1b[?4m",
            "\x1bP$q\x1b\\",
            "\u{9b}",
        ] {
            assert_eq!(drawn(&format!("a{hostile}b")), "ab", "{hostile:?}");
        }
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
            let mut screen = Harmless::for_screen();
            let drawn = [screen.take(&bytes[..at]), screen.take(&bytes[at..])].concat();
            prop_assert_eq!(drawn, Harmless::for_screen().take(&bytes));
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
