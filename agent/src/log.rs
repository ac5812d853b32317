//! The daemon's log: `agent.log` in the run directory, bounded in size.
//!
//! Set up by `serve`; what a panic does, by `main` for all of `hpcagent`. In the foreground the log goes to stderr.
//! Invariants: the log and the one before it together stay below twice [`MAX_BYTES`]; a log that
//! cannot be written never stops the agent; no tokens, command lines or environment at `info`; a panic ends the process.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    panic,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, PoisonError},
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
};

/// Starts logging to stderr.
pub fn to_stderr() {
    let layer = fmt::layer().with_writer(io::stderr);
    start(tracing_subscriber::registry().with(filter()).with(layer));
}

/// Starts logging to a file.
///
/// # Errors
/// The file cannot be opened.
pub fn to_file(path: &Path) -> io::Result<()> {
    let log = BoundedLog::open(path)?;
    let layer = fmt::layer().with_ansi(false).with_writer(log);
    start(tracing_subscriber::registry().with(filter()).with(layer));
    Ok(())
}

/// Reads `HPCCLIENT_LOG`, such as `debug` or `info,hpcagent::runs=trace`.
fn filter() -> Targets {
    let wanted = std::env::var("HPCCLIENT_LOG")
        .ok()
        .filter(|wanted| !wanted.is_empty());
    wanted
        .and_then(|wanted| wanted.parse().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO))
}

fn start(subscriber: impl tracing::Subscriber + Send + Sync) {
    // A second start in one process keeps the first log.
    let _first = tracing::subscriber::set_global_default(subscriber);
}

/// Makes a panic on any thread end the process, once its message and place are in the log, or on stderr where there is
/// no log.
///
/// In every build, for the portable agent cannot unwind (profile `agent`) and what is tested has to be what ships.
/// It exits and does not abort: an abort may leave a core, with what people typed.
pub fn end_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if tracing::dispatcher::has_been_set() {
            tracing::error!(place = ?panic.location(), %panic, "a defect: please report this line");
        } else {
            print(panic);
        }
        #[expect(clippy::exit, reason = "after a defect nothing else is to run")]
        process::exit(DEFECT);
    }));
}

/// A file that is moved aside when it has grown too much.
#[derive(Debug)]
struct BoundedLog {
    path: PathBuf,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
}

impl BoundedLog {
    fn open(path: &Path) -> io::Result<Self> {
        let open = Mutex::new(Open::append(path)?);
        Ok(Self {
            path: path.to_path_buf(),
            open,
        })
    }
}

impl Open {
    fn append(path: &Path) -> io::Result<Self> {
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .append(true)
            .mode(0o600)
            .custom_flags(no_follow)
            .open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl Write for &BoundedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.size > MAX_BYTES {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *open = Open::append(&self.path)?;
        }
        let count = open.file.write(line)?;
        open.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for BoundedLog {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The exit code that Rust gives a program whose main thread panicked.
const DEFECT: i32 = 101;

/// Enough for weeks of an agent that is well, small beside anyone's quota.
const MAX_BYTES: u64 = 2 << 20;

#[cfg(test)]
mod tests {
    use std::{env, process::Command, thread};

    use super::*;

    /// Says to a process of these tests that it is to panic; its value is the log, or empty.
    const LOG: &str = "HPCCLIENT_TEST_LOG";

    #[test]
    fn a_panic_is_logged_and_ends_the_process() {
        if let Some(log) = env::var_os(LOG) {
            end_on_panic();
            if !log.is_empty() {
                to_file(Path::new(&log)).unwrap();
            }
            let _survived = thread::spawn(|| panic!("a card index with no cards")).join();
            return;
        }
        let this = "log::tests::a_panic_is_logged_and_ends_the_process";
        let die = |log: &Path| {
            let mut again = Command::new(env::current_exe().unwrap());
            again.args([this, "--exact", "--nocapture"]).env(LOG, log);
            let died = again.output().unwrap();
            assert_eq!(died.status.code(), Some(DEFECT), "{died:?}");
            String::from_utf8(died.stderr).unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("agent.log");
        let with_log = die(&log);
        for (said, elsewhere) in [
            (fs::read_to_string(&log).unwrap(), with_log),
            (die(Path::new("")), String::new()),
        ] {
            assert!(said.contains("a card index with no cards"), "{said}");
            assert!(said.contains("log.rs:"), "{said}");
            assert_eq!(elsewhere, "");
        }
    }

    #[test]
    fn the_log_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let log = BoundedLog::open(&path).unwrap();
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..100 {
            (&log).write_all(&line).unwrap();
        }
        let size = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size("agent.log") + size("agent.log.1") <= 2 * (MAX_BYTES + line.len() as u64));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
