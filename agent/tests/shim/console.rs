//! A command in a terminal.

use hpcagent::{shim::control::ToShim, store::RunDir};
use hpcclient_protocol::{
    Command, Frame, RunSpec, RunState, StreamName,
    run::{StreamSizes, TerminalSize},
};

use crate::driver::{Kept, shell, text};

fn console(command: Command) -> RunSpec {
    let mut spec = RunSpec::new(command);
    spec.pty = Some(TerminalSize { cols: 81, rows: 25 });
    spec
}

fn type_in(kept: &mut Kept, dir: &RunDir, seq: u64, keys: &str) {
    let message = ToShim::Stdin {
        run: dir.id(),
        writer: "me".into(),
        seq,
        eof: false,
    };
    kept.line.send(&message, keys.as_bytes());
}

fn see(kept: &mut Kept, dir: &RunDir, wanted: &str) {
    kept.line
        .until(dir.id(), |_, _| text(dir, StreamName::Tty).contains(wanted));
}

#[test]
fn a_command_in_a_terminal_knows_it_and_its_size() {
    let line = shell("tty; stty size; echo $TERM; exit 4").command;
    let (mut kept, dir) = Kept::alone(&console(line));
    let record = kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(record.exit_code, Some(4));
    let seen = text(&dir, StreamName::Tty);
    assert!(seen.starts_with("/dev/pts/"), "{seen}");
    assert!(seen.ends_with("\r\n25 81\r\nxterm-256color\r\n"), "{seen}");
    assert!(kept.gone());
}

#[test]
fn a_login_shell_has_job_control_and_hears_of_another_size() {
    let (mut kept, dir) = Kept::alone(&console(Command::LoginShell));
    let run = dir.id();
    type_in(
        &mut kept,
        &dir,
        1,
        "PS1=; stty -echo; shopt -q login_shell && echo login-$?\n",
    );
    see(&mut kept, &dir, "login-0");
    let size = TerminalSize {
        cols: 132,
        rows: 50,
    };
    kept.line.send(&ToShim::Resize { run, size }, b"");
    type_in(&mut kept, &dir, 2, "stty size\n");
    see(&mut kept, &dir, "50 132");
    type_in(
        &mut kept,
        &dir,
        3,
        "sleep 100 & jobs; kill %1; wait %1; echo job-$?\n",
    );
    see(&mut kept, &dir, "job-143");
    // ^C goes to the foreground job. The job itself says that it is there: between two commands the
    // key would hit the shell alone.
    type_in(
        &mut kept,
        &dir,
        4,
        "sh -c 'echo sle\"\"eps; exec sleep 100'\n",
    );
    see(&mut kept, &dir, "sleeps");
    type_in(&mut kept, &dir, 5, "\u{3}");
    type_in(&mut kept, &dir, 6, "echo after-$?\n");
    see(&mut kept, &dir, "after-130");
    type_in(&mut kept, &dir, 7, "exit 5\n");
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!(record.exit_code, Some(5));
    assert!(kept.gone());
    let mut reader = dir.reader(StreamSizes::default()).unwrap();
    let mut sizes = vec![];
    while let Some(frame) = reader.next(1000).unwrap() {
        if let Frame::Resize(size) = frame {
            sizes.push(size.cols);
        }
    }
    assert_eq!(sizes, [81, 132]);
}

#[test]
fn a_missing_program_is_told_on_the_terminal() {
    let (mut kept, dir) = Kept::alone(&console(Command::Argv(vec!["nosuch".into()])));
    let record = kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(record.exit_code, Some(127));
    assert_eq!(
        text(&dir, StreamName::Tty),
        "hpcagent: nosuch: command not found\r\n"
    );
}

#[test]
fn a_signal_that_comes_before_the_command_has_its_terminal_is_not_lost() {
    let line = shell("exec sleep 1000").command;
    for _ in 0..10 {
        let (mut kept, dir) = Kept::alone(&console(line.clone()));
        let run = dir.id();
        // The shim reads this right after it started the command.
        let signal = "TERM".into();
        kept.line.send(&ToShim::Signal { run, signal }, b"");
        let record = kept.line.until_state(run, RunState::Exited);
        assert_eq!(record.signal.as_deref(), Some("TERM"));
    }
}
