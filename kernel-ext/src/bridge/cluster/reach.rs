//! From a login to an agent of the right release: the last step of each connection.
//!
//! Used by `actor`. Invariants: an older agent is replaced and its runs go on in their shims; a
//! newer one is never replaced; another build of our release is replaced only at a login that
//! somebody asked for, so that two machines with different builds cannot take turns for ever.

use hpcclient_protocol::{ApiError, VERSION, bridge::Route, status::AgentHello};
use hpcclient_ssh::Prompter;
use tokio_util::task::TaskTracker;

use super::link::Link;
use crate::bridge::node::{AgentEnd, Node};

/// Who the agent is, the way to it, and the connection.
pub(super) type Reached = (AgentHello, Route, Link);

/// What happens to an agent of our release that is another build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherBuild {
    /// It makes way for ours, as after a rebuild on this machine.
    Replace,
    /// It stays; it may be the choice of another machine.
    Keep,
}

/// Opens HTTP/2 to the agent, of another node where one is named; an older agent makes way for ours
/// and its runs go on.
pub(super) async fn reach(
    node: &dyn Node,
    other: Option<&str>,
    other_build: OtherBuild,
    prompter: &dyn Prompter,
    tasks: &TaskTracker,
) -> Result<Reached, ApiError> {
    let AgentEnd {
        hello,
        our_build,
        stream,
        route,
    } = end(node, other, prompter).await?;
    let link = Link::open(stream, tasks).await?;
    if is_older(&hello.version, VERSION) {
        let theirs = hpcclient_ssh::visible(&hello.version);
        prompter.progress(&format!("the agent is {theirs}: starting {VERSION}"));
    } else if other_build == OtherBuild::Replace
        && hello.version == VERSION
        && hello.build != our_build
    {
        prompter.progress(&format!(
            "the agent is another build of {VERSION}: starting ours"
        ));
    } else {
        return Ok((hello, route, link));
    }
    link.stop_agent().await?;
    let AgentEnd {
        hello,
        stream,
        route,
        ..
    } = end(node, other, prompter).await?;
    Ok((hello, route, Link::open(stream, tasks).await?))
}

async fn end(
    node: &dyn Node,
    other: Option<&str>,
    prompter: &dyn Prompter,
) -> Result<AgentEnd, ApiError> {
    match other {
        Some(host) => node.reach_node(host).await,
        None => node.reach_agent(prompter).await,
    }
}

/// Returns whether one release is older than another; what is not a release is not older.
fn is_older(one: &str, other: &str) -> bool {
    fn parts(version: &str) -> Option<[u32; 3]> {
        let release = version.split(['-', '+']).next()?;
        let mut numbers = release.splitn(3, '.').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some([next()?, next()?, next()?])
    }
    matches!((parts(one), parts(other)), (Some(one), Some(other)) if one < other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_older_release_makes_way() {
        for (theirs, ours, older) in [
            ("0.1.0", "0.2.0", true),
            ("0.9.9", "0.10.0", true),
            ("0.2.0", "0.2.0", false),
            ("1.0.0", "0.9.0", false),
            ("0.1.0-dev", "0.1.0", false),
            ("strange", "0.1.0", false),
        ] {
            assert_eq!(is_older(theirs, ours), older, "{theirs} {ours}");
        }
    }
}
