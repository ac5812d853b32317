//! Being another user: asking on the share socket, and what the tests share with them.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hpcclient_protocol::{
    RunId, ShareId,
    live::Access,
    run::StdinMode,
    share::{Share, ShareSpec, SharedObject},
};
use http::{Method, StatusCode};
use tokio::net::UnixStream;

use crate::node::{Client, Node, shell};

pub(super) const BOB: (&str, u32) = ("daemon", 1);
pub(super) const CAROL: (&str, u32) = ("bin", 2);

/// Sends each line of stdin (`METHOD PATH BODY`) on a connection of its own and prints status and body in a line.
pub(super) const ASK: &str = r#"use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE"; $| = 1;
while (<STDIN>) { chomp; my ($m, $p, $b) = split / /, $_, 3; $b //= "";
my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or do { print "refused $!\n"; next };
print $s "$m $p HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: ", length($b), "\r\n\r\n$b"; $s->flush;
local $/; my $a = <$s> // ""; my ($c) = $a =~ m{^HTTP/1.1 (\d+)}; $a =~ s/^.*?\r\n\r\n//s; $a =~ s/[^ -~]+/~/g; print $c // "cut", " $a\n" }"#;

/// Asks once and prints what comes until it ends.
pub(super) const FOLLOW: &str = r#"use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE"; $| = 1; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die;
print $s $ARGV[1]; $s->flush; my $b; while (sysread $s, $b, 4096) { $b =~ s/[^ -~]+/~/g; print "$b\n" } print "END\n";"#;

pub(super) fn as_user(uid: u32, script: &str, socket: &Path) -> Command {
    let uid = uid.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    command.args(["perl", "-e", script]).arg(socket);
    command
}

/// Asks as a user; each answer is a status and a body.
pub(super) fn ask(uid: u32, socket: &Path, requests: &[String]) -> Vec<(String, String)> {
    let mut asking = as_user(uid, ASK, socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = asking.stdin.take().unwrap();
    let lines = requests.join("\n") + "\n";
    let feeding = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = asking.wait_with_output().unwrap();
    feeding.join().unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<_> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(status, body)| (status.to_owned(), body.to_owned()))
        .collect();
    assert_eq!(answers.len(), requests.len(), "{text}");
    answers
}

pub(super) fn get(uid: u32, socket: &Path, path: &str) -> (String, String) {
    ask(uid, socket, &[format!("GET {path}")]).remove(0)
}

/// A user who follows something; [`Follower::until`] reads on.
pub(super) struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    pub(super) fn start(uid: u32, socket: &Path, request: &str) -> Self {
        let mut command = as_user(uid, FOLLOW, socket);
        let mut child = command.arg(request).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line holds `text`; the test's own limit ends one that never comes.
    pub(super) fn until(&mut self, text: &str) {
        let mut seen = vec![];
        while let Some(Ok(line)) = self.lines.next() {
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
        panic!("{text} did not come; there was {seen:?}");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Returns the share socket of a node's agent: others of this user may have one, too.
pub(super) async fn door(node: &Node) -> PathBuf {
    for entry in fs::read_dir("/tmp").unwrap().flatten() {
        let path = entry.path().join("sock");
        let is_one = entry
            .file_name()
            .to_string_lossy()
            .starts_with("hpcclient-share-");
        if is_one && let Ok(stream) = UnixStream::connect(&path).await {
            let pid = stream.peer_cred().unwrap().pid().unwrap();
            if pid.cast_unsigned() == node.hello.pid {
                return path;
            }
        }
    }
    panic!("the agent has no share socket");
}

pub(super) fn has_door(node: &Node) -> bool {
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let ours = format!("/proc/{}/fd", node.hello.pid);
    let inodes: Vec<String> = fs::read_dir(ours)
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|link| {
            link.to_string_lossy()
                .replace("socket:[", "")
                .replace(']', "")
        })
        .collect();
    sockets.lines().any(|line| {
        line.contains("/hpcclient-share-")
            && inodes
                .iter()
                .any(|inode| line.split_whitespace().nth(6) == Some(inode))
    })
}

pub(super) fn spec(run: RunId, guests: &[&str], access: Access) -> ShareSpec {
    ShareSpec {
        object: SharedObject::Run {
            run,
            streams: vec![],
        },
        guests: guests.iter().map(|name| (*name).to_owned()).collect(),
        access,
        expires_ms: None,
    }
}

pub(super) async fn share(client: &Client, spec: &ShareSpec) -> Share {
    let (status, body) = try_share(client, ShareId::random(), spec).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    serde_json::from_str(&body).unwrap()
}

pub(super) async fn try_share(
    client: &Client,
    id: ShareId,
    spec: &ShareSpec,
) -> (StatusCode, String) {
    let body = serde_json::to_vec(spec).unwrap();
    let (status, body) = client
        .ask(Method::PUT, &format!("/v1/shares/{id}"), body)
        .await;
    (status, String::from_utf8_lossy(&body).into_owned())
}

pub(super) async fn revoke(client: &Client, id: ShareId) -> StatusCode {
    client
        .ask(Method::DELETE, &format!("/v1/shares/{id}"), "")
        .await
        .0
}

pub(super) async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> T {
    let (status, body) = client.ask(Method::GET, path, "").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

pub(super) fn cat() -> hpcclient_protocol::RunSpec {
    let mut spec = shell("echo begun; echo problem >&2; exec cat");
    spec.stdin = StdinMode::Open;
    spec.env.insert("TOKEN".into(), "s3cret".into());
    spec
}
