//! `user@host:port` as people write it.
//!
//! Invariants: what passed [`Address::check`] cannot be taken for an option by `ssh` nor mean anything to a shell.

use crate::SshError;
use crate::prompt::visible;

/// The parts of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) user: Option<String>,
    pub(crate) port: Option<u16>,
}

impl Address {
    /// Splits `user@host:port`, `[v6]:port`, a bare IPv6 address, `ssh://…`, or an alias.
    pub(super) fn parse(text: &str) -> Result<Self, SshError> {
        let refuse = |reason: &str| SshError::Resolve {
            destination: visible(text),
            reason: reason.to_owned(),
        };
        let rest = text.trim();
        let rest = rest
            .strip_prefix("ssh://")
            .map_or(rest, |url| url.trim_end_matches('/'));
        // A user name may hold an `@` at sites with federated accounts, a host cannot.
        let (user, rest) = match rest.rsplit_once('@') {
            Some(("", _)) => return Err(refuse("the user name is empty")),
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
            let (host, after) = inner
                .split_once(']')
                .ok_or_else(|| refuse("a bracket is not closed"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(refuse("there is text after the bracket")),
            }
        } else if rest.matches(':').count() == 1 {
            rest.split_once(':')
                .map_or((rest, None), |(host, port)| (host, Some(port)))
        } else {
            (rest, None)
        };
        let port = match port.map(str::parse::<u16>) {
            None => None,
            Some(Ok(port)) if port > 0 => Some(port),
            Some(_) => return Err(refuse("the port is not a number from 1 to 65535")),
        };
        let address = Self {
            host: host.to_owned(),
            user,
            port,
        };
        address.check()?;
        Ok(address)
    }

    /// Refuses names that could be taken for something else than a name.
    pub(super) fn check(&self) -> Result<(), SshError> {
        let refuse = |what: &str| SshError::Resolve {
            destination: visible(&self.host),
            reason: what.to_owned(),
        };
        let plain = |character: char| {
            character.is_alphanumeric() || matches!(character, '.' | '-' | '_' | ':' | '%')
        };
        if self.host.is_empty() {
            return Err(refuse("it does not name a host"));
        }
        if self.host.starts_with('-') || !self.host.chars().all(plain) {
            return Err(refuse("that is not a host name"));
        }
        let Some(user) = &self.user else {
            return Ok(());
        };
        let unsafe_for_shells = |character: char| {
            character.is_control()
                || character.is_whitespace()
                || "'`\"$\\;&<>|(){}".contains(character)
        };
        if user.is_empty() || user.starts_with('-') || user.chars().any(unsafe_for_shells) {
            return Err(refuse("that is not a user name"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ways_people_write_a_destination() {
        for (text, host, user, port) in [
            ("login", "login", None, None),
            (
                "alice@login.example:2222",
                "login.example",
                Some("alice"),
                Some(2222),
            ),
            ("[::1]:2222", "::1", None, Some(2222)),
            ("alice@[::1]", "::1", Some("alice"), None),
            ("fe80::1%eth0", "fe80::1%eth0", None, None),
            ("ssh://bob@host:22/", "host", Some("bob"), Some(22)),
            (
                "alice@uni.example@login",
                "login",
                Some("alice@uni.example"),
                None,
            ),
        ] {
            let expected = Address {
                host: host.to_owned(),
                user: user.map(str::to_owned),
                port,
            };
            assert_eq!(Address::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in [
            "",
            "@host",
            "host:0",
            "host:99999",
            "[::1",
            "[::1]x",
            "-oProxyCommand=x",
            "a b",
            "-u@host",
            "$(id)@host",
            "host;id",
            "`id`",
            "host\n",
        ] {
            let trimmed_is_fine = text.trim() != text;
            assert!(trimmed_is_fine || Address::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Address::parse(&text);
        }
    }
}
