//! `cargo xtask gen`: rewrites what is generated and checked in. The tests fail when it is not what it would be.

use anyhow::Result;

use crate::{
    install::{npm, npm_run},
    run::{cargo, run, step},
};

/// Rewrites `docs/openapi.json` from the agent, then the web UI's types from that.
pub(crate) fn generate() -> Result<()> {
    step("docs/openapi.json", || {
        let mut test = cargo(&["test", "--quiet", "-p", "hpcagent", "openapi"]);
        run(test.env("UPDATE_GENERATED", "1"))
    })?;
    npm("webui")?;
    step("the web UI's types", || npm_run("webui", "gen"))
}
