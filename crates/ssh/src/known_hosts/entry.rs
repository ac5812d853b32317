//! One line of a known_hosts file, and the patterns that say which hosts it is about.
//!
//! The key's type is kept as text and its blob as bytes, so that a line with a type the SSH library does not know still
//! makes its host a known one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// What the marker in front of a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    Authority,
    Revoked,
}

/// A line that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mark: Mark,
    pub(super) key_type: String,
    /// The key as it goes over the wire.
    pub(super) key: Vec<u8>,
    hosts: Hosts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

impl Entry {
    /// Reads a line; nothing for blank lines, comments and what is not understood.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let first = fields.next()?;
        let (mark, hosts) = match first {
            "@cert-authority" => (Mark::Authority, fields.next()?),
            "@revoked" => (Mark::Revoked, fields.next()?),
            unknown if unknown.starts_with(['@', '#']) => return None,
            hosts => (Mark::None, hosts),
        };
        let key_type = fields.next()?;
        let key = STANDARD.decode(fields.next()?).ok()?;
        // The blob starts with its own type; a line in which the two differ is damaged.
        let inner_type = key
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.get(..u32::from_be_bytes(*length) as usize))?;
        if inner_type != key_type.as_bytes() {
            return None;
        }
        Some(Self {
            mark,
            key_type: key_type.to_owned(),
            key,
            hosts: Hosts::parse(hosts)?,
        })
    }

    /// Whether the line names one host and no other, as far as can be seen.
    pub(super) fn names_one_host(&self) -> bool {
        match &self.hosts {
            Hosts::Hashed { .. } => true,
            Hosts::Patterns(patterns) => {
                patterns.len() == 1 && !patterns.iter().any(|name| name.contains(['*', '?', '!']))
            }
        }
    }

    /// Whether the line is about a host, given as `host` or `[host]:port`.
    pub(super) fn is_about(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Hashed { salt, hash } => {
                let Ok(mut hasher) = Hmac::<Sha1>::new_from_slice(salt) else {
                    return false;
                };
                hasher.update(name.to_lowercase().as_bytes());
                hasher.verify_slice(hash).is_ok()
            }
            Hosts::Patterns(patterns) => {
                let mut matched = false;
                for pattern in patterns {
                    match pattern.strip_prefix('!') {
                        Some(not) if wildcard_match(not, name) => return false,
                        Some(_) => {}
                        None => matched |= wildcard_match(pattern, name),
                    }
                }
                matched
            }
        }
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if let Some(hashed) = text.strip_prefix("|1|") {
            let (salt, hash) = hashed.split_once('|')?;
            return Some(Self::Hashed {
                salt: STANDARD.decode(salt).ok()?,
                hash: STANDARD.decode(hash).ok()?,
            });
        }
        Some(Self::Patterns(
            text.split(',')
                .filter(|pattern| !pattern.is_empty())
                .map(str::to_owned)
                .collect(),
        ))
    }
}

/// Matches `*` and `?`, without regard to case.
pub(crate) fn wildcard_match(pattern: &str, name: &str) -> bool {
    wildcard_match_case(&pattern.to_ascii_lowercase(), &name.to_ascii_lowercase())
}

/// Matches `*` and `?` in time that grows with the product of the lengths.
pub(crate) fn wildcard_match_case(pattern: &str, name: &str) -> bool {
    let pattern = pattern.as_bytes();
    let name = name.as_bytes();
    let (mut at, mut seen) = (0, 0);
    // Where the last star was, and how much of the name it takes so far.
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match (pattern.get(at), name.get(seen)) {
            (Some(b'*'), _) => {
                star = Some((at, seen));
                at += 1;
            }
            (Some(b'?'), Some(_)) => {
                at += 1;
                seen += 1;
            }
            (Some(one), Some(other)) if one == other => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else {
                    return false;
                };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                seen = taken + 1;
            }
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wildcards() {
        for (pattern, name, matches) in [
            ("*.example", "login.example", true),
            ("*.example", "example", false),
            ("login?", "login1", true),
            ("login?", "login", false),
            ("LOGIN", "login", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("[*]:2222", "[login]:2222", true),
        ] {
            assert_eq!(wildcard_match(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_does_not_take_long() {
        assert!(!wildcard_match(&"*a".repeat(2_000), &"a".repeat(1_999)));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in any::<String>(), name in any::<String>()) {
            if let Some(entry) = Entry::parse(&line) {
                let _ = entry.is_about(&name);
            }
        }

        #[test]
        fn no_nearly_right_line_makes_it_panic(
            mark in "(@[a-z-]{0,14} )?", host in "[a-z|,!*\\[\\]:0-9]{0,12}",
            kind in "(ssh-ed25519|ssh-rsa)", blob in "[A-Za-z0-9+/]{0,40}={0,2}"
        ) {
            if let Some(entry) = Entry::parse(&format!("{mark}{host} {kind} {blob}")) {
                let _ = entry.is_about("login");
            }
        }
    }
}
