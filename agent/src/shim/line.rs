//! What a session's shell is told: its script, and of each line where its streams are and what to run.
//!
//! Not here: how it is told (`session`), what the shell makes of it (`session.bash`).

use hpcclient_protocol::{ByteString, Command as Asked, RunSpec};

const SCRIPT: &str = include_str!("session.bash");

/// The names of a line's FIFOs.
pub(super) struct Names {
    /// `None` when its stdin is empty.
    pub(super) stdin: Option<String>,
    pub(super) out: String,
    pub(super) err: String,
}

/// Returns the script in one line: the shell then counts the lines of what it runs from 1.
pub(super) fn script() -> String {
    let opens = ["{", ";", " do", " then", "else", "&&", "||", "='"];
    let lines = SCRIPT.lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    code.fold(String::new(), |mut all, line| {
        if let Some(line) = line.strip_suffix('\\') {
            all.push_str(line);
        } else {
            all.push_str(line);
            let goes_on = opens.iter().any(|end| line.ends_with(end));
            all.push_str(if goes_on { " " } else { "; " });
        }
        all
    })
}

/// Returns what `session.bash` reads about a line.
pub(super) fn fields(spec: &RunSpec, names: &Names) -> Vec<u8> {
    // Other names cannot be variables of a shell.
    let is_name = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let env: Vec<_> = spec.env.iter().filter(|(name, _)| is_name(name)).collect();
    let count = env.len().to_string();
    let line = match &spec.command {
        Asked::Shell(line) => line.as_bytes().to_vec(),
        Asked::Argv(argv) => exec_line(argv),
        // `RunSpec::check` lets no login shell into a session without a terminal.
        Asked::LoginShell => vec![],
    };
    let cwd = spec.cwd.as_ref().map_or(&b""[..], ByteString::as_bytes);
    let mut all: Vec<&[u8]> = vec![
        names.stdin.as_deref().unwrap_or_default().as_bytes(),
        names.out.as_bytes(),
        names.err.as_bytes(),
        cwd,
        count.as_bytes(),
    ];
    for (name, value) in env {
        all.extend([name.as_bytes(), value.as_bytes()]);
    }
    all.push(&line);
    let mut bytes = all.join(&0);
    bytes.push(0);
    bytes
}

/// Returns a line that runs a program with these very arguments in a child of the shell.
fn exec_line(argv: &[ByteString]) -> Vec<u8> {
    let mut line = b"(exec --".to_vec();
    for arg in argv {
        line.extend_from_slice(b" '");
        for byte in arg.as_bytes() {
            match byte {
                b'\'' => line.extend_from_slice(br"'\''"),
                byte => line.push(*byte),
            }
        }
        line.push(b'\'');
    }
    line.push(b')');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_in_fields() {
        let mut spec = RunSpec::new(Asked::Shell("echo 'a'\n".into()));
        spec.env.insert("A".into(), "1 2".into());
        spec.env.insert("no-name".into(), "x".into());
        let names = Names {
            stdin: None,
            out: "out-1".to_owned(),
            err: "err-2".to_owned(),
        };
        assert_eq!(
            fields(&spec, &names),
            b"\0out-1\0err-2\0\x001\0A\x001 2\0echo 'a'\n\0"
        );
    }

    #[test]
    fn the_script_is_one_line_that_bash_can_read() {
        let script = script();
        assert_eq!(script.lines().count(), 1);
        let checked = std::process::Command::new("bash")
            .args(["-n", "-c", &script])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    }

    #[test]
    fn arguments_are_quoted_for_the_shell() {
        let argv = ["echo".into(), "it's".into(), ByteString::from(vec![0xff])];
        assert_eq!(exec_line(&argv), b"(exec -- 'echo' 'it'\\''s' '\xff')");
    }
}
