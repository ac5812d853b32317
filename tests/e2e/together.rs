//! Many streams over a cluster's one connection: keys overtake bulk, and hundreds of viewers fit.
//!
//! What comes before what is counted in bytes, never timed.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hpcclient_protocol::{
    Command, RunId, RunSpec,
    live::{Access, ViewerMessage},
    run::{StreamSizes, TerminalSize},
};
use hpcclient_tests::{Address, CLUSTER, Request, Site, wait_for};

const BULK: usize = 100_000_000;

/// What may lie on the way already when a key is pressed: the stream's window of 1 MiB, twice the
/// buffers of a loopback connection, and what is being written.
const ON_THE_WAY: usize = 8 << 20;

fn start(site: &Site, line: &str, pty: Option<TerminalSize>) -> Result<RunId> {
    let id = RunId::random();
    let spec = RunSpec {
        pty,
        ..RunSpec::new(Command::Shell(line.into()))
    };
    let path = format!("/c/{CLUSTER}/v1/runs/{id}");
    let answer = site.ask("PUT", &path, Some(&serde_json::to_value(spec)?))?;
    ensure!(answer.status == 201, "{}", answer.status);
    Ok(id)
}

/// A WebSocket of few words: what it says is masked with zeros, what it hears is searched and not read.
struct Live(TcpStream);

impl Live {
    fn open(site: &Site) -> Result<Self> {
        let (port, token, _) = site.bridge()?;
        let (answer, stream) = Request::new("GET", &format!("/c/{CLUSTER}/v1/live"))
            .header("origin", &format!("http://127.0.0.1:{port}"))
            .websocket(&format!("hpcclient.v1, bearer.{token}"))
            .open(&Address::Port(port))?;
        ensure!(answer.status == 101, "{}", answer.status);
        Ok(Self(stream))
    }

    fn send(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        let len = u16::try_from(payload.len())?;
        let mut frame = vec![0x80 | kind, 0x80 | 126];
        frame.extend_from_slice(&len.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        Ok(self.0.write_all(&frame)?)
    }

    fn say(&mut self, message: &ViewerMessage) -> Result<()> {
        self.send(1, &serde_json::to_vec(message)?)
    }

    fn keys(&mut self, seq: u64, keys: &str) -> Result<()> {
        let message = [
            &1_u32.to_be_bytes()[..],
            &seq.to_be_bytes(),
            keys.as_bytes(),
        ]
        .concat();
        self.send(2, &message)
    }

    /// Takes what has come, without waiting.
    fn take(&mut self, heard: &mut Vec<u8>) -> Result<()> {
        self.0.set_nonblocking(true)?;
        let mut piece = [0; 4096];
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => bail!("the socket ended"),
                Ok(count) => heard.extend(piece.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.0.set_nonblocking(false)?)
    }
}

fn has(heard: &[u8], text: &str) -> bool {
    heard
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn a_console_answers_while_a_hundred_megabytes_flow_beside_it() -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let size = TerminalSize { cols: 80, rows: 24 };
    let console = start(&site, "echo ready; exec cat", Some(size))?;
    let mut live = Live::open(&site)?;
    live.say(&ViewerMessage::Open {
        channel: 1,
        run: console,
        from: StreamSizes::default(),
        credit: u32::MAX,
        writer: None,
        owner: None,
        access: Access::Drive,
        behind: None,
    })?;
    let mut heard = vec![];
    wait_for("the console", Duration::from_secs(60), || {
        live.take(&mut heard)?;
        Ok(has(&heard, "ready").then_some(()))
    })?;

    let bulk = start(&site, &format!("head -c {BULK} /dev/zero"), None)?;
    let (port, token, _) = site.bridge()?;
    let path = format!("/c/{CLUSTER}/v1/runs/{bulk}/stdout?follow=true");
    let (answer, mut body) = Request::new("GET", &path)
        .header("authorization", &format!("Bearer {token}"))
        .open(&Address::Port(port))?;
    ensure!(answer.status == 200, "{}", answer.status);
    let (mut piece, mut came) = (vec![0; 64 << 10], 0);
    let mut most = 0;
    for key in 1..=5 {
        // The bulk flows; its reader takes it as it comes.
        let (pressed, text) = (came, format!("<key {key}>"));
        live.keys(key, &text)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while !has(&heard, &text) {
            let count = body.read(&mut piece)?;
            came += count;
            ensure!(count > 0, "{text} came after all of the bulk");
            ensure!(Instant::now() < deadline, "{text} did not come");
            live.take(&mut heard)?;
        }
        most = most.max(came - pressed);
    }
    println!("at most {most} bytes of bulk came before an echo");
    ensure!(
        most < ON_THE_WAY,
        "{most} bytes of bulk came before an echo"
    );
    while came < BULK {
        let count = body.read(&mut piece)?;
        ensure!(count > 0, "the bulk ended after {came} bytes");
        came += count;
    }
    Ok(())
}

#[test]
fn seven_hundred_sockets_fit_beside_calls() -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let mut sockets = vec![];
    for number in 0..700 {
        sockets.push(Live::open(&site).with_context(|| format!("socket {number}"))?);
    }
    let output = site
        .hpcclient(&["run", "--", "echo", "beside"])?
        .success()?;
    assert_eq!(output.stdout, b"beside\n");
    for (nonce, live) in (1000..).zip(&mut sockets) {
        live.say(&ViewerMessage::Ping { nonce })?;
    }
    for (nonce, live) in (1000..).zip(&mut sockets) {
        let (mut heard, answer) = (vec![], format!("\"nonce\":{nonce}"));
        wait_for("a pong", Duration::from_secs(60), || {
            live.take(&mut heard)?;
            Ok(has(&heard, &answer).then_some(()))
        })?;
    }
    Ok(())
}
