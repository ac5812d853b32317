//! A reader of `~/.ssh/config` for machines without an `ssh` program.
//!
//! It knows `Host`, `Match`, `Include` and the keywords of [`Settings`]. As in OpenSSH, the first value of a keyword
//! counts, and a `Match final` makes the files be read twice, the second time with the name that the first gave. The
//! tests of [`super::differential`] hold it against `ssh -G`.
//!
//! Not here: the criteria `localnetwork`, `tagged` and newer ones, whose blocks are passed over and noted, and
//! `CanonicalizeHostname`, which is noted.

mod include;
mod lines;
mod matching;
mod source;

use std::collections::HashSet;
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::Address;
use super::local::{self, Local};
use super::settings::{Settings, is_yes};
use super::tokens::{self, Tokens};
use crate::SshError;
use crate::prompt::visible;
use matching::{Subject, Verdict};
use source::{Owner, Trouble};

/// Deeper inclusion is a loop.
const DEEPEST: usize = 16;
/// How long the command of a `Match exec` may take.
const EXEC_DEADLINE: Duration = Duration::from_secs(15);

/// Returns what the configuration says about a host: the given one, else the user's and the system's.
pub(super) async fn settings(
    asked: &Address,
    config: Option<&Path>,
    local: &Local,
) -> Result<Settings, SshError> {
    let (asked, config, local) = (asked.clone(), config.map(Path::to_owned), local.clone());
    let runtime = tokio::runtime::Handle::current();
    let read = tokio::task::spawn_blocking(move || {
        let exec =
            |line: &str| runtime.block_on(local::succeeds(local::shell(line), EXEC_DEADLINE));
        read(&asked, config.as_deref(), &local, &exec)
    });
    read.await.unwrap_or_else(|_| Ok(Settings::default()))
}

fn read(
    asked: &Address,
    config: Option<&Path>,
    local: &Local,
    exec: &dyn Fn(&str) -> bool,
) -> Result<Settings, SshError> {
    let mut reader = Reader::new(asked, local, exec);
    reader.files(config)?;
    if reader.wants_final {
        reader.start_final_pass();
        reader.files(config)?;
    }
    Ok(reader.finish())
}

struct Reader<'a> {
    asked: &'a Address,
    local: &'a Local,
    exec: &'a dyn Fn(&str) -> bool,
    settings: Settings,
    seen: HashSet<String>,
    /// What `Host` is held against: the name asked for, in the final pass the one found.
    host: String,
    applies: bool,
    final_pass: bool,
    wants_final: bool,
    /// Where relative includes are looked for.
    folder: PathBuf,
}

impl<'a> Reader<'a> {
    fn new(asked: &'a Address, local: &'a Local, exec: &'a dyn Fn(&str) -> bool) -> Self {
        let mut reader = Self {
            asked,
            local,
            exec,
            settings: Settings::default(),
            seen: HashSet::new(),
            host: asked.host.clone(),
            applies: true,
            final_pass: false,
            wants_final: false,
            folder: PathBuf::new(),
        };
        if let Some(user) = &asked.user {
            reader.keyword("user", std::slice::from_ref(user));
        }
        if let Some(port) = asked.port {
            reader.keyword("port", &[port.to_string()]);
        }
        reader
    }

    fn files(&mut self, config: Option<&Path>) -> Result<(), SshError> {
        let dot_ssh = self.local.home.join(".ssh");
        self.folder.clone_from(&dot_ssh);
        match config {
            Some(config) => match File::open(config) {
                Ok(_) => self.file(config, 0, Owner::Trusted),
                Err(error) => {
                    Err(self.refuse(&format!("{} cannot be read: {error}", config.display())))
                }
            },
            None => {
                self.file(&dot_ssh.join("config"), 0, Owner::Checked)?;
                self.folder = PathBuf::from("/etc/ssh");
                self.file(Path::new("/etc/ssh/ssh_config"), 0, Owner::Trusted)
            }
        }
    }

    /// Reads a file as a block of its own. One that is not there is passed over.
    fn file(&mut self, path: &Path, depth: usize, owner: Owner) -> Result<(), SshError> {
        let shown = path.display();
        if depth > DEEPEST {
            return Err(self.refuse(&format!("{shown} includes itself")));
        }
        let text = match source::read(path, owner, self.local.uid) {
            Ok(text) => text,
            Err(Trouble::Absent) => return Ok(()),
            Err(Trouble::NotOurs) => {
                let reason = format!("{shown} is owned by somebody else or others can write to it");
                return Err(self.refuse(&reason));
            }
            Err(Trouble::NotAConfiguration) => {
                self.remark(&format!(
                    "{shown} was not read: it is too large or not a file"
                ));
                return Ok(());
            }
        };
        let outer = self.applies;
        self.applies = true;
        let read = self.text(&text, depth);
        self.applies = outer;
        read
    }

    fn text(&mut self, text: &str, depth: usize) -> Result<(), SshError> {
        for line in text.lines().filter_map(lines::line) {
            match line.keyword.as_str() {
                "match" => self.applies = self.matches(line.rest),
                // A shell reads these: quotes and comments are for it.
                "proxycommand" | "knownhostscommand" | "remotecommand" => {
                    self.keyword(&line.keyword, &[line.rest.to_owned()]);
                }
                "proxyjump" => {
                    let list = line.rest.split('#').next().unwrap_or_default();
                    self.keyword(&line.keyword, &[list.trim_end().to_owned()]);
                }
                keyword => {
                    let Some(words) = lines::words(line.rest) else {
                        self.remark(&format!("{keyword} {} has an open quote", line.rest));
                        continue;
                    };
                    match keyword {
                        "host" => self.applies = matching::host_line(&words, &self.host),
                        "include" if self.applies => self.include(&words, depth)?,
                        "include" => {}
                        keyword => self.keyword(keyword, &words),
                    }
                }
            }
        }
        Ok(())
    }

    fn include(&mut self, patterns: &[String], depth: usize) -> Result<(), SshError> {
        for pattern in patterns {
            for path in include::files(pattern, &self.folder, &self.local.home) {
                self.file(&path, depth + 1, Owner::Checked)?;
            }
        }
        Ok(())
    }

    fn matches(&mut self, text: &str) -> bool {
        let host = self.hostname();
        let user = self.settings.user.clone();
        let local_user = self.local.user.as_deref().unwrap_or_default();
        let subject = Subject {
            host: &host,
            original_host: &self.asked.host,
            user: user.as_deref().unwrap_or(local_user),
            local_user,
            final_pass: self.final_pass,
        };
        let tokens = Tokens {
            local: self.local,
            host: subject.host,
            alias: subject.original_host,
            user: subject.user,
            port: self.settings.port.unwrap_or(22),
            host_key_alias: self.settings.host_key_alias.as_deref(),
            jump: self.settings.proxy_jump.as_deref(),
            environment_agent: None,
        };
        let exec = |command: &str| {
            let line = tokens.command(command);
            line.is_ok_and(|line| (self.exec)(&line))
        };
        match matching::match_line(text, &subject, &mut self.wants_final, exec) {
            Verdict::Yes => true,
            Verdict::No => false,
            Verdict::NotUnderstood(what) => {
                self.remark(&format!(
                    "Match {text} of the ssh configuration was passed over ({what})"
                ));
                false
            }
        }
    }

    fn keyword(&mut self, keyword: &str, words: &[String]) {
        if !self.applies {
            return;
        }
        // A jump host and a proxy command exclude each other, but a command may follow `ProxyJump none`.
        let excluded = match keyword {
            "proxycommand" => self.settings.proxy_jump.is_some(),
            "proxyjump" => self.seen.contains("proxycommand"),
            _ => false,
        };
        let repeats = matches!(
            keyword,
            "identityfile"
                | "certificatefile"
                | "localforward"
                | "remoteforward"
                | "dynamicforward"
        );
        if excluded || (!repeats && !self.seen.insert(keyword.to_owned())) {
            return;
        }
        let asks = |word: &String| is_yes(word) || word.eq_ignore_ascii_case("always");
        if keyword == "canonicalizehostname" && words.first().is_some_and(asks) {
            self.remark("CanonicalizeHostname of the ssh configuration is not used");
        }
        self.settings.set(keyword, words);
    }

    /// The name to connect to, as far as it is known.
    fn hostname(&self) -> String {
        match &self.settings.hostname {
            Some(name) if !self.final_pass => tokens::hostname(name, &self.asked.host),
            Some(name) => name.clone(),
            None => self.asked.host.clone(),
        }
    }

    fn final_hostname(&self) -> String {
        let name = self.hostname();
        match name.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.to_ascii_lowercase(),
        }
    }

    fn start_final_pass(&mut self) {
        self.host = self.final_hostname();
        self.settings.hostname = Some(self.host.clone());
        self.seen.insert("hostname".to_owned());
        self.final_pass = true;
    }

    /// Fills in the defaults that depend on what was not set.
    fn finish(mut self) -> Settings {
        self.settings.hostname = Some(self.final_hostname());
        if self.settings.identity_files.is_empty() {
            self.settings.identity_files = [
                "id_rsa",
                "id_ecdsa",
                "id_ecdsa_sk",
                "id_ed25519",
                "id_ed25519_sk",
            ]
            .map(|name| format!("~/.ssh/{name}"))
            .into();
        }
        if !self.seen.contains("updatehostkeys") {
            self.settings.update_host_keys =
                self.settings.user_known_hosts.is_none() && !self.seen.contains("verifyhostkeydns");
        }
        self.settings
    }

    fn remark(&mut self, text: &str) {
        let text = visible(text);
        if !self.settings.remarks.contains(&text) {
            self.settings.remarks.push(text);
        }
    }

    fn refuse(&self, reason: &str) -> SshError {
        SshError::Resolve {
            destination: self.asked.host.clone(),
            reason: visible(reason),
        }
    }
}

#[cfg(test)]
mod tests;
