//! A terminal's screen as a model, with the lines that left it, and what brings a fresh terminal to the same state.
//!
//! Made by `screen` for one answer. The cells are kept by the crate `avt`, asciinema's terminal; here is what it leaves to
//! its user: where sequences end, the modes that it does not know, the lines above the screen.
//! Invariants: memory is bounded by the size, which is at most [`MAX_COLS`] × [`MAX_ROWS`], and by the history's limits;
//! a sequence counts when it is whole; what the command may not do to a viewer's terminal is not in [`Model::dump`]:
//! no question, no title, no clipboard, no size.
//! A character without a width of its own, such as a combining accent, is left out: `avt` has no cell for it.

use std::collections::VecDeque;

use avt::{
    Color, Line, Observation, Observer, Parser, Pen, Terminal,
    parser::{EdScope, Function},
};
use hpcclient_protocol::run::TerminalSize;
use unicode_width::UnicodeWidthChar;

use super::{
    escapes::{Escapes, Part},
    modes::{Modes, private},
};

/// The most columns; a hostile size would take gigabytes.
const MAX_COLS: u16 = 500;
/// The most rows.
const MAX_ROWS: u16 = 200;
/// The most bytes of lines above the screen.
const MAX_HISTORY: usize = 2 << 20;
/// The longest sequence that is looked at.
const MAX_SEQUENCE: usize = 256;
/// The most control characters in a sequence.
const MAX_CONTROLS: usize = 4096;

/// One terminal.
pub(super) struct Model {
    parser: Parser,
    terminal: Terminal,
    escapes: Escapes,
    /// The sequence so far.
    pending: String,
    /// Control characters that stand in it.
    controls: String,
    modes: Modes,
    history: History,
}

/// Where a stream can be cut so that both sides are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// Nowhere here.
    Inside,
    /// Before the character.
    Before,
    /// After it.
    After,
}

impl Model {
    /// Makes a fresh terminal that keeps so many lines above its screen.
    pub(super) fn new(size: TerminalSize, lines: usize) -> Option<Self> {
        let (cols, rows) = clamped(size);
        Some(Self {
            parser: Parser::new(),
            terminal: Terminal::new(cols, rows).ok()?,
            escapes: Escapes::default(),
            pending: String::new(),
            controls: String::new(),
            modes: Modes::default(),
            history: History {
                limit: lines,
                ..History::default()
            },
        })
    }

    pub(super) fn size(&self) -> TerminalSize {
        let (cols, rows) = self.terminal.size();
        let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        TerminalSize {
            cols: short(cols),
            rows: short(rows),
        }
    }

    pub(super) fn resize(&mut self, size: TerminalSize) {
        let (cols, rows) = clamped(size);
        self.terminal.resize_with(cols, rows, &mut self.history);
    }

    /// Returns how many lines are above the screen.
    pub(super) fn scrollback(&self) -> usize {
        self.history.lines.len()
    }

    /// Forgets a sequence that is not whole.
    pub(super) fn cut(&mut self) {
        self.escapes = Escapes::default();
        self.pending.clear();
        self.controls.clear();
    }

    /// Takes a character, and says where the stream can be cut there.
    pub(super) fn feed(&mut self, c: char) -> Edge {
        match (self.escapes.next(c), self.escapes) {
            (Part::Text, _) if c.width() == Some(0) => Edge::After,
            (Part::Text, _) | (Part::Control, Escapes::Ground) => {
                self.pass(c);
                Edge::After
            }
            // A terminal does it at once, in the middle of a sequence. Here it waits, so that nothing of a sequence that
            // a viewer will see whole is done already.
            (Part::Control, _) => {
                if self.controls.len() < MAX_CONTROLS {
                    self.controls.push(c);
                }
                Edge::Inside
            }
            (Part::Inside, _) => self.inside(c),
            (Part::End, _) => {
                self.controls();
                self.sequence(c);
                Edge::After
            }
        }
    }

    fn inside(&mut self, c: char) -> Edge {
        let starts = matches!(c, '\u{1b}' | '\u{80}'..='\u{9f}');
        if starts {
            // What was open ends without an effect.
            self.pending.clear();
            self.controls();
        }
        if self.pending.len() < MAX_SEQUENCE {
            self.pending.push(c);
        }
        if starts { Edge::Before } else { Edge::Inside }
    }

    fn controls(&mut self) {
        let controls = std::mem::take(&mut self.controls);
        controls.chars().for_each(|c| self.pass(c));
    }

    fn sequence(&mut self, last: char) {
        let mut sequence = std::mem::take(&mut self.pending);
        if let Some(rest) = sequence.strip_prefix('\u{9b}') {
            sequence = format!("\u{1b}[{rest}");
        }
        let is_csi = sequence.starts_with("\u{1b}[");
        let is_escape = !sequence.contains(['[', ']', 'P', 'X', '^', '_']);
        let is_cut = matches!(last, '\u{18}' | '\u{1a}') || sequence.len() >= MAX_SEQUENCE;
        // The texts of OSC and its like change no cell.
        if is_cut || !(is_csi || (is_escape && sequence.starts_with('\u{1b}'))) {
            return;
        }
        sequence.push(last);
        self.modes.take(&sequence);
        // The oldest name of the alternate screen.
        let is_47 = private(&sequence).is_some_and(|(mut modes, _)| modes.any(|mode| mode == 47));
        if is_47 {
            let name = if last == 'h' {
                "\u{1b}[?1047h"
            } else {
                "\u{1b}[?1047l"
            };
            name.chars().for_each(|c| self.pass(c));
        }
        sequence.chars().for_each(|c| self.pass(c));
        // What it takes for unfinished is not to reach a viewer.
        self.parser = Parser::new();
    }

    fn pass(&mut self, c: char) {
        if let Some(function) = self.parser.feed(c) {
            self.apply(function);
        }
    }

    fn apply(&mut self, function: Function) {
        let function = match function {
            // The terminal's size is its viewer's.
            Function::Xtwinops(_) | Function::Osc(_) => return,
            // More than the screen holds is no other than as many as it holds.
            Function::Rep(count) => Function::Rep(count.min(MAX_COLS)),
            Function::Ed(EdScope::SavedLines) | Function::Ris => {
                self.history.clear();
                function
            }
            other => other,
        };
        self.terminal.execute_with(function, &mut self.history);
    }

    /// Returns what brings a fresh terminal of this size to this state.
    pub(super) fn dump(&self) -> String {
        let mut data = self.history.to_sequences(self.terminal.size().1);
        data.push_str(&self.terminal.dump());
        data.push_str(&self.modes.to_sequences());
        data
    }
}

#[cfg(test)]
impl Model {
    pub(super) fn feed_all(&mut self, text: &str) {
        for c in text.chars() {
            self.feed(c);
        }
    }

    /// Returns the lines above the screen without the blanks at their ends, and the rest.
    pub(super) fn seen(&self) -> (Vec<String>, String) {
        let above = self.history.lines.iter();
        let above = above.map(|line| line.text.trim_end().to_owned());
        (
            above.collect(),
            self.terminal.dump() + &self.modes.to_sequences(),
        )
    }
}

fn clamped(size: TerminalSize) -> (usize, usize) {
    (
        usize::from(size.cols.clamp(1, MAX_COLS)),
        usize::from(size.rows.clamp(1, MAX_ROWS)),
    )
}

/// The lines that left the screen at its top, as they are written.
#[derive(Default)]
struct History {
    limit: usize,
    lines: VecDeque<Above>,
    bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Above {
    text: String,
    /// Whether the next line goes on with it.
    wrapped: bool,
}

impl History {
    fn clear(&mut self) {
        self.lines.clear();
        self.bytes = 0;
    }

    fn to_sequences(&self, rows: usize) -> String {
        let mut data = String::with_capacity(self.bytes + 2 * (self.lines.len() + rows));
        let mut lines = self.lines.iter().peekable();
        while let Some(line) = lines.next() {
            // What scrolled back may have come between a line and what went on with it.
            let goes_on = lines.peek().is_some_and(|next| !next.text.is_empty());
            if line.wrapped && goes_on {
                data.push_str(&line.text);
            } else {
                data.push_str(line.text.trim_end_matches(' '));
                data.push_str("\r\n");
            }
        }
        if !self.lines.is_empty() {
            // As many as bring the last of them above the screen.
            data.extend(std::iter::repeat_n('\n', rows.saturating_sub(1)));
            data.push_str("\u{1b}[H");
        }
        data
    }
}

impl Observer for History {
    type Output = ();

    fn evicted(&mut self, _context: &mut Observation<'_>, line: &Line) {
        let above = Above {
            text: written(line),
            wrapped: line.is_wrapped(),
        };
        self.bytes += above.text.len();
        self.lines.push_back(above);
        while self.lines.len() > self.limit || self.bytes > MAX_HISTORY {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
        }
    }

    fn end(&mut self, _context: &mut Observation<'_>) {}
}

/// Returns a line with its colours, and without the blanks at its end unless the next goes on with it.
fn written(line: &Line) -> String {
    let is_shown = |cell: &avt::Cell| cell.char() != ' ' || !cell.pen().is_default();
    let len = match line.cells().iter().rposition(is_shown) {
        _ if line.is_wrapped() => line.len(),
        Some(last) => last + 1,
        None => 0,
    };
    let (mut text, mut pen) = (String::new(), Pen::default());
    for cell in line
        .cells()
        .iter()
        .take(len)
        .filter(|cell| cell.width() > 0)
    {
        if *cell.pen() != pen {
            pen = *cell.pen();
            push_pen(&mut text, &pen);
        }
        text.push(cell.char());
    }
    if !pen.is_default() {
        text.push_str("\u{1b}[m");
    }
    text
}

fn push_pen(text: &mut String, pen: &Pen) {
    text.push_str("\u{1b}[0");
    for (on, number) in [
        (pen.is_bold(), ";1"),
        (pen.is_faint(), ";2"),
        (pen.is_italic(), ";3"),
        (pen.is_underline(), ";4"),
        (pen.is_blink(), ";5"),
        (pen.is_inverse(), ";7"),
        (pen.is_strikethrough(), ";9"),
    ] {
        if on {
            text.push_str(number);
        }
    }
    for (color, base) in [(pen.foreground(), 38), (pen.background(), 48)] {
        match color {
            Some(Color::Indexed(n)) => text.push_str(&format!(";{base};5;{n}")),
            Some(Color::RGB(c)) => text.push_str(&format!(";{base};2;{};{};{}", c.r, c.g, c.b)),
            None => {}
        }
    }
    text.push('m');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: TerminalSize = TerminalSize { cols: 12, rows: 4 };

    fn fed(text: &str) -> Model {
        let mut model = Model::new(SIZE, 50).unwrap();
        model.feed_all(text);
        model
    }

    fn text(model: &Model) -> Vec<String> {
        let lines = model.terminal.screen().visible_lines();
        lines
            .map(|line| line.text().trim_end().to_owned())
            .collect()
    }

    /// A fresh terminal that is fed the dump is as this one, and goes on as this one.
    fn is_restored(mut model: Model, then: &str) {
        // A viewer gets what is open from the stream.
        model.cut();
        let dump = model.dump();
        let mut again = Model::new(model.size(), 50).unwrap();
        again.feed_all(&dump);
        assert_eq!(again.pending, "", "{dump:?}");
        for n in 0..2 {
            let cells = |model: &Model| -> Vec<_> {
                let screen = model.terminal.screen();
                screen
                    .visible_lines()
                    .map(|line| line.cells().to_vec())
                    .collect()
            };
            assert_eq!(cells(&again), cells(&model), "step {n} after {dump:?}");
            assert_eq!(again.terminal.cursor(), model.terminal.cursor(), "{dump:?}");
            assert_eq!(again.terminal.dump(), model.terminal.dump());
            assert_eq!(again.modes, model.modes);
            assert_eq!(
                again.terminal.cursor_key_app_mode(),
                model.terminal.cursor_key_app_mode()
            );
            if n == 0 {
                assert_eq!(again.history.lines.len(), model.history.lines.len());
                for (again, model) in again.history.lines.iter().zip(&model.history.lines) {
                    assert_eq!(again.text.trim_end(), model.text.trim_end());
                }
                for model in [&mut model, &mut again] {
                    model.feed_all(then);
                }
            }
        }
    }

    #[test]
    fn what_programs_do_comes_back() {
        for written in [
            "one\r\ntwo\r\nthree\r\nfour\r\nfive\r\nsix",
            "a line that is longer than the screen\r\n$ ",
            "\x1b[1;31mred\x1b[38;5;200mpink\x1b[48;2;1;2;3mtrue\x1b[m \x1b[7mx",
            "shell\r\n$ vi\x1b[?1049h\x1b[?1h\x1b=\x1b[H\x1b[2Jfile\x1b[2;3H",
            "shell\x1b[?47hother",
            "\x1b[2;3r\x1b[?6h\x1b[2;2Hx\x1b[?25l",
            "\x1b[?2004h\x1b[?1002;1006h$ ",
            "\u{4f60}\u{597d}\u{ff01}\u{4f60}\u{597d}\u{ff01}\u{4f60}",
            "\x1b(0lqk\x1b(Bx\x0eq\x0f",
            "ab\x1b7\x1b[4;5Hcd",
            "exactly full\r\nexactly full",
            "\x1b[4 q\x1b[4hins",
        ] {
            for then in ["", "Z\r\nY\x1b8X\x1b[?1049lW", "\n\n\n\n\nV\x1b[?1lU"] {
                is_restored(fed(written), then);
            }
        }
    }

    #[test]
    fn the_lines_above_are_as_many_as_asked_for_and_with_their_colours() {
        let model = fed(&(0..100)
            .map(|n| format!("\x1b[3{}mline {n}\x1b[m\r\n", n % 8))
            .collect::<String>());
        assert_eq!(model.scrollback(), 50);
        assert!(model.history.lines[0].text.contains("line 47"));
        assert!(model.history.lines[0].text.starts_with("\x1b[0;38;5;7m"));
        assert_eq!(text(&model), ["line 97", "line 98", "line 99", ""]);
        assert_eq!(fed("a\r\nb\r\nc\r\nd\r\ne\x1b[3J").scrollback(), 0);
    }

    #[test]
    fn what_asks_or_changes_a_viewers_terminal_is_not_in_the_dump() {
        let asked = "\x1b[c\x1b[>c\x1b[6n\x1b[?1$p\x1b]0;title\x07\x1b]52;c;?\x07\x1b]10;?\x1b\\\x1bP+q544e\x1b\\\x05\
            \x1b[21t\x1b[8;400;400t\x1b[?1004h\x1bZ\x1b[18t\u{9b}5n";
        let model = fed(&format!("a{asked}b"));
        assert_eq!(model.size(), SIZE);
        let dump = model.dump();
        assert!(dump.starts_with("ab"), "{dump:?}");
        assert!(
            !dump.contains(['\x07', ']', 'n', 'c', 't', 'P', 'Z', '\x05']),
            "{dump:?}"
        );
    }

    #[test]
    fn accents_take_no_cell_and_a_hostile_size_no_memory() {
        assert_eq!(text(&fed("cafe\u{301}!"))[0], "cafe!");
        let mut model = fed("x");
        model.resize(TerminalSize {
            cols: 65_535,
            rows: 65_535,
        });
        assert_eq!(
            model.size(),
            TerminalSize {
                cols: MAX_COLS,
                rows: MAX_ROWS
            }
        );
        model.resize(TerminalSize { cols: 0, rows: 0 });
        assert_eq!(model.size(), TerminalSize { cols: 1, rows: 1 });
    }

    /// Characters and the beginnings and ends of sequences, so that whole ones are common.
    fn written() -> impl Strategy<Value = String> {
        let numbers = prop_oneof![
            0u32..9,
            Just(47),
            Just(1047),
            Just(1049),
            Just(2004),
            Just(99_999)
        ];
        let sequence = (
            "[\\[(#]?",
            "[?>!]?",
            prop::collection::vec(numbers, 0..3),
            "[ -~]",
        )
            .prop_map(|(start, mark, numbers, end)| {
                let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
                format!("\x1b{start}{mark}{}{end}", numbers.join(";"))
            });
        let piece = prop_oneof![
            4 => "[a-z \u{4f60}\u{301}]{0,20}".prop_map(String::from),
            4 => sequence,
            2 => prop::sample::select(vec!["\r\n", "\n", "\r", "\x08", "\t", "\x0e", "\x1b7", "\x1b8", "\x1bM"])
                .prop_map(String::from),
            1 => any::<String>(),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_was_written_a_fresh_terminal_becomes_the_same(first in written(), then in written()) {
            is_restored(fed(&first), &then);
        }

        #[test]
        fn sizes_change_without_panic(
            steps in prop::collection::vec((written(), 0u16..30, 0u16..10), 0..6),
        ) {
            let mut model = Model::new(SIZE, 50).unwrap();
            for (text, cols, rows) in steps {
                model.feed_all(&text);
                model.resize(TerminalSize { cols, rows });
                prop_assert!(model.scrollback() <= 50);
                drop(model.dump());
            }
        }
    }
}
