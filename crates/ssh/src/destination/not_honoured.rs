//! What this client does not do of an ssh configuration, and how it says so.
//!
//! Two kinds: what makes the `ssh` program necessary, because without it the login would fail or be another than the
//! one that was asked for, and what merely is not done, which `doctor` shows as a note.
//!
//! Not here: what is honoured, which is in [`super::settings`].

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::local;
use crate::prompt::visible;

/// `klist -s` looks into one file or asks one local daemon.
const KLIST_DEADLINE: Duration = Duration::from_secs(2);
/// A public key is never longer.
const LONGEST_KEY: u64 = 16 << 10;

/// A keyword that was set and is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unused {
    /// The sentence for people.
    pub(super) note: String,
    /// Whether the `ssh` program does not do it for us either.
    pub(super) by_openssh_too: bool,
}

/// Keywords that the built-in client does not know, each with the values that change nothing.
const BUILT_IN_DOES_NOT: &[(&str, &str, &[&str])] = &[
    ("addkeystoagent", "AddKeysToAgent", &["no", "false"]),
    ("addressfamily", "AddressFamily", &["any"]),
    ("batchmode", "BatchMode", &["no", "false"]),
    ("bindaddress", "BindAddress", &["none"]),
    ("bindinterface", "BindInterface", &["none"]),
    ("compression", "Compression", &["no", "false"]),
    ("controlmaster", "ControlMaster", &["no", "false"]),
    (
        "hostbasedauthentication",
        "HostbasedAuthentication",
        &["no", "false"],
    ),
    ("permitlocalcommand", "PermitLocalCommand", &["no", "false"]),
    ("revokedhostkeys", "RevokedHostKeys", &["none"]),
    ("serveralivecountmax", "ServerAliveCountMax", &["3"]),
    ("verifyhostkeydns", "VerifyHostKeyDNS", &["no", "false"]),
];

/// Keywords that have no place in a connection that serves only to reach the agent.
const NOBODY_DOES: &[(&str, &str, &[&str])] = &[
    ("dynamicforward", "DynamicForward", &[]),
    ("forwardagent", "ForwardAgent", &["no", "false"]),
    ("forwardx11", "ForwardX11", &["no", "false"]),
    ("localforward", "LocalForward", &[]),
    ("remotecommand", "RemoteCommand", &["none"]),
    ("remoteforward", "RemoteForward", &[]),
    ("setenv", "SetEnv", &[]),
];

/// Keywords that choose algorithms. What `ssh` has for them by default depends on its version.
const ALGORITHMS: &[(&str, &str)] = &[
    ("ciphers", "Ciphers"),
    ("hostkeyalgorithms", "HostKeyAlgorithms"),
    ("kexalgorithms", "KexAlgorithms"),
    ("macs", "MACs"),
    ("pubkeyacceptedalgorithms", "PubkeyAcceptedAlgorithms"),
    ("pubkeyacceptedkeytypes", "PubkeyAcceptedAlgorithms"),
];

/// The keyword's name if it chooses algorithms.
pub(super) fn algorithm(keyword: &str) -> Option<&'static str> {
    let (_, name) = ALGORITHMS.iter().find(|(known, _)| *known == keyword)?;
    Some(name)
}

/// Says so when algorithms were chosen.
pub(super) fn algorithms(names: &[&str]) -> Option<String> {
    let names = names.join(", ");
    (!names.is_empty()).then(|| {
        format!("{names} of the ssh configuration: not used, the built-in client has its own list")
    })
}

/// Says so when a keyword has no effect here.
pub(super) fn unused(keyword: &str, value: &str) -> Option<Unused> {
    let lists = [(BUILT_IN_DOES_NOT, false), (NOBODY_DOES, true)];
    lists.into_iter().find_map(|(list, by_openssh_too)| {
        let (_, name, harmless) = list.iter().find(|(known, ..)| *known == keyword)?;
        let matters = !harmless.iter().any(|one| one.eq_ignore_ascii_case(value));
        matters.then(|| Unused {
            note: visible(&format!(
                "{name} {value} of the ssh configuration is not used"
            )),
            by_openssh_too,
        })
    })
}

/// Says so when a keyword asks for what only the `ssh` program can do.
pub(super) fn only_openssh(keyword: &str, value: &str) -> Option<String> {
    let (name, harmless): (_, &[&str]) = match keyword {
        "pkcs11provider" | "smartcarddevice" => ("PKCS11Provider", &["none"]),
        "knownhostscommand" => ("KnownHostsCommand", &["none"]),
        "proxyusefdpass" => ("ProxyUseFdpass", &["no", "false"]),
        _ => return None,
    };
    let matters = !harmless.iter().any(|one| one.eq_ignore_ascii_case(value));
    matters.then(|| visible(&format!("the ssh configuration has {name} {value}")))
}

/// Finds the first key that lies on a security key, which the public half beside it tells.
pub(super) async fn security_key(identity_files: &[PathBuf]) -> Option<String> {
    let files = identity_files.to_vec();
    let looking = tokio::task::spawn_blocking(move || {
        let found = files.into_iter().find(|file| is_security_key(file))?;
        let shown = visible(&found.to_string_lossy());
        Some(format!("the key {shown} is on a security key (FIDO)"))
    });
    looking.await.ok().flatten()
}

fn is_security_key(file: &Path) -> bool {
    let mut public = file.as_os_str().to_owned();
    public.push(".pub");
    let mut text = Vec::new();
    let read =
        std::fs::File::open(public).and_then(|file| file.take(LONGEST_KEY).read_to_end(&mut text));
    // Without the file that stands for the private half there is nothing to log in with.
    read.is_ok() && text.trim_ascii_start().starts_with(b"sk-") && file.exists()
}

/// Says so when there is a Kerberos ticket that GSSAPI would use.
pub(super) async fn live_ticket() -> Option<String> {
    let mut klist = tokio::process::Command::new("klist");
    klist.arg("-s");
    local::succeeds(klist, KLIST_DEADLINE).await.then(|| {
        "the ssh configuration asks for GSSAPI and there is a live Kerberos ticket".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_and_not_done_is_said_and_defaults_are_not() {
        for (keyword, value, note) in [
            (
                "addressfamily",
                "inet6",
                Some("AddressFamily inet6 of the ssh configuration is not used"),
            ),
            ("addressfamily", "any", None),
            ("forwardagent", "no", None),
            ("loglevel", "DEBUG", None),
        ] {
            let found = unused(keyword, value).map(|unused| unused.note);
            assert_eq!(found.as_deref(), note);
        }
        assert!(unused("forwardagent", "yes").unwrap().by_openssh_too);
        assert!(!unused("bindaddress", "::1").unwrap().by_openssh_too);
        assert_eq!(only_openssh("pkcs11provider", "none"), None);
        assert!(only_openssh("pkcs11provider", "/lib/p.so").is_some());
    }

    #[tokio::test]
    async fn a_fido_key_is_known_by_its_public_half() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "private").unwrap();
        std::fs::write(at("plain.pub"), "ssh-ed25519 AAAA me").unwrap();
        std::fs::write(at("gone.pub"), "sk-ssh-ed25519@openssh.com AAAA me").unwrap();
        std::fs::write(at("token"), "private").unwrap();
        std::fs::write(at("token.pub"), "sk-ssh-ed25519@openssh.com AAAA me").unwrap();
        assert_eq!(
            security_key(&[at("plain"), at("gone"), at("none")]).await,
            None
        );
        let found = security_key(&[at("plain"), at("token")]).await.unwrap();
        assert!(found.contains("/token is on"), "{found}");
    }
}
