//! A node of its own for each test: a home, a state root, an agent, and HTTP to it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hpcclient_protocol::{
    Command as RunCommand, Frame, FrameDecoder, Run, RunId, RunSpec, StreamName, status::AgentHello,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

/// How long a condition may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    root: Arc<tempfile::TempDir>,
    /// What the agent is started by, where it is not this test alone.
    wrapper: Vec<&'static str>,
    pub(crate) hello: AgentHello,
}

fn fresh_root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.path().join("home")).unwrap();
    root
}

impl Node {
    /// Starts an agent on a fresh node.
    pub(crate) fn start() -> Self {
        let root = fresh_root();
        Self::with(Arc::new(root), Vec::new())
    }

    /// Starts an agent whose user may have so many processes. It needs root, for whom the limit is only
    /// what it is asked for, and not enforced.
    pub(crate) fn start_with_processes(limit: &'static str) -> Self {
        let root = fresh_root();
        let line = "ulimit -S -u \"$0\" && exec \"$@\"";
        Self::with(Arc::new(root), vec!["/bin/bash", "-c", line, limit])
    }

    /// Starts an agent whose state root is prepared before, by who is given its path.
    pub(crate) fn start_on(prepare: impl FnOnce(&Path)) -> Self {
        let root = fresh_root();
        let state = root.path().join("node/state");
        fs::create_dir_all(&state).unwrap();
        prepare(&state);
        Self::with(Arc::new(root), Vec::new())
    }

    /// Starts an agent on another node with the same home. It needs root.
    pub(crate) fn start_beside(&self, name: &'static str) -> Self {
        let line = "hostname \"$0\" && exec \"$@\"";
        let wrapper = vec!["/usr/bin/unshare", "-u", "/bin/sh", "-c", line, name];
        Self::with(Arc::clone(&self.root), wrapper)
    }

    /// Starts an agent on a fresh node whose `/etc/hpcclient` is this folder. It needs root.
    pub(crate) fn start_under(policy: &Path) -> Self {
        let root = fresh_root();
        let line = "set -e; d=$(mktemp -d); mount -t tmpfs none $d; mkdir $d/u $d/w; \
            mount -t overlay -o lowerdir=/etc,upperdir=$d/u,workdir=$d/w none /etc; mkdir -p /etc/hpcclient; \
            mount --bind \"$0\" /etc/hpcclient; umount -l $d; rmdir $d; exec \"$@\"";
        let agent = command(root.path(), &[], &["serve", "--detach"]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", line]).arg(policy);
        command.arg(agent.get_program()).args(agent.get_args());
        command.env_clear();
        command.envs(
            agent
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let hello = detach(&mut command);
        let root = Arc::new(root);
        Self {
            root,
            wrapper: Vec::new(),
            hello,
        }
    }

    fn with(root: Arc<tempfile::TempDir>, wrapper: Vec<&'static str>) -> Self {
        let hello = detach(&mut command(root.path(), &wrapper, &["serve", "--detach"]));
        Self {
            root,
            wrapper,
            hello,
        }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        command(self.root.path(), &self.wrapper, args)
    }

    /// Starts the agent unless it runs.
    pub(crate) fn detach(&mut self) -> AgentHello {
        self.hello = detach(&mut self.command(&["serve", "--detach"]));
        self.hello.clone()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("node/state")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        Path::new(&self.hello.socket)
            .parent()
            .unwrap()
            .to_path_buf()
    }

    /// Kills the agent as the kernel does when memory is short.
    pub(crate) fn kill_agent(&self) {
        let pid = rustix::process::Pid::from_raw(self.hello.pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_until("the agent is gone", || !is_alive(self.hello.pid));
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.hello.socket).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // An agent that the test killed is started again, to end what it left.
        let output = self.command(&["serve", "--detach"]).output();
        let hello = output.ok().and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            serde_json::from_str::<AgentHello>(text.strip_prefix("hpcclient-hello ")?).ok()
        });
        let Some(hello) = hello else { return };
        let asked = (|| -> std::io::Result<()> {
            use std::io::{Read, Write};
            let mut stream = std::os::unix::net::UnixStream::connect(&hello.socket)?;
            let body = r#"{"endRuns":true}"#;
            let head = "POST /v1/stop HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: ";
            write!(stream, "{head}{}\r\n\r\n{body}", body.len())?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        })();
        let deadline = Instant::now() + Duration::from_secs(10);
        while asked.is_ok() && is_alive(hello.pid) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

fn command(root: &Path, wrapper: &[&str], args: &[&str]) -> Command {
    let mut words = wrapper.iter().copied();
    let agent = env!("CARGO_BIN_EXE_hpcagent");
    let mut command = Command::new(words.next().unwrap_or(agent));
    command.args(words);
    if !wrapper.is_empty() {
        command.arg(agent);
    }
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", root.join("home"))
        .env("SHELL", "/bin/bash")
        .env("USER", "tester")
        .env("HPCCLIENT_HOME", root.join("node"));
    command
}

pub(crate) fn detach(command: &mut Command) -> AgentHello {
    let output = command.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    let json = stdout
        .strip_prefix("hpcclient-hello ")
        .expect("one line for the bridge");
    assert_eq!(json.lines().count(), 1, "{stdout}");
    serde_json::from_str(json).unwrap()
}

/// Returns whether a process lives and is not waiting to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Looks again and again until it holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn shell(line: &str) -> RunSpec {
    RunSpec::new(RunCommand::Shell(line.into()))
}

pub(crate) fn argv(words: &[&str]) -> RunSpec {
    RunSpec::new(RunCommand::Argv(
        words.iter().map(|word| (*word).into()).collect(),
    ))
}

pub(crate) fn line(session: &str, line: &str) -> RunSpec {
    RunSpec {
        session: Some(session.parse().unwrap()),
        ..shell(line)
    }
}

/// HTTP/2 over the agent's socket, as the bridge speaks it.
#[derive(Clone)]
pub(crate) struct Client {
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(socket: &str) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size((1 << 31) - 1)
            .max_frame_size(64 << 10)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        Self { sender }
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let mut sender = self.sender.clone();
        sender.ready().await.unwrap();
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Bytes) {
        let (status, body) = self.open(method, path, body).await;
        (status, body.collect().await.unwrap().to_bytes())
    }

    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Incoming) {
        let uri = format!("http://agent{path}");
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Full::new(body.into()));
        let (head, body) = self.send(request.unwrap()).await.into_parts();
        (head.status, body)
    }

    pub(crate) async fn put(&self, id: RunId, spec: &RunSpec) -> (StatusCode, Bytes) {
        self.ask(
            Method::PUT,
            &format!("/v1/runs/{id}"),
            serde_json::to_vec(spec).unwrap(),
        )
        .await
    }

    /// Runs to the end and returns everything.
    pub(crate) async fn run(&self, spec: &RunSpec) -> Output {
        let path = format!("/v1/runs/{}?stream=true", RunId::random());
        let (status, body) = self
            .open(Method::PUT, &path, serde_json::to_vec(spec).unwrap())
            .await;
        if status != StatusCode::CREATED {
            let body = body.collect().await.unwrap().to_bytes();
            panic!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Output::read(body).await
    }

    pub(crate) async fn get(&self, id: RunId) -> Run {
        let (status, body) = self.ask(Method::GET, &format!("/v1/runs/{id}"), "").await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// Follows a run from offsets until `End`.
    pub(crate) async fn follow(&self, id: RunId, stdout: u64) -> Output {
        let path = format!("/v1/runs/{id}/stream?stdout={stdout}");
        let (status, body) = self.open(Method::GET, &path, "").await;
        assert_eq!(status, StatusCode::OK);
        Output::read(body).await
    }
}

/// What a viewer has seen of a run.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) first: Option<Run>,
    pub(crate) end: Option<Run>,
    decoder: FrameDecoder,
    start: Option<u64>,
}

impl Output {
    pub(crate) async fn read(mut body: Incoming) -> Self {
        let mut output = Self::default();
        while output.end.is_none() {
            let chunk = body.frame().await.expect("a body ends with End").unwrap();
            output.take(&chunk.into_data().unwrap());
        }
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.is_empty(), "nothing comes after End");
        }
        output
    }

    pub(crate) fn take(&mut self, chunk: &[u8]) {
        self.decoder.push(chunk);
        while let Some(frame) = self.decoder.next_frame().unwrap() {
            self.see(frame);
        }
    }

    /// The connection is gone: what had come of a frame comes again.
    pub(crate) fn cut(&mut self) {
        self.decoder = FrameDecoder::default();
    }

    pub(crate) fn see(&mut self, frame: Frame) {
        match frame {
            Frame::State(run) => drop(self.first.get_or_insert(*run)),
            Frame::Data {
                stream: StreamName::Stderr,
                bytes,
                ..
            } => self.stderr.extend(&bytes),
            Frame::Data { offset, bytes, .. } => {
                let start = *self.start.get_or_insert(offset);
                assert_eq!(
                    offset,
                    start + self.stdout.len() as u64,
                    "no byte twice, none missing"
                );
                self.stdout.extend(&bytes);
            }
            Frame::End(run) => self.end = Some(*run),
            Frame::Gap { .. } => panic!("a gap in what was just stored"),
            Frame::Resize(_) | Frame::Ping => {}
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.end.as_ref().unwrap().exit_code
    }
}

/// Runs a test that speaks HTTP/2, whose connection needs a task of its own.
pub(crate) fn with_tasks(test: impl Future<Output = ()>) {
    with_tasks_for(2 * PATIENCE, test);
}

/// The same for a test that takes its time.
pub(crate) fn with_tasks_for(limit: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(limit, test)
            .await
            .expect("the test hangs");
    });
}
