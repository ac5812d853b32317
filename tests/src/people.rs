//! Several people on one login node: alice, bob and carol, each a user of their own.
//!
//! Called by the tests of what people share, which run as root. On the site's machine each is a cluster of this name in
//! one configuration; a [`Machine`] is one person's own, with a bridge of its own.

use anyhow::Result;
use serde_json::Value;

use crate::{Account, env::Env, process::Output, site::Site, sshd::Setup};

/// The three, who are logged in.
#[derive(Debug)]
pub struct People {
    site: Site,
    bob: Account,
    carol: Account,
}

/// One person's machine.
#[derive(Debug)]
pub struct Machine {
    env: Env,
}

impl People {
    /// Makes the users and logs them in.
    ///
    /// # Errors
    /// Not root, or a program is missing; the message names it.
    pub fn new() -> Result<Self> {
        let env = Env::new()?;
        let alice = Account::new(&env, "bash")?;
        let bob = Account::new(&env, "bash")?;
        let carol = Account::new(&env, "bash")?;
        let more = format!("AllowUsers {} {}", bob.name(), carol.name());
        let setup = Setup::new(&[more.as_str()]).account(&alice);
        let site = Site::of(env, Some(alice), &setup)?;
        let this = Self { site, bob, carol };
        let mut clusters = String::new();
        for who in NAMES {
            clusters += &this.cluster(who)?;
        }
        this.site.configure(this.site.sshd().port(), &clusters)?;
        for who in NAMES {
            this.hpcclient(&["connect", who])?.success()?;
        }
        Ok(this)
    }

    /// Returns the machine that all three use, and the node.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Returns alice's login name.
    ///
    /// # Errors
    /// None: she is there.
    pub fn alice(&self) -> Result<&str> {
        Ok(self.site.account()?.name())
    }

    /// Returns bob's login name.
    #[must_use]
    pub fn bob(&self) -> &str {
        self.bob.name()
    }

    /// Returns carol's login name.
    #[must_use]
    pub fn carol(&self) -> &str {
        self.carol.name()
    }

    /// Runs `hpcclient` on the machine that all use; `-c bob` is bob.
    ///
    /// # Errors
    /// It cannot be started or does not end within a minute.
    pub fn hpcclient(&self, args: &[&str]) -> Result<Output> {
        self.site.hpcclient(args)
    }

    /// Asks somebody's agent; returns the status and the body.
    ///
    /// # Errors
    /// The bridge does not answer.
    pub fn ask(
        &self,
        who: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, String)> {
        let path = format!("/c/{who}/v1/{path}");
        let answer = self.site.ask(method, &path, body)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Ok((answer.status, text))
    }

    /// Makes a machine of somebody's own, which knows the node as the cluster of their name.
    ///
    /// # Errors
    /// `/tmp` cannot be written.
    pub fn machine(&self, who: &str) -> Result<Machine> {
        let env = Env::new()?;
        let text = format!("default = \"{who}\"\n{}", self.cluster(who)?);
        env.write("home/.config/hpcclient/config.toml", &text)?;
        Ok(Machine { env })
    }

    fn cluster(&self, who: &str) -> Result<String> {
        let user = match who {
            "bob" => self.bob(),
            "carol" => self.carol(),
            _ => self.alice()?,
        };
        let sshd = self.site.sshd();
        Ok(format!(
            "\n[clusters.{who}]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{user}\"\nidentity_file = \"{}\"\nknown_hosts = \"{}\"\n",
            sshd.port(),
            sshd.file("user_key").display(),
            sshd.file("known_hosts").display(),
        ))
    }
}

impl Machine {
    /// Runs `hpcclient` there.
    ///
    /// # Errors
    /// It cannot be started or does not end within a minute.
    pub fn hpcclient(&self, args: &[&str]) -> Result<Output> {
        self.env.run(&mut self.env.hpcclient(args)?)
    }

    /// Returns its folders and its environment.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }
}

const NAMES: [&str; 3] = ["alice", "bob", "carol"];
