//! This process's own terminal: its size, raw mode, and questions whose answers are not shown.
//!
//! Used by `console`, `run` and `login`. Invariant: whatever way a command ends, the terminal is as it was before; only
//! SIGKILL is stronger.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
};

use hpcclient_protocol::run::TerminalSize;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
    tcsetattr,
};

/// What Ctrl-C types.
const INTERRUPT: u8 = 3;

/// What a program of the node may have left on: the other screen, a part of it that scrolls (to end that moves the
/// cursor), a hidden cursor, colours, the characters that draw lines, the mouse, marked pastes, keys of an application,
/// keys as kitty and xterm report them; characters that push others on, a place that counts from the part that scrolls,
/// lines that do not go on, colours the other way round, the cursor's shape.
const QUIET: &[u8] = b"\x1b[?1049l\x1b[4l\x1b[?5l\x1b[?6l\x1b[?7h\x1b[?69l\x1b[0 q\x1b7\x1b[r\x1b8\x1b[?25h\x1b[0m\x1b(B\x0f\
    \x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?1015l\x1b[?2004l\x1b[?1l\x1b>\x1b[<u\x1b[>4m";

/// Returns the size of the terminal that stdin is.
pub(super) fn size() -> io::Result<TerminalSize> {
    let size = tcgetwinsize(io::stdin())?;
    // A terminal that nobody gave a size, as some programs make them.
    let or = |given: u16, usual: u16| if given == 0 { usual } else { given };
    Ok(TerminalSize {
        cols: or(size.ws_col, 80),
        rows: or(size.ws_row, 24),
    })
}

/// The terminal of stdin in raw mode, until this is dropped.
#[derive(Debug)]
pub(super) struct Raw {
    saved: Termios,
}

impl Raw {
    /// Turns raw mode on: every key is a byte for the command.
    pub(super) fn enter() -> io::Result<Self> {
        let saved = tcgetattr(io::stdin())?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { saved })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        // A terminal that is gone needs no repair.
        let _ = out.write_all(QUIET).and_then(|()| out.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.saved);
    }
}

/// Asks a question at `terminal` without showing the answer. Ctrl-C is `Interrupted`, not a signal: one would end the
/// process, or leave this wait alone, with the echo off.
pub(super) fn ask_hidden(mut terminal: File, question: &str) -> io::Result<String> {
    let saved = tcgetattr(&terminal)?;
    let mut hidden = saved.clone();
    hidden
        .local_modes
        .remove(LocalModes::ECHO | LocalModes::ISIG);
    hidden.local_modes.insert(LocalModes::ICANON);
    hidden.input_modes.insert(InputModes::ICRNL);
    hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let asked = terminal.write_all(question.as_bytes()).and_then(|()| {
        let mut line = Vec::new();
        let mut reader = BufReader::new(&terminal);
        // A line ends with Enter, with Ctrl-C, or, with Ctrl-D, with nothing.
        while !line.ends_with(b"\n") && !line.ends_with(&[INTERRUPT]) {
            let came = reader.fill_buf()?;
            let count = came.len();
            line.extend_from_slice(came);
            reader.consume(count);
            if count == 0 {
                break;
            }
        }
        Ok(line)
    });
    tcsetattr(&terminal, OptionalActions::Drain, &saved)?;
    let _ = terminal.write_all(b"\n");
    let line = asked?;
    if line.is_empty() || line.contains(&INTERRUPT) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    String::from_utf8(line.to_vec()).map_err(|_| io::ErrorKind::InvalidData.into())
}
