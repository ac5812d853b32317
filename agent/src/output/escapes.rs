//! Where a terminal's escape sequences start and end, by the rules of ECMA-48 as xterm has them.
//!
//! Used to leave them out (`plain`) and not to cut inside one (`screen`). What a sequence means is not here.

/// What a character is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// To be shown.
    Text,
    /// A control character by itself, such as a carriage return. It may stand inside a sequence.
    Control,
    /// Of a sequence that goes on.
    Inside,
    /// The last of a sequence.
    End,
}

/// A scanner's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Escapes {
    /// Outside of sequences.
    #[default]
    Ground,
    /// After ESC and what may stand between it and the final character.
    Escape,
    /// After CSI.
    Csi,
    /// In the text of OSC, DCS, SOS, PM or APC.
    Text,
    /// After ESC in such a text: `\` ends it.
    TextEscape,
}

impl Escapes {
    /// Takes the next character.
    pub(super) const fn next(&mut self, c: char) -> Part {
        let (next, part) = match (*self, c) {
            // CAN and SUB end everything, ESC starts anew.
            (Self::Ground, '\u{18}' | '\u{1a}') => (Self::Ground, Part::Control),
            (_, '\u{18}' | '\u{1a}') => (Self::Ground, Part::End),
            (Self::Text | Self::TextEscape, '\u{1b}') => (Self::TextEscape, Part::Inside),
            (_, '\u{1b}') => (Self::Escape, Part::Inside),
            (Self::Text, '\u{7}' | '\u{9c}') | (Self::TextEscape, '\\') => {
                (Self::Ground, Part::End)
            }
            (Self::Text, _) => (Self::Text, Part::Inside),
            // What follows ESC in a text is a sequence of its own.
            (Self::TextEscape | Self::Escape, c) => after_escape(c),
            (_, '\u{9b}') => (Self::Csi, Part::Inside),
            (_, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => (Self::Text, Part::Inside),
            (state, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}') => (state, Part::Control),
            (Self::Csi, ' '..='?') => (Self::Csi, Part::Inside),
            (Self::Csi, _) => (Self::Ground, Part::End),
            (Self::Ground, _) => (Self::Ground, Part::Text),
        };
        *self = next;
        part
    }
}

const fn after_escape(c: char) -> (Escapes, Part) {
    match c {
        '[' => (Escapes::Csi, Part::Inside),
        ']' | 'P' | 'X' | '^' | '_' => (Escapes::Text, Part::Inside),
        ' '..='/' => (Escapes::Escape, Part::Inside),
        '\0'..='\u{1f}' | '\u{7f}' => (Escapes::Escape, Part::Control),
        _ => (Escapes::Ground, Part::End),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(all: &str) -> String {
        let mut escapes = Escapes::default();
        all.chars()
            .filter(|c| escapes.next(*c) == Part::Text)
            .collect()
    }

    #[test]
    fn every_kind_of_sequence_ends_where_it_should() {
        for (all, text) in [
            ("a\x1b[1;31mb", "ab"),
            ("a\x1b[?2004h\u{9b}38:2::1:2:3mb", "ab"),
            (
                "a\x1b]0;a title\x07b\x1b]8;;http://x\x1b\\c\x1b]8;;\x1b\\d",
                "abcd",
            ),
            ("a\x1bP+q544e\x1b\\b\x1b_Gx\x1b\\c\x1b^p\u{9c}d", "abcd"),
            ("a\x1b(0b\x1b)Bc\x1b#8d\x1b=e\x1b7f", "abcdef"),
            ("a\x1b[1\rmb", "ab"),
            ("a\x1b[1\x18mb", "amb"),
            ("a\x1b]0;cut \x1b[1mb", "ab"),
            ("a\x1b]0;never ends", "a"),
        ] {
            assert_eq!(text_of(all), text, "{all:?}");
        }
    }
}
