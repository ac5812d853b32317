//! The two ways to the agent's socket, and which one a server allows.
//!
//! A server that refuses a forwarded socket says the same whether its policy forbids it or nobody listens. So the second
//! way, which starts the agent if need be, is followed by one more try of the first.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use super::Inner;
use super::opener::Opener;
use super::tasks::Tasks;
use crate::channel::ChannelStream;
use crate::connection::{AgentLine, Route};
use crate::prompt::visible_end;
use crate::{SshError, bootstrap};

/// How long `hpcagent connect` may take to say hello; it may have to start the agent.
pub(crate) const HELLO_DEADLINE: Duration = Duration::from_secs(60);
/// How much a profile may print before the hello line.
pub(crate) const MOST_NOISE: usize = 256 << 10;
const HELLO: &[u8] = b"hpcclient-hello ";

/// Opens a stream the way that worked before, or finds one.
pub(super) async fn open(
    inner: &Inner,
    agent: &AgentLine,
    socket: &str,
) -> Result<(ChannelStream, Route), SshError> {
    let (opener, tasks) = (&inner.opener, &inner.tasks);
    let remembered = *inner.route.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered != Some(Route::Exec)
        && let Some(stream) = streamlocal(opener, tasks, socket).await?
    {
        return Ok(settle(inner, stream, Route::Streamlocal));
    }
    let (stream, hello) = connect(opener, tasks, agent).await?;
    if remembered != Some(Route::Exec) {
        let now = socket_of(&hello);
        let socket = now.as_deref().unwrap_or(socket);
        if let Some(stream) = streamlocal(opener, tasks, socket).await? {
            return Ok(settle(inner, stream, Route::Streamlocal));
        }
    }
    Ok(settle(inner, stream, Route::Exec))
}

fn settle(inner: &Inner, stream: ChannelStream, route: Route) -> (ChannelStream, Route) {
    *inner.route.lock().unwrap_or_else(PoisonError::into_inner) = Some(route);
    (stream, route)
}

/// Opens a stream to an agent of which only the binary is known, and returns its hello too.
pub(super) async fn find(
    opener: &Opener,
    tasks: &Tasks,
    agent: &AgentLine,
) -> Result<(ChannelStream, Route, String), SshError> {
    let (stream, hello) = connect(opener, tasks, agent).await?;
    let direct = match socket_of(&hello) {
        Some(socket) => streamlocal(opener, tasks, &socket).await?,
        None => None,
    };
    Ok(match direct {
        Some(direct) => (direct, Route::Streamlocal, hello),
        None => (stream, Route::Exec, hello),
    })
}

async fn streamlocal(
    opener: &Opener,
    tasks: &Tasks,
    socket: &str,
) -> Result<Option<ChannelStream>, SshError> {
    let channel = opener.streamlocal(socket).await?;
    Ok(channel.map(|channel| ChannelStream::new(channel, &tasks.tracker, &tasks.stop)))
}

/// Runs `hpcagent connect` and returns the stream behind its hello line, and that line.
async fn connect(
    opener: &Opener,
    tasks: &Tasks,
    agent: &AgentLine,
) -> Result<(ChannelStream, String), SshError> {
    exec(opener, tasks, bootstrap::connect_command(agent)?).await
}

/// Runs a command that comes to a hello line.
pub(super) async fn exec(
    opener: &Opener,
    tasks: &Tasks,
    command: String,
) -> Result<(ChannelStream, String), SshError> {
    let channel = opener.session().await?;
    channel.exec(false, command).await?;
    let mut stream = ChannelStream::new(channel, &tasks.tracker, &tasks.stop);
    let hello = tokio::time::timeout(HELLO_DEADLINE, hello(&mut stream))
        .await
        .map_err(|_| SshError::Timeout {
            step: "the start of hpcagent connect",
            after: HELLO_DEADLINE,
        })?;
    match hello {
        Ok(hello) => Ok((stream, String::from_utf8_lossy(&hello).into_owned())),
        Err(noise) => Err(SshError::AgentStart {
            output: visible_end(&format!("{noise}\n{}", stream.errors()), 1_000),
        }),
    }
}

/// Reads up to the end of the hello line and returns its JSON, or what came instead.
async fn hello(stream: &mut ChannelStream) -> Result<Vec<u8>, String> {
    let mut read = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    while read.len() < MOST_NOISE {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        read.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if let Some((json, rest)) = split_hello(&read) {
            stream.unread(rest);
            return Ok(json);
        }
        if count == 0 {
            break;
        }
    }
    Err(String::from_utf8_lossy(&read).into_owned())
}

/// Finds a complete hello line and splits what was read into its JSON and what follows the line.
pub(crate) fn split_hello(read: &[u8]) -> Option<(Vec<u8>, Bytes)> {
    let mut start = 0;
    for line in read.split_inclusive(|byte| *byte == b'\n') {
        start += line.len();
        if let (Some(json), true) = (line.strip_prefix(HELLO), line.ends_with(b"\n")) {
            let rest = read.get(start..).unwrap_or_default();
            return Some((json.trim_ascii().to_vec(), Bytes::copy_from_slice(rest)));
        }
    }
    None
}

fn socket_of(hello: &str) -> Option<String> {
    let hello: serde_json::Value = serde_json::from_str(hello).ok()?;
    Some(hello.get("socket")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_begins_after_the_hello_line() {
        let noise = b"Welcome!\nhpcclient-hello {\"socket\":\"/s\"}\r\nPRI * HTTP/2.0\n";
        let (json, rest) = split_hello(noise).unwrap();
        assert_eq!(json, b"{\"socket\":\"/s\"}");
        assert_eq!(socket_of("{\"socket\":\"/s\"}").as_deref(), Some("/s"));
        assert_eq!(&rest[..], b"PRI * HTTP/2.0\n");
        assert!(split_hello(b"hpcclient-hello {\"socket\":").is_none());
        assert!(split_hello(b"say hpcclient-hello {}\n").is_none());
        assert_eq!(socket_of("not json"), None);
    }
}
