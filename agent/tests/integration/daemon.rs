//! The daemon itself: one a node, quiet when idle, gone when told.

use std::{
    fs,
    io::{Read, Write},
    process::Stdio,
    time::Duration,
};

use hpcclient_protocol::{RunId, event::Event};
use http::Method;
use http_body_util::BodyExt;

use crate::node::{Node, detach, is_alive, shell, wait_until, with_tasks};

#[test]
fn starts_at_the_same_time_make_one_agent() {
    let mut node = Node::start();
    for _ in 0..3 {
        node.kill_agent();
        let hellos: Vec<_> = std::thread::scope(|scope| {
            let start = || detach(&mut node.command(&["serve", "--detach"]));
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        assert!(
            hellos.windows(2).all(|pair| pair[0] == pair[1]),
            "{hellos:?}"
        );
        node.hello = hellos[0].clone();
    }
    let foreground = node.command(&["serve"]).output().unwrap();
    assert!(!foreground.status.success());
    assert!(String::from_utf8_lossy(&foreground.stderr).contains("another agent serves"));
}

#[test]
fn connect_says_hello_and_then_is_the_socket() {
    let node = Node::start();
    let mut connect = node
        .command(&["connect"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = connect.stdin.take().unwrap();
    stdin
        .write_all(b"GET /v1/status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut output = String::new();
    connect
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut output)
        .unwrap();
    // A line of its own, whatever a profile has printed before.
    let output = output.strip_prefix('\n').unwrap();
    let (hello, answer) = output.split_once('\n').unwrap();
    assert!(hello.starts_with("hpcclient-hello {"), "{hello}");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(connect.wait().unwrap().success());
}

#[test]
fn an_idle_agent_is_small_and_sleeps() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        for _ in 0..20 {
            client.run(&shell("seq 1 1000")).await;
        }
        drop(client);
        let status = |name: &str| -> u64 {
            let text = fs::read_to_string(format!("/proc/{}/status", node.hello.pid)).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .to_owned();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        wait_until("the pool's threads are gone", || status("Threads:") == 1);
        let before = status("voluntary_ctxt_switches:");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let woken = status("voluntary_ctxt_switches:") - before;
        let (resident, own) = (status("VmRSS:"), status("RssAnon:"));
        println!("idle: {resident} KiB resident, {own} KiB its own, {woken} wake-ups in 10 s");
        // One may be the watch that comes every 30 s, and it may ask for a thread.
        assert!(woken <= 3, "{woken} wake-ups in 10 s");
        assert!(own <= 8 * 1024, "{own} KiB");
        // The code of a build without optimisation is several times as large as what is shipped.
        let limit = if cfg!(debug_assertions) {
            24 * 1024
        } else {
            12 * 1024
        };
        assert!(resident <= limit, "{resident} KiB");
    });
}

#[test]
fn sigterm_stops_at_once_although_someone_follows() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let id = RunId::random();
        client.put(id, &shell("echo hello; sleep 1000")).await;
        let (_, mut body) = client
            .open(Method::GET, &format!("/v1/runs/{id}/stream"), "")
            .await;
        body.frame().await.unwrap().unwrap();
        let started = std::time::Instant::now();
        let pid = rustix::process::Pid::from_raw(node.hello.pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait_until("the agent stopped", || !is_alive(node.hello.pid));
        assert!(
            started.elapsed() < Duration::from_secs(3),
            "{:?}",
            started.elapsed()
        );
        // The body was cut, not ended: the viewer asks again.
        let mut cut = false;
        while let Some(frame) = body.frame().await {
            cut = frame.is_err();
            if cut {
                break;
            }
        }
        assert!(cut);
    });
}

#[test]
fn events_tell_each_state_of_a_run() {
    with_tasks(async {
        let node = Node::start();
        let client = node.client().await;
        let (_, mut body) = client.open(Method::GET, "/v1/events", "").await;
        let mut text = Vec::new();
        text.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        let id = RunId::random();
        client.put(id, &shell("true")).await;
        while !String::from_utf8_lossy(&text).contains(r#""exited""#) {
            text.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        }
        let events: Vec<Event> = text
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!(events[0], Event::Ready { seq: 0 });
        let seqs: Vec<u64> = events[1..]
            .iter()
            .map(|event| match event {
                Event::Run { seq, run } if run.id == id => *seq,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        assert!(seqs.len() >= 2);
    });
}
