//! Starts the command of a run that stands alone: which program, with which pipes or terminal.
//!
//! Invariants: arguments are passed byte for byte; the command leads its own process group; what
//! cannot be started ends like in a shell, with 127 or 126 and a line that says why.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::{OsStrExt, OsStringExt},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hpcclient_protocol::{Command as Asked, RunSpec, StreamName, run::StdinMode};
use rustix::{
    fs::{Access, Mode, OFlags, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
    process::umask,
};

use super::pty;

/// Enough for a thread that only starts a program.
const STACK: usize = 128 << 10;

/// How long a node may have no room for one more process, and how often it is asked.
pub(super) const FULL_TIME: Duration = Duration::from_secs(30);
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(500);

/// A command that runs.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) outputs: Vec<(StreamName, OwnedFd)>,
}

/// Why a command does not run, as a shell would say it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotStarted {
    pub(super) code: i32,
    pub(super) message: String,
}

/// A program with its arguments.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    path: OsString,
    /// What the program is told that its name is, if another.
    name: Option<OsString>,
    args: Vec<OsString>,
}

/// Starts what a run asks for.
pub(super) fn start(spec: &RunSpec, user_umask: Mode) -> Result<Started, NotStarted> {
    let program = program(&spec.command);
    let cwd = spec
        .cwd
        .as_ref()
        .map(|cwd| PathBuf::from(OsStr::from_bytes(cwd.as_bytes())));
    if let Some(cwd) = &cwd {
        check_cwd(cwd)?;
    }
    let terminal = spec
        .pty
        .map(pty::open)
        .transpose()
        .map_err(|error| no_pipe(&error))?;
    let mut command = match &terminal {
        None => {
            let mut command = Command::new(&program.path);
            command.args(&program.args).process_group(0);
            if let Some(name) = &program.name {
                command.arg0(name);
            }
            command
        }
        Some(_) => pty::wrapped(&program.path, program.name.as_deref(), &program.args),
    };
    if let Some(cwd) = cwd {
        command.current_dir(cwd);
    }
    for (name, value) in &spec.env {
        command.env(name, OsStr::from_bytes(value.as_bytes()));
    }
    let (stdin, outputs) = match terminal {
        Some(terminal) => {
            command.env("TERM", "xterm-256color");
            terminal
                .connect(&mut command)
                .map_err(|error| no_pipe(&error))?
        }
        None => pipes(&mut command, spec.stdin).map_err(|error| no_pipe(&error))?,
    };
    let ours = umask(user_umask);
    let child = spawn(&mut command, spec.nice.unwrap_or_default());
    umask(ours);
    match child {
        Ok(child) => Ok(Started {
            pid: child.id(),
            stdin,
            outputs,
        }),
        Err(error) => Err(refused(&program.path, &error)),
    }
}

/// Starts a command that gives way to others by so much. A node that is full for a moment is asked again:
/// nothing of the run has started yet, so nobody misses this shim.
fn spawn(command: &mut Command, nice: u8) -> io::Result<Child> {
    let until = Instant::now() + FULL_TIME;
    loop {
        match spawn_once(command, nice) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(FULL_PAUSE);
            }
            started => return started,
        }
    }
}

fn spawn_once(command: &mut Command, nice: u8) -> io::Result<Child> {
    if nice == 0 {
        return command.spawn();
    }
    // On Linux a priority is a thread's, and a child has that of the thread which made it: so the
    // command has it from its first moment, and the shim, which could not take it back, never.
    thread::scope(|scope| {
        let lower = thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || {
                rustix::process::nice(i32::from(nice))?;
                command.spawn()
            })?;
        let panicked = |_| io::Error::other("the thread that starts the command failed");
        lower.join().map_err(panicked)?
    })
}

/// Says like a shell why a program could not be started.
pub(super) fn refused(program: &OsStr, error: &io::Error) -> NotStarted {
    let (code, why) = match error.kind() {
        io::ErrorKind::NotFound => (127, "command not found".to_owned()),
        io::ErrorKind::PermissionDenied => (126, "permission denied".to_owned()),
        _ => (126, error.to_string()),
    };
    let message = format!("hpcagent: {}: {why}\n", program.display());
    NotStarted { code, message }
}

/// Returns the user's bash, if that is their shell or there is one.
pub(super) fn bash() -> Option<OsString> {
    let is_bash = |shell: &OsString| Path::new(shell).file_name() == Some(OsStr::new("bash"));
    if let Some(shell) = std::env::var_os("SHELL").filter(is_bash)
        && is_executable(Path::new(&shell))
    {
        return Some(shell);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .map(|folder| folder.join("bash"))
        .find(|bash| is_executable(bash))
        .map(PathBuf::into_os_string)
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

fn program(asked: &Asked) -> Program {
    let bytes =
        |text: &hpcclient_protocol::ByteString| OsString::from_vec(text.as_bytes().to_vec());
    match asked {
        Asked::Shell(line) => Program {
            path: bash().unwrap_or_else(|| "/bin/sh".into()),
            name: None,
            args: vec!["-lc".into(), bytes(line)],
        },
        Asked::Argv(argv) => {
            let mut argv = argv.iter().map(bytes);
            Program {
                path: argv.next().unwrap_or_default(),
                name: None,
                args: argv.collect(),
            }
        }
        Asked::LoginShell => {
            let path = std::env::var_os("SHELL")
                .filter(|shell| is_executable(Path::new(shell)))
                .or_else(bash)
                .unwrap_or_else(|| "/bin/sh".into());
            // A dash before its name makes a shell a login shell.
            let mut name = OsString::from("-");
            name.push(Path::new(&path).file_name().unwrap_or(OsStr::new("sh")));
            Program {
                path,
                name: Some(name),
                args: vec![],
            }
        }
    }
}

fn check_cwd(cwd: &Path) -> Result<(), NotStarted> {
    let refused = |why: &str| {
        Err(NotStarted {
            code: 126,
            message: format!("hpcagent: {}: cannot start here: {why}\n", cwd.display()),
        })
    };
    match std::fs::metadata(cwd) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => refused("no such directory"),
        Err(error) => refused(&error.to_string()),
        Ok(file) if !file.is_dir() => refused("it is not a directory"),
        Ok(_) if rustix::fs::access(cwd, Access::EXEC_OK).is_err() => refused("permission denied"),
        Ok(_) => Ok(()),
    }
}

fn no_pipe(error: &io::Error) -> NotStarted {
    NotStarted {
        code: 126,
        message: format!("hpcagent: cannot connect the command's streams: {error}\n"),
    }
}

type Streams = (Option<OwnedFd>, Vec<(StreamName, OwnedFd)>);

fn pipes(command: &mut Command, stdin: StdinMode) -> io::Result<Streams> {
    let ours = match stdin {
        StdinMode::Closed => {
            command.stdin(Stdio::null());
            None
        }
        StdinMode::Open => {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setfl(&ours, OFlags::NONBLOCK)?;
            command.stdin(theirs);
            Some(ours)
        }
    };
    let mut outputs = vec![];
    for stream in [StreamName::Stdout, StreamName::Stderr] {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only our end must not block: each end has its own flags.
        fcntl_setfl(&ours, OFlags::NONBLOCK)?;
        if stream == StreamName::Stdout {
            command.stdout(theirs);
        } else {
            command.stderr(theirs);
        }
        outputs.push((stream, ours));
    }
    Ok((ours, outputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_shell_is_named_with_a_dash() {
        let shell = program(&Asked::LoginShell);
        let name = shell.name.unwrap();
        assert!(name.as_bytes().starts_with(b"-"), "{name:?}");
    }

    #[test]
    fn a_missing_directory_is_told_like_a_shell_would() {
        let refused = check_cwd(Path::new("/no/such")).unwrap_err();
        assert_eq!(refused.code, 126);
        assert_eq!(
            refused.message,
            "hpcagent: /no/such: cannot start here: no such directory\n"
        );
    }
}
