//! Login names and numbers of this node's users.
//!
//! Called by `shares` and `away`. The password file is read first; what it does not have is asked from
//! `getent`, since names may come from a directory service that only the system's own programs can ask.
//! Invariants: an answer is kept for [`KEEP`], at most [`MAX_KEPT`] of them; a service that hangs costs
//! at most [`LIMIT`].

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

/// A user of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The number.
    pub uid: u32,
}

/// The users of this node; clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<Known>>);

/// What was asked, when, and the answer.
type Known = HashMap<String, (Instant, Option<User>)>;

impl Names {
    /// Returns the user of this login name.
    pub async fn user(&self, name: &str) -> Option<User> {
        if is_name(name) {
            self.look_up(name).await
        } else {
            None
        }
    }

    /// Returns the user of this number.
    pub async fn of(&self, uid: u32) -> Option<User> {
        self.look_up(&uid.to_string()).await
    }

    async fn look_up(&self, key: &str) -> Option<User> {
        let now = Instant::now();
        if let Some((at, user)) = self.lock().get(key)
            && now.duration_since(*at) < KEEP
        {
            return user.clone();
        }
        let local = tokio::fs::read_to_string("/etc/passwd").await;
        let user = match find(&local.unwrap_or_default(), key) {
            Some(user) => Some(user),
            None => find(&ask_getent(key).await.unwrap_or_default(), key),
        };
        let mut known = self.lock();
        if known.len() >= MAX_KEPT {
            known.clear();
        }
        known.insert(key.to_owned(), (now, user.clone()));
        user
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask_getent(key: &str) -> Option<String> {
    let mut getent = tokio::process::Command::new("getent");
    getent
        .args(["passwd", key])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LIMIT, getent.output()).await.ok()?.ok()?;
    String::from_utf8(output.stdout).ok()
}

/// Returns the user whose name or number is `key`.
fn find(lines: &str, key: &str) -> Option<User> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        let is_it = if is_name(key) {
            name == key
        } else {
            uid == key
        };
        let uid = uid.parse().ok().filter(|_| is_it && is_name(name))?;
        Some(User {
            name: name.to_owned(),
            uid,
        })
    })
}

/// Returns whether a text can be a login name; a number is none, since `getent` takes it for a uid.
fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+' | '$');
    (1..=MAX_NAME).contains(&text.len())
        && text.chars().all(legal)
        && !text.starts_with(['-', '.', '+'])
        && !text.chars().all(|c| c.is_ascii_digit())
}

const KEEP: Duration = Duration::from_secs(60);

const MAX_KEPT: usize = 1024;

const MAX_NAME: usize = 128;

const LIMIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let lines = "# x\nroot:x:0:0:root:/root:/bin/sh\nbob:*:1001:1001::/home/bob:/bin/sh\n1001:*:7:7:::\n";
        let bob = User {
            name: "bob".to_owned(),
            uid: 1001,
        };
        assert_eq!(find(lines, "bob"), Some(bob.clone()));
        assert_eq!(find(lines, "1001"), Some(bob));
        assert_eq!(find(lines, "bo"), None);
        assert_eq!(
            find(lines, "7"),
            None,
            "a name that looks like a number is nobody's"
        );
        for bad in [
            "",
            "-x",
            "a b",
            "a:b",
            "a/b",
            "12",
            "a\n",
            "..",
            &"x".repeat(200),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn the_system_knows_root() {
        let names = Names::default();
        assert_eq!(names.user("root").await.unwrap().uid, 0);
        assert_eq!(names.of(0).await.unwrap().name, "root");
        assert_eq!(names.user("nobody-has-this-name").await, None);
    }
}
