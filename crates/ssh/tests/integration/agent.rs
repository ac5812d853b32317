//! Installing and starting the agent, and both ways to its socket.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use hpcclient_ssh::{
    AgentBinary, AgentLine, AgentStream, Connection, NoPrompts, NodeOptions, Route, SshError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::person::Person;
use crate::server::{Server, until};

/// The agent of this workspace: what `HPCCLIENT_AGENT` names, or a fresh build.
pub(crate) fn agent_binary() -> AgentBinary {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        if let Some(given) = std::env::var_os("HPCCLIENT_AGENT") {
            return PathBuf::from(given);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let built = Command::new(cargo)
            .args([
                "build",
                "--quiet",
                "--package",
                "hpcagent",
                "--bin",
                "hpcagent",
                "--target-dir",
            ])
            .arg(target)
            .status()
            .unwrap();
        assert!(built.success());
        target.join("debug/hpcagent")
    });
    AgentBinary { path: path.clone() }
}

pub(crate) fn node(server: &Server) -> NodeOptions {
    NodeOptions {
        home: Some(server.path("node home").display().to_string()),
    }
}

async fn connect(server: &Server) -> Connection {
    crate::open(&server.destination(), Arc::new(NoPrompts))
        .await
        .unwrap()
}

/// The daemon of a test. Ends when dropped.
pub(crate) struct Daemon {
    pub(crate) line: AgentLine,
    pub(crate) socket: String,
    pub(crate) pid: i32,
}

impl Daemon {
    pub(crate) fn new(line: AgentLine) -> Self {
        let hello: serde_json::Value = serde_json::from_str(&line.json).unwrap();
        Self {
            line,
            socket: hello.get("socket").unwrap().as_str().unwrap().to_owned(),
            pid: hello
                .get("pid")
                .unwrap()
                .as_i64()
                .unwrap()
                .try_into()
                .unwrap(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        if let Some(folder) = Path::new(&self.socket).parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

pub(crate) async fn status(mut stream: AgentStream) -> String {
    let request = b"GET /v1/status HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_agent_is_installed_once_and_reached_through_a_forwarded_socket() {
    let server = Server::start();
    let connection = connect(&server).await;
    let binary = agent_binary();
    let person = Person::with(&[]);
    let line = connection
        .ensure_agent(&binary, &node(&server), &*person)
        .await
        .unwrap();
    let daemon = Daemon::new(line.clone());
    assert_eq!(connection.channels_opened(), 3);
    assert!(person.told().contains("installing"));
    let sha = binary.sha256().await.unwrap();
    let expected = server
        .path("node home")
        .join("bin")
        .join(&sha[..16])
        .join("hpcagent");
    assert_eq!(Path::new(&line.exec), expected);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&expected), 0o500);
    assert_eq!(mode(expected.parent().unwrap()), 0o700);
    let left = std::fs::read_dir(expected.parent().unwrap())
        .unwrap()
        .count();
    assert_eq!(left, 1);

    // The second time it is one command, and the same daemon.
    let second = connect(&server).await;
    let again = second
        .ensure_agent(&binary, &node(&server), &NoPrompts)
        .await
        .unwrap();
    assert_eq!(second.channels_opened(), 1);
    assert_eq!(Daemon::new(again).pid, daemon.pid);
}

#[tokio::test]
async fn both_routes_reach_the_agent() {
    for (lines, expected) in [
        ("", Route::Streamlocal),
        ("DisableForwarding yes", Route::Exec),
        ("MaxSessions 1", Route::Streamlocal),
        ("MaxSessions 1\nDisableForwarding yes", Route::Exec),
    ] {
        let server = Server::with(lines);
        let connection = connect(&server).await;
        let line = connection
            .ensure_agent(&agent_binary(), &node(&server), &NoPrompts)
            .await
            .unwrap();
        let daemon = Daemon::new(line);
        for _ in 0..2 {
            let opened = connection
                .open_agent_stream(&daemon.line, &daemon.socket)
                .await;
            let (stream, route) = opened.unwrap();
            assert_eq!(route, expected);
            let answer = status(stream).await;
            assert!(
                answer.starts_with("HTTP/1.1 200") && answer.contains(&daemon.socket),
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn an_agent_that_died_is_started_again_by_the_second_route() {
    let server = Server::start();
    let connection = connect(&server).await;
    let line = connection
        .ensure_agent(&agent_binary(), &node(&server), &NoPrompts)
        .await
        .unwrap();
    let first = Daemon::new(line);
    let pid = rustix::process::Pid::from_raw(first.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // A process that is about to die still takes connections.
    until("the agent is gone", || {
        UnixStream::connect(&first.socket).is_err()
    })
    .await;
    let opened = connection
        .open_agent_stream(&first.line, &first.socket)
        .await;
    let (stream, route) = opened.unwrap();
    assert_eq!(route, Route::Streamlocal);
    let answer = status(stream).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    let _second = Daemon::new(AgentLine {
        json: status["hello"].to_string(),
        ..first.line.clone()
    });
}

#[tokio::test]
async fn a_chatty_login_shell_does_no_harm() {
    let server = Server::with(
        "DisableForwarding yes\n\
         ForceCommand echo 'Welcome to login1!'; echo oops >&2; eval \"$SSH_ORIGINAL_COMMAND\"",
    );
    let connection = connect(&server).await;
    let line = connection
        .ensure_agent(&agent_binary(), &node(&server), &NoPrompts)
        .await
        .unwrap();
    let daemon = Daemon::new(line);
    let opened = connection
        .open_agent_stream(&daemon.line, &daemon.socket)
        .await;
    assert!(status(opened.unwrap().0).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_program_that_is_no_agent_is_installed_whole_and_named_as_the_failure() {
    let server = Server::start();
    let connection = connect(&server).await;
    let path = PathBuf::from("/bin/true").canonicalize().unwrap();
    let binary = AgentBinary { path: path.clone() };
    let failed = connection
        .ensure_agent(&binary, &node(&server), &NoPrompts)
        .await
        .unwrap_err();
    assert!(matches!(failed, SshError::AgentStart { .. }), "{failed}");
    let sha = binary.sha256().await.unwrap();
    let installed = server
        .path("node home")
        .join("bin")
        .join(&sha[..16])
        .join("hpcagent");
    assert!(std::fs::read(installed).unwrap() == std::fs::read(path).unwrap());
}

#[tokio::test]
async fn what_a_node_cannot_do_has_an_error_of_its_own() {
    let server = Server::start();
    let connection = connect(&server).await;
    let script = server.path("script");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let binary = AgentBinary { path: script };
    let failed = connection
        .ensure_agent(&binary, &node(&server), &NoPrompts)
        .await
        .unwrap_err();
    assert!(matches!(failed, SshError::AgentBinary { .. }), "{failed}");

    let true_program = AgentBinary {
        path: PathBuf::from("/bin/true").canonicalize().unwrap(),
    };
    std::fs::write(server.path("file"), "").unwrap();
    let under_a_file = NodeOptions {
        home: Some(server.path("file").join("home").display().to_string()),
    };
    let failed = connection
        .ensure_agent(&true_program, &under_a_file, &NoPrompts)
        .await
        .unwrap_err();
    assert!(matches!(failed, SshError::Folder { .. }), "{failed}");

    let hostile = NodeOptions {
        home: Some(format!("{}/$(touch pwned)'\"", server.path("x").display())),
    };
    let failed = connection
        .ensure_agent(&true_program, &hostile, &NoPrompts)
        .await
        .unwrap_err();
    assert!(matches!(failed, SshError::Folder { .. }), "{failed}");

    let mute = Server::with("ForceCommand /bin/true");
    let connection = connect(&mute).await;
    let failed = connection
        .ensure_agent(&true_program, &node(&mute), &NoPrompts)
        .await
        .unwrap_err();
    assert!(matches!(failed, SshError::Probe { .. }), "{failed}");
}
