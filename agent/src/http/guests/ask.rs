//! What can be asked about a shared run, and by which share.
//!
//! Called by `guests`. Invariant: a question is one of a closed list, and its query holds known words only.

use hpcclient_protocol::{StreamName, live::Access};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use crate::{files::query_values, shares::Grant};

/// What can be asked about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Info,
    Stream,
    Raw(StreamName),
    Screen,
    Search,
    Viewers,
    Stdin,
    Signal,
    Resize,
}

impl Ask {
    pub(super) fn of(method: &Method, part: &str) -> Option<Self> {
        let is_post = method == Method::POST;
        Some(match part {
            "stream" if !is_post => Self::Stream,
            "stdout" if !is_post => Self::Raw(StreamName::Stdout),
            "stderr" if !is_post => Self::Raw(StreamName::Stderr),
            "tty" if !is_post => Self::Raw(StreamName::Tty),
            "screen" if !is_post => Self::Screen,
            "search" if !is_post => Self::Search,
            "viewers" if !is_post => Self::Viewers,
            "stdin" if is_post => Self::Stdin,
            "signal" if is_post => Self::Signal,
            "resize" if is_post => Self::Resize,
            _ => return None,
        })
    }

    pub(super) const fn part(self) -> &'static str {
        match self {
            Self::Info => "",
            Self::Stream => "/stream",
            Self::Raw(StreamName::Stdout) => "/stdout",
            Self::Raw(StreamName::Stderr) => "/stderr",
            Self::Raw(StreamName::Tty) => "/tty",
            Self::Screen => "/screen",
            Self::Search => "/search",
            Self::Viewers => "/viewers",
            Self::Stdin => "/stdin",
            Self::Signal => "/signal",
            Self::Resize => "/resize",
        }
    }

    /// The query words that go on to the agent's own route.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Info | Self::Viewers | Self::Signal | Self::Resize => &[],
            Self::Stream => &["stdout", "stderr", "tty", "follow", "tail", "behind"],
            Self::Raw(_) => &["from", "follow", "head", "tail", "since", "until"],
            Self::Screen => &["lines"],
            Self::Search => &["pattern", "stream", "fixed", "ignoreCase", "limit"],
            Self::Stdin => &["writer", "seq"],
        }
    }

    /// Returns whether the answer takes reading much of what is stored, with these words.
    pub(super) fn reads_much(self, query: &str) -> bool {
        let scans = |word: &str| {
            ["tail=", "since=", "until="]
                .iter()
                .any(|scan| word.starts_with(scan))
        };
        match self {
            Self::Search | Self::Screen => true,
            Self::Stream | Self::Raw(_) => query.split('&').any(scans),
            Self::Info | Self::Viewers | Self::Stdin | Self::Signal | Self::Resize => false,
        }
    }

    pub(super) const fn drives(self) -> bool {
        matches!(self, Self::Stdin | Self::Signal | Self::Resize)
    }

    pub(super) fn is_in(self, grant: &Grant) -> bool {
        if self.drives() && grant.access != Access::Drive {
            return false;
        }
        match self {
            Self::Raw(name) => grant.shows(name),
            Self::Screen => grant.shows(StreamName::Tty),
            Self::Stdin | Self::Signal | Self::Resize => grant.streams.is_empty(),
            Self::Info | Self::Stream | Self::Search | Self::Viewers => true,
        }
    }
}

/// Returns the known words of a query, written anew.
pub(super) fn words(query: &str, ask: Ask) -> String {
    let known = query_values(query).filter_map(|(name, value)| {
        let word = ask.words().iter().find(|word| word.as_bytes() == name)?;
        Some(format!(
            "{word}={}",
            percent_encode(&value, NON_ALPHANUMERIC)
        ))
    });
    known.collect::<Vec<_>>().join("&")
}

/// Returns the words without the offsets of streams that are not shown: one past the end is refused, which would tell how
/// long such a stream is.
pub(super) fn of_shown(words: &str, grant: &Grant) -> String {
    let all = [StreamName::Stdout, StreamName::Stderr, StreamName::Tty];
    let is_shown = |word: &&str| {
        let name = word.split('=').next();
        let stream = all.iter().find(|stream| Some(stream.as_str()) == name);
        stream.is_none_or(|stream| grant.shows(*stream))
    };
    let shown = words.split('&').filter(is_shown);
    shown.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
pub(super) mod tests {
    use hpcclient_protocol::ShareId;
    use tokio_util::sync::CancellationToken;

    use super::*;

    pub(in crate::http::guests) fn grant(access: Access, streams: &[StreamName]) -> Grant {
        Grant {
            id: ShareId::random(),
            guest: "bob".to_owned(),
            access,
            streams: streams.to_vec(),
            title: "x".to_owned(),
            inode: None,
            ended: vec![CancellationToken::new()],
        }
    }

    #[test]
    fn a_guest_names_no_offset_of_what_is_not_shown_and_may_want_the_newest() {
        let asked = words(
            "stdout=1&stderr=2&behind=300&access=drive&tty=4",
            Ask::Stream,
        );
        assert_eq!(asked, "stdout=1&stderr=2&behind=300&tty=4");
        let part = grant(Access::View, &[StreamName::Stdout]);
        assert_eq!(of_shown(&asked, &part), "stdout=1&behind=300");
        assert_eq!(of_shown(&asked, &grant(Access::View, &[])), asked);
    }

    #[test]
    fn a_share_never_gives_more_than_it_is() {
        use StreamName::{Stderr, Stdout, Tty};
        let every = [
            Ask::Info,
            Ask::Stream,
            Ask::Raw(Stdout),
            Ask::Raw(Stderr),
            Ask::Raw(Tty),
            Ask::Screen,
            Ask::Search,
            Ask::Viewers,
            Ask::Stdin,
            Ask::Signal,
            Ask::Resize,
        ];
        let allowed = |grant: &Grant| -> Vec<Ask> {
            every.into_iter().filter(|ask| ask.is_in(grant)).collect()
        };
        assert_eq!(allowed(&grant(Access::Drive, &[])), every);
        assert_eq!(allowed(&grant(Access::View, &[])), every[..8]);
        assert_eq!(
            allowed(&grant(Access::View, &[Stdout])),
            [
                Ask::Info,
                Ask::Stream,
                Ask::Raw(Stdout),
                Ask::Search,
                Ask::Viewers
            ]
        );
        // Cannot be made, and would still not be more.
        assert_eq!(
            allowed(&grant(Access::Drive, &[Stdout])),
            allowed(&grant(Access::View, &[Stdout]))
        );
    }

    #[test]
    fn what_reads_much_is_known_by_its_words() {
        assert!(Ask::Search.reads_much("") && Ask::Screen.reads_much(""));
        let asked = words("stdout=1&t%61il=5", Ask::Stream);
        assert!(Ask::Stream.reads_much(&asked), "{asked}");
        let raw = Ask::Raw(StreamName::Stdout);
        for word in ["tail=1", "from=1&since=5", "until=5"] {
            assert!(raw.reads_much(word), "{word}");
        }
        assert!(!raw.reads_much("from=1&head=2") && !Ask::Info.reads_much("tail=1"));
    }

    #[test]
    fn every_part_has_one_verb_and_nothing_else_is_a_part() {
        for part in [
            "stream", "stdout", "stderr", "tty", "screen", "search", "viewers",
        ] {
            assert!(
                Ask::of(&Method::GET, part).is_some() && Ask::of(&Method::POST, part).is_none()
            );
        }
        for part in ["stdin", "signal", "resize"] {
            assert!(
                Ask::of(&Method::POST, part).is_some() && Ask::of(&Method::GET, part).is_none()
            );
        }
        for part in ["kill", "export", "", "..", "stdout/..", "%2e%2e", "STDOUT"] {
            assert_eq!(Ask::of(&Method::GET, part), None, "{part}");
            assert_eq!(Ask::of(&Method::POST, part), None, "{part}");
        }
    }

    #[test]
    fn only_known_words_of_a_query_go_on_and_cannot_break_out() {
        let query = "stdout=1&path=/etc&follow=true%26x%3D1&stderr=2#&tty=3 HTTP/1.1%0d%0a";
        assert_eq!(
            words(query, Ask::Stream),
            "stdout=1&follow=true%26x%3D1&stderr=2%23&tty=3%20HTTP%2F1%2E1%0D%0A"
        );
        assert_eq!(
            words("eof=true&writer=a&seq=1", Ask::Stdin),
            "writer=a&seq=1"
        );
        assert_eq!(words("lines=3", Ask::Info), "");
    }
}
