//! Shares: who gets what through the share socket, how a share ends, and what is left of it.
//!
//! The guests are users that every system has; to be them the tests need root.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::{SinkExt, StreamExt};
use hpcclient_protocol::{
    ByteString, Frame, FrameDecoder, RunId, ShareId, StreamName,
    live::{Access, AgentMessage, Viewer, ViewerMessage},
    run::{StdinMode, StreamSizes},
    share::{AuditList, Share, ShareList, ShareSpec, SharedObject},
};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Message;

use crate::node::{Client, Node, detach, shell, wait_until, with_tasks};

const BOB: (&str, u32) = ("daemon", 1);
const CAROL: (&str, u32) = ("bin", 2);

/// Sends each line of stdin (`METHOD PATH BODY`) on a connection of its own and prints status and body in a line.
const ASK: &str = r#"use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE"; $| = 1;
while (<STDIN>) { chomp; my ($m, $p, $b) = split / /, $_, 3; $b //= "";
my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or do { print "refused $!\n"; next };
print $s "$m $p HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: ", length($b), "\r\n\r\n$b"; $s->flush;
local $/; my $a = <$s> // ""; my ($c) = $a =~ m{^HTTP/1.1 (\d+)}; $a =~ s/^.*?\r\n\r\n//s; $a =~ s/[^ -~]+/~/g; print $c // "cut", " $a\n" }"#;

/// Asks once and prints what comes until it ends.
const FOLLOW: &str = r#"use IO::Socket::UNIX; $SIG{PIPE} = "IGNORE"; $| = 1; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die;
print $s $ARGV[1]; $s->flush; my $b; while (sysread $s, $b, 4096) { $b =~ s/[^ -~]+/~/g; print "$b\n" } print "END\n";"#;

fn as_user(uid: u32, script: &str, socket: &Path) -> Command {
    let uid = uid.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    command.args(["perl", "-e", script]).arg(socket);
    command
}

/// Asks as a user; each answer is a status and a body.
fn ask(uid: u32, socket: &Path, requests: &[String]) -> Vec<(String, String)> {
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

fn get(uid: u32, socket: &Path, path: &str) -> (String, String) {
    ask(uid, socket, &[format!("GET {path}")]).remove(0)
}

/// A user who follows something; [`Follower::until`] reads on.
struct Follower {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Follower {
    fn start(uid: u32, socket: &Path, request: &str) -> Self {
        let mut command = as_user(uid, FOLLOW, socket);
        let mut child = command.arg(request).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line holds `text`; the test's own limit ends one that never comes.
    fn until(&mut self, text: &str) {
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
async fn door(node: &Node) -> PathBuf {
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

fn has_door(node: &Node) -> bool {
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

fn spec(run: RunId, guests: &[&str], access: Access) -> ShareSpec {
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

async fn share(client: &Client, spec: &ShareSpec) -> Share {
    let (status, body) = try_share(client, ShareId::random(), spec).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn try_share(client: &Client, id: ShareId, spec: &ShareSpec) -> (StatusCode, String) {
    let body = serde_json::to_vec(spec).unwrap();
    let (status, body) = client
        .ask(Method::PUT, &format!("/v1/shares/{id}"), body)
        .await;
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn revoke(client: &Client, id: ShareId) -> StatusCode {
    client
        .ask(Method::DELETE, &format!("/v1/shares/{id}"), "")
        .await
        .0
}

async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> T {
    let (status, body) = client.ask(Method::GET, path, "").await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

fn cat() -> hpcclient_protocol::RunSpec {
    let mut spec = shell("echo begun; echo problem >&2; exec cat");
    spec.stdin = StdinMode::Open;
    spec.env.insert("TOKEN".into(), "s3cret".into());
    spec
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Every question to a run, on the share socket and on the agent's own.
fn questions(run: RunId) -> Vec<String> {
    let mut all = vec![
        format!("GET /v1/runs/{run}"),
        format!("GET /v1/runs/{run}/stream?follow=false"),
        format!("GET /v1/runs/{run}/stdout"),
        format!("GET /v1/runs/{run}/stderr"),
        format!("POST /v1/runs/{run}/stdin?writer=w&seq=1 typed"),
        format!("POST /v1/runs/{run}/signal {{\"signal\":\"TERM\"}}"),
    ];
    for part in [
        "kill", "resize", "signal", "stdin", "stream", "stdout", "viewers", "export", "x",
    ] {
        all.extend(
            ["PUT", "DELETE", "PATCH", "OPTIONS"]
                .map(|verb| format!("{verb} /v1/runs/{run}/{part} {{}}")),
        );
    }
    all.extend([
        format!("POST /v1/runs/{run}/kill"),
        format!("GET /v1/runs/{run}/export?as=raw"),
        format!("GET /v1/runs/{run}/viewers"),
        format!("GET /v1/runs/{run}/../{run}/stdout"),
        format!("GET /v1/runs/{run}%2Fstdout"),
        format!("PUT /v1/runs/{run} {{\"command\":{{\"shell\":\"id\"}}}}"),
        format!("DELETE /v1/runs/{run}"),
        "GET /v1/runs".to_owned(),
        "GET /v1/status".to_owned(),
        "GET /v1/files?path=/".to_owned(),
        "GET /v1/file?path=/etc/passwd".to_owned(),
        "GET /v1/events".to_owned(),
        "GET /v1/audit".to_owned(),
        "GET /v1/live".to_owned(),
        "POST /v1/stop {\"endRuns\":true}".to_owned(),
        format!("PUT /v1/shares/{} {{}}", ShareId::random()),
        "GET /".to_owned(),
    ]);
    all
}

/// Returns which of the questions were answered with something else than the one 404.
fn answered(uid: u32, socket: &Path, questions: &[String]) -> Vec<String> {
    let answers = ask(uid, socket, questions);
    let hidden = r#"{"code":"notFound","message":"nothing of this name is shared with you"}"#;
    let open = answers
        .iter()
        .zip(questions)
        .filter(|((status, body), question)| {
            let is_hidden = status == "404" && body == hidden;
            assert!(is_hidden || status == "200", "{question}: {status} {body}");
            !is_hidden
        });
    open.map(|(_, question)| question.clone()).collect()
}

#[test]
fn every_user_gets_what_was_shared_with_them_and_nothing_else() {
    if !is_root() {
        return;
    }
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let (viewed, driven, part, other) = (
            RunId::random(),
            RunId::random(),
            RunId::random(),
            RunId::random(),
        );
        for run in [viewed, driven, part, other] {
            client.put(run, &cat()).await;
        }
        assert!(!has_door(&node), "nothing is shared yet");
        share(&client, &spec(viewed, &[BOB.0], Access::View)).await;
        share(&client, &spec(driven, &[BOB.0], Access::Drive)).await;
        let mut stdout = spec(part, &[BOB.0], Access::View);
        stdout.object = SharedObject::Run {
            run: part,
            streams: vec![StreamName::Stdout],
        };
        share(&client, &stdout).await;
        let door = door(&node).await;
        for run in [viewed, driven, part] {
            let all = questions(run);
            assert_eq!(answered(CAROL.1, &door, &all), [""; 0], "carol is no guest");
            assert_eq!(answered(65534, &door, &all), [""; 0]);
            assert_eq!(
                answered(0, &door, &all),
                [""; 0],
                "root comes in by the other door"
            );
        }
        assert_eq!(
            answered(BOB.1, &door, &questions(other)),
            [""; 0],
            "not shared"
        );
        assert_eq!(
            answered(BOB.1, &door, &questions(RunId::random())),
            [""; 0],
            "guessed"
        );
        let all = questions(viewed);
        assert_eq!(answered(BOB.1, &door, &all), all[..4]);
        let all = questions(driven);
        assert_eq!(answered(BOB.1, &door, &all), all[..5]);
        let all = questions(part);
        assert_eq!(answered(BOB.1, &door, &all), all[..3]);
        // What they got is what it should be.
        wait_until("the guest's line is in", || {
            get(BOB.1, &door, &format!("/v1/runs/{driven}/stdout"))
                .1
                .contains("typed")
        });
        let (_, stream) = get(
            BOB.1,
            &door,
            &format!("/v1/runs/{part}/stream?follow=false"),
        );
        assert!(
            stream.contains("begun") && !stream.contains("~problem"),
            "{stream}"
        );
        for path in [
            format!("/v1/runs/{viewed}"),
            format!("/v1/runs/{viewed}/stream?follow=false"),
        ] {
            let (_, text) = get(BOB.1, &door, &path);
            assert!(
                text.contains("exec cat") && !text.contains("s3cret") && !text.contains("TOKEN"),
                "{text}"
            );
        }
        let listed = |uid| get(uid, &door, "/v1/shares").1;
        assert_eq!(listed(CAROL.1), "[]");
        assert_eq!(listed(0), "[]");
        let shares: Vec<Share> = serde_json::from_str(&listed(BOB.1)).unwrap();
        assert_eq!(shares.len(), 3);
        // INT is for those who drive.
        let int = |run| format!("POST /v1/runs/{run}/signal {{\"signal\":\"INT\"}}");
        let answers = ask(BOB.1, &door, &[int(viewed), int(part), int(driven)]);
        let statuses: Vec<_> = answers.iter().map(|(status, _)| status.as_str()).collect();
        assert_eq!(statuses, ["404", "404", "200"]);
        assert_eq!(
            client
                .follow(driven, 0)
                .await
                .end
                .unwrap()
                .signal
                .as_deref(),
            Some("INT")
        );
        assert!(!client.get(viewed).await.state.is_final());
    });
}

#[test]
fn a_share_that_was_taken_back_or_is_over_cuts_who_is_looking() {
    if !is_root() {
        return;
    }
    with_tasks(async {
        let mut node = Node::start();
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &cat()).await;
        let view = spec(run, &[BOB.0, CAROL.0], Access::View);
        let shared = share(&client, &view).await;
        let follow = format!("GET /v1/runs/{run}/stream HTTP/1.1\r\nhost: a\r\n\r\n");
        let socket = door(&node).await;
        let mut bob = Follower::start(BOB.1, &socket, &follow);
        bob.until("begun");
        let viewers = client
            .ask(Method::GET, &format!("/v1/runs/{run}/viewers"), "")
            .await;
        if viewers.0 == StatusCode::OK {
            let viewers: Vec<Viewer> = serde_json::from_slice(&viewers.1).unwrap();
            assert_eq!(viewers[0].user, BOB.0);
        }
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
        bob.until("END");
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NOT_FOUND);
        wait_until("the door is shut", || !has_door(&node));
        assert!(!socket.exists() && !socket.parent().unwrap().exists());

        // It outlives the agent, also one that is killed, and ends all the same.
        let shared = share(&client, &view).await;
        drop(client);
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        let list: ShareList = read(&client, "/v1/shares").await;
        assert_eq!(list.by_me, std::slice::from_ref(&shared));
        let socket = door(&node).await;
        let mut bob = Follower::start(BOB.1, &socket, &follow);
        bob.until("begun");
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
        bob.until("END");
        drop(client);
        node.kill_agent();
        node.detach();
        let client = node.client().await;
        assert_eq!(read::<ShareList>(&client, "/v1/shares").await.by_me, []);
        assert!(!has_door(&node));

        // It ends by itself, and whoever is looking is cut.
        let mut short = view.clone();
        short.expires_ms = Some(hpcagent::clock::now_ms() + 3000);
        share(&client, &short).await;
        let socket = door(&node).await;
        let mut bob = Follower::start(BOB.1, &socket, &follow);
        bob.until("begun");
        bob.until("END");
        wait_until("the door is shut", || !has_door(&node));
        assert_eq!(read::<ShareList>(&client, "/v1/shares").await.by_me, []);

        let audit: AuditList = read(&client, "/v1/audit?limit=1000").await;
        let actions: Vec<_> = audit
            .entries
            .iter()
            .map(|entry| entry.action.as_str())
            .collect();
        assert_eq!(
            actions.iter().filter(|action| **action == "opened").count(),
            3,
            "{actions:?}"
        );
        assert!(
            audit
                .entries
                .iter()
                .all(|entry| entry.guest == BOB.0 && entry.uid == BOB.1)
        );
        let file = node
            .state()
            .join("node")
            .join(hpcagent::place::host_name())
            .join("audit.ndjson");
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    });
}

#[test]
fn what_cannot_be_shared_is_refused_and_says_why() {
    if !is_root() {
        return;
    }
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &shell("true")).await;
        client.follow(run, 0).await;
        let good = spec(run, &[BOB.0], Access::View);
        let refused = async |change: &dyn Fn(&mut ShareSpec)| {
            let mut spec = good.clone();
            change(&mut spec);
            let (status, body) = try_share(&client, ShareId::random(), &spec).await;
            (status.as_u16(), body)
        };
        let day = 86_400_000;
        let now = hpcagent::clock::now_ms();
        for (status, word, change) in [
            (
                404,
                "no user `nobody-here`",
                &(|s: &mut ShareSpec| s.guests = vec!["nobody-here".into()])
                    as &dyn Fn(&mut ShareSpec),
            ),
            (404, "no user `1`", &|s| s.guests = vec!["1".into()]),
            (400, "1 to 32 guests", &|s| s.guests.clear()),
            (400, "already yours", &|s| s.guests = vec!["root".into()]),
            (400, "before it begins", &|s| s.expires_ms = Some(now - 1)),
            (400, "within 7 days", &|s| {
                s.access = Access::Drive;
                s.expires_ms = Some(now + 8 * day);
            }),
            (400, "no stream `tty`", &|s| {
                s.object = SharedObject::Run {
                    run,
                    streams: vec![StreamName::Tty],
                }
            }),
            (400, "can only be viewed", &|s| {
                s.access = Access::Drive;
                s.object = SharedObject::Run {
                    run,
                    streams: vec![StreamName::Stdout],
                };
            }),
            (404, "does not exist", &|s| {
                s.object = SharedObject::Run {
                    run: RunId::random(),
                    streams: vec![],
                }
            }),
            (404, "cannot read", &|s| {
                s.object = SharedObject::File {
                    path: "/nothing/here".into(),
                }
            }),
            (409, "directory", &|s| {
                s.object = SharedObject::File {
                    path: "/etc".into(),
                }
            }),
            (409, "not a regular file", &|s| {
                s.object = SharedObject::File {
                    path: "/dev/null".into(),
                }
            }),
            (400, "can only be viewed", &|s| {
                s.access = Access::Drive;
                s.object = SharedObject::File {
                    path: "/etc/passwd".into(),
                };
            }),
        ] {
            let (got, body) = refused(change).await;
            assert!(got == status && body.contains(word), "{word}: {got} {body}");
        }
        assert!(!has_door(&node));
        // A retry shares once; another spec under the same id is a conflict.
        let id = ShareId::random();
        assert_eq!(try_share(&client, id, &good).await.0, StatusCode::CREATED);
        assert_eq!(try_share(&client, id, &good).await.0, StatusCode::OK);
        let mut other = good.clone();
        other.access = Access::Drive;
        assert_eq!(try_share(&client, id, &other).await.0, StatusCode::CONFLICT);
        // Whoever lets others type does so for a time.
        let shared = share(&client, &other).await;
        assert!(shared.spec.expires_ms.unwrap() <= hpcagent::clock::now_ms() + 7 * day);
    });
}

#[test]
fn a_shared_file_is_that_file_and_no_other() {
    if !is_root() {
        return;
    }
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let (path, secret) = (node.home().join("result é.txt"), node.home().join("secret"));
        fs::write(&path, "shown").unwrap();
        fs::write(&secret, "hidden").unwrap();
        let object = |path: &Path| SharedObject::File {
            path: ByteString::from(path.to_string_lossy().into_owned()),
        };
        let mut view = spec(RunId::random(), &[BOB.0], Access::View);
        view.object = object(&path);
        let shared = share(&client, &view).await;
        let door = door(&node).await;
        let encoded = |path: &Path| {
            format!(
                "/v1/file?path={}",
                path.display()
                    .to_string()
                    .replace(' ', "%20")
                    .replace('é', "%C3%A9")
            )
        };
        assert_eq!(
            get(BOB.1, &door, &encoded(&path)),
            ("200".into(), "shown".into())
        );
        assert_eq!(get(CAROL.1, &door, &encoded(&path)).0, "404");
        assert_eq!(get(BOB.1, &door, &encoded(&secret)).0, "404");
        let around = path.parent().unwrap().join("x/../result é.txt");
        assert_eq!(get(BOB.1, &door, &encoded(&around)).0, "404");
        // A new version of it is still it; a link to something else is not.
        fs::write(node.home().join("new"), "newer").unwrap();
        fs::rename(node.home().join("new"), &path).unwrap();
        assert_eq!(
            get(BOB.1, &door, &encoded(&path)),
            ("200".into(), "newer".into())
        );
        fs::remove_file(&path).unwrap();
        symlink(&secret, &path).unwrap();
        assert_eq!(get(BOB.1, &door, &encoded(&path)).0, "404");
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
    });
}

#[test]
fn one_who_only_holds_connections_is_cut_and_holds_up_nobody() {
    if !is_root() {
        return;
    }
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &cat()).await;
        share(&client, &spec(run, &[BOB.0], Access::View)).await;
        let door = door(&node).await;
        // More than a stranger may have, and none of them says what it wants.
        let slow: Vec<_> = (0..8)
            .map(|_| Follower::start(CAROL.1, &door, "GET /v1/shares HTTP/1.1\r\nhost:"))
            .collect();
        assert_eq!(get(BOB.1, &door, &format!("/v1/runs/{run}")).0, "200");
        for mut follower in slow {
            follower.until("END");
        }
        let long = format!("/v1/shares?{}", "x".repeat(100_000));
        assert_ne!(get(BOB.1, &door, &long).0, "200");
        let large = format!("POST /v1/runs/{run}/resize {}", "x".repeat(100_000));
        assert_ne!(ask(BOB.1, &door, &[large])[0].0, "200");
        assert_eq!(get(BOB.1, &door, &format!("/v1/runs/{run}")).0, "200");
    });
}

#[test]
fn where_the_site_forbids_it_nothing_is_shared() {
    if !is_root() {
        return;
    }
    with_tasks(async {
        let root = tempfile::tempdir().unwrap();
        let policy = root.path().join("policy.toml");
        fs::write(&policy, "sharing = true\n").unwrap();
        let node = Node::start_under(root.path());
        let client = node.client().await;
        let run = RunId::random();
        client.put(run, &cat()).await;
        let view = spec(run, &[BOB.0], Access::View);
        let shared = share(&client, &view).await;
        // What was shared before the site said no is not shared after the next look, or start.
        for text in ["sharing = false\n", "sharing = maybe\n"] {
            fs::write(&policy, text).unwrap();
            let (status, body) = try_share(&client, ShareId::random(), &view).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
            assert!(body.contains("policy.toml"), "{body}");
            let list: ShareList = read(&client, "/v1/shares").await;
            assert!(list.off.unwrap().contains("policy.toml"));
        }
        wait_until("the door is shut", || !has_door(&node));
        fs::write(&policy, json!("not toml").to_string()).unwrap();
        assert_eq!(revoke(&client, shared.id).await, StatusCode::NO_CONTENT);
    });
}

/// The agent of another user, which only that user reaches.
struct Other {
    uid: u32,
    socket: PathBuf,
    _root: tempfile::TempDir,
}

impl Other {
    fn start((name, uid): (&str, u32)) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("home")).unwrap();
        for folder in [root.path().to_owned(), root.path().join("home")] {
            std::os::unix::fs::chown(folder, Some(uid), Some(uid)).unwrap();
        }
        let mut command = Command::new("setpriv");
        let number = uid.to_string();
        command.args(["--reuid", &number, "--regid", &number, "--clear-groups"]);
        command.args([env!("CARGO_BIN_EXE_hpcagent"), "serve", "--detach"]);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SHELL", "/bin/bash");
        command
            .env("HOME", root.path().join("home"))
            .env("USER", name);
        command
            .env("HPCCLIENT_HOME", root.path().join("node"))
            .current_dir("/");
        let socket = detach(&mut command).socket.into();
        Self {
            uid,
            socket,
            _root: root,
        }
    }

    fn ask(&self, request: String) -> (String, String) {
        ask(self.uid, &self.socket, &[request]).remove(0)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.ask("POST /v1/stop {\"endRuns\":true}".to_owned());
    }
}

#[test]
fn a_live_channel_follows_and_drives_the_run_of_another_user() {
    if !is_root() {
        return;
    }
    with_tasks(async {
        let owner = Other::start(BOB);
        let (run, share) = (RunId::random(), ShareId::random());
        let body = serde_json::to_string(&cat()).unwrap();
        assert_eq!(owner.ask(format!("PUT /v1/runs/{run} {body}")).0, "201");
        let body = serde_json::to_string(&spec(run, &["root"], Access::Drive)).unwrap();
        let (status, text) = owner.ask(format!("PUT /v1/shares/{share} {body}"));
        assert_eq!(status, "201", "{text}");
        let node = Node::start();
        let client = node.client().await;
        let list: ShareList = read(&client, "/v1/shares").await;
        let found = list.with_me.iter().find(|found| found.id == share).unwrap();
        assert_eq!(
            (found.owner.as_str(), &found.spec.guests[..]),
            (BOB.0, &["root".to_owned()][..])
        );

        let stream = UnixStream::connect(&node.hello.socket).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async("ws://agent/v1/live", stream)
            .await
            .unwrap();
        let say = |message: &ViewerMessage| Message::text(serde_json::to_string(message).unwrap());
        let open = ViewerMessage::Open {
            channel: 1,
            run,
            from: StreamSizes::default(),
            credit: 3,
            writer: None,
            owner: Some(BOB.0.to_owned()),
            access: Access::Drive,
        };
        socket.send(say(&open)).await.unwrap();
        let (mut stdout, mut granted, mut typed, mut acked) = (Vec::new(), 3u64, false, false);
        let refused = loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Binary(mut bytes) => {
                    assert_eq!(bytes.get_u32(), 1);
                    let mut decoder = FrameDecoder::default();
                    decoder.push(&bytes);
                    match decoder.next_frame().unwrap().unwrap() {
                        Frame::Data {
                            stream,
                            offset,
                            bytes,
                        } => {
                            granted = granted
                                .checked_sub(bytes.len() as u64)
                                .expect("no more than was granted");
                            if stream == StreamName::Stdout {
                                assert_eq!(offset, stdout.len() as u64);
                                stdout.extend_from_slice(&bytes);
                            }
                            granted += 2;
                            socket
                                .send(say(&ViewerMessage::Credit {
                                    channel: 1,
                                    bytes: 2,
                                }))
                                .await
                                .unwrap();
                        }
                        Frame::State(run) => assert!(run.spec.env.is_empty()),
                        other => assert!(matches!(other, Frame::Ping), "{other:?}"),
                    }
                }
                Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                    AgentMessage::StdinAck { channel: 1, seq: 1 } => acked = true,
                    AgentMessage::Error {
                        channel: Some(1),
                        error,
                    } => break error,
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
            if stdout == b"begun\n" && !typed {
                typed = true;
                let mut message = BytesMut::new();
                message.put_u32(1);
                message.put_u64(1);
                message.put_slice(b"hello\n");
                socket
                    .send(Message::binary(message.freeze()))
                    .await
                    .unwrap();
            }
            if acked && stdout == b"begun\nhello\n" {
                acked = false;
                assert_eq!(owner.ask(format!("DELETE /v1/shares/{share}")).0, "204");
            }
        };
        assert_eq!(stdout, b"begun\nhello\n");
        assert!(refused.message.contains(BOB.0), "{refused}");
        let (_, text) = owner.ask("GET /v1/audit".to_owned());
        assert!(
            text.contains("typed 6 bytes into") && text.contains("\"guest\":\"root\""),
            "{text}"
        );
    });
}
