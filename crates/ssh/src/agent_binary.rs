//! The `hpcagent` binary on this machine that is to run on the node: its bytes, its hash, its platform.

use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::SshError;

/// The agent's binary on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentBinary {
    /// Its path on this machine.
    pub path: PathBuf,
}

/// The binary in memory.
#[derive(Clone, Debug)]
pub(crate) struct LoadedAgent {
    pub(crate) bytes: Bytes,
    /// Lowercase hex of all 32 bytes.
    pub(crate) sha256: String,
}

impl AgentBinary {
    /// Computes the SHA-256 of the binary, in lowercase hex.
    ///
    /// # Errors
    ///
    /// [`SshError::AgentBinary`] if it cannot be read.
    pub async fn sha256(&self) -> Result<String, SshError> {
        Ok(self.load().await?.sha256)
    }

    /// Reads the binary, which may change between two connections.
    pub(crate) async fn load(&self) -> Result<LoadedAgent, SshError> {
        let path = self.path.clone();
        let read = move || {
            let bytes = std::fs::read(path)?;
            let digest = Sha256::digest(&bytes);
            let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(LoadedAgent {
                bytes: Bytes::from(bytes),
                sha256,
            })
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|source| self.unreadable(source))
    }

    pub(crate) fn unreadable(&self, source: std::io::Error) -> SshError {
        SshError::AgentBinary {
            path: self.path.clone(),
            source,
        }
    }
}

impl LoadedAgent {
    /// The machine that the binary is for, as `uname -m` names it; nothing if it is no Linux program we know.
    pub(crate) fn machine(&self) -> Option<&'static str> {
        if !self.bytes.starts_with(b"\x7fELF") {
            return None;
        }
        match self.bytes.get(18..20)? {
            [0x3e, 0] => Some("x86_64"),
            [0xb7, 0] => Some("aarch64"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_binary_is_hashed_and_its_machine_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        std::fs::write(&path, b"abc").unwrap();
        let agent = AgentBinary { path };
        assert_eq!(
            agent.sha256().await.unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(agent.load().await.unwrap().machine(), None);
        let path = std::env::current_exe().unwrap();
        let myself = AgentBinary { path }.load().await.unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(myself.machine(), Some(std::env::consts::ARCH));
        }
        let gone = AgentBinary {
            path: folder.path().join("gone"),
        };
        assert!(matches!(
            gone.sha256().await,
            Err(SshError::AgentBinary { .. })
        ));
    }
}
