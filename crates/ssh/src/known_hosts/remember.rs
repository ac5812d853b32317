//! Adding an accepted key to the user's known_hosts file, in OpenSSH's format.
//!
//! Invariants: lines are only ever appended, in one write; a new file is 0600 and its folder 0700.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use russh::keys::PublicKey;

/// Appends `name key` to a file, which is made if it does not exist.
pub(crate) fn remember(file: &Path, name: &str, key: &PublicKey) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut plain = key.clone();
    plain.set_comment("");
    let key = plain.to_openssh().map_err(std::io::Error::other)?;
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
    open.write_all(format!("{start}{name} {}\n", key.trim()).as_bytes())?;
    open.sync_data()
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
        remember(&file, "[login]:2222", &key).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);

        std::fs::write(&file, "# no newline at the end").unwrap();
        remember(&file, "[login]:2222", &key).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let (type_and_blob, _) = KEY.rsplit_once(' ').unwrap();
        assert_eq!(
            text,
            format!("# no newline at the end\n[login]:2222 {type_and_blob}\n")
        );
    }
}
