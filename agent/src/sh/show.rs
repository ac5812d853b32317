//! How runs and names are shown in one line each.
//!
//! Called by `console`. Invariants: text that others chose holds no control character when it is
//! shown, so it cannot move the cursor.

use std::io::{self, Write as _};

use hpcclient_protocol::{Run, RunState};

/// How much of a command is shown.
const WIDTH: usize = 100;

/// Says something of our own.
pub(super) fn say(text: &str) {
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "hpcagent: {text}");
}

/// Returns the text with control characters made visible.
pub(super) fn visible(text: &str) -> String {
    let escape = |c: char| {
        // What turns the direction of text around hides as well as a control character does.
        let hidden = c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden {
            c.escape_default().collect()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

/// Returns a run in one line, with its number in the list.
pub(super) fn row(number: usize, run: &Run) -> String {
    let state = match (run.state, run.exit_code) {
        (RunState::Exited, Some(code)) => format!("exit {code}"),
        (state, _) => format!("{state:?}").to_lowercase(),
    };
    let session = run.spec.session.as_ref().map_or("-", |id| id.as_str());
    let mut command = visible(&run.spec.command.to_line());
    if let Some((cut, _)) = command.char_indices().nth(WIDTH) {
        command.truncate(cut);
        command.push('…');
    }
    // Of a run on another node this is what was stored last.
    if !run.live && !run.state.is_final() {
        command.push_str(&format!("  (on {})", visible(&run.host)));
    }
    format!(
        "{number:>3}  {state:<9} {id}  {session:<12} {command}",
        id = run.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_chose_moves_the_cursor() {
        assert_eq!(visible("naïve \u{1b}[2J\n"), "naïve \\u{1b}[2J\\n");
        assert_eq!(visible("a\u{202e}b"), "a\\u{202e}b");
    }
}
