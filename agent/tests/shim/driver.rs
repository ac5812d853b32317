//! Starts a shim, speaks to it, and reads what it stored.

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hpcagent::{
    shim::control::{Decoder, FromShim, ToShim, encode},
    store::{RunDir, RunRecord, Store},
};
use hpcclient_protocol::{
    Command as Asked, Frame, RunId, RunSpec, RunState, StreamName,
    run::{StdinMode, StreamSizes},
};

/// Nothing here takes long; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a shim.
pub(crate) struct Line {
    stream: UnixStream,
    decoder: Decoder<FromShim>,
}

impl Line {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        Self {
            stream,
            decoder: Decoder::default(),
        }
    }

    pub(crate) fn send(&mut self, message: &ToShim, data: &[u8]) {
        self.stream
            .write_all(&encode(message, data).unwrap())
            .unwrap();
    }

    /// Returns the next message; `None` when the shim hung up.
    pub(crate) fn next(&mut self) -> Option<FromShim> {
        let start = Instant::now();
        loop {
            if let Some((message, _)) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(bytes.get(..count).unwrap()),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(_) => assert!(start.elapsed() < PATIENCE, "the shim says nothing"),
            }
        }
    }

    /// Waits for the record of a run to be as wanted.
    pub(crate) fn until(
        &mut self,
        run: RunId,
        wanted: impl Fn(&RunRecord, StreamSizes) -> bool,
    ) -> RunRecord {
        self.until_durable(run, |record, sizes, _| wanted(record, sizes))
    }

    /// Waits for the record of a run, its sizes, and what the disk has of it to be as wanted.
    pub(crate) fn until_durable(
        &mut self,
        run: RunId,
        wanted: impl Fn(&RunRecord, StreamSizes, StreamSizes) -> bool,
    ) -> RunRecord {
        let (start, mut last) = (Instant::now(), None);
        loop {
            assert!(
                start.elapsed() < PATIENCE,
                "not seen; the last was {last:?}"
            );
            match self.next() {
                Some(FromShim::Changed {
                    run: of,
                    record,
                    sizes,
                    durable,
                }) if of == run => {
                    if wanted(&record, sizes, durable.unwrap_or_default()) {
                        return *record;
                    }
                    last = Some((record, sizes));
                }
                Some(_) => {}
                None => panic!("the shim hung up; the last was {last:?}"),
            }
        }
    }

    pub(crate) fn until_state(&mut self, run: RunId, state: RunState) -> RunRecord {
        self.until(run, |record, _| record.state == state)
    }
}

/// A shim and the store that it writes.
pub(crate) struct Kept {
    pub(crate) child: Child,
    pub(crate) line: Line,
    pub(crate) store: Store,
    pub(crate) folder: PathBuf,
    _temp: Option<tempfile::TempDir>,
}

impl Kept {
    fn start(verb: &str, first: impl FnOnce(&Store) -> String, root: Option<&Path>) -> Self {
        let shim = Command::new(env!("CARGO_BIN_EXE_hpcagent"));
        let path = std::env::var_os("PATH").unwrap();
        Self::start_as(shim, ("/bin/bash", &path), verb, first, root)
    }

    fn start_as(
        shim: Command,
        place: (&str, &OsStr),
        verb: &str,
        first: impl FnOnce(&Store) -> String,
        root: Option<&Path>,
    ) -> Self {
        let temp = tempfile::Builder::new().prefix("shim").tempdir().unwrap();
        let folder = temp.path().to_owned();
        let store = Store::open(root.map_or_else(|| folder.join("runs"), Path::to_owned)).unwrap();
        fs::create_dir(folder.join("home")).unwrap();
        let first = first(&store);
        let (child, line) = spawn(shim, place, [verb, &first], &folder);
        Self {
            child,
            line,
            store,
            folder,
            _temp: Some(temp),
        }
    }

    pub(crate) fn session() -> Self {
        Self::start("session", |_| "nb-1".to_owned(), None)
    }

    /// A session on a node without bash.
    pub(crate) fn session_without_bash() -> Self {
        let shim = Command::new(env!("CARGO_BIN_EXE_hpcagent"));
        let place = ("/bin/sh", "/no/such".as_ref());
        Self::start_as(shim, place, "session", |_| "nb-1".to_owned(), None)
    }

    /// A session whose shim ignores some signals from its first moment, like all that is started in
    /// the background by a script.
    pub(crate) fn session_in_background() -> Self {
        let mut shim = Command::new("/bin/sh");
        let ignore = "trap '' INT QUIT USR1 PIPE; exec \"$0\" \"$@\"";
        shim.args(["-c", ignore, env!("CARGO_BIN_EXE_hpcagent")]);
        let path = std::env::var_os("PATH").unwrap();
        let place = ("/bin/bash", path.as_os_str());
        Self::start_as(shim, place, "session", |_| "nb-1".to_owned(), None)
    }

    /// A session whose shim is started in another way.
    pub(crate) fn session_as(shim: Command) -> Self {
        let path = std::env::var_os("PATH").unwrap();
        let place = ("/bin/bash", path.as_os_str());
        Self::start_as(shim, place, "session", |_| "nb-1".to_owned(), None)
    }

    pub(crate) fn alone(spec: &RunSpec) -> (Self, RunDir) {
        Self::alone_in(spec, None)
    }

    pub(crate) fn alone_in(spec: &RunSpec, root: Option<&Path>) -> (Self, RunDir) {
        Self::alone_as(Command::new(env!("CARGO_BIN_EXE_hpcagent")), spec, root)
    }

    /// The same with a shim that is started in another way.
    pub(crate) fn alone_as(shim: Command, spec: &RunSpec, root: Option<&Path>) -> (Self, RunDir) {
        let mut dir = None;
        let make = |store: &Store| {
            let made = store.create(RunId::random(), spec, 1, "node").unwrap();
            let path = made.path().to_str().unwrap().to_owned();
            dir = Some(made);
            path
        };
        let path = std::env::var_os("PATH").unwrap();
        let kept = Self::start_as(shim, ("/bin/bash", &path), "run", make, root);
        (kept, dir.unwrap())
    }

    /// A command on a disk that does what `fault` says; see `fault.c`.
    pub(crate) fn alone_on_bad_disk(spec: &RunSpec, fault: &Path) -> (Self, RunDir) {
        let library =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fault-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim/fault.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library)
            .arg(source)
            .status();
        assert!(made.unwrap().success());
        let mut shim = Command::new("/usr/bin/env");
        shim.arg(format!("LD_PRELOAD={}", library.display()))
            .arg(format!("SHIM_FAULT={}", fault.display()))
            .arg(env!("CARGO_BIN_EXE_hpcagent"));
        let path = std::env::var_os("PATH").unwrap();
        let mut dir = None;
        let make = |store: &Store| {
            let made = store.create(RunId::random(), spec, 1, "node").unwrap();
            let path = made.path().to_str().unwrap().to_owned();
            dir = Some(made);
            path
        };
        let kept = Self::start_as(shim, ("/bin/bash", &path), "run", make, None);
        (kept, dir.unwrap())
    }

    /// Gives a session a line, and returns its folder.
    pub(crate) fn give(&mut self, spec: &RunSpec) -> RunDir {
        let dir = self.store.create(RunId::random(), spec, 1, "node").unwrap();
        let path = dir.path().to_str().unwrap().into();
        self.line.send(
            &ToShim::Start {
                run: dir.id(),
                dir: path,
            },
            b"",
        );
        dir
    }

    /// Runs a line to its end and returns its record and what it wrote.
    pub(crate) fn run(&mut self, line: &str) -> (RunRecord, String, String) {
        let dir = self.give(&shell(line));
        let record = self.line.until_state(dir.id(), RunState::Exited);
        let text = |stream| String::from_utf8_lossy(&bytes(&dir, stream)).into_owned();
        (record, text(StreamName::Stdout), text(StreamName::Stderr))
    }

    pub(crate) fn connect(&self) -> Line {
        Line::new(UnixStream::connect(self.folder.join("s.sock")).unwrap())
    }

    /// Starts the same session's next shim, beside this one.
    pub(crate) fn successor(&self) -> Self {
        let shim = Command::new(env!("CARGO_BIN_EXE_hpcagent"));
        let path = std::env::var_os("PATH").unwrap();
        let place = ("/bin/bash", path.as_os_str());
        let (child, line) = spawn(shim, place, ["session", "nb-1"], &self.folder);
        Self {
            child,
            line,
            store: self.store.clone(),
            folder: self.folder.clone(),
            _temp: None,
        }
    }

    /// Returns what lies beside the socket.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Waits until the shim has exited.
    pub(crate) fn gone(&mut self) -> bool {
        poll(|| self.child.try_wait().unwrap().is_some())
    }
}

fn spawn(
    mut shim: Command,
    (shell, path): (&str, &OsStr),
    what: [&str; 2],
    folder: &Path,
) -> (Child, Line) {
    let home = folder.join("home");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = shim
        .arg("shim")
        .args(what)
        .arg(folder.join("s.sock"))
        .env_clear()
        .env("PATH", path)
        .env("HOME", &home)
        .env("SHELL", shell)
        .current_dir(&home)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (child, Line::new(ours))
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A test that failed leaves a shim; what it keeps ends with it or soon after.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn shell(line: &str) -> RunSpec {
    RunSpec::new(Asked::Shell(line.into()))
}

pub(crate) fn argv(argv: &[&[u8]]) -> RunSpec {
    RunSpec::new(Asked::Argv(
        argv.iter().map(|arg| arg.to_vec().into()).collect(),
    ))
}

pub(crate) fn fed(mut spec: RunSpec) -> RunSpec {
    spec.stdin = StdinMode::Open;
    spec
}

/// Returns everything a stream holds, by way of a viewer.
pub(crate) fn bytes(dir: &RunDir, stream: StreamName) -> Vec<u8> {
    let mut reader = dir.reader(StreamSizes::default()).unwrap();
    let mut all = vec![];
    while let Some(frame) = reader.next(1 << 20).unwrap() {
        match frame {
            Frame::Data {
                stream: of,
                offset,
                bytes,
            } if of == stream => {
                assert_eq!(offset, all.len() as u64);
                all.extend_from_slice(&bytes);
            }
            Frame::Gap { .. } => panic!("a gap: {frame:?}"),
            _ => {}
        }
    }
    all
}

pub(crate) fn text(dir: &RunDir, stream: StreamName) -> String {
    String::from_utf8_lossy(&bytes(dir, stream)).into_owned()
}

/// Asks until it is so or patience ends.
pub(crate) fn poll(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if is_so() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}
