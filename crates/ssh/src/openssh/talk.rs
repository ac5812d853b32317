//! The conversation with `/bin/sh` at the other end of `ssh`: one command after the other, and the end of each.
//!
//! A command goes over as `<nonce> <length>` and as many bytes of shell text, and is evaluated in a subshell whose
//! standard input is what follows; its end is a [`Finder`]'s mark. Lines in between that do not begin with the nonce are
//! what a command was sent and did not read; the shell passes them over.
//!
//! Invariants: the nonce is in no argument and no environment, so nothing that a command writes can look like its end; a
//! conversation that was left in the middle of a command is not taken up again.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};

use super::mark::Finder;
use crate::SshError;
use crate::bootstrap::Task;
use crate::exec::{Output, keep};

/// What the user's login shell is told to run: POSIX shells, csh and fish all hand the text between the quotes on as it
/// is. `dd` reads byte by byte, because what follows the text is the command's. The mark leaves in one piece: `b` is the
/// line feed in front of it.
pub(super) const REMOTE_COMMAND: &str = "/bin/sh -c 'echo; echo @hpcclient ready; IFS= read -r n; b=$(echo; echo x); b=${b%x}; \
    while IFS= read -r l; do case $l in \"$n \"*) t=$(dd bs=1 count=\"${l#* }\" 2>/dev/null); \
    (eval \"$t\") && c=0 || c=$?; echo \"$b@hpcclient $n=$c\";; esac; done'";

const READY: &[u8] = b"\n@hpcclient ready\n";
/// How much a profile may print before that.
const MOST_NOISE: usize = 1 << 20;
/// How much is handed over or taken at once.
pub(super) const CHUNK: usize = 64 << 10;
/// How long a piece of input may wait for the node.
const STALLED: Duration = Duration::from_secs(60);
/// How long a command that nobody wants any more may take to end by itself.
const LEFT: Duration = Duration::from_secs(5);

/// One conversation.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    /// What was read from the stream and not used yet.
    pub(super) unread: BytesMut,
    nonce: String,
    pub(super) turn: Turn,
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Turn {
    /// Ours.
    Idle,
    /// A command's, which is in somebody's hands.
    Busy,
    /// A stream's, whose end was not seen yet.
    Streaming(Finder),
}

impl Talk {
    /// Waits until the shell is there, and begins.
    pub(super) async fn begin(
        mut stdin: ChildStdin,
        mut stdout: ChildStdout,
    ) -> Result<Self, Noise> {
        let mut read = BytesMut::with_capacity(CHUNK);
        let after = loop {
            let start = read.len();
            let count = stdout.read_buf(&mut read).await.unwrap_or(0);
            // A mark may begin in what was read before; a profile's last line may lack its end.
            let from = start.saturating_sub(READY.len());
            let fresh = read.get(from..).unwrap_or_default();
            if let Some(at) = fresh.windows(READY.len()).position(|part| part == READY) {
                break from + at + READY.len();
            }
            if count == 0 || read.len() > MOST_NOISE {
                return Err(Noise(read.to_vec()));
            }
        };
        let unread = read.split_off(after);
        let nonce = nonce().map_err(|_| Noise(vec![]))?;
        let written = stdin.write_all(format!("{nonce}\n").as_bytes()).await;
        written.map_err(|_| Noise(vec![]))?;
        Ok(Self {
            stdin,
            stdout,
            unread,
            nonce,
            turn: Turn::Idle,
        })
    }

    /// Runs a task to its end.
    pub(super) async fn run(&mut self, task: &Task<'_>) -> Result<Output, SshError> {
        self.settle().await?;
        self.turn = Turn::Busy;
        let exchange = self.exchange(task);
        let output = tokio::time::timeout(task.deadline, exchange).await;
        let output = output.unwrap_or(Err(SshError::Timeout {
            step: task.step,
            after: task.deadline,
        }))?;
        self.turn = Turn::Idle;
        Ok(output)
    }

    /// Starts a command whose standard input and output are a stream until it ends.
    pub(super) async fn start(&mut self, script: &str) -> Result<Finder, SshError> {
        self.settle().await?;
        self.turn = Turn::Busy;
        let order = self.order(script);
        self.stdin.write_all(&order).await.map_err(|_| lost())?;
        Ok(Finder::new(&self.nonce))
    }

    /// Reads more; what comes is appended to `unread`.
    pub(super) async fn more(&mut self) -> Result<(), SshError> {
        self.unread.reserve(CHUNK);
        match self.stdout.read_buf(&mut self.unread).await {
            Ok(0) | Err(_) => Err(lost()),
            Ok(_) => Ok(()),
        }
    }

    /// Makes it our turn: what is left of a stream whose agent ended is passed over.
    async fn settle(&mut self) -> Result<(), SshError> {
        match std::mem::replace(&mut self.turn, Turn::Busy) {
            Turn::Idle => {}
            Turn::Busy => {
                return Err(SshError::Closed {
                    reason: "a command on the node was abandoned, and its ssh with it".to_owned(),
                });
            }
            Turn::Streaming(mut finder) => {
                let passing = tokio::time::timeout(LEFT, self.pass_over(&mut finder)).await;
                passing.unwrap_or_else(|_| {
                    Err(SshError::Closed {
                        reason: "the last stream to the agent does not end, and its ssh with it"
                            .to_owned(),
                    })
                })?;
            }
        }
        self.turn = Turn::Idle;
        Ok(())
    }

    async fn pass_over(&mut self, finder: &mut Finder) -> Result<(), SshError> {
        loop {
            finder.look(&self.unread);
            if let Some((_, end)) = finder.end() {
                self.unread.advance(end);
                return Ok(());
            }
            let ready = finder.ready();
            self.unread.advance(ready);
            finder.taken(ready);
            self.more().await?;
        }
    }

    /// Returns the bytes that have the shell evaluate a script. They begin on a line of their own.
    fn order(&self, script: &str) -> Vec<u8> {
        format!("\n{} {}\n{script}", self.nonce, script.len()).into_bytes()
    }

    async fn exchange(&mut self, task: &Task<'_>) -> Result<Output, SshError> {
        let order = self.order(task.script);
        let mut finder = Finder::new(&self.nonce);
        let Self {
            stdin,
            stdout,
            unread,
            ..
        } = self;
        let sending = async {
            send(stdin, &order, task.step).await?;
            send(stdin, &task.input, task.step).await
        };
        let receiving = receive(stdout, unread, &mut finder);
        tokio::pin!(sending, receiving);
        let mut sent = false;
        loop {
            tokio::select! {
                output = &mut receiving => return output,
                outcome = &mut sending, if !sent => {
                    sent = true;
                    // A command may end without reading all; then its output says why.
                    if let Err(stalled @ SshError::Timeout { .. }) = outcome {
                        return Err(stalled);
                    }
                }
            }
        }
    }
}

/// What came instead of our shell.
#[derive(Debug)]
pub(super) struct Noise(pub(super) Vec<u8>);

fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn send(stdin: &mut ChildStdin, bytes: &[u8], step: &'static str) -> Result<(), SshError> {
    for piece in bytes.chunks(CHUNK) {
        let written = tokio::time::timeout(STALLED, stdin.write_all(piece)).await;
        let stalled = |_| SshError::Timeout {
            step,
            after: STALLED,
        };
        written.map_err(stalled)?.map_err(|_| lost())?;
    }
    Ok(())
}

async fn receive(
    stdout: &mut ChildStdout,
    unread: &mut BytesMut,
    finder: &mut Finder,
) -> Result<Output, SshError> {
    let mut output = Output::default();
    loop {
        finder.look(unread);
        let ready = finder.ready();
        keep(&mut output.stdout, &unread.split_to(ready));
        finder.taken(ready);
        if let Some((code, end)) = finder.end() {
            unread.advance(end);
            output.status = Some(code);
            return Ok(output);
        }
        unread.reserve(CHUNK);
        if stdout.read_buf(unread).await.unwrap_or(0) == 0 {
            return Err(lost());
        }
    }
}

/// `ssh` ended; the caller knows the reason better.
pub(super) fn lost() -> SshError {
    SshError::Closed {
        reason: "ssh ended".to_owned(),
    }
}
