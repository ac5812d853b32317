//! A real user of this machine, with a login shell and a home of the test's choice.
//!
//! Made by `useradd`, so the tests that need one run as root and live in modules named `as_root`.
//! Invariants: the name is of this process and this account only; on drop the user's processes are killed and the user
//! is gone from `/etc/passwd`, whatever the test did.
//! Not here: the server that the user logs in to (`sshd`).

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::{env::Env, process, wait_for};

static MADE: AtomicU32 = AtomicU32::new(0);

/// A user; it ends with all its processes when this is dropped.
#[derive(Debug)]
pub struct Account {
    name: String,
    uid: u32,
    home: PathBuf,
}

impl Account {
    /// Makes a user with a home in the test's folder. `shell` is an absolute path or found on `PATH`.
    ///
    /// # Errors
    /// Not root, or the shell is not installed; the message names it.
    pub fn new(env: &Env, shell: &str) -> Result<Self> {
        let name = fresh_name();
        let home = env.path(&format!("homes/{name}"));
        Self::with_home(env, &name, shell, home)
    }

    /// The same with a home whose name is of the test's choice, such as one with spaces.
    ///
    /// # Errors
    /// See [`Account::new`].
    pub fn with_home_named(env: &Env, shell: &str, folder: &str) -> Result<Self> {
        let name = fresh_name();
        let home = env.path(&format!("homes/{folder}"));
        Self::with_home(env, &name, shell, home)
    }

    fn with_home(env: &Env, name: &str, shell: &str, home: PathBuf) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("making a user needs root");
        }
        let shell = find_program(shell)?;
        fs::create_dir_all(&home)?;
        // Others may pass through the test's folder; what lies in it keeps its own permissions.
        let passable = fs::Permissions::from_mode(0o711);
        fs::set_permissions(env.root(), passable.clone())?;
        fs::set_permissions(env.path("homes"), passable)?;
        {
            let _ordered = accounts_lock()?;
            // `*` is no password and no locked account: a locked one may not log in by key either.
            let mut useradd = Command::new("useradd");
            useradd.args(["-M", "-U", "-p", "*", "-s"]).arg(&shell);
            useradd.arg("-d").arg(&home).arg(name);
            checked(&mut useradd)?;
        }
        let mut this = Self {
            name: name.to_owned(),
            uid: 0,
            home,
        };
        let mut chown = Command::new("chown");
        checked(chown.arg(format!("{name}:")).arg("--").arg(&this.home))?;
        fs::set_permissions(&this.home, fs::Permissions::from_mode(0o700))?;
        this.uid = fs::metadata(&this.home)?.uid();
        Ok(this)
    }

    /// Returns the login name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the user's number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Writes a file into the home, as the user's own.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, relative: &str, content: &str) -> Result<PathBuf> {
        let path = self.home.join(relative);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
            std::os::unix::fs::chown(folder, Some(self.uid), None)?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        std::os::unix::fs::chown(&path, Some(self.uid), None)?;
        Ok(path)
    }

    /// Gives it a password; a new account has none.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn set_password(&self, password: &str) -> Result<()> {
        let _ordered = accounts_lock()?;
        let mut chpasswd = Command::new("chpasswd").stdin(Stdio::piped()).spawn()?;
        let mut stdin = chpasswd.stdin.take().context("no pipe")?;
        writeln!(stdin, "{}:{password}", self.name)?;
        drop(stdin);
        if !chpasswd.wait()?.success() {
            bail!("chpasswd refused the password");
        }
        Ok(())
    }

    /// The agent keeps its sockets in `/tmp`; the next user may get this one's number.
    fn remove_run_directories(&self) {
        let ours = format!("hpcc-{}-", self.uid);
        let share = format!("hpcclient-share-{}", self.uid);
        for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let named = name.starts_with(&ours) || name == share;
            if named && entry.metadata().is_ok_and(|about| about.uid() == self.uid) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }

    fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ours = entries.filter(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let ended = stat.is_empty() || stat.contains(") Z ");
            let owner = entry.metadata().map(|about| about.uid());
            !ended && owner.is_ok_and(|uid| uid == self.uid)
        });
        ours.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.uid != 0 {
            let gone = wait_for(
                "the end of a user's processes",
                Duration::from_secs(10),
                || {
                    let left = self.processes();
                    left.iter().copied().for_each(process::kill);
                    Ok(left.is_empty().then_some(()))
                },
            );
            drop(gone);
            self.remove_run_directories();
        }
        let _ordered = accounts_lock();
        let mut userdel = Command::new("userdel");
        drop(userdel.arg("-f").arg(&self.name).output());
    }
}

/// No other process and no other account of this one has the name.
fn fresh_name() -> String {
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    format!("hpct-{}-{number}", std::process::id())
}

/// `useradd` gives up when another one holds its lock for long; tests wait for each other instead.
fn accounts_lock() -> Result<fs::File> {
    let file = fs::File::create("/run/lock/hpcclient-test-accounts")
        .context("cannot write in /run/lock")?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn find_program(name: &str) -> Result<PathBuf> {
    let folders = ["", "/bin", "/usr/bin", "/usr/sbin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths
        .find(|path| path.is_absolute() && path.exists())
        .with_context(|| format!("{name} is not installed; run `cargo xtask test`"))
}

fn checked(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {said}", command.get_program().display());
    }
    Ok(())
}
