//! One command of a client: `/bin/sh -c`, its three streams, its exit status.
//!
//! Called by `connection` for each `exec`. Invariants: the status is sent after the last byte of
//! both streams; a command whose client is gone gets SIGHUP, then SIGKILL, with its whole process
//! group, and is waited for.

use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use russh::{
    Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig,
    server::{Handle, Msg},
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use super::connection::Login;

/// How long a command whose client left has between SIGHUP and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);
/// One read of a pipe.
const PIECE: usize = 64 * 1024;
/// The number of the stderr stream in SSH.
const STDERR: u32 = 1;
/// The status of a command that could not be started, as shells have it.
const NOT_STARTED: u32 = 126;

/// Runs a command until it ended and its streams are drained, or `cancel` fires.
pub(super) async fn run(
    channel: Channel<Msg>,
    handle: Handle,
    command: Vec<u8>,
    login: Arc<Login>,
    cancel: CancellationToken,
) {
    let id = channel.id();
    let (from_client, to_client) = channel.split();
    let mut child = match spawn(&command, &login) {
        Ok(child) => child,
        Err(error) => {
            let message = format!("login node: cannot start /bin/sh: {error}\n");
            drop(to_client.extended_data_bytes(STDERR, message).await);
            drop(to_client.exit_status(NOT_STARTED).await);
            drop(to_client.close().await);
            return;
        }
    };
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let output = async {
        tokio::join!(
            pump(stdout, &to_client, None),
            pump(stderr, &to_client, Some(STDERR))
        );
        child.wait().await
    };
    let work = async {
        tokio::select! {
            status = output => Some(status),
            () = feed(from_client, stdin, group) => None,
        }
    };
    if let Some(Some(status)) = cancel.run_until_cancelled(work).await {
        if let Ok(status) = status {
            drop(to_client.eof().await);
            report(status, &handle, &to_client, id).await;
        }
        drop(to_client.close().await);
    } else {
        end(&mut child, group).await;
        drop(to_client.close().await);
    }
}

fn spawn(command: &[u8], login: &Login) -> std::io::Result<Child> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(OsStr::from_bytes(command))
        .env_clear()
        .envs(login.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let home = login.env.iter().find(|(name, _)| name == "HOME");
    if let Some((_, home)) = home {
        shell.current_dir(home);
    }
    shell.spawn()
}

/// Sends one stream of the command until its end.
async fn pump(
    from: Option<impl AsyncRead + Unpin>,
    to: &ChannelWriteHalf<Msg>,
    number: Option<u32>,
) {
    let Some(mut from) = from else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let bytes = buffer.split().freeze();
        let sent = match number {
            None => to.data_bytes(bytes).await,
            Some(number) => to.extended_data_bytes(number, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Passes the client's bytes and signals on; returns when the client closed the channel.
async fn feed(mut from: ChannelReadHalf, mut stdin: Option<ChildStdin>, group: Option<Pid>) {
    while let Some(message) = from.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                let written = match &mut stdin {
                    Some(stdin) => stdin.write_all(&data).await,
                    None => Ok(()),
                };
                if written.is_err() {
                    // It reads no more; what else comes is dropped.
                    stdin = None;
                }
            }
            ChannelMsg::Eof => stdin = None,
            ChannelMsg::Close => return,
            ChannelMsg::Signal { signal } => {
                if let (Some(signal), Some(group)) = (known_signal(&signal), group) {
                    let _ = kill_process_group(group, signal);
                }
            }
            _ => {}
        }
    }
}

const fn known_signal(signal: &Sig) -> Option<Signal> {
    Some(match signal {
        Sig::HUP => Signal::HUP,
        Sig::INT => Signal::INT,
        Sig::QUIT => Signal::QUIT,
        Sig::TERM => Signal::TERM,
        Sig::KILL => Signal::KILL,
        Sig::USR1 => Signal::USR1,
        _ => return None,
    })
}

/// Tells the client how the command ended.
async fn report(
    status: ExitStatus,
    handle: &Handle,
    to: &ChannelWriteHalf<Msg>,
    id: russh::ChannelId,
) {
    if let Some(code) = status.code() {
        drop(to.exit_status(code.cast_unsigned()).await);
    } else if let Some(number) = status.signal() {
        let name = Sig::Custom(signal_name(number));
        let core = status.core_dumped();
        let sent = handle.exit_signal_request(id, name, core, String::new(), String::new());
        let _ = sent.await;
    }
}

/// Returns a signal's name without `SIG`; one without a portable name is named by its number.
fn signal_name(number: i32) -> String {
    let name = match Signal::from_named_raw(number) {
        Some(Signal::HUP) => "HUP",
        Some(Signal::INT) => "INT",
        Some(Signal::QUIT) => "QUIT",
        Some(Signal::ILL) => "ILL",
        Some(Signal::ABORT) => "ABRT",
        Some(Signal::FPE) => "FPE",
        Some(Signal::KILL) => "KILL",
        Some(Signal::USR1) => "USR1",
        Some(Signal::SEGV) => "SEGV",
        Some(Signal::USR2) => "USR2",
        Some(Signal::PIPE) => "PIPE",
        Some(Signal::ALARM) => "ALRM",
        Some(Signal::TERM) => "TERM",
        _ => return number.to_string(),
    };
    name.to_owned()
}

/// Ends a command and its process group, and waits until it is gone.
async fn end(child: &mut Child, group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::HUP);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
    drop(child.wait().await);
}
