//! A small reader of `~/.ssh/config` for machines without an `ssh` program.
//!
//! It knows `Host`, `Include`, `Match all` and the keywords of [`Settings`]; the first value of a keyword counts, as
//! in OpenSSH. The body of any other `Match` is passed over and noted.

use std::path::{Path, PathBuf};

use super::address::Address;
use super::openssh::not_honoured;
use super::{Settings, strictness};
use crate::known_hosts::wildcard_match;

/// Deeper inclusion is a loop.
const DEEPEST: usize = 16;
/// A configuration file above this size is not one.
const LARGEST: u64 = 1 << 20;

/// Returns what the user's and the system's configuration say about a host.
pub(super) async fn settings(asked: &Address, config: Option<&Path>) -> Settings {
    let host = asked.host.clone();
    let files = match config {
        Some(config) => vec![config.to_path_buf()],
        None => vec![
            dot_ssh().join("config"),
            PathBuf::from("/etc/ssh/ssh_config"),
        ],
    };
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::new(&host);
        for file in &files {
            reader.file(file, 0);
        }
        reader.finish()
    });
    read.await.unwrap_or_default()
}

fn dot_ssh() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".ssh")
}

struct Reader<'a> {
    host: &'a str,
    settings: Settings,
    seen: Vec<String>,
    applies: bool,
}

impl<'a> Reader<'a> {
    fn new(host: &'a str) -> Self {
        Self {
            host,
            settings: Settings::default(),
            seen: vec![],
            applies: true,
        }
    }

    fn file(&mut self, path: &Path, depth: usize) {
        if depth > DEEPEST || std::fs::metadata(path).is_ok_and(|file| file.len() > LARGEST) {
            let path = path.display();
            self.settings.notes.push(format!(
                "{path} was not read: it is too large or includes itself"
            ));
            return;
        }
        if let Ok(text) = std::fs::read_to_string(path) {
            let outer = self.applies;
            self.text(&text, depth);
            self.applies = outer;
        }
    }

    fn text(&mut self, text: &str, depth: usize) {
        let included_in_a_match = self.applies;
        for line in text.lines() {
            let Some((key, value)) = key_and_value(line) else {
                continue;
            };
            match key.as_str() {
                "host" => self.applies = included_in_a_match && host_matches(&value, self.host),
                "match" => {
                    self.applies = included_in_a_match && value.eq_ignore_ascii_case("all");
                    if !self.applies {
                        self.settings.notes.push(crate::prompt::visible(&format!(
                            "Match {value} was passed over"
                        )));
                    }
                }
                "include" if self.applies => {
                    for path in included(&value) {
                        self.file(&path, depth + 1);
                    }
                }
                _ if self.applies => self.keyword(&key, &value),
                _ => {}
            }
        }
    }

    fn keyword(&mut self, key: &str, value: &str) {
        if key == "identityfile" {
            self.settings.identity_files.push(value.to_owned());
            return;
        }
        if self.seen.iter().any(|seen| seen == key) {
            return;
        }
        self.seen.push(key.to_owned());
        let settings = &mut self.settings;
        let yes = value.eq_ignore_ascii_case("yes");
        match key {
            "hostname" => settings.hostname = Some(value.replace("%h", self.host)),
            "user" => settings.user = Some(value.to_owned()),
            "port" => settings.port = value.parse().ok(),
            "identitiesonly" => settings.identities_only = yes,
            "identityagent" => settings.identity_agent = Some(value.to_owned()),
            "userknownhostsfile" => settings.user_known_hosts = shlex::split(value),
            "globalknownhostsfile" => settings.global_known_hosts = shlex::split(value),
            "hostkeyalias" => settings.host_key_alias = Some(value.to_owned()),
            "stricthostkeychecking" => settings.strict = strictness(value),
            "connecttimeout" => settings.connect_timeout = value.parse().ok(),
            "serveraliveinterval" => settings.alive_interval = value.parse().ok(),
            _ => settings.notes.extend(not_honoured(key, value)),
        }
    }

    fn finish(mut self) -> Settings {
        if self.settings.identity_files.is_empty() {
            self.settings.identity_files = ["id_rsa", "id_ecdsa", "id_ed25519"]
                .map(|name| format!("~/.ssh/{name}"))
                .into();
        }
        self.settings
    }
}

/// Splits `Key value`, `Key=value` and `Key "value"`.
fn key_and_value(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|character: char| character.is_whitespace() || character == '=')?;
    let (key, rest) = line.split_at_checked(end)?;
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    let value = match value
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'))
    {
        Some(inner) if !inner.contains('"') => inner,
        _ => value,
    };
    (!value.is_empty()).then(|| (key.to_ascii_lowercase(), value.to_owned()))
}

fn host_matches(patterns: &str, host: &str) -> bool {
    let mut matched = false;
    for pattern in patterns.split_whitespace() {
        let pattern = pattern.trim_matches('"');
        match pattern.strip_prefix('!') {
            Some(not) if wildcard_match(not, host) => return false,
            Some(_) => {}
            None => matched |= wildcard_match(pattern, host),
        }
    }
    matched
}

/// The files of an `Include`: paths relative to `~/.ssh`, with wildcards in the last part only.
fn included(value: &str) -> Vec<PathBuf> {
    let mut files = vec![];
    for word in shlex::split(value).unwrap_or_default() {
        let path = match word.strip_prefix("~/") {
            Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
            None => dot_ssh().join(&word),
        };
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        match (path.parent(), name) {
            (Some(folder), Some(pattern)) if pattern.contains(['*', '?']) => {
                let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter(|entry| wildcard_match(&pattern, &entry.file_name().to_string_lossy()))
                    .map(|entry| entry.path())
                    .collect();
                found.sort();
                files.extend(found);
            }
            _ => files.push(path),
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, host: &str) -> Settings {
        let mut reader = Reader::new(host);
        reader.text(text, 0);
        reader.finish()
    }

    #[test]
    fn the_first_value_counts_and_blocks_do_not_leak() {
        let text = "# mine\nUser everyone\nHost login* !login9\n  HostName=%h.example\n  User alice\n  \
                    Port 2222\n  IdentityFile \"~/.ssh/with space\"\nMatch host login1\n  Port 1\n\
                    Host *\n  Port 22\n  ProxyJump gate\n  StrictHostKeyChecking yes\n";
        let found = read(text, "login1");
        assert_eq!(found.hostname.as_deref(), Some("login1.example"));
        assert_eq!(found.user.as_deref(), Some("everyone"));
        assert_eq!(found.port, Some(2222));
        assert_eq!(found.identity_files, ["~/.ssh/with space"]);
        assert_eq!(found.strict, crate::StrictHostKeyChecking::Yes);
        assert!(found.notes.iter().any(|note| note.starts_with("ProxyJump")));
        assert!(found.notes.iter().any(|note| note.starts_with("Match")));
        assert_eq!(read(text, "login9").port, Some(22));
        assert_eq!(read(text, "login9").identity_files.len(), 3);
    }

    #[test]
    fn files_are_included_in_order_and_a_loop_ends() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("10-one");
        let outer = folder.path().join("config");
        std::fs::write(&inner, "Host a\n  Port 7\n").unwrap();
        let include = format!(
            "Include {}/1*\nInclude {}\nUser u\n",
            folder.path().display(),
            outer.display()
        );
        std::fs::write(&outer, include).unwrap();
        let mut reader = Reader::new("a");
        reader.file(&outer, 0);
        let found = reader.finish();
        assert_eq!(found.port, Some(7));
        assert_eq!(found.user.as_deref(), Some("u"));
        assert!(
            found
                .notes
                .iter()
                .any(|note| note.contains("includes itself"))
        );
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in any::<String>(), host in "[a-z]{1,8}") {
            let _ = read(&text, &host);
        }
    }
}
