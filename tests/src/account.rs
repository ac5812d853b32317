//! An account of this machine with a password, for logins that ask for one. Needs root.
//!
//! Invariant: it is gone with the value; drop it after the site whose processes it owns.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{env::Env, wait_for};

/// An account that lives as long as the test.
#[derive(Debug)]
pub struct Account {
    name: String,
}

impl Account {
    /// Makes an account with this password.
    ///
    /// # Errors
    /// The tests do not run as root.
    pub fn new(password: &str) -> Result<Self> {
        let name = format!("hpcc-{}", std::process::id());
        // Another test may hold the lock of /etc/passwd.
        wait_for("a new account", Duration::from_secs(20), || {
            let mut useradd = Command::new("useradd");
            useradd.args(["--no-create-home", "--home-dir", "/nonexistent"]);
            useradd.args(["--shell", "/bin/bash", &name]);
            Ok(useradd.output()?.status.success().then_some(()))
        })?;
        let this = Self { name };
        let mut chpasswd = Command::new("chpasswd").stdin(Stdio::piped()).spawn()?;
        let mut stdin = chpasswd.stdin.take().context("no stdin")?;
        stdin.write_all(format!("{}:{password}\n", this.name).as_bytes())?;
        drop(stdin);
        if !chpasswd.wait()?.success() {
            bail!("chpasswd failed");
        }
        Ok(this)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it the node of a site: its home and what lies there.
    ///
    /// # Errors
    /// The folders are not there.
    pub fn own_node(&self, env: &Env) -> Result<()> {
        fs::set_permissions(env.root(), fs::Permissions::from_mode(0o711))?;
        let uid = self.id("-u")?;
        let gid = self.id("-g")?;
        for folder in ["node", "node-home"] {
            let folder = env.path(folder);
            chown(&folder, Some(uid), Some(gid))?;
            fs::set_permissions(Path::new(&folder), fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn id(&self, which: &str) -> Result<u32> {
        let output = Command::new("id").args([which, &self.name]).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let gone = wait_for("the end of an account", Duration::from_secs(20), || {
            let done = Command::new("userdel").args(["-f", &self.name]).output()?;
            Ok(done.status.success().then_some(()))
        });
        drop(gone);
    }
}
