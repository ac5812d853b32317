//! A terminal for a command, and the small program that makes it the command's own.
//!
//! `hpcagent shim exec-pty <name> <program> <args…>` runs between fork and exec: a new session whose
//! controlling terminal is its stdin, then the program. `<name>` is argv 0, or empty for the program's.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    process::{Command, ExitCode, Stdio},
};

use hpcclient_protocol::{StreamName, run::TerminalSize};
use rustix::{
    fs::{CWD, Mode, OFlags, fcntl_setfl, openat},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::command::refused;

/// Both ends of a new terminal.
pub(super) struct Terminal {
    ours: OwnedFd,
    theirs: OwnedFd,
}

/// Opens a terminal of a size.
pub(super) fn open(size: TerminalSize) -> io::Result<Terminal> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = openat(CWD, name, flags, Mode::empty())?;
    resize(&ours, size)?;
    fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok(Terminal { ours, theirs })
}

/// Changes a terminal's size; its foreground processes hear of it.
pub(super) fn resize(terminal: &OwnedFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Returns the command that makes its stdin its terminal and becomes the program.
pub(super) fn wrapped(program: &OsStr, name: Option<&OsStr>, args: &[OsString]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("hpcagent")
        .args(["shim", "exec-pty"])
        .arg(name.unwrap_or_default())
        .arg(program)
        .args(args);
    command
}

type Streams = (Option<OwnedFd>, Vec<(StreamName, OwnedFd)>);

impl Terminal {
    /// Gives the command its end and returns ours, for writing and for reading.
    pub(super) fn connect(self, command: &mut Command) -> io::Result<Streams> {
        let Self { ours, theirs } = self;
        command.stdin(Stdio::from(theirs.try_clone()?));
        command.stdout(Stdio::from(theirs.try_clone()?));
        command.stderr(Stdio::from(theirs));
        let input = ours.try_clone()?;
        Ok((Some(input), vec![(StreamName::Tty, ours)]))
    }
}

/// The small program.
pub(super) fn exec(args: &[OsString]) -> ExitCode {
    let [name, program, args @ ..] = args else {
        return ExitCode::from(2);
    };
    let taken = rustix::process::setsid()
        .and_then(|_| rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()));
    let error = match taken {
        Ok(()) => {
            let mut command = Command::new(program);
            command.args(args);
            if !name.as_bytes().is_empty() {
                command.arg0(name);
            }
            command.exec()
        }
        Err(error) => error.into(),
    };
    let refused = refused(program, &error);
    // The terminal is all there is to tell it to.
    drop(io::stderr().write_all(refused.message.as_bytes()));
    ExitCode::from(u8::try_from(refused.code).unwrap_or(126))
}
