//! `POST /v1/clusters/{name}/renew`: runs the user's own command that renews their certificate.
//!
//! Called by `control`. The command may open a browser and wait for the user there, as
//! `step ssh login` does; what it prints is shown as it comes.
//! Invariants: it runs on request only, without a shell and without a stdin; it ends with the one
//! who asked, and after [`DEADLINE`]; then whatever it started ends too.

use std::{path::PathBuf, process::Stdio, time::Duration};

use hpcclient_protocol::{ApiError, ErrorCode, bridge::ConnectEvent};
use hpcclient_ssh::visible;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use super::{cluster::Cluster, server::Shared};
use crate::{config::Config, env_vars};

/// How long the command may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// How long the rest of its output is waited for: a browser that it started may hold the pipe.
const REST: Duration = Duration::from_millis(500);

/// The longest line that is shown at once, in bytes.
const LINE: usize = 4 << 10;

/// Runs a cluster's `renew_command`, then connects the cluster if it is not connected; the asker
/// hears how it goes.
pub(crate) fn start(
    config: &Config,
    cluster: Cluster,
    asker: mpsc::Sender<ConnectEvent>,
    shared: &Shared,
    ssh_agent: Option<PathBuf>,
) -> Result<(), ApiError> {
    let name = cluster.name();
    let command = config.cluster(name);
    let command = command.and_then(|known| known.renew_command.clone());
    let (program, arguments) = command
        .as_deref()
        .and_then(|words| words.split_first())
        .ok_or_else(|| nothing_to_run(name))?;
    let Ok(only) = cluster.renewing.clone().try_acquire_owned() else {
        let message = "the certificate is being renewed already";
        return Err(ApiError::new(ErrorCode::Conflict, message)
            .hint("finish it where it was started, or end it there"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(ssh_agent.map(|socket| (env_vars::SSH_AUTH_SOCK, socket)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let shown = visible(program);
    let mut child = command.spawn().map_err(|error| {
        ApiError::new(ErrorCode::BadRequest, format!("cannot run `{shown}`"))
            .caused_by(&error)
            .hint(format!("check `renew_command` of {name} in config.toml"))
    })?;
    tracing::info!(cluster = name, program, "renewing the certificate");
    let cancel = shared.cancel.clone();
    shared.tasks.spawn(async move {
        let renewing = async {
            tokio::select! {
                ended = watch(&mut child, &shown, &asker) => Some(ended),
                () = asker.closed() => None,
            }
        };
        let ended = cancel.run_until_cancelled(renewing).await.flatten();
        // It has ended by itself, and a browser that it started stays; or all of it ends now.
        if let Some(group) = group_of(&child) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _ = child.kill().await;
        drop(only);
        match ended {
            None => {}
            Some(Ok(())) => {
                cluster.renewed().await;
                if let Err(error) = cluster.connect(asker.clone()).await {
                    let _ = asker.send(ConnectEvent::Failed { error }).await;
                }
            }
            Some(Err(error)) => {
                // One who left does not need to hear it.
                let _ = asker.send(ConnectEvent::Failed { error }).await;
            }
        }
    });
    Ok(())
}

/// Returns the process group of a command that has not ended.
fn group_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

/// Shows what the command prints and returns how it ended.
async fn watch(
    child: &mut Child,
    shown: &str,
    asker: &mpsc::Sender<ConnectEvent>,
) -> Result<(), ApiError> {
    let failed = |what: String| ApiError::new(ErrorCode::AuthFailed, what);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut output = std::pin::pin!(async { tokio::join!(show(out, asker), show(err, asker)) });
    let ending = async {
        tokio::select! {
            status = child.wait() => {
                let _ = timeout(REST, &mut output).await;
                status
            }
            _ = &mut output => child.wait().await,
        }
    };
    let Ok(status) = timeout(DEADLINE, ending).await else {
        let limit = DEADLINE.as_secs() / 60;
        return Err(failed(format!("`{shown}` did not end within {limit} min")));
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!(
            "`{shown}` did not renew the certificate ({status})"
        ))),
        Err(error) => Err(failed(format!("`{shown}` was lost")).caused_by(&error)),
    }
}

/// Shows each line of a pipe as progress.
async fn show(pipe: Option<impl AsyncRead + Unpin>, asker: &mpsc::Sender<ConnectEvent>) {
    let Some(mut pipe) = pipe else { return };
    let (mut line, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        let count = pipe.read(&mut buffer).await.unwrap_or(0);
        for byte in buffer.iter().take(count) {
            if *byte != b'\n' {
                line.push(*byte);
            }
            if *byte == b'\n' || line.len() >= LINE {
                tell(&mut line, asker).await;
            }
        }
        if count == 0 {
            tell(&mut line, asker).await;
            return;
        }
    }
}

async fn tell(line: &mut Vec<u8>, asker: &mpsc::Sender<ConnectEvent>) {
    let message = visible(String::from_utf8_lossy(line).trim_end());
    line.clear();
    if !message.is_empty() {
        // Whoever left ends the command as well.
        let _ = asker.send(ConnectEvent::Progress { message }).await;
    }
}

fn nothing_to_run(name: &str) -> ApiError {
    let shown = visible(name);
    let message = format!("no command is known that renews the certificate for {shown}");
    ApiError::new(ErrorCode::BadRequest, message).hint(format!(
        "renew it as your site says, or set `renew_command` of {shown} in config.toml"
    ))
}
