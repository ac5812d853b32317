//! The words of a line of an ssh configuration.

/// A keyword in lower case and the text behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) keyword: String,
    pub(super) rest: &'a str,
}

const SPACES: [char; 4] = [' ', '\t', '\r', '\u{c}'];

/// Splits `Key value`, `Key=value` and `Key = value`; nothing for an empty line and a comment.
pub(super) fn line(text: &str) -> Option<Line<'_>> {
    let text = text.trim_matches(SPACES);
    if text.starts_with('#') {
        return None;
    }
    let end = text.find(|character| character == '=' || SPACES.contains(&character))?;
    let (keyword, rest) = text.split_at_checked(end)?;
    let rest = after_delimiter(rest);
    (!keyword.is_empty() && !rest.is_empty()).then(|| Line {
        keyword: keyword.to_ascii_lowercase(),
        rest,
    })
}

/// Passes over spaces with at most one `=` among them.
fn after_delimiter(text: &str) -> &str {
    let text = text.trim_start_matches(SPACES);
    let text = text.strip_prefix('=').unwrap_or(text);
    text.trim_start_matches(SPACES)
}

/// The arguments of a keyword: either kind of quotes, `\` before a quote, a space or itself, and `#` before a comment.
/// Nothing if a quote is not closed.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = vec![];
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|next| SPACES.contains(next)).is_some() {}
        match rest.peek() {
            None | Some('#') => return Some(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote = None;
        loop {
            match (rest.next(), quote) {
                (None, None) => break,
                (None, Some(_)) => return None,
                (Some('\\'), _) => {
                    let escaped = rest.next_if(|next| {
                        matches!(next, '\'' | '"' | '\\') || (*next == ' ' && quote.is_none())
                    });
                    word.push(escaped.unwrap_or('\\'));
                }
                (Some(next), Some(open)) if next == open => quote = None,
                (Some(next @ ('\'' | '"')), None) => quote = Some(next),
                (Some(next), None) if SPACES.contains(&next) => break,
                (Some(next), _) => word.push(next),
            }
        }
        words.push(word);
    }
}

/// The words of a `Match`, which has rules of its own: `host=name` are two, and only double quotes count.
pub(super) fn criteria(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut rest = text.trim_matches(SPACES);
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => {
                let end = rest.find(|next| next == '=' || SPACES.contains(&next));
                rest.split_at_checked(end.unwrap_or(rest.len()))
                    .unwrap_or((rest, ""))
            }
        };
        words.push(word.to_owned());
        rest = after_delimiter(after);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keywords_and_what_follows_them() {
        for (text, keyword, rest) in [
            ("  HostName login", "hostname", "login"),
            ("Port=22", "port", "22"),
            ("Port = 22 \r", "port", "22"),
            ("User ==x", "user", "=x"),
            ("ProxyCommand nc  %h # c", "proxycommand", "nc  %h # c"),
        ] {
            let keyword = keyword.to_owned();
            assert_eq!(line(text), Some(Line { keyword, rest }), "{text}");
        }
        for nothing in ["", "  # Host x", "Host", "Host ", "=x"] {
            assert_eq!(line(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn words_are_split_as_ssh_splits_them() {
        for (text, split) in [
            ("a  b\tc", Some(vec!["a", "b", "c"])),
            ("\"a b\" 'c d' e\\ f", Some(vec!["a b", "c d", "e f"])),
            ("x\\\"y c\\d \"\\\\\"", Some(vec!["x\"y", "c\\d", "\\"])),
            ("a#b # c", Some(vec!["a#b"])),
            ("\"\" a", Some(vec!["", "a"])),
            ("\"open", None),
        ] {
            let split = split.map(|words| words.into_iter().map(str::to_owned).collect());
            assert_eq!(words(text), split, "{text}");
        }
        assert_eq!(
            criteria("host=a,b !exec \"test -f '/x y'\" user = me # c"),
            ["host", "a,b", "!exec", "test -f '/x y'", "user", "me"]
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), odd in "[\"'\\\\ =#ab]{0,20}") {
            for text in [&text, &odd] {
                let _ = (line(text), words(text), criteria(text));
            }
        }
    }
}
