//! The clusters of this bridge by name, and their pages.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hpcclient_protocol::{
    ApiError, ErrorCode, VERSION,
    bridge::{BridgeStatus, ClusterState, ClusterStatus},
};

use super::{
    cluster::{self, Cluster, nodes::Nodes},
    door::Door,
    node::Dial,
    page::Page,
    prompt::Prompts,
    server::Shared,
};
use crate::config::{Config, DEFAULT};

/// The clusters of this bridge.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) prompts: Arc<Prompts>,
    pub(crate) shared: Shared,
    /// The way into the login page.
    pub(crate) login: Arc<Door>,
    dial: Arc<dyn Dial>,
    nodes: Arc<Nodes>,
    started_ms: u64,
    entries: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    cluster: Cluster,
    page: Option<Arc<Page>>,
}

impl Registry {
    pub(crate) fn new(
        dial: Arc<dyn Dial>,
        nodes: Arc<Nodes>,
        login: Arc<Door>,
        shared: Shared,
    ) -> Self {
        Self {
            prompts: Arc::default(),
            shared,
            login,
            dial,
            nodes,
            started_ms: cluster::now_ms(),
            entries: Mutex::default(),
        }
    }

    /// Returns the name of the cluster that was asked for, with `default` looked up.
    pub(crate) async fn name(&self, asked: &str) -> Result<String, ApiError> {
        if asked == DEFAULT {
            load_config().await?.cluster_name(asked)
        } else {
            Config::default().cluster_name(asked)
        }
    }

    /// Returns the cluster that `default` stands for, if any.
    pub(crate) async fn default_cluster(&self) -> Result<Option<String>, ApiError> {
        Ok(load_config().await?.cluster_name(DEFAULT).ok())
    }

    /// Returns a cluster that somebody connected before.
    pub(crate) fn known(&self, name: &str) -> Result<Cluster, ApiError> {
        let known = self.entries().get(name).map(|entry| entry.cluster.clone());
        known.ok_or_else(|| cluster::not_connected(name, None))
    }

    /// Returns a cluster; its actor starts with the first call.
    pub(crate) fn cluster(&self, name: &str) -> Cluster {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(name) {
            return entry.cluster.clone();
        }
        let dial = Arc::clone(&self.dial);
        let prompts = Arc::clone(&self.prompts);
        let nodes = Arc::clone(&self.nodes);
        let cluster = Cluster::start(name, dial, prompts, nodes, &self.shared);
        let page = None;
        entries.insert(
            name.to_owned(),
            Entry {
                cluster: cluster.clone(),
                page,
            },
        );
        cluster
    }

    /// Returns a URL that opens a cluster's page once.
    pub(crate) fn page_url(&self, cluster: &Cluster) -> Result<String, ApiError> {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(cluster.name()) else {
            return Err(cluster::not_connected(cluster.name(), None));
        };
        let page = match &entry.page {
            Some(page) => page,
            None => {
                let login = Arc::clone(&self.login);
                entry
                    .page
                    .insert(Page::open(cluster.clone(), login, &self.shared)?)
            }
        };
        page.new_url()
    }

    /// Returns the bridge's state.
    pub(crate) async fn status(&self) -> Result<BridgeStatus, ApiError> {
        let config = load_config().await?;
        let mut clusters: BTreeMap<String, ClusterStatus> = config
            .clusters
            .keys()
            .map(|name| (name.clone(), self.unconnected(&config, name)))
            .collect();
        for (name, entry) in self.entries().iter() {
            clusters.insert(name.clone(), entry.cluster.status());
        }
        Ok(BridgeStatus {
            version: VERSION.to_owned(),
            pid: std::process::id(),
            started_ms: self.started_ms,
            default_cluster: config.cluster_name(DEFAULT).ok(),
            clusters: clusters.into_values().collect(),
        })
    }

    /// Returns whether any cluster is connected or on its way there.
    pub(crate) fn is_in_use(&self) -> bool {
        let unused = [ClusterState::Disconnected, ClusterState::Failed];
        self.entries()
            .values()
            .any(|entry| !unused.contains(&entry.cluster.status().state))
    }

    /// Tells every cluster that the machine has slept.
    pub(crate) fn woke(&self) {
        for entry in self.entries().values() {
            entry.cluster.woke();
        }
    }

    /// Tells every cluster that the machine's addresses or routes are others now.
    pub(crate) fn network_changed(&self) {
        for entry in self.entries().values() {
            entry.cluster.network_changed();
        }
    }

    fn unconnected(&self, config: &Config, name: &str) -> ClusterStatus {
        let options = config.destination(name);
        let host = options.host.unwrap_or(options.destination);
        let user = options
            .user
            .map(|user| format!("{user}@"))
            .unwrap_or_default();
        let port = options
            .port
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let destination = format!("{user}{host}{port}");
        cluster::unconnected(name, destination, self.started_ms)
    }

    /// A poisoned lock means that a holder panicked between two plain operations.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the configuration away from the runtime: the home may be slow.
pub(crate) async fn load_config() -> Result<Config, ApiError> {
    tokio::task::spawn_blocking(Config::load)
        .await
        .unwrap_or_else(|error| {
            Err(
                ApiError::new(ErrorCode::Internal, "cannot read the configuration")
                    .caused_by(&error),
            )
        })
}
