//! The end-to-end tests: one binary, a module per subject, everything real.
//!
//! `cargo xtask test` builds what they need and runs them; `cargo nextest run --profile e2e` runs them alone. Modules
//! named `as_root` mount file systems or become another user: they run where the tests run as root.

mod bridge_kills;
mod certificates;
mod channels;
mod commands;
mod consoles;
mod cuts;
mod demo;
mod doctor;
mod errors;
mod far_node;
mod gui;
mod idle;
mod isolation;
mod jumps;
mod kerberos;
mod login;
mod login_nodes;
mod login_page;
mod loss;
mod network;
mod notebook;
mod openssh;
mod otp;
mod policies;
mod shared_consoles;
mod sharing;
mod shell;
mod ssh_agent;
mod storage;
mod together;
mod upgrade;
