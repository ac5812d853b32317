//! The embedded login node against the system's OpenSSH client.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lints' exception for tests does not reach helpers beside them"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use hpcclient_ssh::login_node::{LoginNode, LoginNodeOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    process::Command,
};

const USER: &str = "demo-user";
const DEADLINE: Duration = Duration::from_secs(20);

struct Fixture {
    folder: tempfile::TempDir,
    node: LoginNode,
}

impl Fixture {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = LoginNodeOptions {
            folder: folder.path().join("keys"),
            user: USER.into(),
            env: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("HOME".into(), folder.path().into()),
                ("GREETING".into(), "from the node".into()),
            ],
        };
        let node = LoginNode::start(options).await.unwrap();
        Self { folder, node }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ssh_with(&self, user: &str, identity: &Path) -> Command {
        let mut ssh = Command::new("ssh");
        let known_hosts = self.node.known_hosts().display().to_string();
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none"])
            .args(["-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "GlobalKnownHostsFile=/dev/null"])
            .args(["-o", &format!("UserKnownHostsFile={known_hosts}")])
            .arg("-i")
            .arg(identity)
            .args(["-p", &self.node.port().to_string()])
            .args(["-l", user])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        ssh
    }

    fn ssh(&self) -> Command {
        self.ssh_with(USER, self.node.identity_file())
    }

    async fn run(&self, command: &str) -> Output {
        let mut ssh = self.ssh();
        ssh.args(["127.0.0.1", command]);
        output(ssh).await
    }
}

async fn output(mut command: Command) -> Output {
    tokio::time::timeout(DEADLINE, command.output())
        .await
        .expect("ssh ends in time")
        .unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, poll)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn alive(pid: &str) -> bool {
    // A zombie that its parent has not reaped yet runs nothing any more.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_command_has_its_streams_its_environment_and_its_status() {
    let fixture = Fixture::start().await;
    let done = fixture
        .run("echo \"$GREETING\"; pwd; echo oops >&2; exit 3")
        .await;
    let home = fixture.folder.path().canonicalize().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        format!("from the node\n{}\n", home.display())
    );
    assert_eq!(String::from_utf8_lossy(&done.stderr), "oops\n");
    assert_eq!(done.status.code(), Some(3));
    // ssh itself answers 255 for a remote command that a signal ended.
    assert_eq!(fixture.run("kill -9 $$").await.status.code(), Some(255));
    fixture.node.stop().await;
}

#[tokio::test]
async fn megabytes_go_in_and_out_unchanged() {
    let fixture = Fixture::start().await;
    let input: Vec<u8> = (0..4_000_000u32).flat_map(|n| n.to_be_bytes()).collect();
    fs::write(fixture.path("input"), &input).unwrap();
    let mut ssh = fixture.ssh();
    ssh.args(["127.0.0.1", "cat"])
        .stdin(fs::File::open(fixture.path("input")).unwrap());
    let done = output(ssh).await;
    assert!(done.status.success());
    assert!(
        done.stdout == input,
        "{} bytes came back",
        done.stdout.len()
    );
    fixture.node.stop().await;
}

#[tokio::test]
async fn a_unix_socket_is_forwarded() {
    let fixture = Fixture::start().await;
    let (remote, local) = (fixture.path("remote.sock"), fixture.path("local.sock"));
    let listener = UnixListener::bind(&remote).unwrap();
    let mut ssh = fixture.ssh();
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes", "-L"])
        .arg(format!("{}:{}", local.display(), remote.display()))
        .arg("127.0.0.1");
    let _forwarding = ssh.spawn().unwrap();
    until("the local socket", || local.exists()).await;

    let mut client = UnixStream::connect(&local).await.unwrap();
    let (mut server, _) = tokio::time::timeout(DEADLINE, listener.accept())
        .await
        .unwrap()
        .unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "question");
    // The client's end of file does not end the other direction.
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
    fixture.node.stop().await;
}

#[tokio::test]
async fn another_key_and_another_user_are_refused() {
    let fixture = Fixture::start().await;
    let other = Fixture::start().await;
    for (user, identity) in [
        (USER, other.node.identity_file()),
        ("root", fixture.node.identity_file()),
    ] {
        let mut ssh = fixture.ssh_with(user, identity);
        ssh.args(["127.0.0.1", "echo in"]);
        let done = output(ssh).await;
        assert_eq!(done.status.code(), Some(255));
        assert!(done.stdout.is_empty());
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(text.contains("Permission denied (publickey)"), "{text}");
    }
    fixture.node.stop().await;
    other.node.stop().await;
}

#[tokio::test]
async fn what_the_agent_does_not_need_is_refused() {
    let fixture = Fixture::start().await;
    let refused = |args: &[&str]| {
        let mut ssh = fixture.ssh();
        ssh.args(args);
        output(ssh)
    };
    // A login shell, TCP forwarding in both directions, SFTP.
    assert!(!refused(&["127.0.0.1"]).await.status.success());
    let tcp = refused(&["-W", "127.0.0.1:1", "127.0.0.1"]).await;
    assert!(!tcp.status.success());
    let text = String::from_utf8_lossy(&tcp.stderr).into_owned();
    assert!(text.contains("prohibited"), "{text}");
    let back = [
        "-o",
        "ExitOnForwardFailure=yes",
        "-R",
        "0:127.0.0.1:1",
        "127.0.0.1",
        "true",
    ];
    assert!(!refused(&back).await.status.success());
    assert!(!refused(&["-s", "127.0.0.1", "sftp"]).await.status.success());
    fixture.node.stop().await;
}

#[tokio::test]
async fn more_channels_than_the_limit_can_follow_one_another() {
    let fixture = Fixture::start().await;
    let control = fixture.path("control");
    let mut master = fixture.ssh();
    master
        .args(["-N", "-M", "-S"])
        .arg(&control)
        .arg("127.0.0.1");
    let _master = master.spawn().unwrap();
    until("the control socket", || control.exists()).await;
    for number in 0..150 {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-o", "ProxyCommand=false", "-S"])
            .arg(&control)
            .args(["127.0.0.1", "true"])
            .stdin(Stdio::null());
        let done = output(ssh).await;
        assert!(done.status.success(), "channel {number}: {done:?}");
    }
    fixture.node.stop().await;
}

#[tokio::test]
async fn stopping_leaves_no_command_and_no_port() {
    let fixture = Fixture::start().await;
    let pid_file = fixture.path("pid");
    let mut ssh = fixture.ssh();
    // It ignores SIGHUP, and its child is in the same process group.
    ssh.args(["127.0.0.1", "trap '' HUP; sleep 1000 & echo $! > pid; wait"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut client = ssh.spawn().unwrap();
    let has_pid = || fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'));
    until("the command's start", has_pid).await;
    let pid = fs::read_to_string(&pid_file).unwrap();
    assert!(alive(&pid));
    let port = fixture.node.port();
    tokio::time::timeout(DEADLINE, fixture.node.stop())
        .await
        .expect("stop returns");
    until("the end of the command", || !alive(&pid)).await;
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
    );
    let left = tokio::time::timeout(DEADLINE, client.wait()).await.unwrap();
    assert!(!left.unwrap().success());
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_command_along() {
    let fixture = Fixture::start().await;
    let pid_file = fixture.path("pid");
    let mut ssh = fixture.ssh();
    ssh.args(["127.0.0.1", "echo $$ > pid; exec sleep 1000"]);
    let mut client = ssh.spawn().unwrap();
    let has_pid = || fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'));
    until("the command's start", has_pid).await;
    client.kill().await.unwrap();
    let pid = fs::read_to_string(&pid_file).unwrap();
    until("the end of the command", || !alive(&pid)).await;
    fixture.node.stop().await;
}
