//! `~`, `${NAME}` and `%h` in the paths of an ssh configuration, which `ssh -G` prints as they were written.

use std::path::{Path, PathBuf};

/// What the tokens stand for.
pub(super) struct Tokens<'a> {
    pub(super) home: &'a Path,
    pub(super) host: &'a str,
    pub(super) alias: &'a str,
    pub(super) user: &'a str,
    pub(super) port: u16,
}

impl Tokens<'_> {
    /// Expands a path. A token that is not known stays as it is.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        let text = self.percent(&environment(text));
        match text.strip_prefix('~') {
            Some("") => self.home.to_path_buf(),
            Some(rest) if rest.starts_with('/') => self.home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(text),
        }
    }

    /// Resolves `IdentityAgent`: a path, `none`, `SSH_AUTH_SOCK` or `$NAME`; by default the environment's.
    pub(super) fn agent_socket(&self, setting: Option<&str>) -> Option<PathBuf> {
        let variable = match setting {
            Some("none") => return None,
            None | Some("SSH_AUTH_SOCK") => "SSH_AUTH_SOCK",
            Some(value) => match value.strip_prefix('$') {
                Some(name) if !name.starts_with('{') => name,
                _ => return Some(self.path(value)),
            },
        };
        std::env::var_os(variable)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }

    fn percent(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            match rest.next() {
                Some('%') => out.push('%'),
                Some('d') => out.push_str(&self.home.to_string_lossy()),
                Some('h') => out.push_str(self.host),
                Some('n') => out.push_str(self.alias),
                Some('r') => out.push_str(self.user),
                Some('p') => out.push_str(&self.port.to_string()),
                Some('u') => out.push_str(&super::local_user().unwrap_or_default()),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            }
        }
        out
    }
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

    #[test]
    fn tokens_are_replaced() {
        let tokens = Tokens {
            home: Path::new("/home/me"),
            host: "login.example",
            alias: "login",
            user: "alice",
            port: 2222,
        };
        for (given, expanded) in [
            ("~/.ssh/id", "/home/me/.ssh/id"),
            (
                "%d/keys/%n-%h-%r-%p",
                "/home/me/keys/login-login.example-alice-2222",
            ),
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
}
