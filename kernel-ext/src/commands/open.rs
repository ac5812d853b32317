//! `hpcclient open`: a cluster's page in the browser; the login page while it is not connected.
//!
//! Invariant: the page's code is in no argument list, where every user could read it: the browser
//! gets a private file that leads there.

use std::{
    fs::OpenOptions,
    io::{IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hpcclient_protocol::{ErrorCode, bridge::PageAddress};

use super::{ClusterArgument, login};
use crate::{bridge::place::Place, env_vars};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgument,
    /// Print the address and open nothing.
    #[arg(long)]
    print: bool,
    /// Print the address as JSON and open nothing.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = &args.cluster.cluster;
    let bridge = login::bridge().await?;
    let page = match bridge.page(cluster).await {
        Err(error) if needs_login(error.code()) => bridge.login_page(cluster).await?,
        other => other?,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &page)?;
        writeln!(out)?;
        return Ok(0);
    }
    let browser = browser().filter(|_| !args.print && std::io::stdout().is_terminal());
    match browser {
        Some(browser) => {
            show(&browser, &page)?;
            // A browser in a sandbox of its own (snap, flatpak) may not be allowed to read the file.
            let mut err = std::io::stderr().lock();
            writeln!(err, "if no page opens, go to {}", page.url)?;
        }
        None => writeln!(out, "{}", page.url)?,
    }
    Ok(0)
}

/// Whether the login page knows what to do: it connects, shows how far that is, or asks which
/// cluster is meant.
const fn needs_login(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotConnected | ErrorCode::Unavailable | ErrorCode::BadRequest
    )
}

/// Returns `xdg-open` if there is a display to open something on.
fn browser() -> Option<PathBuf> {
    env_vars::path(env_vars::DISPLAY).or_else(|| env_vars::path(env_vars::WAYLAND_DISPLAY))?;
    let path = std::env::var_os(env_vars::PATH)?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("xdg-open"))
        .find(|program| program.is_file())
}

fn show(browser: &Path, page: &PageAddress) -> anyhow::Result<()> {
    let file = Place::open()?.file("open.html");
    let mut options = OpenOptions::new();
    let mut html = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)?;
    // The URL is the bridge's own: digits, letters, `-` and `_`.
    writeln!(
        html,
        "<!doctype html><meta charset=utf-8><meta name=referrer content=no-referrer>\
         <meta http-equiv=refresh content=\"0;url={}\">",
        page.url
    )?;
    Command::new(browser)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}
