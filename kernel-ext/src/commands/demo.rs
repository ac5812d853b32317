//! `hpcclient demo`: a login node on this machine, to try everything without a cluster.
//!
//! Invariants: at the end nothing of it is left: no process, no entry in the configuration that was
//! not there before, no folder that it made. A bridge that ran before goes on.

mod descendants;

use std::{
    ffi::OsString,
    fs::DirBuilder,
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use hpcclient_client::Bridge;
use hpcclient_protocol::{RunId, bridge::ClusterStatus};
use hpcclient_ssh::login_node::{LoginNode, LoginNodeOptions};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::{
    login::{self, Answers},
    stop,
};
use crate::{
    config::{self, ClusterConfig, Replaced},
    env_vars, report,
};

/// The name under which the login node is registered.
const NAME: &str = "demo";

/// How long the command may take to end when asked to, before it is killed.
const END: Duration = Duration::from_secs(10);

/// What a shell has for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// What the login node's commands get of this environment.
const PASSED_ON: [&str; 7] = ["HOME", "PATH", "SHELL", "USER", "LOGNAME", "LANG", "TZ"];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the login node keeps its files; without it a temporary folder.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What to run with the login node as the default cluster; without it, wait for Ctrl-C.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    descendants::adopt()?;
    let had_bridge = login::running_bridge().await?.is_some();
    let (dir, is_temporary) = match args.dir {
        Some(dir) => (std::path::absolute(dir)?, false),
        None => (
            std::env::temp_dir().join(format!("hpcclient-demo-{}", RunId::random())),
            true,
        ),
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.with_context(|| format!("cannot make {}", dir.display()))?;

    let result = with_login_node(&dir, had_bridge, &args.command).await;

    // What is still there was started by us: the agent's children, or what the command left.
    descendants::end_all().await;
    if is_temporary && let Err(error) = std::fs::remove_dir_all(&dir) {
        let what = format!("the demo's folder {} was not removed", dir.display());
        report::warn(&what, &error);
    }
    result
}

async fn with_login_node(dir: &Path, had_bridge: bool, command: &[OsString]) -> anyhow::Result<u8> {
    let user = std::env::var("USER").unwrap_or_else(|_| "demo".to_owned());
    let node_home = dir.join("node");
    let mut env: Vec<_> = PASSED_ON
        .iter()
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
        .collect();
    env.push((env_vars::NODE_HOME.into(), node_home.clone().into()));
    let options = LoginNodeOptions {
        folder: dir.join("login"),
        user: user.clone(),
        env,
    };
    let node = LoginNode::start(options)
        .await
        .context("cannot start the login node")?;

    let entry = ClusterConfig {
        host: Some("127.0.0.1".to_owned()),
        user: Some(user),
        port: Some(node.port()),
        identity_file: Some(node.identity_file().to_owned()),
        known_hosts: Some(node.known_hosts().to_owned()),
        // The user's own configuration is about other hosts.
        ssh_config: Some("/dev/null".into()),
        node_home: Some(node_home.to_string_lossy().into_owned()),
        ..ClusterConfig::default()
    };
    let file = config::file()?;
    let replaced = config::put_cluster(&file, NAME, &entry)?;
    let result = connect_and_run(command).await;
    leave(had_bridge).await;
    put_back(&file, replaced);
    node.stop().await;
    result
}

async fn connect_and_run(command: &[OsString]) -> anyhow::Result<u8> {
    let mut signals = [
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    ];
    let [interrupt, terminate, hangup] = &mut signals;
    let mut asked_to_end = std::pin::pin!(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    });
    let status = tokio::select! {
        connected = connect() => connected?,
        () = &mut asked_to_end => return Ok(INTERRUPTED),
    };
    tracing::debug!(node = status.node, "demo connected");
    let Some((program, arguments)) = command.split_first() else {
        writeln!(
            std::io::stderr(),
            "the cluster `{NAME}` is ready: try `hpcclient run -c {NAME} -- hostname`; Ctrl-C ends it"
        )?;
        asked_to_end.await;
        return Ok(0);
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env(env_vars::CLUSTER, NAME)
        .env(env_vars::BIN, std::env::current_exe()?)
        // A group of its own: Ctrl-C comes to us, and we end the group in order.
        .process_group(0)
        .stdin(std::process::Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let group = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    tokio::select! {
        status = child.wait() => {
            let status = status?;
            end_group(group, Signal::TERM);
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Ok(code.unwrap_or(1))
        }
        () = &mut asked_to_end => {
            end(&mut child, group).await;
            Ok(INTERRUPTED)
        }
    }
}

async fn connect() -> anyhow::Result<ClusterStatus> {
    let bridge = login::bridge().await?;
    // An earlier demo's connection under this name leads to a login node that is gone.
    bridge.disconnect(NAME).await?;
    Ok(login::connect(&bridge, NAME, Answers::Terminal).await?)
}

async fn end(child: &mut Child, group: Option<Pid>) {
    end_group(group, Signal::TERM);
    if timeout(END, child.wait()).await.is_err() {
        end_group(group, Signal::KILL);
        // It was killed; its status is of no interest.
        let _ = child.wait().await;
    }
    end_group(group, Signal::KILL);
}

fn end_group(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // A group without a process is what we want.
        let _ = kill_process_group(group, signal);
    }
}

/// Ends the agent with its runs, the connection, and the bridge if it is ours.
async fn leave(had_bridge: bool) {
    let left = timeout(END, async {
        let Some(bridge) = login::running_bridge().await? else {
            return anyhow::Ok(());
        };
        if let Err(error) = end_agent(&bridge).await {
            tracing::debug!(%error, "the demo's agent did not end by itself");
        }
        if had_bridge {
            return Ok(());
        }
        bridge.stop().await?;
        stop::wait_until_gone().await
    });
    match left.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => report::warn("the demo's bridge did not end by itself", &error),
        Err(late) => report::warn("the demo's bridge did not end in time", &late),
    }
}

async fn end_agent(bridge: &Bridge) -> anyhow::Result<()> {
    bridge.agent(NAME).stop(true).await?;
    Ok(bridge.disconnect(NAME).await?)
}

fn put_back(file: &Path, replaced: Replaced) {
    if let Err(error) = config::put_back(file, NAME, replaced) {
        report::print(&error);
    }
}
