//! The process that keeps a command: it holds its pipes or terminal and stores what comes out.
//!
//! Started by the agent as `hpcagent shim launch …`, which starts the shim itself and exits: so the shim
//! is nobody's child but init's, in a session of its own, and outlives the agent. One for a command that
//! stands alone, one for a session with all its lines. One thread, poll(2), no async runtime.
//! Not here: which shims there are (`runs`), the wire (`http`).

pub mod control;

mod command;
mod connections;
mod durable;
mod feed;
mod fifos;
mod kept;
mod line;
mod orders;
mod processes;
mod pty;
mod session;
mod signals;
mod supervise;

use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::{net::UnixStream, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, bail};
use hpcclient_protocol::{RunId, RunSpec, RunState, SessionId, StreamName};
use rustix::{
    fs::Mode,
    process::{Pid, set_child_subreaper, umask},
};
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU,
    SIGUSR1, SIGUSR2,
};

pub use processes::{boot_id, kill_tree, start_of};
pub use signals::{by_name as signal_by_name, name as signal_name};

use crate::store::{RunDir, RunRecord};
use connections::Connections;
use control::FromShim;
use durable::Durable;
use feed::Feed;
use kept::{KeptRun, Over};
use session::Session;
use supervise::{Purpose, Shim};

/// Runs `hpcagent shim …` with the arguments after `shim`.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let verb = args.next().unwrap_or_default();
    if verb == "exec-pty" {
        return pty::exec(&args.collect::<Vec<_>>());
    }
    if verb == "launch" {
        return launch(&args.collect::<Vec<_>>());
    }
    let mut first = connections::first();
    let ended = match (verb.to_str(), args.next(), args.next()) {
        (Some("run"), Some(dir), Some(socket)) => {
            keep_run(Path::new(&dir), Path::new(&socket), &mut first)
        }
        (Some("session"), Some(id), Some(socket)) => {
            keep_session(&id.to_string_lossy(), Path::new(&socket), &mut first)
        }
        _ => {
            let usage =
                "usage: hpcagent shim [launch] run <run dir> <socket> | session <id> <socket>";
            Err(anyhow::anyhow!(usage))
        }
    };
    ended.unwrap_or_else(|error| {
        let reason = format!("{error:#}");
        tell(&format!("error: {reason}\n"));
        if let Some(first) = first {
            confess(first, reason);
        }
        ExitCode::FAILURE
    })
}

/// How a launcher ends where there is no room for one more process now: `EX_TEMPFAIL` of sysexits.h.
pub const NODE_IS_FULL: u8 = 75;

/// Starts the shim and leaves it to init. The shim inherits the connection.
fn launch(args: &[OsString]) -> ExitCode {
    // What is sent to the agent's group meanwhile is not meant for the shim.
    let _ = rustix::process::setsid();
    let shim = Command::new("/proc/self/exe")
        .arg0("hpcagent")
        .arg("shim")
        .args(args)
        .spawn();
    match (shim, connections::first()) {
        (Ok(_), _) => return ExitCode::SUCCESS,
        (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {
            return ExitCode::from(NODE_IS_FULL);
        }
        (Err(error), Some(first)) => confess(first, format!("cannot start its process: {error}")),
        (Err(error), None) => tell(&format!("error: cannot start a shim: {error}\n")),
    }
    ExitCode::FAILURE
}

/// Tells the agent why there is no shim.
fn confess(mut first: UnixStream, reason: String) {
    if let Ok(message) = control::encode(&FromShim::Failed { reason }, b"") {
        // An agent that is gone need not know.
        drop(first.write_all(&message));
    }
}

fn tell(text: &str) {
    // The agent's log, if it is still there.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// What every shim does first.
fn settle_in() -> anyhow::Result<Settled> {
    // It fails when this process leads a group already, which is as good.
    let _ = rustix::process::setsid();
    let me = Pid::from_raw(i32::try_from(std::process::id())?);
    set_child_subreaper(me).context("cannot become the parent of orphans")?;
    let user_umask = umask(Mode::RWXG | Mode::RWXO);
    let (wake, writer) = UnixStream::pair().context("cannot make a socket pair")?;
    wake.set_nonblocking(true)?;
    writer.set_nonblocking(true)?;
    let terminated = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&terminated))?;
    signal_hook::low_level::pipe::register(SIGTERM, writer.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGCHLD, writer.try_clone()?)?;
    // What was started in the background ignores some signals, and its children for ever with it. A
    // signal that has a handler here is set to its default for every program that is started.
    for signal in [
        SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE,
    ] {
        signal_hook::flag::register(signal, Arc::default())?;
    }
    Ok(Settled {
        user_umask,
        wake,
        terminated,
        durable: Durable::new(writer),
    })
}

/// What every shim has.
struct Settled {
    /// The user's umask, for the commands.
    user_umask: Mode,
    wake: UnixStream,
    terminated: Arc<AtomicBool>,
    durable: Durable,
}

impl Settled {
    fn shim(self, purpose: Purpose, connections: Connections) -> Shim {
        Shim::new(
            purpose,
            connections,
            self.durable,
            self.wake,
            self.terminated,
        )
    }
}

fn keep_run(
    path: &Path,
    socket: &Path,
    first: &mut Option<UnixStream>,
) -> anyhow::Result<ExitCode> {
    let settled = settle_in()?;
    let id: Option<RunId> = path
        .file_name()
        .and_then(|name| name.to_str())
        .and_then(|name| name.parse().ok());
    let Some(id) = id else {
        bail!("{} is not a run's folder", path.display());
    };
    let dir = RunDir::at(id, path.to_owned());
    let made = Connections::listen(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))
        .and_then(|connections| {
            let spec = dir.spec()?;
            let kept = open_alone(&dir, &spec)?;
            Ok((connections, spec, kept))
        });
    let (connections, spec, mut kept) = match made {
        Ok(made) => made,
        Err(error) => {
            let lost = RunRecord {
                reason: Some(format!("its keeper could not start: {error:#}")),
                ..RunRecord::new(RunState::Lost)
            };
            // The agent that started this shim sees it end in any case. An end that is written stays.
            if !dir.record().is_ok_and(|record| record.state.is_final()) {
                drop(dir.write_record(&lost));
            }
            return Err(error);
        }
    };
    let child = match command::start(&spec, settled.user_umask) {
        Ok(started) => {
            for (stream, fd) in started.outputs {
                kept.keep(stream, fd);
            }
            kept.feed = Feed::new(id, started.stdin, spec.pty.is_some(), true);
            if let Some(size) = spec.pty {
                kept.resize(size);
            }
            kept.set_running(started.pid, spec.timeout_ms.map(Duration::from_millis));
            Pid::from_raw(i32::try_from(started.pid)?)
        }
        Err(refused) => {
            let stream = match spec.pty {
                Some(_) => StreamName::Tty,
                None => StreamName::Stderr,
            };
            kept.store(stream, refused.message.as_bytes());
            kept.set_over(Over {
                code: refused.code,
                signal: None,
                cwd: None,
            });
            None
        }
    };
    let mut shim = settled.shim(Purpose::Alone { run: id, child }, connections);
    shim.runs.insert(id, kept);
    Ok(serve(shim, first))
}

fn open_alone(dir: &RunDir, spec: &RunSpec) -> anyhow::Result<KeptRun> {
    let feed = Feed::new(dir.id(), None, false, true);
    let (file, record) = orders::open_record(dir)?;
    if record.state.is_final() {
        bail!("the run has ended already");
    }
    Ok(KeptRun::open(dir.clone(), spec, file, record, feed)?)
}

fn keep_session(
    id: &str,
    socket: &Path,
    first: &mut Option<UnixStream>,
) -> anyhow::Result<ExitCode> {
    let settled = settle_in()?;
    let id: SessionId = id.parse()?;
    let connections = Connections::listen(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    let mut session = Session::new(id, socket, settled.user_umask)
        .with_context(|| format!("cannot make a folder beside {}", socket.display()))?;
    session.start_shell();
    let purpose = Purpose::Session(Box::new(session));
    Ok(serve(settled.shim(purpose, connections), first))
}

fn serve(mut shim: Shim, first: &mut Option<UnixStream>) -> ExitCode {
    if let Some(first) = first.take() {
        let hello = shim.hello();
        shim.connections.adopt(first, &hello);
    }
    shim.run()
}
