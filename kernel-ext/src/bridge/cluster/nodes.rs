//! Which node each cluster's connection led to, over the life of bridges.
//!
//! `actor` asks before a login and tells after it. Invariants: the file is private and replaced in
//! one step; a file that cannot be read or written costs the way back to a node and nothing else.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

/// Where a connection led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KnownNode {
    /// `user@host:port` of the login.
    pub(crate) destination: String,
    /// The node's own name.
    pub(crate) host: String,
    /// Its boot at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) boot_id: Option<String>,
    /// The address that leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
}

/// The nodes by the cluster's name.
#[derive(Debug)]
pub(crate) struct Nodes {
    file: PathBuf,
    known: Mutex<BTreeMap<String, KnownNode>>,
    /// Held while the file is replaced; the map is not.
    writing: Mutex<()>,
}

impl Nodes {
    /// Reads what an earlier bridge remembered.
    pub(crate) async fn open(file: PathBuf) -> Arc<Self> {
        let read = tokio::task::spawn_blocking(move || Self::read(file)).await;
        Arc::new(read.unwrap_or_else(|_| Self::read(PathBuf::new())))
    }

    fn read(file: PathBuf) -> Self {
        let known = fs::read(&file)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok());
        Self {
            file,
            known: Mutex::new(known.unwrap_or_default()),
            writing: Mutex::default(),
        }
    }

    /// Returns the node of a cluster's last connection.
    pub(crate) fn get(&self, cluster: &str) -> Option<KnownNode> {
        self.known().get(cluster).cloned()
    }

    /// Remembers a cluster's node, or forgets it. The file follows; nobody waits for a slow home.
    pub(crate) fn put(
        self: &Arc<Self>,
        cluster: &str,
        node: Option<KnownNode>,
        tasks: &TaskTracker,
    ) {
        if self.get(cluster) == node {
            return;
        }
        match node {
            Some(node) => self.known().insert(cluster.to_owned(), node),
            None => self.known().remove(cluster),
        };
        let here = Arc::clone(self);
        tasks.spawn_blocking(move || {
            if let Err(error) = here.write() {
                tracing::warn!(%error, file = %here.file.display(), "cannot remember the node");
            }
        });
    }

    fn write(&self) -> std::io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known().clone();
        let draft = draft_of(&self.file);
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        serde_json::to_writer(&file, &known)?;
        file.write_all(b"\n")?;
        fs::rename(&draft, &self.file)
    }

    /// A poisoned lock means that a holder panicked between two plain operations.
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, KnownNode>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn draft_of(file: &Path) -> PathBuf {
    file.with_extension("json.new")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn node(host: &str) -> KnownNode {
        KnownNode {
            destination: "me@login:22".to_owned(),
            host: host.to_owned(),
            boot_id: Some("b1".to_owned()),
            address: Some(IpAddr::from([192, 0, 2, 7])),
        }
    }

    #[tokio::test]
    async fn a_node_is_known_to_the_next_bridge_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nodes.json");
        let nodes = Nodes::open(file.clone()).await;
        assert_eq!(nodes.get("leo"), None);
        let tasks = TaskTracker::new();
        tasks.close();
        nodes.put("leo", Some(node("login02")), &tasks);
        nodes.put("other", Some(node("login01")), &tasks);
        tasks.wait().await;
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let nodes = Nodes::open(file.clone()).await;
        assert_eq!(nodes.get("leo"), Some(node("login02")));
        nodes.put("leo", None, &tasks);
        tasks.wait().await;
        let nodes = Nodes::open(file.clone()).await;
        assert_eq!(nodes.get("leo"), None);
        assert_eq!(nodes.get("other"), Some(node("login01")));

        fs::write(&file, "not json").unwrap();
        let nodes = Nodes::open(file).await;
        assert_eq!(nodes.get("other"), None, "a damaged file is an empty one");
    }
}
