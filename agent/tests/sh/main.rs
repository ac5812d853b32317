//! `hpcagent sh` as a person and as a script uses it, against a real agent.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach helpers beside them"
)]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// An agent of its own in an empty home directory, ended with the test.
struct Node {
    home: tempfile::TempDir,
    socket: PathBuf,
    pid: Pid,
}

impl Node {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let started = agent(&home).args(["serve", "--detach"]).output().unwrap();
        let line = String::from_utf8(started.stdout).unwrap();
        let json = line.strip_prefix("hpcclient-hello ").expect("a hello");
        let hello: serde_json::Value = serde_json::from_str(json).unwrap();
        let socket = hello.get("socket").and_then(|socket| socket.as_str());
        let pid = hello.get("pid").and_then(|pid| pid.as_i64());
        Self {
            home,
            socket: socket.unwrap().into(),
            pid: pid
                .and_then(|pid| Pid::from_raw(pid.try_into().unwrap()))
                .unwrap(),
        }
    }

    /// Runs `hpcagent sh` with this script on its stdin.
    fn script(&self, script: &str) -> Output {
        let mut child = agent(&self.home)
            .arg("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(script.as_bytes()).unwrap();
        drop(stdin);
        within(move || child.wait_with_output().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Ok(mut stream) = UnixStream::connect(&self.socket) else {
            return;
        };
        let body = r#"{"endRuns":true}"#;
        let request = format!(
            "POST /v1/stop HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_end(&mut vec![]);
        // Its directory in /tmp is gone when it is.
        let start = std::time::Instant::now();
        while rustix::process::test_kill_process(self.pid).is_ok()
            && start.elapsed() < std::time::Duration::from_secs(10)
        {
            std::thread::yield_now();
        }
    }
}

fn agent(home: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpcagent"));
    command
        .env("HPCCLIENT_HOME", home.path().join("node"))
        .env("HOME", home.path())
        .env("TERM", "xterm")
        .env("SHELL", "/bin/bash");
    command
}

/// Runs something that may hang.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(DEADLINE).expect("it ends in time")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_script_keeps_its_shell_its_streams_and_its_code() {
    let node = Node::start();
    let done = node.script("echo out; echo err >&2\ncd /tmp\nX=kept\npwd; echo $X\nfalse\n");
    assert_eq!(text(&done.stdout), "out\n/tmp\nkept\n");
    assert_eq!(text(&done.stderr), "err\n");
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn lines_that_belong_together_run_together_and_exit_ends_the_script() {
    let node = Node::start();
    let done = node.script("for i in 1 2; do\n  echo $i\ndone\ncat <<E\n'\nE\nexit 3\necho no\n");
    assert_eq!(text(&done.stderr), "");
    assert_eq!(text(&done.stdout), "1\n2\n'\n");
    assert_eq!(done.status.code(), Some(3));
}

#[test]
fn earlier_runs_are_listed_and_shown_again() {
    let node = Node::start();
    let first = node.script("echo first; echo aside >&2; exit 7 # line\n");
    assert_eq!(first.status.code(), Some(7));
    let done = node.script(":runs\n:attach 1\n");
    let out = text(&done.stdout);
    assert!(out.contains("exit 7"), "{out}");
    assert!(
        out.contains("echo first; echo aside >&2; exit 7 # line"),
        "{out}"
    );
    assert!(out.ends_with("\nfirst\n"), "{out}");
    assert_eq!(text(&done.stderr), "aside\n");
    assert_eq!(done.status.code(), Some(7));
    let done = node.script(":attach 9\n");
    assert!(text(&done.stderr).contains("no number 9"), "{done:?}");
    assert_eq!(done.status.code(), Some(2));
}

#[test]
fn megabytes_come_through_in_order() {
    let node = Node::start();
    let done = node.script("seq 1 300000\n");
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(
        text(&done.stdout) == expected,
        "{} bytes",
        done.stdout.len()
    );
}

#[test]
fn a_line_goes_on_when_the_agent_is_killed_under_it() {
    let node = Node::start();
    let marker = node.home.path().join("marker");
    let mut child = agent(&node.home)
        .arg("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = format!(
        "for i in $(seq 1 500); do echo $i; done; touch {0}; \
         while test -e {0}; do sleep 0.02; done; seq 501 1000; (exit 5)\n",
        marker.display()
    );
    child
        .stdin
        .take()
        .unwrap()
        .write_all(line.as_bytes())
        .unwrap();
    let start = Instant::now();
    while !marker.exists() {
        assert!(start.elapsed() < DEADLINE, "the line does not start");
        thread::sleep(Duration::from_millis(10));
    }
    kill_process(node.pid, Signal::KILL).unwrap();
    fs::remove_file(&marker).unwrap();
    let done = within(move || child.wait_with_output().unwrap());
    let expected: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    assert_eq!(text(&done.stdout), expected);
    assert_eq!(done.status.code(), Some(5));
}

/// A terminal with `hpcagent sh` in it.
struct Terminal {
    child: Child,
    keys: File,
    seen: mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn open(node: &Node) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, vec![]).unwrap();
        let slave: OwnedFd =
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let inner = agent(&node.home);
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(inner.get_program())
            .arg("sh");
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap());
        }
        command
            .current_dir(node.home.path())
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        let child = command.spawn().unwrap();
        drop(command);
        let keys = File::from(master);
        let mut screen = keys.try_clone().unwrap();
        let (send, seen) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = screen.read(&mut buffer) {
                if count == 0 || send.send(buffer.get(..count).unwrap().to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keys,
            seen,
            text: String::new(),
        }
    }

    fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen has shown this since the last call.
    fn until(&mut self, wanted: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(at) = self.text.find(wanted) {
                self.text.drain(..at + wanted.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.seen.recv_timeout(left) {
                Ok(bytes) => self.text += &text(&bytes),
                Err(_) => panic!("{wanted:?} does not come; on the screen: {:?}", self.text),
            }
        }
    }

    fn leave(mut self) -> Option<i32> {
        within(move || self.child.wait().unwrap().code())
    }
}

#[test]
fn a_person_types_completes_interrupts_and_leaves() {
    let node = Node::start();
    fs::create_dir(node.home.path().join("some folder")).unwrap();
    let mut terminal = Terminal::open(&node);
    terminal.until(":~$ ");
    terminal.type_keys("cd so\t\r");
    terminal.until(":~/some folder$ ");
    terminal.type_keys("echo $((40+2))\r");
    terminal.until("42");
    terminal.until("$ ");
    terminal.type_keys("echo started; sleep 1000\r");
    terminal.until("\nstarted");
    terminal.type_keys("\u{3}");
    terminal.until("$ ");
    terminal.type_keys("echo code $?\r");
    terminal.until("code 130");
    terminal.until("$ ");
    terminal.type_keys(":he\t\r");
    terminal.until(":attach N|ID");
    terminal.until("$ ");
    terminal.type_keys("half a line\u{3}");
    terminal.until("$ ");
    terminal.type_keys("(exit 4)\r");
    terminal.until("$ ");
    terminal.type_keys("\u{4}");
    assert_eq!(terminal.leave(), Some(4));

    let files = fs::read_dir(node.home.path().join("node/state/node")).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let history = files
        .find(|path| path.extension().is_some_and(|end| end == "history"))
        .unwrap();
    assert_eq!(
        fs::metadata(&history).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let lines = fs::read_to_string(&history).unwrap();
    assert!(lines.contains("echo $((40+2))\n"), "{lines}");
    assert!(!lines.contains("half a line"), "{lines}");
}
