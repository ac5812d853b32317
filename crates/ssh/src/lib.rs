//! SSH: resolving a destination, verified host keys, login, and the stream to the agent with the agent's bootstrap.
//!
//! The bridge and the doctor are the callers. The bridge resolves a [`Destination`], opens a [`Connection`], has the agent installed and
//! started with [`Connection::ensure_agent`] and runs HTTP/2 over [`Connection::open_agent_stream`].
//!
//! Invariants: this is the only crate that knows the SSH library; nothing of it appears in a public signature. No
//! wait is without a deadline, except for a person's answer.
//!
//! Not here: HTTP, retries, the configuration of clusters, and anything about runs.

mod agent_binary;
mod algorithms;
pub mod askpass;
mod bootstrap;
mod builtin;
mod channel;
mod connection;
mod destination;
mod error;
mod exec;
mod facts;
mod known_hosts;
mod login;
pub mod login_node;
mod openssh;
mod prompt;
mod reached;
mod session;
mod tcp;
mod watched;

pub use agent_binary::AgentBinary;
pub use connection::{
    AgentLine, AgentStream, ByteStream, Connection, NodeOptions, NodeStream, Route, Workshop,
};
pub use destination::{Destination, DestinationOptions, StrictHostKeyChecking, TransportChoice};
pub use error::{IdleCertificate, SshError};
pub use facts::{CertificateFacts, LoginFacts};
pub use prompt::{NoPrompts, Prompt, Prompter, Question, visible};
pub use tcp::connect as reach;
