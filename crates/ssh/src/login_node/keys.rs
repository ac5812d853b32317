//! The login node's two keys and the files that let a client in.
//!
//! Called by `LoginNode::start`. Invariants: both keys are new for every start; the private file is
//! 0600 from its first byte; the host's private key is never written.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};

use super::LoginNodeError;

/// The server's key and the only key that may log in.
pub(super) struct Keys {
    pub(super) host: PrivateKey,
    pub(super) client: PrivateKey,
}

/// Where the client finds what it needs.
pub(super) struct KeyFiles {
    pub(super) identity: PathBuf,
    pub(super) known_hosts: PathBuf,
}

impl Keys {
    /// Makes both keys.
    pub(super) fn generate() -> Result<Self, LoginNodeError> {
        Ok(Self {
            host: new_key()?,
            client: new_key()?,
        })
    }

    /// Returns the host's public key as it stands in `known_hosts`.
    pub(super) fn host_line(&self) -> String {
        // A key that was just made from 32 bytes has an encoding.
        self.host.public_key().to_openssh().unwrap_or_default()
    }

    /// Writes `id_ed25519` and `known_hosts` for a server on this port.
    pub(super) fn write(&self, folder: &Path, port: u16) -> Result<KeyFiles, LoginNodeError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| write_error(folder, source))?;
        let identity = folder.join("id_ed25519");
        let text = self
            .client
            .to_openssh(LineEnding::LF)
            .map_err(|error| LoginNodeError::Key(error.into()))?;
        write_private(&identity, text.as_bytes())?;
        let known_hosts = folder.join("known_hosts");
        let host = self.host_line();
        let line = format!("[127.0.0.1]:{port},[localhost]:{port} {host}\n");
        write_private(&known_hosts, line.as_bytes())?;
        Ok(KeyFiles {
            identity,
            known_hosts,
        })
    }
}

fn new_key() -> Result<PrivateKey, LoginNodeError> {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)
        .map_err(|error| LoginNodeError::Key(error.into()))
}

/// Replaces a file with one that only this user can read.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), LoginNodeError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    let written = removed.and_then(|()| {
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?
            .write_all(bytes)
    });
    written.map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: io::Error) -> LoginNodeError {
    LoginNodeError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_private_key_is_for_this_user_only_and_new_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let read = || {
            let files = Keys::generate().unwrap().write(folder.path(), 22).unwrap();
            let mode = fs::metadata(&files.identity).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            (
                fs::read_to_string(files.identity).unwrap(),
                fs::read_to_string(files.known_hosts).unwrap(),
            )
        };
        let (first, second) = (read(), read());
        assert_ne!(first, second);
        assert!(first.0.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        assert!(
            second
                .1
                .starts_with("[127.0.0.1]:22,[localhost]:22 ssh-ed25519 AAAA")
        );
    }
}
