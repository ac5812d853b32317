//! Ctrl-C while the login node has not answered yet, or nobody reads the output: the command ends
//! at once.

use std::{
    io::Read as _,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{SOON, eventually};

fn hpcclient(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpcclient"));
    command
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("HPCCLIENT_CONFIG_DIR", home.join("config"))
        .env("HPCCLIENT_STATE_DIR", home.join("state"))
        .env("HPCCLIENT_AGENT", env!("CARGO_BIN_EXE_hpcclient"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A command that a failing test leaves running is killed, and the bridge it started is stopped.
struct Running<'a> {
    command: Option<Child>,
    home: &'a Path,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(command) = &mut self.command {
            let _ = command.kill();
            let _ = command.wait();
        }
        let _ = hpcclient(self.home, &["stop"]).output();
    }
}

#[tokio::test]
async fn a_command_that_has_not_begun_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let destination = format!("me@127.0.0.1:{}", silent.local_addr().unwrap().port());
    let mut command = hpcclient(dir.path(), &["run", "-c", &destination, "--", "true"]);
    let mut running = Running {
        command: Some(command.spawn().unwrap()),
        home: dir.path(),
    };
    let _connection = eventually(async || silent.accept().ok()).await;

    let child = running.command.as_mut().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let pressed = std::time::Instant::now();
    let status = eventually(async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(130));
    assert!(pressed.elapsed() < SOON / 2);
    let said = running.command.take().unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stderr), "");
    assert!(said.stdout.is_empty());
}

#[tokio::test]
async fn a_view_of_a_run_ends_although_nobody_reads_it() {
    let bridge = crate::Running::connected().await;
    let home = tempfile::tempdir().unwrap();
    let run = "0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70";
    let mut command = hpcclient(home.path(), &["attach", "-c", "c", run]);
    command.env("HPCCLIENT_STATE_DIR", bridge.dir.path().join("bridge"));
    let mut running = Running {
        command: Some(command.spawn().unwrap()),
        home: home.path(),
    };
    let child = running.command.as_mut().unwrap();
    // A byte has come, so it shows the run; the rest fills the pipe and waits.
    let mut output = child.stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        output.read_exact(&mut [0]).unwrap();
        output
    });
    let _unread = reading.await.unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let status = eventually(async || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(130));
    drop(running);
    bridge.end().await;
}
