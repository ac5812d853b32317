//! Private keys in files: reading the plain ones, and knowing the public half of those that are locked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{PrivateKey, PublicKey, load_public_key};

/// A key file is never larger.
const LARGEST: u64 = 64 << 10;

/// One identity of the configuration.
#[derive(Clone, Debug)]
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// The public half, if it can be known without a passphrase.
    pub(super) public: Option<PublicKey>,
    /// The key, if it needs no passphrase.
    pub(super) plain: Option<Arc<PrivateKey>>,
    /// Whether there is a private key in the file, locked or not. Without one it only names a key of the ssh-agent.
    pub(super) has_private: bool,
    /// Whether there is a private key that the library does not understand. The ssh-agent or the `ssh` program may:
    /// one in 256 of the ECDSA keys that OpenSSH writes has a number that is too short for the library.
    pub(super) is_unreadable: bool,
}

/// Reads the files that exist and hold keys.
pub(super) async fn read(paths: Vec<PathBuf>) -> Vec<KeyFile> {
    let read =
        tokio::task::spawn_blocking(move || paths.into_iter().filter_map(read_one).collect());
    read.await.unwrap_or_default()
}

fn read_one(path: PathBuf) -> Option<KeyFile> {
    if std::fs::metadata(&path).is_ok_and(|file| file.len() > LARGEST) {
        return None;
    }
    let beside = || load_public_key(with_pub(&path)).ok();
    let Ok(text) = std::fs::read_to_string(&path) else {
        let public = beside()?;
        return Some(KeyFile {
            path,
            public: Some(public),
            plain: None,
            has_private: false,
            is_unreadable: false,
        });
    };
    match russh::keys::decode_secret_key(&text, None) {
        Ok(key) => Some(KeyFile {
            public: Some(key.public_key().clone()),
            plain: Some(Arc::new(key)),
            has_private: true,
            is_unreadable: false,
            path,
        }),
        Err(russh::keys::Error::KeyIsEncrypted) => {
            let inside = PrivateKey::from_openssh(&text)
                .ok()
                .map(|key| key.public_key().clone());
            let public = inside.or_else(beside);
            Some(KeyFile {
                path,
                public,
                plain: None,
                has_private: true,
                is_unreadable: false,
            })
        }
        Err(_) if text.contains("PRIVATE KEY-----") => Some(KeyFile {
            public: beside(),
            path,
            plain: None,
            has_private: false,
            is_unreadable: true,
        }),
        Err(_) => {
            let public = load_public_key(&path).ok()?;
            Some(KeyFile {
                path,
                public: Some(public),
                plain: None,
                has_private: false,
                is_unreadable: false,
            })
        }
    }
}

fn with_pub(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Decrypts a key; nothing if the passphrase is wrong.
pub(super) async fn unlock(path: PathBuf, passphrase: String) -> Option<Arc<PrivateKey>> {
    // The key derivation takes up to a second of processor time by design.
    let decrypt = move || russh::keys::load_secret_key(path, Some(&passphrase)).ok();
    let key = tokio::task::spawn_blocking(decrypt).await.ok().flatten();
    key.map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::Algorithm;
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::LineEnding;

    #[tokio::test]
    async fn what_the_files_of_a_configuration_may_hold() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let locked = key.encrypt(&mut safe_rng(), "open sesame").unwrap();
        std::fs::write(at("plain"), key.to_openssh(LineEnding::LF).unwrap()).unwrap();
        std::fs::write(at("locked"), locked.to_openssh(LineEnding::LF).unwrap()).unwrap();
        let public = key.public_key().to_openssh().unwrap();
        std::fs::write(at("only.pub"), public).unwrap();
        std::fs::write(at("noise"), "not a key").unwrap();
        let damaged =
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
        std::fs::write(at("damaged"), damaged).unwrap();
        std::fs::copy(at("only.pub"), at("damaged.pub")).unwrap();

        let found = read(
            [
                "plain", "locked", "only", "only.pub", "noise", "damaged", "gone",
            ]
            .map(at)
            .into(),
        )
        .await;
        let names: Vec<_> = found.iter().map(|file| file.path.clone()).collect();
        assert_eq!(
            names,
            ["plain", "locked", "only", "only.pub", "damaged"].map(at)
        );
        let unreadable = found.iter().filter(|file| file.is_unreadable);
        assert_eq!(unreadable.count(), 1);
        assert!(found.iter().all(|file| {
            file.public.as_ref().unwrap().key_data() == key.public_key().key_data()
        }));
        assert_eq!(found.iter().filter(|file| file.plain.is_some()).count(), 1);
        assert_eq!(found.iter().filter(|file| file.has_private).count(), 2);

        assert!(unlock(at("locked"), "wrong".to_owned()).await.is_none());
        assert!(
            unlock(at("locked"), "open sesame".to_owned())
                .await
                .is_some()
        );
    }
}
