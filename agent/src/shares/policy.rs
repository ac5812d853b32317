//! The site's word on sharing: `sharing = false` in `/etc/hpcclient/policy.toml` turns it off.
//!
//! Read at start, before each new share, and while something is shared. Only the system's
//! administrator is heard: a file that is not root's, or that others may write, is passed over.
//! Invariant: a file that is heard and cannot be understood turns sharing off.
//! The keys are bare names at the top of the file, so that one reader of a few lines is enough.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

/// Where the policy is.
pub(super) const PATH: &str = "/etc/hpcclient/policy.toml";

/// Returns why sharing is off, if it is.
pub(super) fn why_off(path: &Path) -> Option<String> {
    why_off_by(path, 0)
}

/// Hears the user of this number as the system's administrator.
fn why_off_by(path: &Path, administrator: u32) -> Option<String> {
    let shown = path.display();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return None;
        }
        Err(error) => return Some(format!("{shown} cannot be read: {error}")),
    };
    match file.metadata() {
        Ok(about) if about.uid() != administrator || about.mode() & 0o022 != 0 => {
            tracing::warn!(path = %shown, "passed over: not root's, or others may write it");
            return None;
        }
        Ok(about) if about.is_file() => {}
        Ok(_) => return Some(format!("{shown} is not a file")),
        Err(error) => return Some(format!("{shown} cannot be read: {error}")),
    }
    let mut text = String::new();
    if let Err(error) = file.take(MAX_BYTES).read_to_string(&mut text) {
        return Some(format!("{shown} cannot be read: {error}"));
    }
    match sharing(&text) {
        Ok(true) => None,
        Ok(false) => Some(format!("{shown} says `sharing = false`")),
        Err(line) => Some(format!("line {line} of {shown} cannot be understood")),
    }
}

/// Returns what the policy says of sharing, or the number of the line that says nothing.
fn sharing(text: &str) -> Result<bool, usize> {
    let (mut said, mut in_table) = (None, false);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            in_table = true;
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(number)?;
        let (key, value) = (key.trim(), value.trim());
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if key.is_empty() || !key.chars().all(bare) || value.is_empty() {
            return Err(number);
        }
        if in_table || key != "sharing" {
            continue;
        }
        let word = value.split('#').next().unwrap_or_default().trim();
        let value = match word {
            "true" => true,
            "false" => false,
            _ => return Err(number),
        };
        if said.replace(value).is_some() {
            return Err(number);
        }
    }
    Ok(said.unwrap_or(true))
}

const MAX_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn only_a_clear_word_leaves_sharing_on() {
        assert_eq!(sharing(""), Ok(true));
        assert_eq!(sharing("# sharing = false\n"), Ok(true));
        assert_eq!(sharing("other = 3\nsharing = true # for now\n"), Ok(true));
        assert_eq!(sharing("sharing=false"), Ok(false));
        assert_eq!(sharing("[table]\nsharing = false\n"), Ok(true));
        assert_eq!(sharing("\nsharing = no\n"), Err(2));
        assert_eq!(sharing("sharing = \"false\""), Err(1));
        assert_eq!(sharing("sharing = true\nsharing = true"), Err(2));
        assert_eq!(sharing("sharing"), Err(1));
        assert_eq!(sharing("\"sharing\" = false"), Err(1));
    }

    #[test]
    fn only_roots_own_file_is_heard() {
        let us = rustix::process::getuid().as_raw();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        let heard = || why_off_by(&path, us);
        assert_eq!(heard(), None);
        fs::write(&path, "sharing = false\n").unwrap();
        assert!(heard().unwrap().contains("sharing = false"));
        assert_eq!(why_off_by(&path, us + 1), None, "another user's file");
        assert_eq!(why_off(&path).is_some(), us == 0, "root is number 0");
        fs::write(&path, b"sharing = \xff\n").unwrap();
        assert!(heard().unwrap().contains("cannot be read"));
        fs::write(&path, "sharing = off\n").unwrap();
        assert!(heard().unwrap().starts_with("line 1 of "));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        assert_eq!(heard(), None, "others may write it");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(heard().unwrap().contains("is not a file"));
    }
}
