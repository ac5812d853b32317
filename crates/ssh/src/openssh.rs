//! A login by the system's `ssh` program: one process, whose standard input and output become the stream to the agent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::connection::{AgentLine, AgentStream, NodeOptions, NodeStream, Workshop};
use crate::{AgentBinary, Destination, LoginFacts, Prompter, SshError};

/// One running `ssh`.
#[derive(Clone, Debug)]
pub(crate) struct Openssh {
    closed: watch::Receiver<Option<String>>,
}

impl Openssh {
    pub(crate) async fn open(
        _destination: &Destination,
        _workshop: &Workshop,
        _prompter: Arc<dyn Prompter>,
    ) -> Result<Self, SshError> {
        Err(unfinished())
    }

    pub(crate) async fn ensure_agent(
        &self,
        _agent: &AgentBinary,
        _node: &NodeOptions,
        _prompter: &dyn Prompter,
    ) -> Result<AgentLine, SshError> {
        Err(unfinished())
    }

    pub(crate) async fn open_agent_stream(
        &self,
        _agent: &AgentLine,
    ) -> Result<AgentStream, SshError> {
        Err(unfinished())
    }

    pub(crate) async fn open_node_stream(
        &self,
        _node: &str,
        _agent: &AgentLine,
    ) -> Result<NodeStream, SshError> {
        Err(unfinished())
    }

    pub(crate) fn facts(&self) -> LoginFacts {
        LoginFacts::default()
    }

    pub(crate) fn closed(&self) -> watch::Receiver<Option<String>> {
        self.closed.clone()
    }

    pub(crate) async fn alive(&self, _deadline: Duration) -> bool {
        false
    }

    pub(crate) async fn close(&self) {}
}

fn unfinished() -> SshError {
    SshError::Protocol {
        reason: "the ssh program cannot be used yet".to_owned(),
    }
}
