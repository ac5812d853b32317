//! Who this agent is, and who answers on a socket: the `AgentHello`.
//!
//! Called by `serve` for itself, by `connect` to ask the daemon, and by `hpcagent version`.
//! Not here: the line that `serve --detach` prints (`connect`).

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use hpcclient_protocol::{
    PROTOCOL_VERSION, VERSION,
    status::{AgentHello, AgentStatus},
};
use sha2::{Digest, Sha256};

use crate::place;

/// Returns the hello of this process, as if it served on this socket.
///
/// # Errors
/// The binary cannot be read.
pub fn own(socket: &Path) -> io::Result<AgentHello> {
    Ok(AgentHello {
        version: VERSION.to_owned(),
        protocol: PROTOCOL_VERSION,
        build: build()?,
        socket: socket.to_string_lossy().into_owned(),
        host: place::host_name(),
        pid: std::process::id(),
        boot_id: crate::shim::boot_id(),
    })
}

/// Asks who serves on a socket.
///
/// # Errors
/// Nobody does, or the answer is not an agent's.
pub fn ask(socket: &Path) -> io::Result<AgentHello> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not an agent's");
    let split = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(bad)?;
    let body = answer.get(split + 4..).ok_or_else(bad)?;
    let status: AgentStatus = serde_json::from_slice(body).map_err(|_| bad())?;
    Ok(status.hello)
}

/// Returns the SHA-256 of the running binary in hex, also after its file was replaced.
fn build() -> io::Result<String> {
    let mut binary = File::open("/proc/self/exe")?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0u8; 64 * 1024]);
    loop {
        let count = binary.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
    }
    let hex = hasher
        .finalize()
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    Ok(hex)
}

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

const MAX_ANSWER: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_the_sha_of_the_binary() {
        let hello = own(Path::new("/nowhere/agent.sock")).unwrap();
        let binary = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let whole: String = Sha256::digest(&binary)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hello.build, whole);
        assert_eq!(hello.protocol, PROTOCOL_VERSION);
    }

    #[test]
    fn nobody_answers_where_nobody_is() {
        assert!(ask(Path::new("/nowhere/agent.sock")).is_err());
    }
}
