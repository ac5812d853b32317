//! Getting the agent onto the node and started: one task when it is there, three when it has to be uploaded first.
//!
//! Both transports call [`ensure`] with their way to a [`Shell`] on the node. What runs there is `bootstrap/node.sh`.
//!
//! Invariants: a binary gets its name only after its length and checksum were compared on the node; names hold the
//! checksum, so that two versions never meet; every step has a deadline.
//!
//! Not here: what the hello line says, which is the caller's business.

mod answer;

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::agent_binary::LoadedAgent;
use crate::exec::Output;
use crate::prompt::{visible, visible_end};
use crate::{AgentBinary, AgentLine, NodeOptions, Prompter, SshError};
use answer::{Answer, END};

const SCRIPT: &str = include_str!("bootstrap/node.sh");
/// The agent's own start waits for its socket; a login node under load may take its time.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(60);
/// A few megabytes over a slow line. An upload that does not move at all ends sooner.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(900);
/// What has to stay free beside the binary.
const SPARE: u64 = 1 << 20;

/// A `/bin/sh` on the node.
pub(crate) trait Shell: Sync {
    /// Runs a task to its end.
    fn run(&self, task: Task<'_>) -> impl Future<Output = Result<Output, SshError>> + Send;
}

/// Something for a [`Shell`] to do.
pub(crate) struct Task<'a> {
    /// What it does, for the error when it takes too long.
    pub(crate) step: &'static str,
    pub(crate) script: &'a str,
    /// What the script finds on its standard input; it reads exactly that much.
    pub(crate) input: Bytes,
    pub(crate) deadline: Duration,
    /// The output after which nothing more is waited for: a process in the background may hold on to it.
    pub(crate) until: Option<&'a [u8]>,
}

/// Has the agent run on the node and returns its hello line.
pub(crate) async fn ensure(
    shell: &impl Shell,
    binary: &AgentBinary,
    node: &NodeOptions,
    prompter: &dyn Prompter,
) -> Result<AgentLine, SshError> {
    let agent = binary.load().await?;
    let home = node.home.as_deref().unwrap_or_default();
    prompter.progress("starting the agent");
    let answer = script(shell, home, &agent, "start", None).await?;
    let folder = match read(&answer, &agent)? {
        Step::Running(line) => return Ok(line),
        Step::Absent(folder) => folder,
    };
    fits(binary, &agent, &answer, &folder)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a size for people, in tenths of a megabyte"
    )]
    let size = agent.bytes.len() as f64 / 1e6;
    prompter.progress(&format!("installing the agent ({size:.1} MB)"));
    let temporary = upload(shell, &agent, &answer, &folder).await?;
    prompter.progress("starting the agent");
    let answer = script(shell, home, &agent, "install", Some(&temporary)).await?;
    match read(&answer, &agent)? {
        Step::Running(line) => Ok(line),
        Step::Absent(_) => Err(SshError::Upload {
            reason: "the installed binary is gone or not executable".to_owned(),
        }),
    }
}

/// What the node is ready for.
enum Step {
    Running(AgentLine),
    Absent(String),
}

async fn script(
    shell: &impl Shell,
    home: &str,
    agent: &LoadedAgent,
    step: &str,
    temporary: Option<&str>,
) -> Result<Answer, SshError> {
    let id = agent.sha256.get(..16).unwrap_or_default();
    let size = agent.bytes.len().to_string();
    let mut text = String::new();
    for (name, value) in [
        ("hpc_step", step),
        ("hpc_home", home),
        ("hpc_sha", &agent.sha256),
        ("hpc_id", id),
        ("hpc_tmp", temporary.unwrap_or_default()),
        ("hpc_size", &size),
    ] {
        let quoted = shlex::try_quote(value).map_err(|_| SshError::Upload {
            reason: format!("{} is no path on a node", visible(value)),
        })?;
        text.push_str(&format!("{name}={quoted}\n"));
    }
    text.push_str(SCRIPT);
    let task = Task {
        step: "the start of the agent",
        script: &text,
        input: Bytes::new(),
        deadline: SCRIPT_DEADLINE,
        until: Some(END),
    };
    let output = shell.run(task).await?;
    Answer::parse(&output.stdout).ok_or_else(|| no_answer(&output))
}

/// The error for a login shell that did not run the script.
fn no_answer(output: &Output) -> SshError {
    let said = visible_end(output.text().trim(), 1_000);
    SshError::Probe {
        output: match output.status {
            _ if !said.is_empty() => said,
            Some(status) => format!("the login shell said nothing, exit status {status}"),
            None => "the login shell said nothing".to_owned(),
        },
    }
}

/// Turns the node's answer into what to do next, or into the error that it means.
fn read(answer: &Answer, agent: &LoadedAgent) -> Result<Step, SshError> {
    if let (Some(json), Some(exec)) = (answer.get("hello"), answer.get("exec")) {
        // Other nodes will be told to run it: a login node in other hands must not choose what.
        let id = agent.sha256.get(..16).unwrap_or_default();
        if !exec.ends_with(&format!("/bin/{id}/hpcagent")) {
            return Err(SshError::Probe {
                output: format!("it runs {} as the agent", visible_end(exec, 200)),
            });
        }
        let home = answer.get("home").filter(|home| !home.is_empty());
        return Ok(Step::Running(AgentLine {
            json: json.to_owned(),
            exec: exec.to_owned(),
            home: home.map(str::to_owned),
            installed: agent.sha256.clone(),
        }));
    }
    if let Some(output) = answer.get("failed") {
        return Err(SshError::AgentStart {
            output: visible_end(output, 1_000),
        });
    }
    if let Some(reason) = answer.get("broken") {
        return Err(SshError::Upload {
            reason: visible_end(reason, 1_000),
        });
    }
    if let Some(reason) = answer.get("unusable") {
        let folder = answer.get("folder").unwrap_or("the home directory");
        return Err(SshError::Folder {
            path: visible(folder),
            reason: visible_end(reason, 1_000),
        });
    }
    match answer.get("absent") {
        Some(folder) => Ok(Step::Absent(folder.to_owned())),
        None => Err(SshError::Probe {
            output: "the answer is incomplete".to_owned(),
        }),
    }
}

/// Compares what the binary needs with what the node has.
fn fits(
    binary: &AgentBinary,
    agent: &LoadedAgent,
    answer: &Answer,
    folder: &str,
) -> Result<(), SshError> {
    let Some(machine) = agent.machine() else {
        let reason = "it is not a program for Linux on x86_64 or aarch64";
        return Err(binary.unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, reason)));
    };
    let uname = answer.get("uname").unwrap_or_default();
    let supported = match machine {
        "x86_64" => ["Linux x86_64", "Linux amd64"],
        _ => ["Linux aarch64", "Linux arm64"],
    };
    if !supported.contains(&uname.trim()) {
        return Err(SshError::Unsupported {
            uname: visible_end(uname, 200),
        });
    }
    if answer.get("noexec").is_some() {
        return Err(SshError::NoExec {
            path: visible(folder),
        });
    }
    let needed = agent.bytes.len() as u64;
    // A df that says nothing is no reason to stop.
    match free_bytes(answer) {
        Some(free) if free < needed + SPARE => Err(SshError::NoSpace {
            path: visible(folder),
            free,
            needed: needed + SPARE,
        }),
        _ => Ok(()),
    }
}

fn free_bytes(answer: &Answer) -> Option<u64> {
    let kilobytes: u64 = answer.get("free")?.parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

/// Sends the binary to a new name beside its final one and returns that name.
async fn upload(
    shell: &impl Shell,
    agent: &LoadedAgent,
    answer: &Answer,
    folder: &str,
) -> Result<String, SshError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let unique = now.unwrap_or_default().as_nanos();
    let temporary = format!("{folder}/.upload-{}-{unique}", std::process::id());
    let task = Task {
        step: "the upload of the agent",
        script: &upload_script(&temporary, agent.bytes.len())?,
        input: agent.bytes.clone(),
        deadline: UPLOAD_DEADLINE,
        until: None,
    };
    let output = shell.run(task).await?;
    if output.status == Some(0) {
        return Ok(temporary);
    }
    Err(upload_failure(&output, agent, answer, folder))
}

/// The script that keeps its input in a new file, and nothing of it when it does not fit: what is
/// left of it would fill the rest of a full disk, once for each try.
fn upload_script(path: &str, size: usize) -> Result<String, SshError> {
    let path = quoted(path)?;
    Ok(format!(
        "umask 077; head -c {size} >{path} || {{ rm -f {path}; exit 1; }}"
    ))
}

fn upload_failure(output: &Output, agent: &LoadedAgent, answer: &Answer, folder: &str) -> SshError {
    let said = output.text();
    if said.contains("No space left") || said.contains("quota") {
        let (free, needed) = (free_bytes(answer).unwrap_or(0), agent.bytes.len() as u64);
        // A quota and a lack of inodes do not show in df.
        return if free < needed + SPARE {
            SshError::NoSpace {
                path: visible(folder),
                free,
                needed,
            }
        } else {
            SshError::Folder {
                path: visible(folder),
                reason: visible_end(said.trim(), 1_000),
            }
        };
    }
    SshError::Upload {
        reason: visible_end(&said, 1_000),
    }
}

/// The command that turns an exec channel into a stream to the agent's socket.
pub(crate) fn connect_command(agent: &AgentLine) -> Result<String, SshError> {
    let exec = quoted(&agent.exec)?;
    let home = match &agent.home {
        Some(home) => format!("HPCCLIENT_HOME={}; export HPCCLIENT_HOME; ", quoted(home)?),
        None => String::new(),
    };
    Ok(format!("/bin/sh -c '{home}exec {exec} connect'"))
}

/// Quotes a path for `sh` inside single quotes, in which every login shell leaves these characters alone.
fn quoted(path: &str) -> Result<String, SshError> {
    let breaks_a_shell = |character: char| character.is_control() || "'\"\\$`!".contains(character);
    if path.chars().any(breaks_a_shell) {
        return Err(SshError::Folder {
            path: visible(path),
            reason: "a shell could read this name as another one".to_owned(),
        });
    }
    Ok(format!("\"{path}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &str) -> Answer {
        Answer::parse(format!("{lines}\n@hpcclient end=1\n").as_bytes()).unwrap()
    }

    fn agent(bytes: &'static [u8]) -> LoadedAgent {
        LoadedAgent {
            bytes: Bytes::from_static(bytes),
            sha256: "00".repeat(32),
        }
    }

    fn check(lines: &str) -> Result<(), SshError> {
        let elf = agent(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0");
        let binary = AgentBinary { path: "a".into() };
        fits(&binary, &elf, &answer(lines), "/home/alice/bin")
    }

    #[test]
    fn a_node_that_cannot_take_the_agent_is_named() {
        assert!(check("@hpcclient uname=Linux x86_64\n@hpcclient free=2048").is_ok());
        assert!(check("@hpcclient uname=Linux x86_64\n@hpcclient free=").is_ok());
        assert!(matches!(
            check("@hpcclient uname=Linux x86_64\n@hpcclient free=1023"),
            Err(SshError::NoSpace {
                free: 1_047_552,
                ..
            })
        ));
        assert!(matches!(
            check("@hpcclient uname=Linux x86_64\n@hpcclient noexec=/x"),
            Err(SshError::NoExec { .. })
        ));
        for uname in ["Linux aarch64", "Darwin x86_64", "AIX 00F"] {
            assert!(matches!(
                check(&format!("@hpcclient uname={uname}")),
                Err(SshError::Unsupported { uname: said }) if said == uname
            ));
        }
    }

    #[test]
    fn an_upload_that_does_not_fit_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let run = |limit: &str, name: &str| {
            let path = folder.path().join(name);
            let script = upload_script(path.to_str().unwrap(), 100_000).unwrap();
            let line = format!("head -c 200000 /dev/zero | (ulimit -f {limit}; {script})");
            let mut shell = std::process::Command::new("/bin/sh");
            let ended = shell.args(["-c", &line]).output().unwrap();
            (ended.status.success(), path.exists())
        };
        assert_eq!(run("unlimited", "whole"), (true, true));
        assert_eq!(run("1", "part"), (false, false));
    }

    #[test]
    fn a_quota_is_no_space() {
        let output = Output {
            stderr: b"head: write error: Disk quota exceeded\n".to_vec(),
            ..Output::default()
        };
        let error = upload_failure(
            &output,
            &agent(b""),
            &answer("@hpcclient free=9"),
            "/home/a",
        );
        assert!(matches!(error, SshError::NoSpace { free: 9_216, .. }));
    }

    #[test]
    fn a_login_shell_that_says_nothing_is_named() {
        let said = |stderr: &[u8], status| {
            no_answer(&Output {
                stderr: stderr.to_vec(),
                status,
                ..Output::default()
            })
            .to_string()
        };
        assert!(said(b"\nnot available\n", Some(1)).ends_with(": not available"));
        assert!(said(b"", Some(1)).ends_with("said nothing, exit status 1"));
        assert!(said(b"", None).ends_with("said nothing"));
    }

    #[test]
    fn the_outcomes_of_the_script() {
        let running = "@hpcclient home=/h\n@hpcclient exec=/h/bin/0000000000000000/hpcagent\n@hpcclient hello={\"a\":1}";
        let Step::Running(line) = read(&answer(running), &agent(b"")).unwrap() else {
            panic!("it runs")
        };
        assert_eq!(
            (line.json.as_str(), line.home.as_deref()),
            ("{\"a\":1}", Some("/h"))
        );
        assert_eq!(
            connect_command(&line).unwrap(),
            "/bin/sh -c 'HPCCLIENT_HOME=\"/h\"; export HPCCLIENT_HOME; exec \"/h/bin/0000000000000000/hpcagent\" connect'"
        );
        assert!(matches!(
            read(&answer("@hpcclient failed=exit status 1: \u{1b}[31mno"), &agent(b"")),
            Err(SshError::AgentStart { output }) if output.contains("no") && !output.contains('\u{1b}')
        ));
        let chosen = "@hpcclient exec=/tmp/mine\n@hpcclient hello={}";
        assert!(matches!(
            read(&answer(chosen), &agent(b"")),
            Err(SshError::Probe { output }) if output.contains("/tmp/mine")
        ));
        assert!(matches!(
            read(&answer("@hpcclient broken=x"), &agent(b"")),
            Err(SshError::Upload { .. })
        ));
        assert!(matches!(
            read(&answer("@hpcclient folder=/h/bin\n@hpcclient unusable=mkdir: no"), &agent(b"")),
            Err(SshError::Folder { path, reason }) if path == "/h/bin" && reason == "mkdir: no"
        ));
        assert!(matches!(
            read(&answer(""), &agent(b"")),
            Err(SshError::Probe { .. })
        ));
    }

    #[test]
    fn paths_that_a_login_shell_could_read_differently_are_refused() {
        assert_eq!(quoted("/home/a b/é").unwrap(), "\"/home/a b/é\"");
        for path in ["/a'b", "/a\"b", "/a$b", "/a`b", "/a\\b", "/a!b", "/a\nb"] {
            assert!(quoted(path).is_err(), "{path}");
        }
    }
}
