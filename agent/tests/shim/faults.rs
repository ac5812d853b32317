//! Disks that refuse, answered by the real shim: every refusal is told in words, and no byte is lost.
//!
//! strace makes the system calls fail: full, over quota, broken, read-only; a small disk has no more files.

use std::{cell::RefCell, fs, process::Command, thread};

use hpcagent::{shim::control::ToShim, store::RunRecord};
use hpcclient_protocol::{RunState, StreamName};

use crate::{
    disk::SmallDisk,
    driver::{Kept, bytes, shell},
};

/// What a call is made to answer, on which calls, and what a user is told.
struct Fault {
    inject: &'static str,
    /// Only calls on this file of the run's folder.
    file: Option<&'static str>,
    says: &'static str,
}

/// A shim of which some system calls fail; what it starts is left alone, since it makes no such calls.
fn failing(fault: &Fault) -> Command {
    let call = fault.inject.split(':').next().unwrap();
    let only = fault
        .file
        .map_or(String::new(), |file| format!("-P \"$3/{file}\""));
    let line = format!(
        "exec strace -f -qq -o /dev/null -e trace={call} -e signal=none {only} -e inject={} \"$0\" \"$@\"",
        fault.inject
    );
    let mut shim = Command::new("/bin/sh");
    shim.args(["-c", &line, env!("CARGO_BIN_EXE_hpcagent")]);
    shim
}

/// Both streams, in many portions, and an exit code.
const LINE: &str = "for n in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do seq ${n}0001 ${n}9999; \
                    seq ${n}0001 ${n}0100 >&2; sleep 0.1; done; exit 9";

fn expected(last: u32) -> Vec<u8> {
    let lines = |n: u32| (1..=last).map(move |of| (n, of));
    let all = (0..20).flat_map(lines);
    let text: Vec<String> = all
        .map(|(n, of)| format!("{}\n", n * 10_000 + of))
        .collect();
    text.concat().into_bytes()
}

/// Runs the line under a fault, and returns the states that it told.
fn run_under(fault: &Fault) -> Vec<RunRecord> {
    let (mut kept, dir) = Kept::alone_as(failing(fault), &shell(LINE), None);
    let told: RefCell<Vec<RunRecord>> = RefCell::default();
    let last = kept.line.until(dir.id(), |record, _| {
        told.borrow_mut().push(record.clone());
        record.state == RunState::Exited
    });
    assert_eq!(last.exit_code, Some(9), "{last:?}");
    assert!(
        bytes(&dir, StreamName::Stdout) == expected(9999),
        "{}",
        fault.inject
    );
    assert!(
        bytes(&dir, StreamName::Stderr) == expected(100),
        "{}",
        fault.inject
    );
    assert!(kept.gone());
    let stored = dir.load().unwrap();
    assert_eq!(
        (stored.state, stored.exit_code),
        (RunState::Exited, Some(9))
    );
    told.into_inner()
}

#[test]
fn a_disk_that_refuses_now_and_then_is_told_and_loses_nothing() {
    // One call in a hundred, from different ones on.
    let faults = [
        (
            "pwrite64:error=ENOSPC:when=11+100",
            None,
            "no space left on device",
        ),
        ("pwrite64:error=EDQUOT:when=30+100", None, "quota exceeded"),
        ("pwrite64:error=EIO:when=60+100", None, "input/output error"),
        (
            "pwrite64:error=EROFS:when=25..26",
            None,
            "read-only file system",
        ),
        ("fdatasync:error=EIO:when=1..2", None, "input/output error"),
        (
            "openat:error=ENOSPC:when=1",
            Some("out-000000.raw"),
            "no space left on device",
        ),
        (
            "openat:error=EDQUOT:when=1",
            Some("err-000000.raw"),
            "quota exceeded",
        ),
    ];
    let faults = faults.map(|(inject, file, says)| Fault { inject, file, says });
    thread::scope(|scope| {
        let runs: Vec<_> = faults
            .iter()
            .map(|fault| (fault, scope.spawn(|| run_under(fault))))
            .collect();
        for (fault, run) in runs {
            let told = run.join().unwrap();
            let is_told = told.iter().any(|record| {
                let reason = record.reason.as_deref().unwrap_or_default();
                record.state == RunState::Stalled
                    && reason.contains(fault.says)
                    && reason.contains(" /")
            });
            assert!(is_told, "{}: {told:#?}", fault.inject);
        }
    });
}

#[test]
fn a_disk_without_a_free_file_stops_what_needs_one_and_nothing_else() {
    let Some(disk) = SmallDisk::mount("200m,nr_inodes=1100") else {
        eprintln!("skipped: no right to mount a small disk");
        return;
    };
    let go = tempfile::NamedTempFile::new().unwrap();
    let wait = format!("until [ -s {} ]; do sleep 0.02; done", go.path().display());
    let line = format!("echo first; {wait}; seq 1 100000; echo late >&2; exit 4");
    let (mut kept, dir) = Kept::alone_in(&shell(&line), Some(&disk.0.join("runs")));
    kept.line.until(dir.id(), |_, sizes| sizes.stdout > 0);
    let ballast = disk.0.join("ballast");
    fs::create_dir(&ballast).unwrap();
    let filled = (0..).take_while(|n| fs::write(ballast.join(format!("{n}")), "").is_ok());
    assert!(filled.count() > 900);
    let refused = kept.store.create(
        hpcclient_protocol::RunId::random(),
        &shell("true"),
        1,
        "node",
    );
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("0 files left"), "{refused}");
    fs::write(go.path(), "go").unwrap();
    // stdout has its file and goes on; the first byte of stderr needs another.
    let stalled = kept.line.until_state(dir.id(), RunState::Stalled);
    assert!(stalled.reason.unwrap().contains("err-000000.raw"));
    fs::remove_dir_all(&ballast).unwrap();
    let record = kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(record.exit_code, Some(4));
    assert_eq!(bytes(&dir, StreamName::Stderr), b"late\n");
    let seen = bytes(&dir, StreamName::Stdout);
    assert_eq!(seen.iter().filter(|byte| **byte == b'\n').count(), 100_001);
    assert!(kept.gone());
}

#[test]
fn a_node_without_room_for_the_command_s_process_is_asked_again() {
    let full = Fault {
        inject: "clone,clone3,vfork:error=EAGAIN:when=1",
        file: None,
        says: "",
    };
    let (mut kept, dir) = Kept::alone_as(failing(&full), &shell("echo here; exit 9"), None);
    let record = kept.line.until_state(dir.id(), RunState::Exited);
    assert_eq!(record.exit_code, Some(9));
    assert_eq!(bytes(&dir, StreamName::Stdout), b"here\n");
    assert!(kept.gone());
    let mut kept = Kept::session_as(failing(&full));
    assert_eq!(kept.run("echo here").1, "here\n");
    kept.line.send(&ToShim::End, b"");
    assert!(kept.gone());
}
