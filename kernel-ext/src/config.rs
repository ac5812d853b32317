//! The user's `config.toml`: which clusters there are, and what each name means.
//!
//! Read by the bridge before each connection and by the command line; edited only by `demo`.
//! Invariants: an edit keeps the user's comments and order, and replaces the file in one step; an
//! unknown key is an error that names it, so that a typing error is not silently ignored.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::{DestinationOptions, TransportChoice};
use serde::Deserialize;

use crate::env_vars;

/// The name that stands for the default cluster.
pub const DEFAULT: &str = "default";

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The cluster that `default` stands for.
    pub default: Option<String>,
    /// The clusters by name.
    #[serde(default)]
    pub clusters: BTreeMap<String, ClusterConfig>,
}

/// What is known of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The login node's name, or an alias of the ssh configuration.
    pub host: Option<String>,
    /// The account.
    pub user: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// A private key to try first.
    pub identity_file: Option<PathBuf>,
    /// A `known_hosts` file in the place of the user's.
    pub known_hosts: Option<PathBuf>,
    /// An ssh configuration in the place of the user's.
    pub ssh_config: Option<PathBuf>,
    /// `HPCCLIENT_HOME` on the node.
    pub node_home: Option<String>,
    /// A user certificate to try first.
    pub certificate_file: Option<PathBuf>,
    /// What speaks SSH.
    #[serde(default)]
    pub transport: Transport,
    /// A program of this machine that renews the user's certificate, with its arguments; run on request only.
    pub renew_command: Option<Vec<String>>,
}

/// What speaks SSH, as the file says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// The built-in client, or `ssh` where only that can do what is asked for.
    #[default]
    Auto,
    /// The built-in client.
    Russh,
    /// The system's `ssh`.
    Openssh,
}

impl From<Transport> for TransportChoice {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Auto => Self::Auto,
            Transport::Russh => Self::Russh,
            Transport::Openssh => Self::Openssh,
        }
    }
}

impl Config {
    /// Reads the user's configuration; a missing file is an empty one.
    ///
    /// # Errors
    /// `BadRequest` when the file cannot be read or understood.
    pub fn load() -> Result<Self, ApiError> {
        Self::load_from(&file()?)
    }

    /// Reads a configuration; a missing file is an empty one.
    ///
    /// # Errors
    /// `BadRequest` when the file cannot be read or understood.
    pub fn load_from(file: &Path) -> Result<Self, ApiError> {
        match fs::read_to_string(file) {
            Ok(text) => toml::from_str(&text).map_err(|error| bad(file, "understand", &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(bad(file, "read", &error)),
        }
    }

    /// Returns the cluster that was asked for, with `default` looked up.
    ///
    /// # Errors
    /// `BadRequest` when nothing says which cluster is the default, or the name is not one.
    pub fn cluster_name(&self, asked: &str) -> Result<String, ApiError> {
        let name = match asked {
            DEFAULT => self.default.as_deref().or_else(|| self.only_cluster()),
            name => Some(name),
        };
        let Some(name) = name else {
            let message = "there is no default cluster";
            return Err(ApiError::new(ErrorCode::BadRequest, message).hint(format!(
                "name one, set {}, or put `default = \"…\"` in config.toml",
                env_vars::CLUSTER
            )));
        };
        let is_legal = !name.is_empty()
            && name.len() <= 255
            && !name.starts_with('-')
            && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        if is_legal {
            Ok(name.to_owned())
        } else {
            let shown = hpcclient_ssh::visible(name);
            let message = format!("`{shown}` is not a cluster's name or an ssh destination");
            Err(ApiError::new(ErrorCode::BadRequest, message))
        }
    }

    /// Returns what a name means for ssh. `alice@marconi` is the cluster `marconi` with another account.
    #[must_use]
    pub fn destination(&self, name: &str) -> DestinationOptions {
        let (user, name) = self.split_user(name);
        let known = self.clusters.get(name).cloned().unwrap_or_default();
        DestinationOptions {
            destination: name.to_owned(),
            host: known.host,
            user: user.map(str::to_owned).or(known.user),
            port: known.port,
            identity_file: known.identity_file.map(expand_home),
            known_hosts: known.known_hosts.map(expand_home),
            ssh_config: known.ssh_config.map(expand_home),
            certificate_file: known.certificate_file.map(expand_home),
            transport: known.transport.into(),
            environment_agent: None,
        }
    }

    /// Returns a cluster of the file by its name, or by its name with another account before it.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&ClusterConfig> {
        self.clusters.get(self.split_user(name).1)
    }

    /// Takes the account off a name that without it is one of the file's.
    fn split_user<'a>(&self, name: &'a str) -> (Option<&'a str>, &'a str) {
        match name.rsplit_once('@') {
            Some((user, cluster))
                if !self.clusters.contains_key(name) && self.clusters.contains_key(cluster) =>
            {
                (Some(user), cluster)
            }
            _ => (None, name),
        }
    }

    fn only_cluster(&self) -> Option<&str> {
        let mut names = self.clusters.keys();
        names
            .next()
            .filter(|_| names.next().is_none())
            .map(String::as_str)
    }
}

/// Returns the path of the user's `config.toml`.
///
/// # Errors
/// `BadRequest` when the environment does not say where the user's home is.
pub fn file() -> Result<PathBuf, ApiError> {
    let xdg = || env_vars::path(env_vars::XDG_CONFIG_HOME).map(|dir| dir.join("hpcclient"));
    let home = || env_vars::path(env_vars::HOME).map(|dir| dir.join(".config/hpcclient"));
    env_vars::path(env_vars::CONFIG_DIR)
        .or_else(xdg)
        .or_else(home)
        .map(|dir| dir.join("config.toml"))
        .ok_or_else(|| ApiError::new(ErrorCode::BadRequest, "HOME is not set"))
}

/// What stood in the file under a name before [`put_cluster`], to be put back.
#[derive(Debug)]
pub struct Replaced(Option<toml_edit::Item>);

/// Puts a cluster into the file and returns what stood there.
///
/// # Errors
/// `BadRequest` when the file cannot be understood or written.
pub fn put_cluster(file: &Path, name: &str, cluster: &ClusterConfig) -> Result<Replaced, ApiError> {
    let mut table = toml_edit::Table::new();
    let texts = [
        ("host", &cluster.host),
        ("user", &cluster.user),
        ("node_home", &cluster.node_home),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            table.insert(key, toml_edit::value(text));
        }
    }
    if let Some(port) = cluster.port {
        table.insert("port", toml_edit::value(i64::from(port)));
    }
    let paths = [
        ("identity_file", &cluster.identity_file),
        ("known_hosts", &cluster.known_hosts),
        ("ssh_config", &cluster.ssh_config),
    ];
    for (key, path) in paths {
        if let Some(path) = path {
            table.insert(key, toml_edit::value(path.to_string_lossy().as_ref()));
        }
    }
    let mut replaced = None;
    edit(file, |clusters| {
        replaced = clusters.insert(name, toml_edit::Item::Table(table));
    })?;
    Ok(Replaced(replaced))
}

/// Undoes [`put_cluster`]; what the user changed elsewhere in the meantime stays.
///
/// # Errors
/// `BadRequest` when the file cannot be understood or written.
pub fn put_back(file: &Path, name: &str, replaced: Replaced) -> Result<(), ApiError> {
    edit(file, |clusters| {
        match replaced.0 {
            Some(item) => clusters.insert(name, item),
            None => clusters.remove(name),
        };
    })
}

fn edit(file: &Path, change: impl FnOnce(&mut toml_edit::Table)) -> Result<(), ApiError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(bad(file, "read", &error)),
    };
    let mut document: toml_edit::DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| bad(file, "understand", &error))?;
    let clusters = document.entry("clusters").or_insert_with(|| {
        let mut table = toml_edit::Table::new();
        table.set_implicit(true);
        toml_edit::Item::Table(table)
    });
    let Some(clusters) = clusters.as_table_mut() else {
        let message = format!("`clusters` in {} is not a table", file.display());
        return Err(ApiError::new(ErrorCode::BadRequest, message));
    };
    change(clusters);
    if clusters.is_empty() && clusters.is_implicit() {
        document.remove("clusters");
    }
    // A symbolic link to a file of the user's dotfiles stays one.
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    replace(&target, &document.to_string()).map_err(|error| bad(file, "write", &error))
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let draft = dir.join(format!(".config.toml.{}", std::process::id()));
    fs::write(&draft, text)?;
    if let Ok(old) = fs::metadata(file) {
        fs::set_permissions(&draft, old.permissions())?;
    }
    fs::rename(&draft, file).inspect_err(|_| drop(fs::remove_file(&draft)))
}

fn expand_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), env_vars::path(env_vars::HOME)) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn bad(file: &Path, verb: &str, error: &(dyn std::error::Error + 'static)) -> ApiError {
    let message = format!("cannot {verb} {}", file.display());
    ApiError::new(ErrorCode::BadRequest, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_default_is_looked_up_and_else_the_only_cluster() {
        let two = "[clusters.a]\n[clusters.b]\nhost = \"b.example\"\n";
        let named = config(&format!("default = \"b\"\n{two}"));
        assert_eq!(named.cluster_name(DEFAULT).unwrap(), "b");
        assert_eq!(named.cluster_name("a").unwrap(), "a");
        assert_eq!(named.cluster_name("me@x:22").unwrap(), "me@x:22");
        assert_eq!(config("[clusters.a]\n").cluster_name(DEFAULT).unwrap(), "a");
        let error = config(two).cluster_name(DEFAULT).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert_eq!(error.hints.len(), 1);
        for bad in ["", "-oProxyCommand=x", "a b", "a\u{1b}[2J"] {
            assert!(named.cluster_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_without_an_entry_is_a_destination() {
        let config = config("[clusters.a]\nhost = \"h\"\nport = 2222\nidentity_file = \"/k\"\n");
        let known = config.destination("a");
        assert_eq!((known.host.as_deref(), known.port), (Some("h"), Some(2222)));
        assert_eq!(known.identity_file, Some("/k".into()));
        let free = config.destination("bob@h2");
        assert_eq!((free.destination.as_str(), free.host), ("bob@h2", None));
        let other = config.destination("bob@a");
        assert_eq!(
            (other.user.as_deref(), other.host),
            (Some("bob"), known.host)
        );
        assert_eq!(other.identity_file, Some("/k".into()));
    }

    #[test]
    fn a_typing_error_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(&file, "[clusters.a]\nhots = \"x\"\n").unwrap();
        let error = Config::load_from(&file).unwrap_err();
        assert!(error.to_string().contains("hots"), "{error}");
    }

    #[test]
    fn an_edit_keeps_what_the_user_wrote_and_can_be_undone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/config.toml");
        let demo = ClusterConfig {
            host: Some("127.0.0.1".to_owned()),
            port: Some(4242),
            ..ClusterConfig::default()
        };
        let nothing = put_cluster(&file, "demo", &demo).unwrap();
        assert_eq!(Config::load_from(&file).unwrap().clusters["demo"], demo);
        put_back(&file, "demo", nothing).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");

        let text = "# mine\ndefault = 'demo'\n\n[clusters.demo] # keep\nhost = \"other\"\n";
        fs::write(&file, text).unwrap();
        let old = put_cluster(&file, "demo", &demo).unwrap();
        let edited = fs::read_to_string(&file).unwrap();
        assert!(edited.starts_with("# mine\ndefault = 'demo'\n"), "{edited}");
        put_back(&file, "demo", old).unwrap();
        let back = fs::read_to_string(&file).unwrap();
        assert!(
            back.contains("# keep") && back.contains("\"other\""),
            "{back}"
        );
    }
}
