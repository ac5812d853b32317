//! `hpcclient doctor`: checks what a connection needs, step by step, and says what to do.
//!
//! It logs in nowhere and starts nothing, so it can be run at any time.

use std::{io::Write as _, time::Duration};

use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::{Destination, visible};
use serde::Serialize;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use super::{ClusterArgument, login};
use crate::{
    bridge::agent_binary,
    config::{self, Config},
    env_vars,
};

/// How long the server may take to say that it speaks SSH.
const BANNER: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgument,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// What one check found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Ok,
    Note,
    Failed,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let findings = examine(&args.cluster.cluster).await;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &findings)?;
        writeln!(out)?;
    } else {
        for Finding {
            check,
            state,
            detail,
        } in &findings
        {
            let word = match state {
                State::Ok => "ok",
                State::Note => "note",
                State::Failed => "FAILED",
            };
            writeln!(
                out,
                "{word:<7} {check:<12} {}",
                detail.replace('\n', "\n                     ")
            )?;
        }
    }
    Ok(u8::from(
        findings
            .iter()
            .any(|finding| finding.state == State::Failed),
    ))
}

async fn examine(asked: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |check, state, detail: String| {
        findings.push(Finding {
            check,
            state,
            detail: visible(&detail),
        });
    };
    let failure = |error: &ApiError| (State::Failed, error.to_string());

    let config = match Config::load() {
        Ok(config) => {
            let file = config::file()
                .map(|file| file.display().to_string())
                .unwrap_or_default();
            let count = config.clusters.len();
            add("config", State::Ok, format!("{file}: {count} clusters"));
            config
        }
        Err(error) => {
            let (state, detail) = failure(&error);
            add("config", state, detail);
            Config::default()
        }
    };
    match ssh_binary() {
        Some(path) => add("ssh", State::Ok, path),
        None => {
            let detail = "no `ssh` in PATH: ~/.ssh/config is read by a small parser";
            add("ssh", State::Note, detail.to_owned());
        }
    }
    match agent_binary::find() {
        Ok(agent) => add("agent", State::Ok, agent.path.display().to_string()),
        Err(error) => {
            let (state, detail) = failure(&error);
            add("agent", state, detail);
        }
    }
    match config.cluster_name(asked) {
        Err(error) => {
            let (state, detail) = failure(&error);
            add("cluster", state, detail);
        }
        Ok(name) => match Destination::resolve(&config.destination(&name)).await {
            Err(error) => add("cluster", State::Failed, error.to_string()),
            Ok(found) => {
                let shown = format!("{name}: {}@{}:{}", found.user, found.hostname, found.port);
                add("cluster", State::Ok, shown);
                for note in &found.notes {
                    add("ssh config", State::Note, note.clone());
                }
                match reach(&found).await {
                    Ok(banner) => add("network", State::Ok, banner),
                    Err(error) => {
                        let (state, detail) = failure(&error);
                        add("network", state, detail);
                    }
                }
            }
        },
    }
    match bridge_health().await {
        Ok(detail) => add("bridge", State::Ok, detail),
        Err(error) => {
            let (state, detail) = failure(&error);
            add("bridge", state, detail);
        }
    }
    findings
}

fn ssh_binary() -> Option<String> {
    let path = std::env::var_os(env_vars::PATH)?;
    std::env::split_paths(&path)
        .map(|dir| dir.join("ssh"))
        .find(|program| program.is_file())
        .map(|program| program.display().to_string())
}

/// Connects and reads the first bytes; nothing is sent.
async fn reach(destination: &Destination) -> Result<String, ApiError> {
    let Destination {
        hostname,
        port,
        connect_timeout,
        ..
    } = destination;
    let failed = |error: &(dyn std::error::Error + 'static)| {
        ApiError::new(
            ErrorCode::ConnectFailed,
            format!("cannot reach {hostname} port {port}"),
        )
        .caused_by(error)
        .hint(format!(
            "the site may require VPN; try `ssh {hostname} true`"
        ))
    };
    let connecting = TcpStream::connect((hostname.as_str(), *port));
    let mut stream = match timeout(*connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(&error))?,
        Err(late) => return Err(failed(&late)),
    };
    let mut start = [0; 64];
    let count = match timeout(BANNER, stream.read(&mut start)).await {
        Ok(read) => read.map_err(|error| failed(&error))?,
        Err(late) => return Err(failed(&late)),
    };
    let text = String::from_utf8_lossy(start.get(..count).unwrap_or_default());
    let banner = text.lines().next().unwrap_or_default();
    if banner.starts_with("SSH-") {
        Ok(format!("{hostname} port {port} answers {banner}"))
    } else {
        let message = format!("{hostname} port {port} does not speak SSH");
        Err(ApiError::new(ErrorCode::ConnectFailed, message))
    }
}

async fn bridge_health() -> Result<String, ApiError> {
    let Some(bridge) = login::running_bridge().await? else {
        return Ok("none runs; the next command starts one".to_owned());
    };
    let status = bridge.status().await?;
    let mut detail = format!("{} runs as pid {}", status.version, status.pid);
    for cluster in &status.clusters {
        let word = super::status::state_word(cluster.state);
        detail.push_str(&format!("; {} {word}", cluster.name));
    }
    Ok(detail)
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    async fn banner_of(text: &'static [u8]) -> Result<String, ApiError> {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let options = hpcclient_ssh::DestinationOptions {
            destination: format!("me@127.0.0.1:{port}"),
            ssh_config: Some("/dev/null".into()),
            ..Default::default()
        };
        let destination = Destination::resolve(&options).await.unwrap();
        let greet = async {
            let (mut stream, _) = server.accept().await.unwrap();
            stream.write_all(text).await.unwrap();
        };
        tokio::join!(reach(&destination), greet).0
    }

    #[tokio::test]
    async fn a_server_that_does_not_speak_ssh_is_told_apart() {
        let good = banner_of(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        assert!(good.ends_with("SSH-2.0-OpenSSH_9.2"), "{good}");
        let bad = banner_of(b"HTTP/1.1 400 no\r\n").await.unwrap_err();
        assert_eq!(bad.code, ErrorCode::ConnectFailed);
    }
}
