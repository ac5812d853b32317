//! The end-to-end tests: one binary, a module per subject, everything real.
//!
//! `cargo xtask test` builds what they need and runs them; `cargo nextest run --profile e2e` runs them alone. Modules
//! named `as_root` mount file systems or become another user: they run where the tests run as root.

mod channels;
mod commands;
mod demo;
mod doctor;
mod errors;
mod idle;
mod isolation;
mod kerberos;
mod login;
mod login_page;
mod loss;
mod nodes;
mod notebook;
mod openssh;
mod shell;
mod storage;
