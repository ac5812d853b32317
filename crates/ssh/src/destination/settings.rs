//! What a configuration says about a host, before defaults, expansion and what the cluster's own entry overrides.
//!
//! Both readers hand each keyword to [`Settings::set`], so that a value means the same whichever of them read it. That
//! only the first value counts is theirs to see to.

use super::StrictHostKeyChecking;
use super::not_honoured::{self, Unused};

/// What is known of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) hostname: Option<String>,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) identity_files: Vec<String>,
    pub(super) certificate_files: Vec<String>,
    pub(super) identities_only: bool,
    pub(super) identity_agent: Option<String>,
    pub(super) proxy_jump: Option<String>,
    pub(super) proxy_command: Option<String>,
    pub(super) user_known_hosts: Option<Vec<String>>,
    pub(super) global_known_hosts: Option<Vec<String>>,
    pub(super) host_key_alias: Option<String>,
    pub(super) strict: StrictHostKeyChecking,
    pub(super) hash_known_hosts: bool,
    pub(super) update_host_keys: bool,
    pub(super) preferred_authentications: Vec<String>,
    /// Methods that a keyword of their own forbids.
    pub(super) forbidden: Vec<&'static str>,
    pub(super) gssapi: bool,
    pub(super) connect_timeout: Option<u64>,
    pub(super) alive_interval: Option<u64>,
    /// What only the `ssh` program can do.
    pub(super) needs_openssh: Vec<String>,
    /// Which lists of algorithms were set.
    pub(super) algorithms: Vec<&'static str>,
    /// What was set and is not done.
    pub(super) unused: Vec<Unused>,
    /// What could not be read or understood, for people.
    pub(super) remarks: Vec<String>,
}

impl Settings {
    /// Takes a keyword in lower case, with its arguments.
    pub(super) fn set(&mut self, keyword: &str, words: &[String]) {
        let Some(value) = words.first() else {
            return;
        };
        match keyword {
            "hostname" => self.hostname = Some(value.clone()),
            "user" => self.user = Some(value.clone()),
            "port" => self.port = value.parse().ok(),
            "identityfile" => add(&mut self.identity_files, value),
            "certificatefile" => add(&mut self.certificate_files, value),
            "identitiesonly" => self.identities_only = is_yes(value),
            "identityagent" => self.identity_agent = Some(value.clone()),
            "proxyjump" => self.proxy_jump = unless_none(value),
            "proxycommand" => self.proxy_command = unless_none(value),
            "userknownhostsfile" => self.user_known_hosts = Some(words.to_vec()),
            "globalknownhostsfile" => self.global_known_hosts = Some(words.to_vec()),
            "hostkeyalias" => self.host_key_alias = Some(value.clone()),
            "stricthostkeychecking" => self.strict = strictness(value),
            "hashknownhosts" => self.hash_known_hosts = is_yes(value),
            "updatehostkeys" => self.update_host_keys = is_yes(value),
            "preferredauthentications" => {
                self.preferred_authentications = value
                    .split(',')
                    .map(str::trim)
                    .filter(|method| !method.is_empty())
                    .map(str::to_owned)
                    .collect();
            }
            "pubkeyauthentication" => self.forbid("publickey", value),
            "passwordauthentication" => self.forbid("password", value),
            "kbdinteractiveauthentication" | "challengeresponseauthentication" => {
                self.forbid("keyboard-interactive", value);
            }
            "gssapiauthentication" => self.gssapi = is_yes(value),
            "connecttimeout" => self.connect_timeout = seconds(value),
            "serveraliveinterval" => self.alive_interval = seconds(value),
            _ => {
                self.algorithms.extend(not_honoured::algorithm(keyword));
                self.needs_openssh
                    .extend(not_honoured::only_openssh(keyword, value));
                let unused = not_honoured::unused(keyword, &words.join(" "));
                self.unused
                    .extend(unused.filter(|unused| !self.unused.contains(unused)));
            }
        }
    }

    /// The methods that may be used, in order; empty for the default.
    pub(super) fn methods(&self) -> Vec<String> {
        let mut methods = self.preferred_authentications.clone();
        if methods.is_empty() && !self.forbidden.is_empty() {
            methods = ["publickey", "keyboard-interactive", "password"]
                .map(str::to_owned)
                .into();
        }
        methods.retain(|method| !self.forbidden.contains(&method.as_str()));
        methods
    }

    fn forbid(&mut self, method: &'static str, value: &str) {
        if is_no(value) {
            self.forbidden.push(method);
        }
    }
}

fn add(list: &mut Vec<String>, value: &str) {
    if !list.iter().any(|listed| listed == value) {
        list.push(value.to_owned());
    }
}

fn unless_none(value: &str) -> Option<String> {
    (!value.eq_ignore_ascii_case("none")).then(|| value.to_owned())
}

pub(super) fn is_yes(value: &str) -> bool {
    value.eq_ignore_ascii_case("yes") || value.eq_ignore_ascii_case("true")
}

fn is_no(value: &str) -> bool {
    value.eq_ignore_ascii_case("no") || value.eq_ignore_ascii_case("false")
}

/// Reads the three-and-a-half values of `StrictHostKeyChecking`.
fn strictness(value: &str) -> StrictHostKeyChecking {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" => StrictHostKeyChecking::Yes,
        "no" | "false" | "off" | "accept-new" => StrictHostKeyChecking::AcceptNew,
        _ => StrictHostKeyChecking::Ask,
    }
}

/// Reads `90`, `1m30s`, or `none`.
fn seconds(value: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut number = None;
    for character in value.chars() {
        if let Some(digit) = character.to_digit(10) {
            let so_far: u64 = number.unwrap_or(0);
            number = Some(so_far.checked_mul(10)?.checked_add(u64::from(digit))?);
            continue;
        }
        let unit = match character.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    total.checked_add(number.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(lines: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (keyword, value) in lines {
            settings.set(keyword, &[(*value).to_owned()]);
        }
        settings
    }

    #[test]
    fn never_checking_is_read_as_accepting_new_keys_only() {
        for (value, meaning) in [
            ("no", StrictHostKeyChecking::AcceptNew),
            ("accept-new", StrictHostKeyChecking::AcceptNew),
            ("true", StrictHostKeyChecking::Yes),
            ("ask", StrictHostKeyChecking::Ask),
        ] {
            assert_eq!(strictness(value), meaning);
        }
    }

    #[test]
    fn a_forbidden_method_is_never_among_those_that_may_be_used() {
        assert!(
            settings(&[("passwordauthentication", "yes")])
                .methods()
                .is_empty()
        );
        assert_eq!(
            settings(&[("passwordauthentication", "no")]).methods(),
            ["publickey", "keyboard-interactive"]
        );
        let both = [
            ("preferredauthentications", "password, publickey"),
            ("pubkeyauthentication", "false"),
        ];
        assert_eq!(settings(&both).methods(), ["password"]);
    }

    #[test]
    fn times_are_read_as_ssh_reads_them() {
        for (text, read) in [
            ("15", Some(15)),
            ("1m30s", Some(90)),
            ("2H", Some(7_200)),
            ("none", None),
            ("m", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text), read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(keyword in any::<String>(), value in any::<String>()) {
            let mut settings = Settings::default();
            settings.set(&keyword, std::slice::from_ref(&value));
            let _ = (settings.methods(), seconds(&value));
        }
    }
}
