//! What most tests start from: a user's machine, a login node behind a real sshd, and the way between them.
//!
//! Called by the tests and the `testbed` program.
//! Invariants: the cluster is called `test` and is the default; the node's files lie in `node/` of the test's folder;
//! its home is `node-home/`.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use hpcclient_protocol::{
    Run,
    bridge::{BridgeAddress, BridgeStatus, ClusterStatus},
    run::RunList,
    status::AgentStatus,
};
use serde_json::Value;

use crate::{
    Account, DelayProxy, FaultProxy, Output,
    env::Env,
    http::{Address, Request, Response},
    process::{self, Child, processes_under},
    sshd::{Setup, Sshd},
    wait_for,
};

/// The name of the cluster in the configuration.
pub const CLUSTER: &str = "test";

/// A machine, a login node and a configuration that connects them.
#[derive(Debug)]
pub struct Site {
    // Fields are dropped in this order: first the server, then everything that is left.
    sshd: Sshd,
    proxy: Option<DelayProxy>,
    account: Option<Account>,
    env: Env,
}

impl Site {
    /// Starts a login node with an ordinary sshd.
    ///
    /// # Errors
    /// A program is missing; the message names its package.
    pub fn new() -> Result<Self> {
        Self::with_sshd(&[])
    }

    /// Starts a login node whose sshd has other options, such as `DisableForwarding yes`.
    ///
    /// # Errors
    /// See [`Site::new`].
    pub fn with_sshd(options: &[&str]) -> Result<Self> {
        Self::of(Env::new()?, None, &Setup::new(options))
    }

    /// Starts a login node for a user of its own with this login shell. Needs root.
    ///
    /// # Errors
    /// See [`Site::new`].
    pub fn for_account(shell: &str, options: &[&str]) -> Result<Self> {
        let env = Env::new()?;
        let account = Account::new(&env, shell)?;
        let setup = Setup::new(options).account(&account);
        Self::of(env, Some(account), &setup)
    }

    /// Starts a login node as it is set up; `account` is who logs in, if not the current user.
    ///
    /// # Errors
    /// See [`Site::new`].
    pub fn of(env: Env, account: Option<Account>, setup: &Setup) -> Result<Self> {
        let sshd = setup.start(&env)?;
        let this = Self {
            sshd,
            proxy: None,
            account,
            env,
        };
        this.configure(this.sshd.port(), "")?;
        Ok(this)
    }

    /// Starts a login node behind a network that takes `delay` each way.
    ///
    /// # Errors
    /// See [`Site::new`].
    pub fn behind(delay: Duration) -> Result<Self> {
        let mut this = Self::new()?;
        let proxy = DelayProxy::start(this.sshd.port(), delay)?;
        this.lead_through(proxy.port())?;
        this.proxy = Some(proxy);
        Ok(this)
    }

    /// Starts a login node behind a network that can fail.
    ///
    /// # Errors
    /// See [`Site::new`].
    pub fn behind_faults() -> Result<(Self, FaultProxy)> {
        let this = Self::new()?;
        let server = SocketAddr::from(([127, 0, 0, 1], this.sshd.port()));
        let proxy = FaultProxy::start(&[server])?;
        this.lead_through(proxy.port())?;
        Ok((this, proxy))
    }

    /// Leads the cluster's logins through a port of 127.0.0.1 behind which the server is known.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn lead_through(&self, port: u16) -> Result<()> {
        let known = self.sshd.file("known_hosts");
        let line = self.sshd.known_as(&format!("[127.0.0.1]:{port}"))?;
        fs::write(&known, fs::read_to_string(&known)? + &line)?;
        self.configure(port, "")
    }

    /// Writes the configuration: the cluster on this port, and `more` lines for it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(&self, port: u16, more: &str) -> Result<()> {
        let text = format!(
            "default = \"{CLUSTER}\"\n[clusters.{CLUSTER}]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{}\"\n\
             identity_file = \"{}\"\nknown_hosts = \"{}\"\n{more}\n",
            self.sshd.user(),
            self.sshd.file("user_key").display(),
            self.sshd.file("known_hosts").display(),
        );
        self.env
            .write("home/.config/hpcclient/config.toml", &text)?;
        Ok(())
    }

    /// Returns the user of the node, if it is one of its own.
    ///
    /// # Errors
    /// The site was not made for an account.
    pub fn account(&self) -> Result<&Account> {
        self.account.as_ref().context("this site has no account")
    }

    /// Returns the folders and the environment.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Keeps the logs out of the output: for a program that is not a test.
    pub fn hide_logs(&mut self) {
        self.env.hide_logs();
    }

    /// Returns the server.
    #[must_use]
    pub fn sshd(&self) -> &Sshd {
        &self.sshd
    }

    /// Returns the server and the environment, to change the server.
    pub fn sshd_mut(&mut self) -> (&mut Sshd, &Env) {
        (&mut self.sshd, &self.env)
    }

    /// Returns the slow network, if there is one.
    ///
    /// # Errors
    /// The site was not made with [`Site::behind`].
    pub fn proxy(&self) -> Result<&DelayProxy> {
        self.proxy.as_ref().context("this site has no delay proxy")
    }

    /// Runs `hpcclient` to its end.
    ///
    /// # Errors
    /// It cannot be started or does not end within a minute.
    pub fn hpcclient(&self, args: &[&str]) -> Result<Output> {
        self.env.run(&mut self.env.hpcclient(args)?)
    }

    /// Runs `hpcclient run -- bash -c LINE`.
    ///
    /// # Errors
    /// See [`Site::hpcclient`].
    pub fn bash(&self, line: &str) -> Result<Output> {
        self.hpcclient(&["run", "--", "bash", "-c", line])
    }

    /// Starts `hpcclient` and goes on.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, name: &str, args: &[&str]) -> Result<Child> {
        let mut command: Command = self.env.hpcclient(args)?;
        Child::start(&mut command, &self.env.logs(), name)
    }

    /// Returns the bridge's port, token and process id; starts one if there is none.
    ///
    /// # Errors
    /// It does not start.
    pub fn bridge(&self) -> Result<(u16, String, u32)> {
        let address = match self.running_bridge() {
            Some(address) => address,
            None => {
                let output = self.hpcclient(&["bridge", "--ensure"])?.success()?;
                serde_json::from_slice(&output.stdout)?
            }
        };
        let port = address.url.trim_end_matches('/').rsplit(':').next();
        let port = port.context("no port")?.parse()?;
        Ok((port, address.token, address.pid))
    }

    fn running_bridge(&self) -> Option<BridgeAddress> {
        let text = fs::read(self.env.path("home/state/bridge.json")).ok()?;
        let address: BridgeAddress = serde_json::from_slice(&text).ok()?;
        let alive = fs::exists(format!("/proc/{}", address.pid)).unwrap_or(false);
        alive.then_some(address)
    }

    /// Sends the bridge a request with its token and the right Origin.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        let (port, token, _) = self.bridge()?;
        let request = Request::new(method, path)
            .header("authorization", &format!("Bearer {token}"))
            .header("origin", &format!("http://127.0.0.1:{port}"));
        let request = body.map_or_else(|| request.clone(), |body| request.clone().json(body));
        request.send(&Address::Port(port))
    }

    /// Returns the cluster as the bridge sees it.
    ///
    /// # Errors
    /// The bridge does not know it.
    pub fn cluster(&self) -> Result<ClusterStatus> {
        let answer = self.ask("GET", "/v1/bridge", None)?;
        let status: BridgeStatus = serde_json::from_slice(&answer.body)?;
        let mut clusters = status.clusters.into_iter();
        let found = clusters.find(|cluster| cluster.name == CLUSTER);
        found.context("the bridge does not know the cluster")
    }

    /// Connects the cluster.
    ///
    /// # Errors
    /// It fails; the message has the command's.
    pub fn connect(&self) -> Result<()> {
        self.hpcclient(&["connect", CLUSTER])?.success()?;
        Ok(())
    }

    /// Returns the agent's status.
    ///
    /// # Errors
    /// The cluster is not connected.
    pub fn agent_status(&self) -> Result<AgentStatus> {
        let response = self.ask("GET", &format!("/c/{CLUSTER}/v1/status"), None)?;
        if response.status != 200 {
            bail!("the agent's status is {}", response.status);
        }
        Ok(serde_json::from_slice(&response.body)?)
    }

    /// Returns the agent's process id.
    ///
    /// # Errors
    /// See [`Site::agent_status`].
    pub fn agent_pid(&self) -> Result<u32> {
        Ok(self.agent_status()?.hello.pid)
    }

    /// Returns the agent's socket.
    ///
    /// # Errors
    /// See [`Site::agent_status`].
    pub fn agent_socket(&self) -> Result<PathBuf> {
        Ok(self.agent_status()?.hello.socket.into())
    }

    /// Kills the bridge with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// It is still there.
    pub fn kill_bridge(&self) -> Result<()> {
        kill_and_wait(self.bridge()?.2)
    }

    /// Kills the agent with SIGKILL and waits until it is gone; its shims go on.
    ///
    /// # Errors
    /// It is still there.
    pub fn kill_agent(&self) -> Result<()> {
        kill_and_wait(self.agent_pid()?)
    }

    /// Returns the newest run.
    ///
    /// # Errors
    /// There is none.
    pub fn newest_run(&self) -> Result<Run> {
        let response = self.ask("GET", &format!("/c/{CLUSTER}/v1/runs?limit=1"), None)?;
        let list: RunList = serde_json::from_slice(&response.body)
            .with_context(|| format!("status {}", response.status))?;
        list.runs.into_iter().next().context("no run yet")
    }

    /// Returns the processes that live on the node or for the user of this site.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes_under(self.env.root())
    }
}

fn kill_and_wait(pid: u32) -> Result<()> {
    process::kill(pid);
    wait_for("a killed process's end", Duration::from_secs(5), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
    })
}
