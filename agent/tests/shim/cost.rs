//! What a shim costs: while it waits, and while a command writes more than is kept.

use std::fs;

use hpcagent::store::{RunWriter, SEGMENT_BYTES, Store};
use hpcclient_protocol::{Frame, RunId, RunState, StreamName, run::StreamSizes};

use crate::driver::{Kept, shell};

/// Returns a figure of a process from a file in `/proc`, in kB.
fn kilobytes(pid: u32, file: &str, name: &str) -> u64 {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(|rest| rest.trim().trim_end_matches(" kB").parse().unwrap())
        .unwrap()
}

/// Returns how much memory a process has for itself alone, in kB, without the pages of the program's file
/// that the loader changed: a test's program has many times more of those than the one that is shipped.
fn anonymous(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut is_file, mut sum) = (false, 0);
    for line in maps.lines() {
        if let Some(rest) = line.strip_prefix("Private_Dirty:") {
            let size: u64 = rest.trim().trim_end_matches(" kB").parse().unwrap();
            sum += if is_file { 0 } else { size };
        } else if !line.split(' ').next().unwrap().ends_with(':') {
            is_file = line.contains('/');
        }
    }
    sum
}

#[test]
fn a_shim_that_waits_takes_half_a_megabyte_at_most() {
    let mut all = vec![];
    for _ in 0..12 {
        let (mut kept, dir) = Kept::alone(&shell("echo here; sleep 1000"));
        // The disk has been asked: the most that an idle shim ever did.
        kept.line
            .until_durable(dir.id(), |_, _, durable| durable.stdout == 5);
        all.push(kept);
        let mut kept = Kept::session();
        assert_eq!(kept.run("echo here").1, "here\n");
        all.push(kept);
    }
    let of = |kept: &Kept| anonymous(kept.child.id());
    let own = all.iter().map(of).sum::<u64>() / all.len() as u64;
    assert!(own <= 512, "a shim takes {own} kB of its own");
    for kept in &mut all {
        let commands = format!("/proc/{0}/task/{0}/children", kept.child.id());
        for pid in fs::read_to_string(commands).unwrap().split_whitespace() {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            // It may be gone by now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn a_disk_slower_than_the_command_is_asked_for_nearly_all_that_may_wait_and_another_soon() {
    const PIECE: usize = 256 << 10;
    const ROUNDS: u64 = 30;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_owned()).unwrap();
    let dir = store
        .create(RunId::random(), &shell(""), 1, "node")
        .unwrap();
    let mut writer = RunWriter::open(&dir).unwrap();
    let piece = vec![7; PIECE];
    let write = |writer: &mut RunWriter| writer.append(StreamName::Stdout, &piece).unwrap();
    // What comes between two answers of a disk that always answers too late, and of one that does in time.
    let mut saved = 0;
    let mut round = |is_late: bool| {
        let start = writer.sizes().stdout;
        while !writer.is_busy() {
            write(&mut writer);
        }
        drop(writer.take_unsynced(false));
        let asked = writer.sizes().stdout;
        while is_late && !writer.is_behind() {
            write(&mut writer);
        }
        // All that it may refuse is in memory.
        assert!(writer.sizes().stdout - saved <= 4 << 20);
        writer.set_saved();
        saved = asked;
        (asked, writer.sizes().stdout - start)
    };
    let first = round(true).0;
    assert_eq!(first, 1 << 20);
    let all: u64 = (0..ROUNDS).map(|_| round(true).1).sum();
    // The first of these rounds starts with what the disk was not asked for before it.
    assert!(all / ROUNDS >= 11 << 18, "{} a round", all / ROUNDS);
    round(false);
    assert_eq!(round(false).1, 1 << 20);
}

#[test]
fn of_one_endless_line_the_start_and_the_end_stay_in_little_memory() {
    let size = 7 * SEGMENT_BYTES + 4321;
    let mut spec = shell(&format!("head -c {size} /dev/zero; sleep 1000"));
    spec.keep_bytes = Some(2 * SEGMENT_BYTES);
    let (mut kept, dir) = Kept::alone(&spec);
    let run = dir.id();
    kept.line.until(run, |record, sizes| {
        // Its segments: two full ones, one being written.
        let files = fs::read_dir(dir.path()).unwrap().flatten();
        let kept = files.filter(|file| file.file_name().to_string_lossy().starts_with("out-"));
        assert!(kept.count() <= 3);
        assert_eq!(record.state, RunState::Running);
        sizes.stdout == size
    });
    let memory = kilobytes(kept.child.id(), "status", "RssAnon");
    assert!(memory < 8_000, "the shim takes {memory} kB");
    let mut reader = dir.reader(StreamSizes::default()).unwrap();
    let (mut at, mut gaps) = (0, vec![]);
    while let Some(frame) = reader.next(1 << 20).unwrap() {
        match frame {
            Frame::Data { offset, bytes, .. } => {
                assert_eq!(offset, at);
                assert!(bytes.iter().all(|byte| *byte == 0));
                at += bytes.len() as u64;
            }
            Frame::Gap { stream, offset, to } => {
                assert_eq!((stream, offset), (StreamName::Stdout, at));
                gaps.push((offset, to));
                at = to;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(at, size);
    assert_eq!(gaps, [(SEGMENT_BYTES, 6 * SEGMENT_BYTES)]);
    kept.line
        .send(&hpcagent::shim::control::ToShim::Kill { run }, b"");
    kept.line.until_state(run, RunState::Exited);
    assert!(kept.gone());
}
