//! Two hundred deaths of the agent and twenty of supervisors, while commands run, write, read and are asked for.
//!
//! The oracle: each command writes the numbers from 1 on, notes each of its starts in a file, and has an exit code of its
//! own; what a viewer saw is compared byte by byte.

use std::{
    cell::Cell,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use hpcclient_protocol::{Run, RunId, RunSpec, RunState, run::StdinMode, run::TerminalSize};
use http::{Method, StatusCode};
use tokio::task::JoinHandle;

use crate::{
    node::{Node, Output, argv, detach, is_alive, line, with_tasks_for},
    patient::Patient,
    random::Random,
};

const KILLS: u64 = 200;

/// Long, because the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(580);

/// Writes 200 numbers twenty times a second without starting a process, until it is told to end.
fn counting(number: usize) -> String {
    format!(
        "echo start >> ~/starts-{number}; [ -t 1 ] && stty -onlcr; exec 9<> <(:); n=0; until [ -e ~/go ]; do out=; \
         for ((i = 0; i < 200; i++)); do out+=$((++n))$'\\n'; done; printf %s \"$out\"; read -rt 0.05 -u 9; done; \
         echo $n > ~/last-{number}; exit {number}"
    )
}

/// Alone, as consoles, and as lines of sessions.
fn counting_spec(number: usize) -> RunSpec {
    let text = counting(number);
    let alone = argv(&["bash", "-c", &text]);
    match number % 4 {
        0 => line(&format!("nb-{number}"), &text),
        1 => {
            let pty = Some(TerminalSize { cols: 80, rows: 24 });
            RunSpec { pty, ..alone }
        }
        _ => alone,
    }
}

fn stream_of(number: usize) -> &'static str {
    if number % 4 == 1 { "tty" } else { "stdout" }
}

struct Counting {
    number: usize,
    id: RunId,
    viewer: JoinHandle<Output>,
}

async fn start_counting(client: &Patient, numbers: std::ops::Range<usize>) -> Vec<Counting> {
    let mut all = vec![];
    for number in numbers {
        let id = RunId::random();
        let (status, said) = client.put(id, &counting_spec(number)).await;
        assert_eq!(
            status,
            StatusCode::CREATED,
            "{}",
            String::from_utf8_lossy(&said)
        );
        let viewer = client.clone();
        let viewer =
            tokio::task::spawn_local(async move { viewer.watch(id, stream_of(number)).await });
        all.push(Counting { number, id, viewer });
    }
    all
}

/// The command ended by itself, ran once, and its viewer saw each byte once.
async fn check_counting(home: &Path, of: Counting) {
    let number = of.number;
    let seen = of.viewer.await.unwrap();
    let end = seen.end.as_ref().unwrap();
    assert_eq!(end.state, RunState::Exited, "{end:?}");
    assert_eq!(
        end.exit_code,
        Some(i32::try_from(number).unwrap()),
        "{end:?}"
    );
    assert_eq!(starts(home, &number.to_string()), 1, "command {number}");
    let last = fs::read_to_string(home.join(format!("last-{number}"))).unwrap();
    check_numbers(&seen.stdout, last.trim().parse().unwrap());
}

fn starts(home: &Path, name: &str) -> usize {
    let noted = fs::read_to_string(home.join(format!("starts-{name}")));
    noted.unwrap_or_default().lines().count()
}

fn check_numbers(seen: &[u8], last: u64) {
    let expected = (1..=last).fold(String::new(), |mut all, n| {
        writeln!(all, "{n}").unwrap();
        all
    });
    let differ = seen
        .iter()
        .zip(expected.as_bytes())
        .position(|(a, b)| a != b);
    assert_eq!(differ, None, "of {} bytes", expected.len());
    assert_eq!(seen.len(), expected.len());
}

/// Commands that are asked for at the moment of a kill, and what they were told.
struct Asked {
    id: RunId,
    name: String,
    code: i32,
    answer: JoinHandle<(StatusCode, bytes::Bytes)>,
}

fn ask_for_one(client: &Patient, kill: u64) -> Asked {
    let (id, name) = (RunId::random(), format!("asked-{kill}"));
    let code = i32::try_from(kill % 100).unwrap();
    let text = format!("echo start >> ~/starts-{name}; echo {name}; exit {code}");
    let spec = match kill % 3 {
        0 => line("asked", &text),
        _ => argv(&["sh", "-c", &text]),
    };
    let client = client.clone();
    let answer = tokio::task::spawn_local(async move { client.put(id, &spec).await });
    Asked {
        id,
        name,
        code,
        answer,
    }
}

/// It ran once and is known to have; or it never ran, and that is said.
async fn check_asked(client: &Patient, home: &Path, asked: Asked) -> RunState {
    let (status, said) = asked.answer.await.unwrap();
    assert!(status.is_success(), "{}", String::from_utf8_lossy(&said));
    let run = ended(client, asked.id).await;
    let starts = starts(home, &asked.name);
    match run.state {
        RunState::Exited => {
            assert_eq!((run.exit_code, starts), (Some(asked.code), 1), "{run:?}");
        }
        _ => {
            assert_eq!(starts, 0, "it ran and is called lost: {run:?}");
            assert!(run.reason.is_some_and(|reason| !reason.is_empty()));
        }
    }
    run.state
}

async fn ended(client: &Patient, id: RunId) -> Run {
    loop {
        let run = client.get(id).await;
        if run.state.is_final() {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Types numbers until it is told to end, tells how far it is, and returns how many.
async fn feed(client: Patient, id: RunId, go: PathBuf, typed: Rc<Cell<u64>>) -> u64 {
    let mut seq = 0;
    while !go.exists() {
        seq += 1;
        client.write(id, seq, format!("{seq}\n"), false).await;
        typed.set(seq);
    }
    client.write(id, seq + 1, "", true).await;
    seq
}

async fn start_again(node: &mut Node) {
    let mut command = node.command(&["serve", "--detach"]);
    let hello = tokio::task::spawn_blocking(move || detach(&mut command)).await;
    node.hello = hello.unwrap();
}

#[test]
fn two_hundred_kills_of_the_agent_lose_nothing() {
    with_tasks_for(LIMIT, async {
        let mut random = Random::new(0x0049_7fd1);
        let mut node = Node::start();
        let (home, client) = (node.home(), Patient::new(&node.hello.socket));
        let counting = start_counting(&client, 1..20).await;
        let fed = RunId::random();
        let reading = "while read -r n; do echo $n; done; exit 20";
        let reading = RunSpec {
            stdin: StdinMode::Open,
            ..argv(&["sh", "-c", reading])
        };
        client.put(fed, &reading).await;
        let echo = client.clone();
        let echo = tokio::task::spawn_local(async move { echo.watch(fed, "stdout").await });
        let feeder = Rc::new(Cell::new(0));
        let typed = Rc::clone(&feeder);
        let feeder = tokio::task::spawn_local(feed(client.clone(), fed, home.join("go"), feeder));
        let mut asked = vec![];
        for kill in 0..KILLS {
            // On a busy machine, too, each agent lives until it has done something.
            let before = typed.get();
            while typed.get() == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            tokio::time::sleep(Duration::from_millis(random.below(80))).await;
            asked.push(ask_for_one(&client, kill));
            tokio::time::sleep(Duration::from_micros(random.below(12_000))).await;
            node.kill_agent();
            start_again(&mut node).await;
            if kill % 50 == 49 {
                println!("{} kills", kill + 1);
            }
        }
        for of in &counting {
            let run = client.get(of.id).await;
            assert_eq!((run.state, run.live), (RunState::Running, true), "{run:?}");
        }
        fs::write(home.join("go"), "").unwrap();
        for of in counting {
            check_counting(&home, of).await;
        }
        let (typed, echo) = (feeder.await.unwrap(), echo.await.unwrap());
        check_numbers(&echo.stdout, typed);
        assert_eq!(echo.code(), Some(20));
        let mut never_ran = 0;
        for one in asked {
            let state = check_asked(&client, &home, one).await;
            never_ran += u32::from(state == RunState::Lost);
        }
        println!("{typed} lines typed; {never_ran} of {KILLS} were asked for and not started");
    });
}

#[test]
fn twenty_killed_supervisors_leave_the_others_alone_and_are_told() {
    with_tasks_for(LIMIT, async {
        let mut random = Random::new(0x51_1e57);
        let node = Node::start();
        let (home, client) = (node.home(), Patient::new(&node.hello.socket));
        let spared = start_counting(&client, 1..11).await;
        let mut victims = start_counting(&client, 11..31).await;
        while !victims.is_empty() {
            tokio::time::sleep(Duration::from_millis(random.below(150))).await;
            let at = random.below(victims.len() as u64);
            let victim = victims.swap_remove(usize::try_from(at).unwrap());
            kill_shim_of(&client, victim.id).await;
            let run = told(&client, victim.id).await;
            let reason = run.reason.clone().unwrap_or_default();
            assert!(reason.contains(' '), "no sentence: {run:?}");
            // What it left is ended, and then its viewer sees the end of what was stored.
            let kill = format!("/v1/runs/{}/kill", victim.id);
            client.ask(Method::POST, &kill, "".into()).await;
            let seen = victim.viewer.await.unwrap();
            assert_eq!(seen.end.as_ref().unwrap().state, RunState::Lost);
            check_prefix(&seen.stdout);
        }
        assert!(is_alive(node.hello.pid), "the agent died with a supervisor");
        fs::write(home.join("go"), "").unwrap();
        for of in spared {
            check_counting(&home, of).await;
        }
    });
}

/// Numbers from 1 on; the last may be cut.
fn check_prefix(seen: &[u8]) {
    let whole = seen
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let last = seen[..whole].split(|byte| *byte == b'\n').count() - 1;
    check_numbers(&seen[..whole], u64::try_from(last).unwrap());
    let next = (last + 1).to_string();
    assert!(
        next.as_bytes().starts_with(&seen[whole..]),
        "{:?}",
        &seen[whole..]
    );
}

async fn kill_shim_of(client: &Patient, id: RunId) {
    let pid = loop {
        if let Some(pid) = client.get(id).await.pid {
            break pid;
        }
        tokio::task::yield_now().await;
    };
    // A line's process is the session's shell; its parent is the supervisor as well.
    crate::survival::kill_parent_of(pid);
}

/// Waits until the agent has noticed.
async fn told(client: &Patient, id: RunId) -> Run {
    loop {
        let run = client.get(id).await;
        if matches!(run.state, RunState::Lost | RunState::Orphaned) {
            return run;
        }
        assert_ne!(run.state, RunState::Exited, "{run:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
