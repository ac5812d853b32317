//! `hpcagent serve --detach` and `hpcagent connect`: make sure a daemon runs, say where, and pipe.
//!
//! Started by the bridge over SSH. Runs without an async runtime, since it lives for milliseconds or
//! copies bytes between two descriptors.
//! Invariants: stdout gets one line, `hpcclient-hello {json}`, begun on a line of its own where a
//! stream follows, and then only what the socket sends; the daemon keeps none of our descriptors, so
//! that sshd can end the channel.
//! Not here: the daemon (`serve`).

use std::{
    env,
    fs::OpenOptions,
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hpcclient_protocol::status::AgentHello;

use crate::{hello, place::Place};

/// The word before the JSON in the one line for the bridge.
pub const HELLO_PREFIX: &str = "hpcclient-hello ";

/// The argument that makes `serve` the daemon behind [`ensure`].
pub const DAEMON_ARGUMENT: &str = "--daemon";

/// Starts the daemon unless it runs, and prints its hello.
///
/// # Errors
/// It could not be started.
pub fn detach() -> Result<()> {
    print_hello(&ensure(&Place::resolve()?)?)
}

/// The same, then copies stdin to the agent's socket and the socket to stdout, until either ends.
///
/// # Errors
/// The agent could not be started or reached, or a copy failed.
pub fn connect() -> Result<()> {
    let hello = ensure(&Place::resolve()?)?;
    let socket = UnixStream::connect(&hello.socket)
        .with_context(|| format!("cannot connect to {}", hello.socket))?;
    // A profile may have printed a line without its end.
    write_stdout(b"\n").context("stdout is closed")?;
    print_hello(&hello)?;
    let mut upstream = socket.try_clone().context("cannot share the socket")?;
    // A thread of its own, because it may wait in read(2) for ever; it ends with the process.
    let up = std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(move || {
            let _cut = copy(read_stdin, |bytes| upstream.write_all(bytes));
            let _gone = upstream.shutdown(Shutdown::Write);
        });
    up.context("cannot start a thread")?;
    let mut downstream = socket;
    copy(|buffer| downstream.read(buffer), write_stdout).context("the connection was cut")
}

/// Returns the hello of the daemon of this node, and starts it when there is none.
///
/// # Errors
/// It could not be started in [`START_LIMIT`].
pub fn ensure(place: &Place) -> Result<AgentHello> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Ok(hello) = hello::ask(&place.socket()) {
            return Ok(hello);
        }
        if let Some(hello) = start(place)? {
            return Ok(hello);
        }
        // Another start holds the lock and does not answer yet, or an agent is about to end.
        if Instant::now() > deadline {
            bail!(
                "an agent holds the lock in {} and does not answer; its log is {}",
                place.run_dir().display(),
                place.log().display()
            );
        }
        std::thread::sleep(RETRY);
    }
}

/// Starts the daemon and waits for its hello; `None` when another one has the lock.
fn start(place: &Place) -> Result<Option<AgentHello>> {
    let log = open_log(&place.log())?;
    let binary = env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let mut child = Command::new(binary)
        .args(["serve", DAEMON_ARGUMENT])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the agent as a daemon")?;
    let stdout = child.stdout.take().context("the daemon has no stdout")?;
    let mut line = String::new();
    // The daemon closes this pipe after its hello, or by ending: this cannot wait for ever.
    BufReader::new(stdout.take(64 * 1024))
        .read_line(&mut line)
        .context("the daemon said nothing")?;
    if let Some(json) = line.strip_prefix(HELLO_PREFIX) {
        return serde_json::from_str(json)
            .map(Some)
            .context("the daemon's hello cannot be read");
    }
    let status = child.wait().context("the daemon cannot be waited for")?;
    if status.success() {
        return Ok(None);
    }
    bail!(
        "the agent did not start; the end of {}:\n{}",
        place.log().display(),
        tail(&place.log())
    )
}

fn open_log(path: &Path) -> Result<std::fs::File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Prints the one line that the bridge waits for.
///
/// # Errors
/// stdout is closed.
pub fn print_hello(hello: &AgentHello) -> Result<()> {
    let json = serde_json::to_string(hello).context("cannot encode the hello")?;
    write_stdout(format!("{HELLO_PREFIX}{json}\n").as_bytes()).context("stdout is closed")
}

fn copy(
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0u8; COPY_BYTES];
    loop {
        let count = match read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match buffer.get(..count) {
            Some(bytes) if !bytes.is_empty() => write(bytes)?,
            _ => return Ok(()),
        }
    }
}

/// Reads without std's buffer, which would hold bytes back.
fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(rustix::stdio::stdin(), buffer)?)
}

fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A shared file system on a bad day, and the hash of the binary.
const START_LIMIT: Duration = Duration::from_secs(15);

const RETRY: Duration = Duration::from_millis(20);

const COPY_BYTES: usize = 256 * 1024;
