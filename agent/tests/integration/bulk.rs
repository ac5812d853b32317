//! One line of a gigabyte: nobody who keeps, reads, searches or exports it grows with it.

use std::cell::Cell;

use hpcclient_protocol::{
    RunId, RunSpec,
    output::{Screen, SearchResult},
    run::{Command, TerminalSize},
};
use http::{Method, StatusCode};
use http_body_util::BodyExt;

use crate::node::{Client, Node, PATIENCE, argv, with_tasks_for};

/// The line; before it stand a few bytes.
const LINE: u64 = 1_000_000_000;
/// A terminal hands out 4 KiB at a time, so its line takes longer; a screen looks at the last 4 MiB only.
const CONSOLE_LINE: u64 = 200_000_000;
const BEFORE: &str = "first\n";
/// A test's program is slow at making text and at HTTP: of what is asked for afterwards so much is read.
const ENOUGH: u64 = 50_000_000;
/// How much a process may grow, whatever it is given.
const MORE: u64 = 8_000_000;

/// Prints the bytes before the line, and the line, which has no end.
fn print(line: u64) -> String {
    format!("printf '{BEFORE}'; head -c {line} /dev/zero | tr '\\0' x")
}

/// How much memory a process holds by itself, in bytes; 0 when it is gone.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    kilobytes.map_or(0, |number| number.parse::<u64>().unwrap() * 1024)
}

/// The most that the agent and a shim took.
struct Peaks {
    agent: u32,
    shim: Cell<u32>,
    before: u64,
    most: Cell<(u64, u64)>,
}

impl Peaks {
    fn of(node: &Node) -> Self {
        Self {
            agent: node.hello.pid,
            shim: Cell::new(0),
            before: memory(node.hello.pid),
            most: Cell::default(),
        }
    }

    /// Looks again.
    fn look(&self) {
        let (agent, shim) = self.most.get();
        let now = memory(self.agent).saturating_sub(self.before);
        self.most
            .set((agent.max(now), shim.max(memory(self.shim.get()))));
    }

    fn check(&self, what: &str) {
        self.look();
        let (agent, shim) = self.most.get();
        assert!(agent <= MORE, "{what}: the agent grew by {agent} bytes");
        assert!(shim <= MORE, "{what}: the shim took {shim} bytes");
    }

    /// Reads an answer to its end and returns its length and its first bytes, watching the memory.
    async fn read(&self, client: &Client, path: &str) -> (u64, Vec<u8>) {
        self.read_some(client, path, u64::MAX).await
    }

    /// The same of an answer from which one goes away after so many bytes.
    async fn read_some(&self, client: &Client, path: &str, enough: u64) -> (u64, Vec<u8>) {
        let (status, mut body) = client.open(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}");
        let (mut len, mut start, mut looked) = (0, vec![], 0);
        while len < enough
            && let Some(frame) = body.frame().await
        {
            let bytes = frame.unwrap().into_data().unwrap();
            if start.len() < 16 {
                start.extend(bytes.iter().take(16 - start.len()));
            }
            len += bytes.len() as u64;
            if len - looked > 4_000_000 {
                looked = len;
                self.look();
            }
        }
        self.check(path);
        (len, start)
    }
}

/// The shim of a run that lives.
fn shim_of(command: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{command}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
    let parent = rest.and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    parent.unwrap_or_default()
}

/// Starts a run, and returns it when its shim is known.
async fn started(client: &Client, peaks: &Peaks, spec: &RunSpec) -> RunId {
    let id = RunId::random();
    client.put(id, spec).await;
    loop {
        if let Some(pid) = client.get(id).await.pid {
            peaks.shim.set(shim_of(pid));
            return id;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_line_of_a_gigabyte_is_kept_read_searched_and_exported_in_little_memory() {
    with_tasks_for(9 * PATIENCE, async {
        let node = Node::start();
        let client = node.client().await;
        let peaks = Peaks::of(&node);
        let id = started(&client, &peaks, &argv(&["sh", "-c", &print(LINE)])).await;
        let stdout = format!("/v1/runs/{id}/stdout");
        // While it is written, by one who follows.
        let all = peaks.read(&client, &format!("{stdout}?follow=true")).await;
        assert_eq!(
            all,
            (BEFORE.len() as u64 + LINE, b"first\nxxxxxxxxxx".into())
        );
        assert_ne!(peaks.most.get().1, 0, "the shim was never looked at");
        let asked: [(&str, (u64, &[u8])); 4] = [
            ("head=1", (6, BEFORE.as_bytes())),
            ("tail=1", (ENOUGH, &[b'x'; 16])),
            // Where there is no end of a line.
            ("from=900000000&head=1", (ENOUGH, &[b'x'; 16])),
            ("from=1000000000&tail=1", (6, b"xxxxxx")),
        ];
        for (query, wanted) in asked {
            let path = format!("{stdout}?{query}");
            let (len, start) = peaks.read_some(&client, &path, ENOUGH).await;
            assert_eq!((len.min(ENOUGH), start.as_slice()), wanted, "{query}");
        }
        let export = format!("/v1/runs/{id}/export?as=text");
        let text = peaks.read_some(&client, &export, ENOUGH).await;
        assert_eq!((text.0.min(ENOUGH), text.1), (ENOUGH, all.1));
        // The lines before it are found, and that it could not be searched is told.
        let path = format!("/v1/runs/{id}/search?pattern=%5Efirst%7Cx%24");
        let (status, body) = client.ask(Method::GET, &path, "").await;
        assert_eq!(status, StatusCode::OK);
        peaks.check("search");
        let found: SearchResult = serde_json::from_slice(&body).unwrap();
        let hits: Vec<_> = found.hits.iter().map(|hit| hit.text.to_lossy()).collect();
        assert_eq!(hits, ["first"]);
        // On a slow node the search's time is over before its memory.
        let cut = found.cut.unwrap();
        let is_told = cut == "a line is too long to be searched" || cut.contains("took longer");
        assert!(is_told, "{cut}");
        // The folder goes with the test: a gigabyte is no litter to leave.
        let (status, _) = client
            .ask(Method::DELETE, &format!("/v1/runs/{id}"), "")
            .await;
        assert!(status.is_success(), "{status}");
    });
}

#[test]
fn a_console_s_endless_line_has_a_screen() {
    with_tasks_for(9 * PATIENCE, async {
        let node = Node::start();
        let client = node.client().await;
        let peaks = Peaks::of(&node);
        let line = format!("stty -opost; {}", print(CONSOLE_LINE));
        let mut spec = RunSpec::new(Command::Shell(line.into()));
        spec.pty = Some(TerminalSize { cols: 40, rows: 6 });
        let id = started(&client, &peaks, &spec).await;
        let size = BEFORE.len() as u64 + CONSOLE_LINE;
        let all = peaks
            .read(&client, &format!("/v1/runs/{id}/tty?follow=true"))
            .await;
        assert_eq!(all.0, size);
        let (status, body) = client
            .ask(Method::GET, &format!("/v1/runs/{id}/screen?lines=5"), "")
            .await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        peaks.check("screen");
        let screen: Screen = serde_json::from_slice(&body).unwrap();
        assert_eq!(screen.offset, size);
        // Every row is full of it, but perhaps the last.
        assert!(
            screen.data.to_lossy().contains(&"x".repeat(5 * 40)),
            "{:?}",
            screen.data
        );
        let (status, _) = client
            .ask(Method::DELETE, &format!("/v1/runs/{id}"), "")
            .await;
        assert!(status.is_success(), "{status}");
    });
}
