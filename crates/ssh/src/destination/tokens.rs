//! `~`, `${NAME}` and `%h` in the values of an ssh configuration, much of which `ssh -G` prints as it was written.
//!
//! Invariants: what a shell will read holds only names that [`Address::check`] let through.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};

use super::address::Address;
use super::local::Local;

/// The tokens of `ProxyCommand` and `ProxyJump`.
const OF_A_PROXY: &str = "hknpr";

/// What the tokens stand for.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    pub(super) local: &'a Local,
    pub(super) host: &'a str,
    /// The host as it was asked for.
    pub(super) alias: &'a str,
    pub(super) user: &'a str,
    pub(super) port: u16,
    pub(super) host_key_alias: Option<&'a str>,
    pub(super) jump: Option<&'a str>,
    /// What takes the place of `SSH_AUTH_SOCK`.
    pub(super) environment_agent: Option<&'a Path>,
}

impl Tokens<'_> {
    /// Expands a path. A token that is not known stays as it is.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        let text = replace(&environment(text), |token| self.value(token)).0;
        let home = &self.local.home;
        match text.strip_prefix('~') {
            Some("") => home.clone(),
            Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(text),
        }
    }

    /// Resolves `IdentityAgent`: a path, `none`, `SSH_AUTH_SOCK` or `$NAME`; by default the environment's.
    pub(super) fn agent_socket(&self, setting: Option<&str>) -> Option<PathBuf> {
        let variable = match setting {
            Some("none") => return None,
            None | Some("SSH_AUTH_SOCK" | "${SSH_AUTH_SOCK}") => "SSH_AUTH_SOCK",
            Some(value) => match value.strip_prefix('$') {
                Some(name) if !name.starts_with('{') => name,
                _ => return Some(self.path(value)),
            },
        };
        let given = self.environment_agent.map(Path::to_owned);
        given.filter(|_| variable == "SSH_AUTH_SOCK").or_else(|| {
            std::env::var_os(variable)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        })
    }

    /// Expands a `ProxyCommand` or `ProxyJump`.
    ///
    /// # Errors
    ///
    /// Says which token has no meaning there, or no value that may be put before a shell.
    pub(super) fn proxy(&self, text: &str) -> Result<String, String> {
        let (expanded, unknown) = replace(text, |token| {
            let value = self.value(token).filter(|_| OF_A_PROXY.contains(token))?;
            (token != 'k' || is_plain_name(&value)).then_some(value)
        });
        match unknown {
            Some(token) => Err(format!("%{token} of its proxy has no value")),
            None => Ok(expanded),
        }
    }

    /// Expands the command of a `Match exec`, when host and user are not checked yet.
    ///
    /// # Errors
    ///
    /// As [`Self::proxy`].
    pub(super) fn command(&self, text: &str) -> Result<String, String> {
        let names = Address {
            host: self.host.to_owned(),
            user: Some(self.user.to_owned()),
            port: None,
        };
        names.check().map_err(|error| error.to_string())?;
        let (expanded, unknown) = replace(text, |token| {
            let value = self.value(token)?;
            (token != 'k' || is_plain_name(&value)).then_some(value)
        });
        match unknown {
            Some(token) => Err(format!("%{token} has no value")),
            None => Ok(expanded),
        }
    }

    fn value(&self, token: char) -> Option<String> {
        let local = self.local;
        Some(match token {
            'C' => self.connection_hash(),
            'd' => local.home.to_string_lossy().into_owned(),
            'h' => self.host.to_owned(),
            'i' => local.uid.to_string(),
            'j' => self.jump.unwrap_or_default().to_owned(),
            'k' => self.host_key_alias.unwrap_or(self.alias).to_owned(),
            'L' => local
                .hostname
                .split_once('.')
                .map_or(local.hostname.as_str(), |(short, _)| short)
                .to_owned(),
            'l' => local.hostname.clone(),
            'n' => self.alias.to_owned(),
            'p' => self.port.to_string(),
            'r' => self.user.to_owned(),
            'u' => local.user.clone().unwrap_or_default(),
            _ => return None,
        })
    }

    /// `%C`: the hash of `%l%h%p%r%j`. OpenSSH before 9.6 leaves out `%j`, which is empty without a jump host.
    fn connection_hash(&self) -> String {
        let text = ['l', 'h', 'p', 'r', 'j'].map(|token| self.value(token).unwrap_or_default());
        let mut hash = String::new();
        for byte in Sha1::digest(text.concat()) {
            // Writing to a String cannot fail.
            let _ = write!(hash, "{byte:02x}");
        }
        hash
    }
}

/// A name that means itself to a shell, as a host does that was checked.
fn is_plain_name(name: &str) -> bool {
    let name = Address {
        host: name.to_owned(),
        user: None,
        port: None,
    };
    name.check().is_ok()
}

/// Expands the `%h` of a `HostName`, the only token that it has.
pub(super) fn hostname(text: &str, asked: &str) -> String {
    replace(text, |token| (token == 'h').then(|| asked.to_owned())).0
}

/// Replaces the tokens that have a value and `%%`; returns the first that has none beside the text.
fn replace(text: &str, value: impl Fn(char) -> Option<String>) -> (String, Option<char>) {
    let mut out = String::with_capacity(text.len());
    let mut unknown = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        match rest.next() {
            Some('%') | None => out.push('%'),
            Some(token) => match value(token) {
                Some(value) => out.push_str(&value),
                None => {
                    unknown = unknown.or(Some(token));
                    out.extend(['%', token]);
                }
            },
        }
    }
    (out, unknown)
}

fn environment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push_str("${");
            rest = after;
            continue;
        };
        out.push_str(&std::env::var(name).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Local {
        Local {
            home: "/home/me".into(),
            user: Some("me".to_owned()),
            uid: 1000,
            hostname: "laptop.example".to_owned(),
        }
    }

    fn tokens(local: &Local) -> Tokens<'_> {
        Tokens {
            local,
            host: "login.example",
            alias: "login",
            user: "alice",
            port: 2222,
            host_key_alias: None,
            jump: None,
            environment_agent: None,
        }
    }

    #[test]
    fn tokens_are_replaced() {
        let local = local();
        let tokens = tokens(&local);
        for (given, expanded) in [
            ("~/.ssh/id", "/home/me/.ssh/id"),
            (
                "%d/keys/%n-%h-%r-%p",
                "/home/me/keys/login-login.example-alice-2222",
            ),
            ("%u-%i-%L-%l-%k", "me-1000-laptop-laptop.example-login"),
            // printf laptop.examplelogin.example2222alice | sha1sum
            ("/%C", "/bf4eb4e4dcd9e4c8664569a352c304d1b5f304d5"),
            ("100%%/%z", "100%/%z"),
            ("~bob/key", "~bob/key"),
            ("/a${NOT_SET_ANYWHERE}/b", "/a/b"),
            ("/a${open", "/a${open"),
        ] {
            assert_eq!(tokens.path(given), PathBuf::from(expanded));
        }
        assert_eq!(tokens.agent_socket(Some("none")), None);
        assert_eq!(
            tokens.agent_socket(Some("~/agent")),
            Some(PathBuf::from("/home/me/agent"))
        );
    }

    #[test]
    fn the_agent_that_was_given_stands_for_the_environments_and_for_no_other() {
        let local = local();
        let mut tokens = tokens(&local);
        let given = Path::new("/run/user/1000/agent");
        tokens.environment_agent = Some(given);
        for of_the_environment in [
            None,
            Some("SSH_AUTH_SOCK"),
            Some("$SSH_AUTH_SOCK"),
            Some("${SSH_AUTH_SOCK}"),
        ] {
            let agent = tokens.agent_socket(of_the_environment);
            assert_eq!(agent.as_deref(), Some(given));
        }
        for other in ["none", "/agent", "$NOT_SET_ANYWHERE"] {
            assert_ne!(tokens.agent_socket(Some(other)).as_deref(), Some(given));
        }
    }

    #[test]
    fn a_shell_gets_checked_names_only() {
        let local = local();
        let mut tokens = tokens(&local);
        assert_eq!(
            tokens.proxy("nc -X %% '%r' %h %p %k"),
            Ok("nc -X % 'alice' login.example 2222 login".to_owned())
        );
        assert!(tokens.proxy("nc %d").is_err());
        tokens.host_key_alias = Some("a;touch /tmp/x");
        assert!(tokens.proxy("nc %k").is_err());
        assert!(tokens.command("test %k").is_err());
        assert_eq!(
            tokens.command("test %u %h"),
            Ok("test me login.example".to_owned())
        );
    }
}
