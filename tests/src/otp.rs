//! A login node that asks for one-time passwords: a real sshd with PAM and pam_oath, and the codes to answer with.
//!
//! The codes are HOTP (RFC 4226): the same module and the same questions as a phone's, but each code is good once and
//! none depends on the clock, so a code that were sent twice would be refused and counted.
//! Invariants: the PAM service is this server's own, by the name of a symlink to sshd; its file in `/etc/pam.d` is
//! removed on drop; `/etc/pam.d/sshd` is never touched. Needs root.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};

use crate::{Account, Env, Output, Setup, Site};

/// What the server and the user's phone know.
const SECRET: &str = "00112233445566778899aabbccddeeff00112233";

/// How many codes the user may have skipped.
const WINDOW: u32 = 20;

static MADE: AtomicU32 = AtomicU32::new(0);

/// A site whose server asks for codes.
#[derive(Debug)]
pub struct OtpSite {
    site: Site,
    service: PathBuf,
    next: AtomicU32,
}

impl OtpSite {
    /// Starts one. `methods` is the server's `AuthenticationMethods`.
    ///
    /// # Errors
    /// Not root, or libpam-oath or oathtool is not installed.
    pub fn new(methods: &str) -> Result<Self> {
        let env = Env::new()?;
        let account = Account::new(&env, "bash")?;
        let name = format!(
            "hpct-otp-{}-{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        );
        let users = env.path("oath/users");
        let users = users.to_str().context("a path that is no text")?;
        let line = format!("HOTP/E/6 {} - {SECRET}\n", account.name());
        env.write("oath/users", &line)?;
        let service = PathBuf::from("/etc/pam.d").join(&name);
        let text = format!(
            "auth required pam_oath.so usersfile={users} window={WINDOW} digits=6\n\
             account required pam_permit.so\nsession required pam_permit.so\n"
        );
        fs::write(&service, text).context("making a PAM service needs root")?;
        let program = env.path(&name);
        std::os::unix::fs::symlink("/usr/sbin/sshd", &program)?;
        let setup = Setup::new(&[
            "UsePAM yes",
            "KbdInteractiveAuthentication yes",
            &format!("AuthenticationMethods {methods}"),
        ]);
        let setup = setup.account(&account).program(program);
        // From here on dropping it removes the service.
        let site = Site::of(env, Some(account), &setup);
        let site = site.inspect_err(|_| drop(fs::remove_file(&service)))?;
        Ok(Self {
            site,
            service,
            next: AtomicU32::new(0),
        })
    }

    /// Returns the site.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Returns the next code of the user's phone.
    ///
    /// # Errors
    /// oathtool is not installed.
    pub fn code(&self) -> Result<String> {
        let count = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let output = Command::new("oathtool")
            .args(["--hotp", "--counter", &count, SECRET])
            .output()
            .context("install the Debian package oathtool")?;
        if !output.status.success() {
            bail!("oathtool: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Runs `hpcclient connect` with these lines as the person's answers.
    ///
    /// # Errors
    /// It does not end.
    pub fn connect_with(&self, answers: &[&str]) -> Result<Output> {
        let env = self.site.env();
        let file = env.write("answers", &(answers.join("\n") + "\n"))?;
        let mut command = env.hpcclient(&["connect", crate::CLUSTER])?;
        command.stdin(fs::File::open(file)?);
        crate::Child::start(&mut command, &env.logs(), "connect")?.finish(crate::env::DEADLINE)
    }

    /// Returns how many codes the server took, and how many it refused.
    #[must_use]
    pub fn codes_seen(&self) -> (usize, usize) {
        let log = self.site.sshd().log();
        let count = |word: &str| {
            let about = format!("{word} keyboard-interactive/pam for");
            log.matches(&about).count()
        };
        (count("Accepted") + count("Partial"), count("Failed"))
    }
}

impl Drop for OtpSite {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.service));
    }
}
