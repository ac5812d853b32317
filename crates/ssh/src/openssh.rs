//! A login by the system's `ssh` program: one process and one session in it, whose standard input and output are a
//! conversation with a shell on the node. In it the agent is installed and started, and then it becomes the stream.
//!
//! Invariants: one login asks once, whatever is done with it; one command or stream runs at a time; no secret is in an
//! argument, in the environment or in a log. `ssh` ends with the last clone and stream.
//!
//! Not here: trying again after a loss, and the program that asks the questions (`askpass`).

mod command;
mod mark;
mod process;
mod questions;
mod said;
mod stream;
mod talk;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Buf as _;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, watch};

use crate::bootstrap::{self, Shell, Task};
use crate::builtin::{HELLO_DEADLINE, MOST_NOISE, SSH_THERE, is_name, split_hello};
use crate::connection::{AgentLine, AgentStream, NodeOptions, NodeStream, Route, Workshop};
use crate::exec::Output;
use crate::prompt::{SOME_QUESTION, visible, visible_end};
use crate::{AgentBinary, Destination, LoginFacts, Prompter, SshError};
use process::Process;
use questions::Questions;
use stream::Stream;
use talk::{Noise, Talk, Turn};

/// How long `ssh` may take for the login without asking anything; each question begins it anew.
const LOGIN_DEADLINE: Duration = Duration::from_secs(120);
/// How long a stream that is about to end may be waited for.
const BUSY: Duration = Duration::from_secs(5);
/// How long `ssh` may take to say why the conversation ended.
const WORDS: Duration = Duration::from_secs(1);
/// How long what a failed command printed may be behind its end, which comes another way.
const ERRORS: Duration = Duration::from_millis(200);
/// How many lines wait to be shown.
const TOLD: usize = 64;

/// One running `ssh`.
#[derive(Clone, Debug)]
pub(crate) struct Openssh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    talk: Arc<Mutex<Talk>>,
    process: Process,
}

impl Openssh {
    /// Runs `ssh` and waits until it is logged in.
    pub(crate) async fn open(
        destination: &Destination,
        workshop: &Workshop,
        prompter: Arc<dyn Prompter>,
    ) -> Result<Self, SshError> {
        let mut questions = questions(workshop).await?;
        let is_attended = prompter.is_anybody_there();
        questions.asked.is_unattended = !is_attended;
        let mut command = command::command(destination, &questions.askpass(), is_attended)?;
        let mut child = command.spawn().map_err(|source| SshError::Io {
            step: "the ssh program cannot be started; is OpenSSH installed on this machine?"
                .to_owned(),
            source,
        })?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (tell, told) = mpsc::channel(TOLD);
        let process = Process::watch(child, tell);
        let (Some(stdin), Some(stdout)) = pipes else {
            return Err(talk::lost());
        };
        let begun = begin(stdin, stdout, &mut questions, told, &*prompter).await;
        let noise = match begun {
            Ok(talk) => {
                let talk = Arc::new(Mutex::new(talk));
                return Ok(Self {
                    inner: Arc::new(Inner { talk, process }),
                });
            }
            Err(Failure::Silent) => {
                return Err(SshError::Timeout {
                    step: "the login by the ssh program",
                    after: LOGIN_DEADLINE,
                });
            }
            Err(Failure::Declined) => vec![],
            Err(Failure::Noise(Noise(noise))) => {
                // Its own end says more than ours would.
                let _ = tokio::time::timeout(WORDS, process.ended()).await;
                noise
            }
        };
        process.end().await;
        let error = process.said(|said| said.error(destination, &questions.asked, &noise));
        if questions.asked.is_unattended && matches!(error, SshError::AuthFailed { .. }) {
            prompter.missed(SOME_QUESTION);
        }
        Err(error)
    }

    pub(crate) async fn ensure_agent(
        &self,
        agent: &AgentBinary,
        node: &NodeOptions,
        prompter: &dyn Prompter,
    ) -> Result<AgentLine, SshError> {
        bootstrap::ensure(self, agent, node, prompter).await
    }

    /// Opens the stream to the agent. There is one at a time: the last one has to have ended.
    pub(crate) async fn open_agent_stream(
        &self,
        agent: &AgentLine,
    ) -> Result<AgentStream, SshError> {
        let talk = self.talk().await?;
        let script = bootstrap::connect_command(agent)?;
        let (stream, _) = self.stream(talk, &script).await?;
        Ok(stream)
    }

    /// Opens a stream to the agent of another node, for which this login must have no other one.
    pub(crate) async fn open_node_stream(
        &self,
        node: &str,
        agent: &AgentLine,
    ) -> Result<NodeStream, SshError> {
        let hop = |reason: &str| SshError::Hop {
            node: visible(node),
            reason: reason.to_owned(),
        };
        if !is_name(node) {
            return Err(hop("that is not a host name"));
        }
        let Ok(talk) = Arc::clone(&self.inner.talk).try_lock_owned() else {
            return Err(hop("the ssh program carries one stream, and it is in use"));
        };
        let command = bootstrap::connect_command(agent)?;
        let command =
            shlex::try_quote(&command).map_err(|_| hop("its agent has no usable path"))?;
        let script = format!("exec {SSH_THERE} -- {node} {command}");
        let (stream, json) = match self.stream(talk, &script).await {
            Err(SshError::AgentStart { output }) => return Err(hop(&output)),
            other => other?,
        };
        Ok(NodeStream {
            agent: AgentLine {
                json,
                ..agent.clone()
            },
            stream,
            route: Route::Exec,
        })
    }

    pub(crate) fn facts(&self) -> LoginFacts {
        self.inner.process.said(said::Said::facts)
    }

    pub(crate) fn closed(&self) -> watch::Receiver<Option<String>> {
        self.inner.process.closed.clone()
    }

    /// Whether `ssh` runs. The server cannot be asked anything beside the stream, so whoever wants to know more has to ask
    /// the agent; `ssh` itself notices within 45 s that a server is gone.
    pub(crate) async fn alive(&self, _deadline: Duration) -> bool {
        self.inner.process.closed.borrow().is_none()
    }

    pub(crate) async fn close(&self) {
        self.inner.process.end().await;
    }

    /// Takes the conversation.
    async fn talk(&self) -> Result<OwnedMutexGuard<Talk>, SshError> {
        let turn = Arc::clone(&self.inner.talk).lock_owned();
        let turn = tokio::time::timeout(BUSY, turn).await;
        turn.map_err(|_| SshError::Protocol {
            reason: "the ssh program carries one stream, and it is in use".to_owned(),
        })
    }

    /// Runs a script that says hello and then pipes an agent's socket.
    async fn stream(
        &self,
        mut talk: OwnedMutexGuard<Talk>,
        script: &str,
    ) -> Result<(AgentStream, String), SshError> {
        self.inner.forget();
        let hello = tokio::time::timeout(HELLO_DEADLINE, hello(&mut talk, script)).await;
        let hello = hello.unwrap_or(Err(SshError::Timeout {
            step: "the start of hpcagent connect",
            after: HELLO_DEADLINE,
        }));
        match self.explained(hello).await? {
            Ok(json) => {
                let stream = Stream {
                    talk,
                    _login: Arc::clone(&self.inner),
                };
                Ok((Box::new(stream), json))
            }
            Err(noise) => {
                tokio::time::sleep(ERRORS).await;
                let errors = self.inner.process.said(said::Said::end);
                Err(SshError::AgentStart {
                    output: visible_end(&format!("{noise}\n{errors}"), 1_000),
                })
            }
        }
    }

    /// Ends `ssh` after a failure that leaves it in the middle of something, and says why if it ended by itself.
    async fn explained<T>(&self, outcome: Result<T, SshError>) -> Result<T, SshError> {
        let process = &self.inner.process;
        match outcome {
            Err(SshError::Closed { reason }) => {
                let said = tokio::time::timeout(WORDS, process.ended()).await;
                process.stop();
                Err(SshError::Closed {
                    reason: said.unwrap_or(reason),
                })
            }
            Err(stuck @ SshError::Timeout { .. }) => {
                process.stop();
                Err(stuck)
            }
            other => other,
        }
    }
}

impl Shell for Openssh {
    async fn run(&self, task: Task<'_>) -> Result<Output, SshError> {
        let mut talk = self.talk().await?;
        // Errors come the same way as all the rest, and so in time.
        let script = format!("exec 2>&1\n{}", task.script);
        let task = Task {
            script: &script,
            ..task
        };
        self.explained(talk.run(&task).await).await
    }
}

impl Inner {
    fn forget(&self) {
        let said = &self.process.said;
        said.lock().unwrap_or_else(PoisonError::into_inner).forget();
    }
}

/// Why a login did not come about.
enum Failure {
    /// A question has no answer, and `ssh` would send an empty one.
    Declined,
    /// Nothing happened for too long.
    Silent,
    /// The conversation did not begin.
    Noise(Noise),
}

async fn questions(workshop: &Workshop) -> Result<Questions, SshError> {
    let workshop = workshop.clone();
    let listening = tokio::task::spawn_blocking(move || Questions::listen(&workshop)).await;
    listening.unwrap_or_else(|error| {
        Err(SshError::Io {
            step: "cannot prepare for the questions of ssh".to_owned(),
            source: std::io::Error::other(error),
        })
    })
}

/// Waits for the shell on the node, and has the person answer what is asked on the way.
async fn begin(
    stdin: ChildStdin,
    stdout: ChildStdout,
    questions: &mut Questions,
    mut told: mpsc::Receiver<String>,
    prompter: &dyn Prompter,
) -> Result<Talk, Failure> {
    let silence = silence(questions.asking());
    let (asking, beginning) = (questions.serve(prompter), Talk::begin(stdin, stdout));
    tokio::pin!(silence, asking, beginning);
    loop {
        tokio::select! {
            talk = &mut beginning => return talk.map_err(Failure::Noise),
            () = &mut asking => return Err(Failure::Declined),
            () = &mut silence => return Err(Failure::Silent),
            Some(line) = told.recv() => prompter.progress(&visible(&line)),
        }
    }
}

/// Returns when nobody was asked anything for too long.
async fn silence(mut asking: watch::Receiver<bool>) {
    loop {
        let change = tokio::time::timeout(LOGIN_DEADLINE, asking.changed()).await;
        if !matches!(change, Ok(Ok(()))) && !*asking.borrow_and_update() {
            return;
        }
    }
}

/// Starts a script and waits for its hello line; returns its JSON, or what came instead.
async fn hello(talk: &mut Talk, script: &str) -> Result<Result<String, String>, SshError> {
    let mut finder = talk.start(script).await?;
    loop {
        finder.look(&talk.unread);
        let read = talk.unread.get(..finder.ready()).unwrap_or_default();
        if let Some((json, rest)) = split_hello(read) {
            let line = read.len() - rest.len();
            talk.unread.advance(line);
            finder.taken(line);
            talk.turn = Turn::Streaming(finder);
            return Ok(Ok(String::from_utf8_lossy(&json).into_owned()));
        }
        if let Some((_, end)) = finder.end() {
            let noise = String::from_utf8_lossy(read).into_owned();
            talk.unread.advance(end);
            talk.turn = Turn::Idle;
            return Ok(Err(noise));
        }
        if read.len() > MOST_NOISE {
            return Err(SshError::Closed {
                reason: "the node prints without end instead of starting the agent".to_owned(),
            });
        }
        talk.more().await?;
    }
}
