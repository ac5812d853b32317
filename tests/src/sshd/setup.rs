//! How a server is to be: for whom, where, with which options, and in a world of its own if need be.
//!
//! Invariants: options of the test come before ours, since for sshd the first one wins; the current user's home and the
//! agent's are folders of the test, an [`Account`] has its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{Sshd, user_name};
use crate::{Account, env::Env};

const PROGRAM: &str = "/usr/sbin/sshd";

/// A server to be.
#[derive(Clone, Debug)]
pub struct Setup {
    pub(super) folder: String,
    pub(super) address: String,
    pub(super) port: Option<u16>,
    pub(super) authorized: Option<PathBuf>,
    account: Option<String>,
    options: Vec<String>,
    program: PathBuf,
    prepare: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Setup {
    /// A server for the current user with these lines in its configuration.
    #[must_use]
    pub fn new(options: &[&str]) -> Self {
        Self {
            folder: "sshd".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: None,
            authorized: None,
            account: None,
            options: options.iter().map(|line| (*line).to_owned()).collect(),
            program: PROGRAM.into(),
            prepare: None,
        }
    }

    /// Names its folder, where a test has several servers.
    #[must_use]
    pub fn named(mut self, folder: &str) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Lets an account in, and nobody else; with its own home.
    #[must_use]
    pub fn account(mut self, account: &Account) -> Self {
        self.account = Some(account.name().to_owned());
        self
    }

    /// Listens on another address of this machine.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// Listens on this port and on no other.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Takes the keys of this file instead of one of its own.
    #[must_use]
    pub fn authorized_keys(mut self, keys: PathBuf) -> Self {
        self.authorized = Some(keys);
        self
    }

    /// Runs under another name, which is the name of its PAM service.
    #[must_use]
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Runs in mount and UTS namespaces of its own, after this shell script has prepared them. Needs root.
    #[must_use]
    pub fn prepared_by(mut self, script: &str) -> Self {
        self.prepare = Some(script.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// openssh-server is not installed, or the configuration is refused.
    pub fn start(&self, env: &Env) -> Result<Sshd> {
        Sshd::set_up(env, self)
    }

    pub(super) fn user(&self) -> Result<String> {
        self.account.clone().map_or_else(user_name, Ok)
    }

    pub(super) fn command(&self, env: &Env) -> Command {
        let Some(script) = &self.prepare else {
            return env.command(&self.program);
        };
        let mut command = env.command("unshare");
        let script = format!("set -e\n{script}\nexec \"$0\" \"$@\"");
        command.args(["--mount", "--uts", "--propagation", "private"]);
        command.args(["sh", "-c", &script]).arg(&self.program);
        command
    }

    pub(super) fn configuration(&self, env: &Env, folder: &Path, port: u16) -> Result<String> {
        let at = |name: &str| folder.join(name).display().to_string();
        let mut lines = self.options.clone();
        if self.account.is_none() {
            lines.push(format!(
                "SetEnv HPCCLIENT_HOME={} HOME={}",
                env.path("node").display(),
                env.path("node-home").display()
            ));
        }
        lines.extend([
            format!("Port {port}"),
            format!("ListenAddress {}", self.address),
            format!("HostKey {}", at("host_key")),
            format!("AuthorizedKeysFile {}", at("authorized_keys")),
            format!("PidFile {}", at("pid")),
            format!("AllowUsers {}", self.user()?),
        ]);
        let common = [
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PrintMotd no",
            "PrintLastLog no",
            "MaxStartups 100",
            "LogLevel DEBUG2",
        ];
        lines.extend(common.map(str::to_owned));
        Ok(lines.join("\n") + "\n")
    }
}
