//! A byte stream that leads to a server, and what it depends on.
//!
//! `builtin::way` makes one for each session; `session` speaks SSH over it.

use std::net::IpAddr;

use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use crate::connection::AgentStream;

/// A fresh stream to a server.
pub(crate) struct Reached {
    pub(crate) stream: AgentStream,
    /// The server's address, if nothing lies between.
    pub(crate) address: Option<IpAddr>,
    pub(crate) upstream: Vec<Upstream>,
    /// Ends what carries the stream when the stream is dropped.
    pub(crate) carrier: Option<DropGuard>,
}

/// A host or a program that the stream goes through.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// What to call it.
    pub(crate) name: String,
    /// Tells why it ended, once it did; nothing is to be said if that was our doing.
    pub(crate) closed: watch::Receiver<Option<String>>,
}

/// The reason for the end of a session: what it says itself, or what became of the way to it.
pub(crate) fn blame(upstream: &[Upstream], reason: String) -> String {
    let lost = upstream.iter().find_map(|part| {
        let why = part.closed.borrow().clone().filter(|why| !why.is_empty())?;
        Some(format!("{}: {why}", part.name))
    });
    lost.unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_part_of_the_way_that_was_lost_is_to_blame() {
        let part = |name: &str, closed: Option<&str>| Upstream {
            name: name.to_owned(),
            closed: watch::channel(closed.map(str::to_owned)).1,
        };
        let blamed = |parts: &[Upstream]| blame(parts, "early end".to_owned());
        assert_eq!(blamed(&[]), "early end");
        assert_eq!(blamed(&[part("a", None), part("b", None)]), "early end");
        assert_eq!(
            blamed(&[
                part("a", Some("")),
                part("b", Some("x")),
                part("c", Some("y"))
            ]),
            "b: x"
        );
    }
}
