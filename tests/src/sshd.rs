//! A real OpenSSH server on loopback, with keys and configuration of its own, for the current user.
//!
//! Called by `site`. Its log at DEBUG2 is how the tests count channels and logins.
//! Invariants: no file outside the test's folder but `/run/sshd`, which sshd needs as root; the port is free when it is
//! chosen, and another is tried if somebody was quicker.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    env::Env,
    process::{self, Child, descendants},
    wait_for,
};

const START: Duration = Duration::from_secs(10);

/// A running server; it and its sessions end with it.
#[derive(Debug)]
pub struct Sshd {
    server: Child,
    port: u16,
    folder: PathBuf,
}

impl Sshd {
    /// Starts a server. `options` are lines of its configuration and come before ours: for sshd the first one wins.
    ///
    /// # Errors
    /// openssh-server is not installed, or the configuration is refused.
    pub fn start(env: &Env, options: &[&str]) -> Result<Self> {
        let folder = env.path("sshd");
        fs::create_dir(&folder)?;
        for key in ["host_key", "user_key"] {
            make_key(env, &folder.join(key))?;
        }
        fs::copy(folder.join("user_key.pub"), folder.join("authorized_keys"))?;
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        for attempt in 0..5 {
            let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            write_configuration(env, &folder, port, options)?;
            let mut server = serve(env, &folder, attempt)?;
            let listening = wait_for("sshd", START, || {
                if !server.is_running()? {
                    return Ok(Some(false));
                }
                Ok(TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true))
            })?;
            if listening {
                let this = Self {
                    server,
                    port,
                    folder,
                };
                this.write_known_hosts()?;
                return Ok(this);
            }
            let log = fs::read_to_string(folder.join("log"))?;
            if !log.contains("Address already in use") {
                bail!("sshd did not start:\n{log}");
            }
        }
        bail!("no free port in five attempts")
    }

    /// Returns its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns a file beside its configuration: `user_key`, `known_hosts`, `host_key`, `log`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns what it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.file("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns how many channels clients have opened so far.
    #[must_use]
    pub fn channels_opened(&self) -> usize {
        self.log()
            .matches("server_input_channel_open: ctype")
            .count()
    }

    /// Returns how many logins it has accepted.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// Kills every connection's process with SIGKILL; the server goes on listening.
    ///
    /// # Errors
    /// There was no connection.
    pub fn kill_connections(&self) -> Result<()> {
        let is_sshd = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("sshd")
        };
        let mut pids = descendants(self.server.pid());
        pids.retain(is_sshd);
        if pids.is_empty() {
            bail!("sshd has no connection to kill");
        }
        pids.into_iter().for_each(process::kill);
        Ok(())
    }

    /// Gives the server another host key: what a client sees when somebody stands between.
    ///
    /// # Errors
    /// The server does not come back.
    pub fn change_host_key(&mut self, env: &Env) -> Result<()> {
        let key = self.file("host_key");
        fs::remove_file(&key)?;
        fs::remove_file(key.with_extension("pub"))?;
        make_key(env, &key)?;
        self.server.signal(rustix::process::Signal::TERM);
        wait_for("the old sshd's end", START, || {
            Ok((!self.server.is_running()?).then_some(()))
        })?;
        self.server = serve(env, &self.folder, 9)?;
        wait_for("the new sshd", START, || {
            Ok(TcpStream::connect(("127.0.0.1", self.port)).ok())
        })?;
        Ok(())
    }

    fn write_known_hosts(&self) -> Result<()> {
        let key = fs::read_to_string(self.file("host_key.pub"))?;
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        Ok(fs::write(self.file("known_hosts"), line)?)
    }
}

/// Returns the name of the user who runs the tests.
///
/// # Errors
/// The user has no name.
pub fn user_name() -> Result<String> {
    let output = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn make_key(env: &Env, path: &Path) -> Result<()> {
    let mut command = env.command("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]);
    env.run(command.arg(path))
        .context("install the Debian package openssh-client")?
        .success()?;
    Ok(())
}

fn serve(env: &Env, folder: &Path, attempt: u32) -> Result<Child> {
    let mut command = env.command("/usr/sbin/sshd");
    command.args(["-D", "-f"]).arg(folder.join("config"));
    command.arg("-E").arg(folder.join("log"));
    command.stdin(Stdio::null());
    Child::start(&mut command, &env.logs(), &format!("sshd-{attempt}"))
        .context("install the Debian package openssh-server")
}

fn write_configuration(env: &Env, folder: &Path, port: u16, options: &[&str]) -> Result<()> {
    let at = |name: &str| folder.join(name).display().to_string();
    let set = format!(
        "SetEnv HPCCLIENT_HOME={} HOME={}",
        env.path("node").display(),
        env.path("node-home").display()
    );
    let ours = [
        format!("Port {port}"),
        "ListenAddress 127.0.0.1".to_owned(),
        format!("HostKey {}", at("host_key")),
        format!("AuthorizedKeysFile {}", at("authorized_keys")),
        format!("PidFile {}", at("pid")),
        format!("AllowUsers {}", user_name()?),
        set,
        "StrictModes no".to_owned(),
        "UsePAM no".to_owned(),
        "UseDNS no".to_owned(),
        "PermitRootLogin yes".to_owned(),
        "PasswordAuthentication no".to_owned(),
        "KbdInteractiveAuthentication no".to_owned(),
        "PrintMotd no".to_owned(),
        "PrintLastLog no".to_owned(),
        "MaxStartups 100".to_owned(),
        "LogLevel DEBUG2".to_owned(),
    ];
    let lines = options.iter().map(|line| (*line).to_owned()).chain(ours);
    let text: String = lines.map(|line| line + "\n").collect();
    Ok(fs::write(folder.join("config"), text)?)
}
