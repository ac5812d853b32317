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

/// One terminal.
pub(super) struct Model {
    parser: Parser,
    terminal: Terminal,
    escapes: Escapes,
    /// The sequence so far.
    pending: String,
    modes: Modes,
    history: History,
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
    }

    /// Takes a character, and says whether no sequence is open after it.
    pub(super) fn feed(&mut self, c: char) -> bool {
        match self.escapes.next(c) {
            Part::Text if c.width() == Some(0) => {}
            Part::Text => self.pass(c),
            // In the middle of a sequence it counts before it, as with a real terminal.
            Part::Control => self.control(c),
            Part::Inside => {
                if matches!(c, '\u{1b}' | '\u{80}'..='\u{9f}') {
                    self.pending.clear();
                }
                if self.pending.len() < MAX_SEQUENCE {
                    self.pending.push(c);
                }
            }
            Part::End => self.sequence(c),
        }
        self.escapes == Escapes::Ground
    }

    fn control(&mut self, c: char) {
        if let Some(function) = Parser::new().feed(c) {
            self.apply(function);
        }
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
        for (n, line) in self.lines.iter().enumerate() {
            data.push_str(&line.text);
            if !line.wrapped || n + 1 == self.lines.len() {
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
