//! How far the viewers of one fast terminal lag behind it, and how fast a flood is stored.
//!
//! Called by `cargo xtask bench`; alone: `cargo run --profile ci -p hpcagent --example streams [-- GIGABYTES]`, after
//! `cargo build --profile ci -p hpcagent`.
//! It starts an agent of its own, lets a terminal write 5 MB/s for some seconds to 50 viewers of which 5 do not
//! read, then stores a flood (10 GB, or so many) without a viewer. Printed are the lag of the others, the rate, and
//! what the agent's memory grew by. Nothing is asserted: `tests/integration/crowd.rs` does.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream as StdStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Buf as _;
use futures_util::{SinkExt as _, StreamExt as _};
use hpcclient_protocol::{
    Command as RunCommand, Frame, FrameDecoder, Run, RunId, RunSpec,
    live::{Access, ViewerMessage},
    run::{StreamSizes, TerminalSize},
    status::AgentHello,
};
use http_body_util::Empty;
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http2, upgrade::Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::time::{ClockId, clock_gettime};
use tokio::{net::UnixStream, task::JoinSet};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

const VIEWERS: usize = 50;
const STALLED: usize = 5;
const SECONDS: u64 = 5;
/// Each piece starts with the time at which it was written.
const PIECE: usize = 5000;
const PIECES_A_SECOND: u64 = 1000;
/// How far the page lets a console fall behind.
const BEHIND: u32 = 256 << 10;

type Bridge = http2::SendRequest<Empty<Bytes>>;
type Socket = WebSocketStream<TokioIo<Upgraded>>;

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    match args.next().as_deref() {
        Some("produce") => produce(),
        Some(gigabytes) => measure(gigabytes.parse().context("how many gigabytes?")?),
        None => measure(10),
    }
}

/// Writes the clock and a filling, 5 MB a second.
fn produce() -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let start = Instant::now();
    for number in 0..SECONDS * PIECES_A_SECOND {
        let due = Duration::from_micros(number * 1_000_000 / PIECES_A_SECOND);
        thread::sleep(due.saturating_sub(start.elapsed()));
        let head = format!("<{:020}>", now_ns());
        let filling = "x".repeat(PIECE.saturating_sub(head.len()));
        stdout.write_all(format!("{head}{filling}").as_bytes())?;
        stdout.flush()?;
    }
    Ok(())
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let ns = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    u64::try_from(ns).unwrap_or_default()
}

fn measure(gigabytes: u64) -> Result<()> {
    let root = tempfile::tempdir()?;
    fs::create_dir(root.path().join("home"))?;
    let agent = Agent::start(root.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let measured = runtime.block_on(async {
        lag(&agent, Some(BEHIND)).await?;
        lag(&agent, None).await?;
        flood(&agent, gigabytes * 1_000_000_000)
    });
    agent.stop()?;
    measured
}

/// As the page opens a console, no viewer further behind than that; or every byte to each.
async fn lag(agent: &Agent, behind: Option<u32>) -> Result<()> {
    let me = env::current_exe()?;
    let line = format!("stty raw -echo; exec {} produce", me.display());
    let spec = RunSpec {
        pty: Some(TerminalSize { cols: 80, rows: 24 }),
        ..RunSpec::new(RunCommand::Shell(line.into()))
    };
    let id = agent.run(&spec)?;
    let before = agent.memory()?;
    let (bridge, _talking) = agent.connect().await?;
    let mut sockets = vec![];
    for _ in 0..VIEWERS {
        sockets.push(open(&bridge, id, behind).await?);
    }
    // Those that do not read are open, and that is all.
    let stalled = sockets.split_off(VIEWERS - STALLED);
    let (mut lags, mut most) = (vec![], before);
    let watched = futures_util::future::join_all(sockets.into_iter().map(watch));
    tokio::pin!(watched);
    let mut often = tokio::time::interval(Duration::from_millis(100));
    let seen = loop {
        tokio::select! {
            seen = &mut watched => break seen,
            _ = often.tick() => most = most.max(agent.memory()?),
        }
    };
    for each in seen {
        lags.extend(each?);
    }
    drop(stalled);
    lags.sort_unstable();
    let all = (VIEWERS - STALLED) as u64 * SECONDS * PIECES_A_SECOND;
    let shown = 100.0 * lags.len() as f64 / all as f64;
    let at = |share: usize| {
        let lag = lags.get(lags.len() * share / 100).or(lags.last());
        lag.map_or(0.0, |ns| *ns as f64 / 1e6)
    };
    writeln!(
        std::io::stdout(),
        "{} viewers of 5 MB/s beside {STALLED} stalled, {}: lag p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms; agent +{:.1} MB",
        VIEWERS - STALLED,
        behind.map_or("every byte".to_owned(), |_| format!(
            "the newest ({shown:.0} %)"
        )),
        at(50),
        at(95),
        at(99),
        megabytes(most.saturating_sub(before)),
    )?;
    Ok(())
}

async fn open(bridge: &Bridge, run: RunId, behind: Option<u32>) -> Result<Socket> {
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://agent/v1/live")
        .header("sec-websocket-version", "13")
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .body(Empty::new())?;
    let mut bridge = bridge.clone();
    bridge.ready().await?;
    let answer = bridge.send_request(request).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    let upgraded = TokioIo::new(hyper::upgrade::on(answer).await?);
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    let open = ViewerMessage::Open {
        channel: 1,
        run,
        from: StreamSizes::default(),
        credit: u32::MAX,
        writer: None,
        owner: None,
        access: Access::View,
        behind,
    };
    let text = serde_json::to_string(&open)?;
    socket.send(Message::text(text)).await?;
    Ok(socket)
}

/// Follows to the end; returns how old each piece was when it came.
async fn watch(mut socket: Socket) -> Result<Vec<u64>> {
    let mut stamps = Stamps::default();
    while let Some(message) = socket.next().await {
        let Message::Binary(mut bytes) = message? else {
            continue;
        };
        let now = now_ns();
        bytes.advance(4);
        let mut decoder = FrameDecoder::default();
        decoder.push(&bytes);
        while let Some(frame) = decoder.next_frame()? {
            match frame {
                Frame::Data { offset, bytes, .. } => {
                    stamps.go_to(offset);
                    stamps.take(&bytes, now)?;
                }
                Frame::End(_) => return Ok(stamps.lags),
                _ => {}
            }
        }
    }
    bail!("the socket ended before the run")
}

/// Finds the times in what `produce` wrote, without a look at the filling: the viewers share one core here.
#[derive(Default)]
struct Stamps {
    at: u64,
    head: Vec<u8>,
    lags: Vec<u64>,
}

impl Stamps {
    /// What was passed over may have a part of a time in it.
    fn go_to(&mut self, offset: u64) {
        if offset != self.at {
            self.head.clear();
            self.at = offset;
        }
    }

    fn take(&mut self, mut bytes: &[u8], now: u64) -> Result<()> {
        while !bytes.is_empty() {
            let within = usize::try_from(self.at % PIECE as u64)?;
            let (is_stamp, end) = match within {
                0 => (false, 1),
                1..21 => (within == self.head.len() + 1, 21),
                _ => (false, PIECE),
            };
            let (part, rest) = bytes.split_at(bytes.len().min(end - within));
            if is_stamp {
                self.head.extend_from_slice(part);
            }
            if self.head.len() == 20 {
                let written: u64 = std::str::from_utf8(&self.head)?.parse()?;
                self.lags.push(now.saturating_sub(written));
                self.head.clear();
            }
            self.at += part.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}

fn flood(agent: &Agent, bytes: u64) -> Result<()> {
    let before = agent.memory()?;
    let line = format!("head -c {bytes} /dev/zero");
    let start = Instant::now();
    let id = agent.run(&RunSpec::new(RunCommand::Shell(line.into())))?;
    let mut most = before;
    loop {
        let run: Run = serde_json::from_slice(&agent.ask("GET", &format!("/v1/runs/{id}"), "")?)?;
        most = most.max(agent.memory()?);
        if run.state.is_final() {
            ensure!(run.sizes.stdout == bytes, "{} bytes came", run.sizes.stdout);
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let took = start.elapsed().as_secs_f64();
    writeln!(
        std::io::stdout(),
        "{:.1} GB without a viewer: {:.0} MB/s; agent +{:.1} MB",
        bytes as f64 / 1e9,
        bytes as f64 / 1e6 / took,
        megabytes(most.saturating_sub(before)),
    )?;
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// An agent of this build, on a node of its own.
struct Agent {
    socket: PathBuf,
    pid: u32,
}

impl Agent {
    fn start(root: &Path) -> Result<Self> {
        let me = env::current_exe()?;
        let folder = me.parent().and_then(Path::parent);
        let program = folder.context("no folder")?.join("hpcagent");
        let output = Command::new(&program)
            .args(["serve", "--detach"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", root.join("home"))
            .env("SHELL", "/bin/sh")
            .env("HPCCLIENT_HOME", root.join("node"))
            .output()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let text = String::from_utf8(output.stdout)?;
        let json = text.strip_prefix("hpcclient-hello ").context("no hello")?;
        let hello: AgentHello = serde_json::from_str(json)?;
        Ok(Self {
            socket: hello.socket.into(),
            pid: hello.pid,
        })
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let mut stream = StdStream::connect(&self.socket)?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = vec![];
        stream.read_to_end(&mut answer)?;
        let head = answer.windows(4).position(|part| part == b"\r\n\r\n");
        Ok(answer.split_off(head.context("no answer")? + 4))
    }

    fn run(&self, spec: &RunSpec) -> Result<RunId> {
        let id = RunId::random();
        let path = format!("/v1/runs/{id}");
        let answer = self.ask("PUT", &path, &serde_json::to_string(spec)?)?;
        serde_json::from_slice::<Run>(&answer)
            .with_context(|| String::from_utf8_lossy(&answer).into_owned())?;
        Ok(id)
    }

    /// One connection for all viewers, with the windows of the bridge.
    async fn connect(&self) -> Result<(Bridge, JoinSet<hyper::Result<()>>)> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size((1 << 31) - 1)
            .max_frame_size(64 << 10)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut talking = JoinSet::new();
        talking.spawn(connection);
        Ok((sender, talking))
    }

    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    fn stop(&self) -> Result<()> {
        self.ask("POST", "/v1/stop", r#"{"endRuns":true}"#)
            .map(drop)
    }
}
