//! The `ssh` process: what it says on standard error, why it ended, and its end when nobody wants it any more.
//!
//! Invariants: one task owns the process; with it ends what it started (a proxy command, a question).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::said::Said;

/// How long it may take to end by itself before it is killed.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long its last words may take after its end; a program that it started may keep the pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The longest line that is kept.
const LONGEST_LINE: usize = 4 << 10;

/// A running `ssh`. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) said: Arc<Mutex<Said>>,
    /// Why it ended, once it has.
    pub(super) closed: watch::Receiver<Option<String>>,
    stop: CancellationToken,
    task: TaskTracker,
}

impl Process {
    /// Watches over a process. What it says for people is sent to `tell`, if there is room.
    pub(super) fn watch(mut child: Child, tell: mpsc::Sender<String>) -> Self {
        let said = Arc::new(Mutex::new(Said::default()));
        let (ended, closed) = watch::channel(None);
        let (stop, task) = (CancellationToken::new(), TaskTracker::new());
        let (heard, stopped) = (Arc::clone(&said), stop.clone());
        task.spawn(async move {
            let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            let stderr = child.stderr.take();
            let listening = listen(stderr, &heard, tell);
            tokio::pin!(listening);
            let mut silent = false;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    () = &mut listening, if !silent => silent = true,
                    () = stopped.cancelled() => {
                        signal(group, Signal::TERM);
                        let status = tokio::time::timeout(FAREWELL, child.wait()).await;
                        break status.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                    }
                }
            };
            if !silent {
                let _ = tokio::time::timeout(LAST_WORDS, listening).await;
            }
            // What is left of the group; its number is not given away while a member lives.
            signal(group, Signal::KILL);
            let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
            said.status = status.ok().and_then(|status| status.code());
            ended.send_replace(Some(said.reason()));
        });
        task.close();
        Self {
            said,
            closed,
            stop,
            task,
        }
    }

    /// Waits for the end and returns its reason. It is cancel-safe.
    pub(super) async fn ended(&self) -> String {
        let mut closed = self.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the connection ended".to_owned(),
        }
    }

    /// Has it end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Has it end and waits until it did.
    pub(super) async fn end(&self) {
        self.stop();
        let _ = tokio::time::timeout(FAREWELL + 2 * LAST_WORDS, self.task.wait()).await;
    }

    pub(super) fn said<T>(&self, read: impl FnOnce(&Said) -> T) -> T {
        read(&self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // It may be gone already.
        let _ = kill_process_group(group, signal);
    }
}

/// Takes what is said, line by line, until the pipe is closed.
async fn listen(stderr: Option<ChildStderr>, heard: &Mutex<Said>, tell: mpsc::Sender<String>) {
    let Some(mut stderr) = stderr else { return };
    let mut line = Vec::new();
    let mut buffer = vec![0; 8 << 10];
    loop {
        let count = stderr.read(&mut buffer).await.unwrap_or(0);
        for byte in buffer.get(..count).unwrap_or_default() {
            match byte {
                b'\n' => take(&mut line, heard, &tell),
                _ if line.len() < LONGEST_LINE => line.push(*byte),
                _ => {}
            }
        }
        if count == 0 {
            return take(&mut line, heard, &tell);
        }
    }
}

fn take(line: &mut Vec<u8>, heard: &Mutex<Said>, tell: &mpsc::Sender<String>) {
    let text = String::from_utf8_lossy(line).trim_end().to_owned();
    line.clear();
    let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if said.hear(&text) {
        // Whoever does not listen any more misses nothing that an error would not say.
        let _ = tell.try_send(text);
    }
}
