//! The text of one configuration file.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A configuration file above this size is not one.
const LARGEST: u64 = 1 << 20;

/// Whether a file that others can write to is refused, as it may name commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Trusted,
    Checked,
}

/// Why there is no text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Absent,
    NotOurs,
    NotAConfiguration,
}

pub(super) fn read(path: &Path, owner: Owner, uid: u32) -> Result<String, Trouble> {
    let file = File::open(path).map_err(|_| Trouble::Absent)?;
    let is_ours = |file: Metadata| [0, uid].contains(&file.uid()) && file.mode() & 0o022 == 0;
    if owner == Owner::Checked && !file.metadata().is_ok_and(is_ours) {
        return Err(Trouble::NotOurs);
    }
    let mut text = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut text);
    if read.is_err() || text.len() as u64 > LARGEST {
        return Err(Trouble::NotAConfiguration);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
