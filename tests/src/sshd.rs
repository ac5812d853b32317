//! A real OpenSSH server on loopback, with keys and configuration of its own, for the current user or an account.
//!
//! Called by `site`, `otp` and `nodes`. Its log at DEBUG2 is how the tests count channels and logins.
//! Invariants: no file outside the test's folder but `/run/sshd`, which sshd needs as root; the port is free when it is
//! chosen, and another is tried if somebody was quicker.
//! Not here: the words of its configuration (`setup`).

mod setup;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

pub use setup::Setup;

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
    setup: Setup,
    port: u16,
    folder: PathBuf,
    user: String,
}

impl Sshd {
    /// Starts a server for the current user, with these lines in its configuration.
    ///
    /// # Errors
    /// openssh-server is not installed, or the configuration is refused.
    pub fn start(env: &Env, options: &[&str]) -> Result<Self> {
        Setup::new(options).start(env)
    }

    fn set_up(env: &Env, setup: &Setup) -> Result<Self> {
        let folder = env.path(&setup.folder);
        fs::create_dir(&folder)?;
        for key in ["host_key", "user_key"] {
            make_key(env, &folder.join(key))?;
        }
        let authorized = match &setup.authorized {
            Some(keys) => keys.clone(),
            None => folder.join("user_key.pub"),
        };
        fs::copy(authorized, folder.join("authorized_keys"))?;
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let address = setup.address.clone();
        for attempt in 0..5 {
            let port = match setup.port {
                Some(port) => port,
                None => TcpListener::bind((address.as_str(), 0))?
                    .local_addr()?
                    .port(),
            };
            let configuration = setup.configuration(env, &folder, port)?;
            fs::write(folder.join("config"), configuration)?;
            let mut server = serve(env, setup, &folder, attempt)?;
            let listening = wait_for("sshd", START, || {
                if !server.is_running()? {
                    return Ok(Some(false));
                }
                Ok(TcpStream::connect((address.as_str(), port))
                    .ok()
                    .map(|_| true))
            })?;
            if listening {
                let this = Self {
                    server,
                    setup: setup.clone(),
                    port,
                    folder,
                    user: setup.user()?,
                };
                this.write_known_hosts()?;
                return Ok(this);
            }
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            if setup.port.is_some() || !log.contains("Address already in use") {
                bail!("sshd did not start:\n{log}");
            }
        }
        bail!("no free port in five attempts")
    }

    /// Returns whom it lets in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the line by which `known_hosts` knows it under another name or port.
    ///
    /// # Errors
    /// Its key cannot be read.
    pub fn known_as(&self, host: &str) -> Result<String> {
        let key = fs::read_to_string(self.file("host_key.pub"))?;
        Ok(format!("{host} {key}"))
    }

    /// Returns the process id of the server itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Returns its port.
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
        // A first factor that was right is a "Partial", and no login yet.
        let log = self.log();
        let accepted = |line: &&str| line.contains("Accepted ") && line.contains(" port ");
        log.lines().filter(accepted).count()
    }

    /// Kills every connection's process with SIGKILL; the server goes on listening.
    ///
    /// # Errors
    /// There was no connection.
    pub fn kill_connections(&self) -> Result<()> {
        let is_sshd = |pid: &u32| {
            // Not its name, which may be that of a PAM service.
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let name = program.file_name().unwrap_or_default().to_string_lossy();
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
        self.stop()?;
        self.server = serve(env, &self.setup, &self.folder, 9)?;
        wait_for("the new sshd", START, || {
            Ok(TcpStream::connect((self.setup.address.as_str(), self.port)).ok())
        })?;
        Ok(())
    }

    /// Ends the server; its connections go on.
    ///
    /// # Errors
    /// It is still there.
    pub fn stop(&mut self) -> Result<()> {
        self.server.signal_alone(rustix::process::Signal::TERM);
        wait_for("the old sshd's end", START, || {
            Ok((!self.server.is_running()?).then_some(()))
        })
    }

    fn write_known_hosts(&self) -> Result<()> {
        let line = self.known_as(&format!("[{}]:{}", self.setup.address, self.port))?;
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

fn serve(env: &Env, setup: &Setup, folder: &Path, attempt: u32) -> Result<Child> {
    let mut command = setup.command(env);
    command.args(["-D", "-f"]).arg(folder.join("config"));
    command.arg("-E").arg(folder.join("log"));
    command.stdin(Stdio::null());
    let name = format!("{}-{attempt}", setup.folder.replace('/', "-"));
    Child::start(&mut command, &env.logs(), &name)
        .context("install the Debian package openssh-server")
}
