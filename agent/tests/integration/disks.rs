//! The agent on a disk that turns read-only, and on one that fails to read now and then. They need root and strace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use hpcclient_protocol::{ApiError, ErrorCode, RunId, RunState, run::RunList};
use http::{Method, StatusCode};

use crate::{
    node::{Node, detach, is_alive, shell, wait_until, with_tasks},
    patient::Patient,
};

/// A disk of its own for the state root.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        let this = Self(at.to_path_buf());
        assert!(this.call(&["-t", "tmpfs", "-o", "size=100m,mode=0700", "tmpfs"]));
        this
    }

    fn call(&self, args: &[&str]) -> bool {
        let done = Command::new("mount").args(args).arg(&self.0).output();
        done.unwrap().status.success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_read_only_disk_refuses_what_is_new_and_shows_what_is_there() {
    with_tasks(async {
        let mut disk = None;
        let node = Node::start_on(|state| disk = Some(Disk::mount(state)));
        let disk = disk.unwrap();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("echo stored")).await;
        client.follow(id, 0).await;
        // The supervisor closes its files when the disk has everything.
        wait_until("the disk is read-only", || disk.call(&["-o", "remount,ro"]));
        for _ in 0..3 {
            let (status, said) = client.put(RunId::random(), &shell("echo no")).await;
            let error: ApiError = serde_json::from_slice(&said).unwrap();
            assert!(status.is_server_error(), "{status} {error:?}");
            assert!(
                error
                    .to_string()
                    .to_lowercase()
                    .contains("read-only file system"),
                "{error}"
            );
        }
        assert_eq!(client.follow(id, 0).await.text(), "stored\n");
        let (status, list) = client.ask(Method::GET, "/v1/runs", "").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            serde_json::from_slice::<RunList>(&list).unwrap().runs.len(),
            1
        );
        assert!(disk.call(&["-o", "remount,rw"]));
        assert_eq!(client.run(&shell("echo again")).await.text(), "again\n");
        drop(node);
    });
}

/// An agent in the foreground whose reads of these files fail now and then.
struct Failing(Child);

impl Failing {
    fn start(node: &Node, files: &[PathBuf], inject: &str, log: &Path) -> Self {
        let agent = node.command(&[]);
        let call = inject.split(':').next().unwrap();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "signal=none"]);
        strace.args([
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={inject}"),
        ]);
        for file in files {
            strace.arg("-P").arg(file);
        }
        strace.arg(agent.get_program()).arg("serve").env_clear();
        for (name, value) in agent.get_envs() {
            strace.env(name, value.unwrap_or_default());
        }
        strace
            .stdout(Stdio::null())
            .stderr(fs::File::create(log).unwrap());
        Self(strace.spawn().unwrap())
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn reads_that_fail_now_and_then_are_told_and_never_answered_with_other_bytes() {
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let mut runs = vec![];
        for n in 0..8 {
            let id = RunId::random();
            client
                .put(id, &shell(&format!("seq 1 {n}0000; exit {n}")))
                .await;
            let whole = client.follow(id, 0).await.stdout;
            runs.push((id, whole));
        }
        for (call, error) in [("pread64", "EIO"), ("openat", "ESTALE"), ("read", "EIO")] {
            stop(&node, &client_of(&node)).await;
            let files = all_files(&node.state().join("runs"));
            let log = node.home().join(format!("{call}.log"));
            let inject = format!("{call}:error={error}:when=13+100");
            let failing = Failing::start(&node, &files, &inject, &log);
            let socket = Path::new(&node.hello.socket);
            wait_until("it serves", || {
                std::os::unix::net::UnixStream::connect(socket).is_ok()
            });
            node.hello = detach(&mut node.command(&["serve", "--detach"]));
            let told = ask_for_all(&client_of(&node), &runs).await;
            println!("{call}: {told} answers told of {error}");
            assert!(told > 0, "nothing failed: {call}");
            assert!(is_alive(node.hello.pid));
            let log = fs::read_to_string(&log).unwrap();
            assert!(!log.contains("a defect"), "{log}");
            stop(&node, &client_of(&node)).await;
            drop(failing);
            node.detach();
        }
        let client = client_of(&node);
        for (id, _) in &runs {
            assert_eq!(client.get(*id).await.state, RunState::Exited);
        }
    });
}

fn client_of(node: &Node) -> Patient {
    Patient::new(&node.hello.socket)
}

async fn stop(node: &Node, client: &Patient) {
    let body = Bytes::from_static(b"{}");
    client.ask_once(&Method::POST, "/v1/stop", &body).await;
    wait_until("the agent stopped", || !is_alive(node.hello.pid));
}

/// Asks for every run in every way, some times, and returns how many answers told of a failure.
async fn ask_for_all(client: &Patient, runs: &[(RunId, Vec<u8>)]) -> usize {
    let none = Bytes::new();
    let mut told = 0;
    for _ in 0..12 {
        let (status, body) = client.ask(Method::GET, "/v1/runs", none.clone()).await;
        if status == StatusCode::OK {
            let list: RunList = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                list.runs.len(),
                runs.len(),
                "a run is missing from the list"
            );
            told += list.runs.iter().filter(|run| run.reason.is_some()).count();
        } else {
            told += is_error(&body);
        }
        for (number, (id, whole)) in runs.iter().enumerate() {
            let path = format!("/v1/runs/{id}");
            let (status, body) = client.ask(Method::GET, &path, none.clone()).await;
            if status == StatusCode::OK {
                let run: hpcclient_protocol::Run = serde_json::from_slice(&body).unwrap();
                let right = run.exit_code == i32::try_from(number).ok();
                assert!(right || run.reason.is_some(), "{run:?}");
                told += usize::from(run.reason.is_some());
            } else {
                told += is_error(&body);
            }
            let path = format!("/v1/runs/{id}/stdout");
            // An answer that was cut is a failure that the reader sees.
            match client.ask_once(&Method::GET, &path, &none).await {
                Some((StatusCode::OK, body)) => assert!(body == whole[..], "other bytes"),
                Some((_, body)) => told += is_error(&body),
                None => told += 1,
            }
        }
    }
    told
}

fn is_error(body: &[u8]) -> usize {
    let error: ApiError = serde_json::from_slice(body).unwrap();
    assert_ne!(error.code, ErrorCode::NotFound, "{error}");
    assert!(!error.message.is_empty());
    1
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
