//! A disk that is full for a while. Needs root for a small disk of its own; else it has nothing to do.

use std::{fs, path::PathBuf, process::Command};

use hpcagent::store::{Store, StoreError};
use hpcclient_protocol::{RunId, RunState, StreamName};

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
    let wanted = (1..=2_000_000).fold(String::new(), |mut all, n| {
        use std::fmt::Write;
        writeln!(all, "{n}").unwrap();
        all
    });
    assert!(
        bytes(&dir, StreamName::Stdout) == wanted.as_bytes(),
        "the bytes differ"
    );
    assert!(kept.gone());
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
