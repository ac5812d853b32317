//! A disk that is full for a while, or refuses. A full one needs root for a small disk of its own; else
//! that test has nothing to do.

use std::{cell::Cell, fs, path::PathBuf, process::Command};

use hpcagent::store::{Store, StoreError};
use hpcclient_protocol::{RunId, RunState, StreamName, run::StreamSizes};

use crate::driver::{Kept, bytes, shell};

pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    pub(crate) fn mount(size: &str) -> Option<Self> {
        let path = tempfile::tempdir().unwrap().keep();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(path));
        }
        fs::remove_dir(&path).unwrap();
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a shim that is still exiting may have a file open.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn a_full_disk_makes_the_run_wait_and_nothing_is_lost() {
    // The store refuses a new run below 64 MiB, so the disk is larger and a file fills it.
    let Some(disk) = SmallDisk::mount("80m") else {
        eprintln!("skipped: no right to mount a small disk");
        return;
    };
    let ballast = disk.0.join("ballast");
    let go = tempfile::NamedTempFile::new().unwrap();
    let line = format!(
        "until [ -s {} ]; do sleep 0.02; done; seq 1 2000000; exit 9",
        go.path().display()
    );
    let (mut kept, dir) = Kept::alone_in(&shell(&line), Some(&disk.0.join("runs")));
    let run = dir.id();
    kept.line.until_state(run, RunState::Running);
    fs::write(&ballast, vec![1; 72 << 20]).unwrap();
    fs::write(go.path(), "go").unwrap();
    let stalled = kept.line.until_state(run, RunState::Stalled);
    let reason = stalled.reason.unwrap();
    assert!(reason.starts_with("cannot write /"), "{reason}");
    assert!(reason.ends_with("no space left on device"), "{reason}");
    assert_eq!(dir.load().unwrap().state, RunState::Stalled);
    fs::remove_file(&ballast).unwrap();
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!((record.exit_code, record.reason), (Some(9), None));
    let wanted = numbers(2_000_000);
    assert!(
        bytes(&dir, StreamName::Stdout) == wanted.as_bytes(),
        "the bytes differ"
    );
    assert!(kept.gone());
}

#[test]
fn how_a_run_ended_is_stored_while_its_output_waits_for_a_full_disk() {
    let Some(disk) = SmallDisk::mount("80m") else {
        eprintln!("skipped: no right to mount a small disk");
        return;
    };
    let ballast = disk.0.join("ballast");
    let go = tempfile::NamedTempFile::new().unwrap();
    let line = format!(
        "until [ -s {} ]; do sleep 0.02; done; seq 1 5000; exit 9",
        go.path().display()
    );
    let (mut kept, dir) = Kept::alone_in(&shell(&line), Some(&disk.0.join("runs")));
    let run = dir.id();
    kept.line.until_state(run, RunState::Running);
    drop(fs::write(&ballast, vec![1; 90 << 20]));
    fs::write(go.path(), "go").unwrap();
    let told = kept.line.until(run, |record, _| record.exit_code.is_some());
    assert_eq!((told.state, told.exit_code), (RunState::Stalled, Some(9)));
    let stored = dir.record().unwrap();
    assert_eq!((stored.state, stored.exit_code), (told.state, Some(9)));
    assert!(stored.ended_ms.is_some());
    fs::remove_file(&ballast).unwrap();
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!((record.exit_code, record.reason), (Some(9), None));
    assert_eq!(record.ended_ms, stored.ended_ms);
    assert_eq!(bytes(&dir, StreamName::Stdout), numbers(5000).as_bytes());
    assert!(kept.gone());
}

/// Returns what `seq 1 <last>` writes.
fn numbers(last: u32) -> String {
    use std::fmt::Write;
    (1..=last).fold(String::new(), |mut all, n| {
        writeln!(all, "{n}").unwrap();
        all
    })
}

/// Runs a command on a disk that does not take what it writes, and looks that it waits and that all of
/// it is there when the disk is good again.
fn refuses(fault: &str, words: &str) {
    let control = tempfile::NamedTempFile::new().unwrap();
    fs::write(control.path(), fault).unwrap();
    let line = "seq 1 1000000; until [ -e go ]; do sleep 0.02; done; seq 1000001 2000000; exit 9";
    let (mut kept, dir) = Kept::alone_on_bad_disk(&shell(line), control.path());
    let run = dir.id();
    let stalled = kept.line.until_state(run, RunState::Stalled);
    let reason = stalled.reason.unwrap();
    assert!(reason.starts_with("cannot "), "{reason}");
    assert!(reason.ends_with(words), "{reason}");
    fs::write(kept.folder.join("home/go"), "").unwrap();
    // The disk is tried again, and meanwhile the command waits.
    let size = Cell::new(None);
    let news = Cell::new(0);
    kept.line.until_durable(run, |record, sizes, durable| {
        assert_eq!(durable, StreamSizes::default());
        assert_eq!(record.state, RunState::Stalled);
        assert_eq!(size.replace(Some(sizes)).unwrap_or(sizes), sizes);
        news.set(news.get() + 1);
        news.get() == 2
    });
    let wanted = numbers(2_000_000);
    assert!(size.get().unwrap().stdout < wanted.len() as u64);
    fs::write(control.path(), "").unwrap();
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!((record.exit_code, record.reason), (Some(9), None));
    assert!(kept.gone());
    assert!(
        bytes(&dir, StreamName::Stdout) == wanted.as_bytes(),
        "the bytes differ"
    );
    let run = dir.load().unwrap();
    assert_eq!((run.state, run.durable), (RunState::Exited, run.sizes));
}

#[test]
fn what_a_disk_failed_to_sync_is_written_again() {
    refuses("sync 5", "input/output error");
}

#[test]
fn a_network_disk_that_tells_the_quota_late_makes_the_run_wait() {
    refuses("sync 122", "disk quota exceeded");
}

#[test]
fn a_quota_makes_the_run_wait() {
    refuses("write 122", "disk quota exceeded");
}

#[test]
fn a_disk_that_became_read_only_makes_the_run_wait() {
    refuses("write 30", "read-only file system");
}

#[test]
fn a_disk_that_does_not_answer_is_told_and_the_command_goes_on_meanwhile() {
    let control = tempfile::NamedTempFile::new().unwrap();
    fs::write(control.path(), "hang 1").unwrap();
    let wait = |file: &str| format!("until [ -e {file} ]; do sleep 0.02; done");
    let line = format!(
        "echo one; {}; echo two; {}; exit 9",
        wait("go"),
        wait("end")
    );
    let (mut kept, dir) = Kept::alone_on_bad_disk(&shell(&line), control.path());
    let (run, home) = (dir.id(), kept.folder.join("home"));
    let told = kept.line.until_state(run, RunState::Stalled);
    let path = dir.path().display();
    let words = format!("the disk has not answered for 10 s: {path}");
    assert_eq!(told.reason, Some(words));
    fs::write(home.join("go"), "").unwrap();
    kept.line.until_durable(run, |record, sizes, durable| {
        assert_eq!((record.state, durable.stdout), (RunState::Stalled, 0));
        sizes.stdout == 8
    });
    assert_eq!(bytes(&dir, StreamName::Stdout), b"one\ntwo\n");
    fs::write(control.path(), "").unwrap();
    let told = kept.line.until_state(run, RunState::Running);
    assert_eq!(told.reason, None);
    fs::write(home.join("end"), "").unwrap();
    let record = kept.line.until_state(run, RunState::Exited);
    assert_eq!((record.exit_code, record.reason), (Some(9), None));
    assert!(kept.gone());
    let run = dir.load().unwrap();
    assert_eq!((run.state, run.durable), (RunState::Exited, run.sizes));
}

#[test]
fn the_last_bytes_of_a_run_that_has_ended_are_written_again_too() {
    let control = tempfile::NamedTempFile::new().unwrap();
    fs::write(control.path(), "sync 5").unwrap();
    let (mut kept, dir) = Kept::alone_on_bad_disk(&shell("echo last words"), control.path());
    let told = kept.line.until(dir.id(), |record, _| {
        record.state == RunState::Exited && record.reason.is_some()
    });
    assert_eq!(told.exit_code, Some(0));
    let run = dir.load().unwrap();
    assert_eq!(run.reason, told.reason);
    assert_eq!(run.durable, StreamSizes::default());
    fs::write(control.path(), "").unwrap();
    assert!(kept.gone());
    assert_eq!(bytes(&dir, StreamName::Stdout), b"last words\n");
    let run = dir.load().unwrap();
    assert_eq!((run.exit_code, run.reason), (Some(0), None));
    assert_eq!((run.state, run.durable), (RunState::Exited, run.sizes));
}

#[test]
fn what_is_durable_is_told_while_it_runs_and_kept_in_the_record() {
    let (mut kept, dir) = Kept::alone(&shell("echo one; read -r _ < go; echo two"));
    let go = kept.folder.join("home/go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    let run = dir.id();
    let stdout = |stdout| StreamSizes {
        stdout,
        ..StreamSizes::default()
    };
    kept.line.until_durable(run, |_, sizes, durable| {
        assert!(durable.stdout <= sizes.stdout);
        durable == stdout(4)
    });
    // Another agent is told as well.
    kept.connect()
        .until_durable(run, |_, _, durable| durable == stdout(4));
    fs::write(&go, "\n").unwrap();
    assert!(kept.gone());
    assert_eq!(dir.load().unwrap().durable, stdout(8));
}

#[test]
fn a_run_is_refused_where_little_is_left() {
    let Some(disk) = SmallDisk::mount("32m") else {
        eprintln!("skipped: no right to mount a small disk");
        return;
    };
    let store = Store::open(disk.0.join("runs")).unwrap();
    let refused = store
        .create(RunId::random(), &shell("true"), 1, "node")
        .unwrap_err();
    assert!(matches!(&refused, StoreError::NoSpace { free_bytes, .. } if *free_bytes <= 32 << 20));
    let path = disk.0.display().to_string();
    assert!(refused.to_string().contains(&path), "{refused}");
    assert_eq!(store.newest(None, 10).unwrap(), []);
}
