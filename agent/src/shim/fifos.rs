//! The FIFOs through which a session's lines write: made once, used again while nobody else has them.
//!
//! Invariants: a FIFO is used again only after its end was read, when no process has it open: late
//! output of a line never gets into another's. Any other line gets a new FIFO.
//! Not here: reading them (`kept`).

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::{Path, PathBuf},
};

use hpcclient_protocol::StreamName;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, openat};

use super::processes;

/// One that this process reads.
pub(super) struct Fifo {
    pub(super) number: u64,
    pub(super) fd: OwnedFd,
    pub(super) wide: bool,
}

struct Slot {
    prefix: &'static str,
    /// The number of the one that has a name.
    named: Option<u64>,
    spare: Option<Fifo>,
}

/// The FIFOs of a session.
pub(super) struct Fifos {
    folder: PathBuf,
    out: Slot,
    err: Slot,
    count: u64,
}

impl Fifos {
    pub(super) fn new(folder: PathBuf) -> Self {
        let slot = |prefix| Slot {
            prefix,
            named: None,
            spare: None,
        };
        Self {
            folder,
            out: slot("out"),
            err: slot("err"),
            count: 0,
        }
    }

    /// Returns a FIFO for a line's output, and its name.
    pub(super) fn take(&mut self, stream: StreamName) -> io::Result<(String, Fifo)> {
        let slot = match stream {
            StreamName::Stderr => &mut self.err,
            StreamName::Stdout | StreamName::Tty => &mut self.out,
        };
        let name = |number: u64| format!("{}-{number}", slot.prefix);
        if let Some(fifo) = slot.spare.take() {
            return Ok((name(fifo.number), fifo));
        }
        if let Some(old) = slot.named.take() {
            // Whoever still has it open goes on; it only loses its name.
            drop(fs::remove_file(self.folder.join(name(old))));
        }
        self.count += 1;
        let (number, name) = (self.count, name(self.count));
        let path = self.folder.join(&name);
        make(&path)?;
        slot.named = Some(number);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = openat(CWD, path, flags, Mode::empty())?;
        let wide = false;
        Ok((name, Fifo { number, fd, wide }))
    }

    /// Takes back one whose end was read.
    pub(super) fn give_back(&mut self, stream: StreamName, fifo: Fifo) {
        let slot = match stream {
            StreamName::Stderr => &mut self.err,
            StreamName::Stdout | StreamName::Tty => &mut self.out,
        };
        if slot.named == Some(fifo.number) {
            slot.spare = Some(fifo);
        }
    }
}

/// Makes the folder of a session's FIFOs beside its socket, and removes those of shims that died.
///
/// Each shim has its own, for one that is ending lives on beside the next of the same session. No
/// session's id holds a `+`.
pub(super) fn make_folder(socket: &Path) -> io::Result<PathBuf> {
    let mut prefix = socket.file_name().unwrap_or_default().to_owned();
    prefix.push("+");
    let me = std::process::id();
    for entry in fs::read_dir(socket.parent().unwrap_or(Path::new("/")))?.flatten() {
        let name = entry.file_name();
        let pid = name
            .as_bytes()
            .strip_prefix(prefix.as_bytes())
            .and_then(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
        if pid.is_some_and(|pid: u32| pid == me || processes::start_of(pid).is_none()) {
            // Best effort: it may be gone by now.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    prefix.push(me.to_string());
    let folder = socket.with_file_name(prefix);
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

/// Makes a FIFO for this user.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    Ok(mknodat(CWD, path, FileType::Fifo, mode, 0)?)
}
