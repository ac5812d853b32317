//! The harness of the end-to-end tests: a user's machine and a login node, both real, in one folder under `/tmp`.
//!
//! A [`Site`] is what most tests start from: a real sshd on loopback, a configuration that names it, and the built
//! `hpcclient` and `hpcagent`. Everything it starts dies with it.
//!
//! Invariants: no fixed ports, no sleeps but in `wait`, nothing of the caller's environment or home is used, no
//! process outlives its [`Env`].
//! Not here: the tests (`e2e/`), what installs the tools they need (`cargo xtask test`).

mod account;
mod agent;
mod browser;
mod env;
mod fault;
mod http;
mod jupyter;
mod nodes;
mod numbered;
mod otp;
mod people;
mod process;
mod proxy;
mod python;
mod site;
mod sshd;
mod terminal;
mod wait;

pub use account::Account;
pub use agent::{resident_bytes, voluntary_switches};
pub use browser::run_spec;
pub use env::{Env, repository};
pub use fault::{FaultProxy, Limits};
pub use http::{Address, Request, Response};
pub use jupyter::Jupyter;
pub use nodes::{NODES, Nodes};
pub use numbered::check_numbered_lines;
pub use otp::OtpSite;
pub use people::{Machine, People};
pub use process::{Child, Output, processes_under, run};
pub use proxy::DelayProxy;
pub use python::{Python, python};
pub use site::{CLUSTER, Site};
pub use sshd::{Setup, Sshd, user_name};
pub use terminal::Terminal;
pub use wait::{pause, wait_for};
