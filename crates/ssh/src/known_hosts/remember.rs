//! Adding keys to the user's known_hosts file, in OpenSSH's format.
//!
//! Invariants: lines are only ever appended, in one write; a new file is 0600 and its folder 0700.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::PublicKey;
use sha1::Sha1;

/// Appends a line for each key to a file, which is made if it does not exist; the name is `hashed` or shown.
pub(crate) fn remember(
    file: &Path,
    name: &str,
    hashed: bool,
    keys: &[PublicKey],
) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut lines = String::new();
    for key in keys {
        let mut plain = key.clone();
        plain.set_comment("");
        let key = plain.to_openssh().map_err(std::io::Error::other)?;
        let name = if hashed { hash(name)? } else { name.to_owned() };
        lines.push_str(&format!("{name} {}\n", key.trim()));
    }
    let mut open = std::fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)?;
    // A file that was edited by hand may lack its last newline.
    let mut last = [b'\n'];
    if open.metadata()?.len() > 0 {
        open.seek(SeekFrom::End(-1))?;
        open.read_exact(&mut last)?;
    }
    let start = if last == [b'\n'] { "" } else { "\n" };
    open.write_all(format!("{start}{lines}").as_bytes())?;
    open.sync_data()
}

/// The name as only those can recognise it who know it already.
fn hash(name: &str) -> std::io::Result<String> {
    let mut salt = [0; 20];
    getrandom::fill(&mut salt).map_err(std::io::Error::other)?;
    let mut hasher = Hmac::<Sha1>::new_from_slice(&salt).map_err(std::io::Error::other)?;
    hasher.update(name.as_bytes());
    let hash = hasher.finalize().into_bytes();
    Ok(format!(
        "|1|{}|{}",
        STANDARD.encode(salt),
        STANDARD.encode(hash)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ root@host";

    #[test]
    fn a_new_file_is_private_and_an_old_one_keeps_its_lines() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".ssh/known_hosts");
        let key = PublicKey::from_openssh(KEY).unwrap();
        remember(&file, "[login]:2222", false, std::slice::from_ref(&key)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);

        std::fs::write(&file, "# no newline at the end").unwrap();
        remember(&file, "[login]:2222", false, std::slice::from_ref(&key)).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let (type_and_blob, _) = KEY.rsplit_once(' ').unwrap();
        assert_eq!(
            text,
            format!("# no newline at the end\n[login]:2222 {type_and_blob}\n")
        );
    }

    #[test]
    fn a_hashed_name_is_found_and_not_shown() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("known_hosts");
        let key = PublicKey::from_openssh(KEY).unwrap();
        let keys = [key.clone(), key];
        remember(&file, "[login]:2222", true, &keys).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("login"));
        let lines: Vec<&str> = text.lines().collect();
        assert_ne!(lines[0], lines[1]);
        for line in lines {
            let entry = super::super::entry::Entry::parse(line).unwrap();
            assert!(entry.is_about("[login]:2222") && !entry.is_about("login"));
        }
    }
}
