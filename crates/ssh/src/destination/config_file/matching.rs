//! Whether a `Host` or `Match` block is for the host that is asked about.

use super::lines;
use crate::known_hosts::{wildcard_match, wildcard_match_case};

/// What the criteria are held against, as far as the configuration was read.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) host: &'a str,
    pub(super) original_host: &'a str,
    pub(super) user: &'a str,
    pub(super) local_user: &'a str,
    pub(super) final_pass: bool,
}

/// Whether a `Match` holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    /// It has something that is not known here. Its block is passed over.
    NotUnderstood(String),
}

/// The patterns of a `Host` line. Unlike those of `Match`, they tell capitals from small letters.
pub(super) fn host_line(patterns: &[String], host: &str) -> bool {
    let mut matched = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(not) if wildcard_match_case(not, host) => return false,
            Some(_) => {}
            None => matched |= wildcard_match_case(pattern, host),
        }
    }
    matched
}

/// A comma-separated list of patterns.
fn list(patterns: &str, name: &str, one: fn(&str, &str) -> bool) -> bool {
    let mut matched = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(not) if one(not, name) => return false,
            Some(_) => {}
            None => matched |= one(pattern, name),
        }
    }
    matched
}

/// The criteria of a `Match` line. `exec` is asked only while all before it held. `final` wants a second reading.
pub(super) fn match_line(
    text: &str,
    subject: &Subject<'_>,
    wants_final: &mut bool,
    exec: impl Fn(&str) -> bool,
) -> Verdict {
    let mut holds = true;
    let mut words = lines::criteria(text).into_iter();
    let mut any = false;
    while let Some(word) = words.next() {
        any = true;
        let (negated, name) = match word.strip_prefix('!') {
            Some(name) => (true, name),
            None => (false, word.as_str()),
        };
        let name = name.to_ascii_lowercase();
        let found = match name.as_str() {
            "all" => true,
            "final" | "canonical" => {
                *wants_final |= name == "final";
                subject.final_pass
            }
            "host" | "originalhost" | "user" | "localuser" | "exec" => {
                let Some(argument) = words.next() else {
                    return Verdict::NotUnderstood(format!("{name} without a value"));
                };
                match name.as_str() {
                    "host" => list(&argument, subject.host, wildcard_match),
                    "originalhost" => list(&argument, subject.original_host, wildcard_match),
                    "user" => list(&argument, subject.user, wildcard_match_case),
                    "localuser" => list(&argument, subject.local_user, wildcard_match_case),
                    _ if !holds => continue,
                    _ => exec(&argument),
                }
            }
            _ => return Verdict::NotUnderstood(name),
        };
        holds &= found != negated;
    }
    match (any, holds) {
        (false, _) => Verdict::NotUnderstood("nothing to match".to_owned()),
        (true, true) => Verdict::Yes,
        (true, false) => Verdict::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SUBJECT: Subject<'static> = Subject {
        host: "Login1.example",
        original_host: "login",
        user: "alice",
        local_user: "me",
        final_pass: false,
    };

    #[test]
    fn every_criterion_has_to_hold() {
        for (text, holds) in [
            ("all", true),
            ("!all", false),
            ("host *.example", true),
            ("host login", false),
            ("originalhost LOGIN,x", true),
            ("host *.example,!login1*", false),
            ("!host other user alice", true),
            ("user Alice", false),
            ("user=alice localuser=m?", true),
            ("!localuser me", false),
            ("final", false),
            ("!final host *", true),
            ("canonical all", false),
            ("exec \"yes\" user alice", true),
            ("exec no", false),
            ("!exec no", true),
        ] {
            let verdict = match_line(text, &SUBJECT, &mut false, |command| command == "yes");
            let expected = if holds { Verdict::Yes } else { Verdict::No };
            assert_eq!(verdict, expected, "{text}");
        }
        for (text, wants) in [
            ("host x Final", true),
            ("!final", true),
            ("exec final", false),
        ] {
            let mut wanted = false;
            match_line(text, &SUBJECT, &mut wanted, |_| false);
            assert_eq!(wanted, wants, "{text}");
        }
        for strange in ["localnetwork 10.0.0.0/8", "tagged x", "host", ""] {
            let verdict = match_line(strange, &SUBJECT, &mut false, |_| true);
            assert!(matches!(verdict, Verdict::NotUnderstood(_)), "{strange}");
        }
    }

    #[test]
    fn nothing_runs_for_a_block_that_is_for_another_host() {
        let verdict = match_line("host other exec x", &SUBJECT, &mut false, |_| {
            panic!("it ran")
        });
        assert_eq!(verdict, Verdict::No);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = match_line(&text, &SUBJECT, &mut false, |_| true);
            let _ = host_line(std::slice::from_ref(&text), &text);
        }
    }
}
