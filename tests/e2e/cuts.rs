//! The promise on a bad line: a stream of 100 MB with stdin echoed beside it survives 500 resets at random bytes.
//!
//! A connection is reset after a random number of bytes of either direction; every fifth already in its login. What is
//! measured is that nothing is lost and nothing comes twice, so the pauses between attempts are cut short the way a
//! user does it: somebody asks for the connection, and it is made at once.

use std::{
    fs,
    io::Write,
    process::ChildStdin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hpcclient_protocol::bridge::ClusterState;
use hpcclient_tests::{CLUSTER, Child, FaultProxy, Limits, Site, check_numbered_lines, wait_for};

const CUTS: usize = 500;

/// 101 MB as `seq` writes them.
const LINES: u32 = 12_500_000;

/// The most that a connection carries in a direction before it is reset.
const MOST: Limits = Limits {
    to_server: 300_000,
    to_client: 400_000,
};

/// A login takes about as much.
const LOGIN: u64 = 12_000;

/// Long enough for a machine that is busy with other tests.
const LIMIT: Duration = Duration::from_secs(500);

const COMMAND: &str = "echo start >> ~/starts; cat <&0 >&2 & seq 1 12500000; wait";

#[test]
fn five_hundred_resets_at_random_bytes_lose_nothing_and_double_nothing() -> Result<()> {
    let (site, network) = Site::behind_faults()?;
    site.connect()?;
    let mut command = site
        .env()
        .hpcclient(&["run", "-i", "--", "bash", "-c", COMMAND])?;
    command.stdin(std::process::Stdio::piped());
    let mut run = Child::start(&mut command, &site.env().logs(), "cut")?;
    let stdin = run.take_stdin().context("no pipe")?;
    wait_for("the stream", Duration::from_secs(60), || {
        Ok((!run.stdout().is_empty()).then_some(()))
    })?;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    network.cut_by(move || Some(random.limits()));
    network.reset_connections();

    let start = Instant::now();
    let is_over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| -> Result<u32> {
        let hurry = scope.spawn(|| hurry(&site, &is_over));
        let feeder = scope.spawn(|| feed(stdin, &network, &is_over));
        let cut = wait_for("all resets", LIMIT, || {
            Ok((network.cuts() >= CUTS || !run.is_running()?).then_some(()))
        });
        network.cut_by(|| None);
        is_over.store(true, Ordering::SeqCst);
        let sent = feeder.join().ok().context("the feeder panicked")?;
        hurry.join().ok().context("the thread panicked")?;
        cut.with_context(|| format!("{} resets", network.cuts()))?;
        sent
    })?;
    let seconds = start.elapsed().as_secs();
    let output = run.finish(Duration::from_secs(120))?.success()?;
    assert!(network.cuts() >= CUTS, "{} resets", network.cuts());

    check_numbered_lines(&output.stdout, LINES).context("the stream")?;
    let echo = without_remarks(&output.stderr);
    check_numbered_lines(&echo, sent).context("the echo of stdin")?;
    let starts = fs::read_to_string(site.env().path("node-home/starts"))?;
    assert_eq!(starts, "start\n", "a retry ran the command again");
    assert!(sent > 1000, "stdin did not flow: {sent} lines");
    tell(&format!(
        "{} resets and {} connections in {seconds} s, {sent} lines of stdin",
        network.cuts(),
        network.accepted()
    ));
    Ok(())
}

/// Takes out of stderr what the command line itself says, such as that the connection was lost. The echo has digits only,
/// so a remark that came into the middle of a line is seen too.
fn without_remarks(bytes: &[u8]) -> Vec<u8> {
    let mut is_remark = false;
    let is_echo = |byte: &u8| {
        is_remark |= *byte == b'h';
        let keep = !is_remark;
        is_remark &= *byte != b'\n';
        keep
    };
    bytes.iter().copied().filter(is_echo).collect()
}

/// Sends numbered lines as long as there are resets, and returns how many.
fn feed(mut stdin: ChildStdin, network: &FaultProxy, is_over: &AtomicBool) -> Result<u32> {
    let mut number = 0_u32;
    while network.cuts() < CUTS && !is_over.load(Ordering::SeqCst) {
        let piece: String = (number + 1..=number + 500)
            .map(|n| format!("{n}\n"))
            .collect();
        stdin.write_all(piece.as_bytes())?;
        number += 500;
    }
    Ok(number)
}

/// Asks for the connection whenever it is gone.
fn hurry(site: &Site, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        // An answer that does not come is a login that was reset: the next one is asked for.
        drop(site.ask("POST", &format!("/v1/clusters/{CLUSTER}/connect"), None));
        let gone = wait_for("a reset", Duration::from_secs(5), || {
            let is_gone = site.cluster()?.state != ClusterState::Connected;
            Ok((is_gone || is_over.load(Ordering::SeqCst)).then_some(()))
        });
        drop(gone);
    }
}

/// xorshift: the same positions each time, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn limits(&mut self) -> Limits {
        let most = if self.below(5) == 0 {
            Limits {
                to_server: LOGIN,
                to_client: LOGIN,
            }
        } else {
            MOST
        };
        Limits {
            to_server: 1 + self.below(most.to_server),
            to_client: 1 + self.below(most.to_client),
        }
    }
}

#[expect(clippy::print_stderr, reason = "the runner shows it on request")]
fn tell(text: &str) {
    eprintln!("{text}");
}
