//! One login, and from there to the node where the user's work is.
//!
//! Used by `actor`. A name may stand for many login nodes that share one home. Sessions and runs
//! live on the node where they began, so the connection goes back there: the same address is tried
//! first, and from another node it is reached by a hop.
//! Invariant: a node that cannot be reached does not stand in the way; the user is told.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hpcclient_protocol::{ApiError, ErrorCode, bridge::Route, status::AgentHello};
use hpcclient_ssh::{Prompter, visible};
use tokio_util::task::TaskTracker;

use super::{
    link::Link,
    nodes::KnownNode,
    others::Others,
    reach::{OtherBuild, Reached, reach},
};
use crate::bridge::{
    node::{Dial, Dialled, NoLogin, Way},
    prompt::Askers,
};

/// How long the way to another node may take.
pub(super) const HOP: Duration = Duration::from_secs(30);

/// A login with its stream to the agent.
pub(super) struct Session {
    pub(super) dialled: Dialled,
    pub(super) hello: AgentHello,
    pub(super) route: Route,
    pub(super) link: Link,
    /// The node that the login landed on, where the agent is another node's.
    pub(super) via: Option<String>,
    /// Where the agent's node can be found the next time.
    pub(super) address: Option<IpAddr>,
    pub(super) notices: Vec<String>,
    pub(super) others: Arc<Others>,
}

/// What a login is to be like.
pub(super) struct Wish {
    pub(super) cluster: String,
    /// Whether a lost connection is made again.
    pub(super) is_again: bool,
    pub(super) other_build: OtherBuild,
    /// The node of the last connection.
    pub(super) known: Option<KnownNode>,
}

/// Logs in and opens HTTP/2 to the agent.
pub(super) async fn arrive(
    dial: Arc<dyn Dial>,
    askers: Arc<Askers>,
    tasks: TaskTracker,
    wish: Wish,
) -> Result<Box<Session>, NoLogin> {
    let way = Way {
        near: wish.known.as_ref().and_then(|known| known.address),
        is_again: wish.is_again,
    };
    let prompter: Arc<dyn Prompter> = Arc::<Askers>::clone(&askers);
    let dialled = dial.dial(&wish.cluster, way, prompter).await?;
    let node = Arc::clone(&dialled.node);
    match settle(dialled, &askers, &tasks, wish).await {
        Ok(session) => Ok(Box::new(session)),
        Err(error) => {
            node.close().await;
            Err(NoLogin::reached(error))
        }
    }
}

async fn settle(
    dialled: Dialled,
    askers: &Askers,
    tasks: &TaskTracker,
    wish: Wish,
) -> Result<Session, ApiError> {
    let node = dialled.node.as_ref();
    let (hello, route, link) = reach(node, None, wish.other_build, askers, tasks).await?;
    let mut session = Session {
        address: node.address(),
        others: Arc::new(Others::new(Arc::clone(&dialled.node), tasks)),
        dialled,
        hello,
        route,
        link,
        via: None,
        notices: vec![],
    };
    // A name that leads to another account or host by now has nothing to do with what was.
    let known = wish
        .known
        .filter(|known| known.destination == session.dialled.destination);
    let Some(known) = known else {
        return Ok(session);
    };
    if known.host != session.hello.host {
        askers.progress(&format!("going on to {}", visible(&known.host)));
        match go_on(&session, &known.host, wish.other_build, askers, tasks).await {
            Ok((hello, route, link)) => {
                let landed = std::mem::replace(&mut session.hello, hello).host;
                let link = std::mem::replace(&mut session.link, link);
                session.others.keep(&landed, link);
                session.route = route;
                session.address = known.address;
                session.via = Some(landed);
            }
            Err(error) => {
                let notice = cannot_go_back(&known.host, &session.hello.host, &error);
                tracing::warn!(notice);
                session.notices.push(notice);
                return Ok(session);
            }
        }
    }
    if is_other_boot(&known, &session.hello) {
        let host = visible(&known.host);
        let notice = format!("{host} has started anew; what ran there before has ended");
        session.notices.push(notice);
    }
    Ok(session)
}

async fn go_on(
    session: &Session,
    host: &str,
    other_build: OtherBuild,
    askers: &Askers,
    tasks: &TaskTracker,
) -> Result<Reached, ApiError> {
    let node = session.dialled.node.as_ref();
    hop(reach(node, Some(host), other_build, askers, tasks), host).await
}

/// Waits for the way to another node, and checks who answers there.
pub(super) async fn hop(
    reaching: impl Future<Output = Result<Reached, ApiError>>,
    host: &str,
) -> Result<Reached, ApiError> {
    let reached = tokio::time::timeout(HOP, reaching).await;
    let reached = reached.unwrap_or_else(|_| {
        let message = format!("no answer within {} s", HOP.as_secs());
        Err(ApiError::new(ErrorCode::Unavailable, message))
    })?;
    if reached.0.host == host {
        Ok(reached)
    } else {
        let message = format!("{} answers in its place", visible(&reached.0.host));
        Err(ApiError::new(ErrorCode::AgentFailed, message))
    }
}

fn cannot_go_back(known: &str, landed: &str, error: &ApiError) -> String {
    format!(
        "was on {}, which cannot be reached from {} ({}); sessions there go on",
        visible(known),
        visible(landed),
        visible(&error.message)
    )
}

fn is_other_boot(known: &KnownNode, hello: &AgentHello) -> bool {
    matches!((&known.boot_id, &hello.boot_id), (Some(then), Some(now)) if then != now)
}
