//! Every environment variable that this binary reads or sets, with what it means.
//!
//! Nothing else in the package spells a variable's name. The agent has its own, `HPCCLIENT_HOME`,
//! which the bridge sets on the node from `node_home` of the configuration.

/// The folder of `config.toml`; default `${XDG_CONFIG_HOME:-~/.config}/hpcclient`.
pub const CONFIG_DIR: &str = "HPCCLIENT_CONFIG_DIR";

/// The bridge's folder; default `${XDG_STATE_HOME:-~/.local/state}/hpcclient/bridge`.
pub const STATE_DIR: &str = "HPCCLIENT_STATE_DIR";

/// The cluster that the command line means when none is named.
pub const CLUSTER: &str = "HPCCLIENT_CLUSTER";

/// The path of the `hpcclient` binary, for Python; `demo` sets it for its command.
pub const BIN: &str = "HPCCLIENT_BIN";

/// The path of an `hpcagent` binary to install on nodes, before every other place.
pub const AGENT: &str = "HPCCLIENT_AGENT";

/// The folder of the package's data, which holds `agent/<arch>-linux/hpcagent`; Python sets it.
pub const SHARE: &str = "HPCCLIENT_SHARE";

/// What to log, in the syntax of `tracing`'s filters; default `warn`, for the bridge `info`.
pub const LOG: &str = "HPCCLIENT_LOG";

/// The node's root for everything the agent keeps; `demo` sets it for its login node.
pub const NODE_HOME: &str = "HPCCLIENT_HOME";

/// The user's home directory, for `~` and the defaults.
pub const HOME: &str = "HOME";

/// The user's folder of configurations.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";

/// The user's folder of state.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";

/// Where programs are searched.
pub const PATH: &str = "PATH";

/// Set where there is an X display, so that a browser can be opened.
pub const DISPLAY: &str = "DISPLAY";

/// Set where there is a Wayland display, so that a browser can be opened.
pub const WAYLAND_DISPLAY: &str = "WAYLAND_DISPLAY";

/// The ssh-agent's socket, for `renew_command`.
pub const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";

/// Set by who wants no colours; see no-color.org.
pub const NO_COLOR: &str = "NO_COLOR";

/// Returns a path from the environment; an empty variable counts as none.
#[must_use]
pub fn path(name: &str) -> Option<std::path::PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(Into::into)
}
