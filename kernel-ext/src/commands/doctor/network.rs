//! Whether the first host answers and speaks SSH. Nothing is sent to it.

use std::{error::Error as _, time::Duration};

use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::{Destination, visible};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use super::finding::Finding;

/// How long the server may take to say that it speaks SSH.
const BANNER: Duration = Duration::from_secs(10);

/// How much it may say before that and with it, in bytes.
const PREAMBLE: u64 = 8 << 10;

/// Looks whether the host can be reached.
pub(super) async fn look(destination: &Destination) -> Finding {
    if destination.proxy_command.is_some() || !destination.jumps.is_empty() {
        return Finding::ok(
            "network",
            "not looked at: the way leads through other hosts",
        );
    }
    match reach(destination).await {
        Ok(banner) => Finding::ok("network", banner),
        Err(error) => Finding::of_error("network", &error),
    }
}

async fn reach(destination: &Destination) -> Result<String, ApiError> {
    let Destination { hostname, port, .. } = destination;
    let server = format!("{hostname} port {port}");
    let failed = |message| ApiError::new(ErrorCode::ConnectFailed, message);
    let mut stream = hpcclient_ssh::reach(destination).await.map_err(|error| {
        let failed = failed(error.to_string()).hint(format!(
            "the site may require VPN; try `ssh {hostname} true`"
        ));
        error.source().into_iter().fold(failed, ApiError::caused_by)
    })?;
    let mut said = Vec::new();
    let listened = timeout(BANNER, listen(&mut stream, &mut said)).await;
    if let Some(banner) = banner(&said) {
        return Ok(format!("{server} answers {banner}"));
    }
    Err(if !said.is_empty() {
        failed(format!("{server} does not speak SSH")).hint("is it the right port?")
    } else if listened.is_ok() {
        failed(format!("{server} closes the connection at once")).hint(
            "it may be busy (`MaxStartups`) or refuse this address: try again in some minutes, \
             then ask the site",
        )
    } else {
        let limit = BANNER.as_secs();
        failed(format!("{server} says nothing for {limit} s"))
            .hint("a firewall may be in the way, or it is not the right port")
    })
}

/// Takes what the server says until it has named its SSH, ends, or has said enough.
async fn listen(stream: &mut (impl AsyncRead + Unpin), said: &mut Vec<u8>) {
    let mut stream = stream.take(PREAMBLE);
    // A connection that is cut has ended as well.
    while let Ok(1..) = stream.read_buf(said).await {
        if banner(said).is_some() {
            return;
        }
    }
}

/// Returns the line with which the server names its SSH; it may say others before.
fn banner(said: &[u8]) -> Option<String> {
    let mut lines = said.split_inclusive(|byte| *byte == b'\n');
    let line = lines.find(|line| line.starts_with(b"SSH-") && line.ends_with(b"\n"))?;
    Some(visible(String::from_utf8_lossy(line).trim_end()))
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
        let greeting = [
            b"Only for members.\r\n".repeat(300),
            b"SSH-2.0-x\r\n".to_vec(),
        ];
        let late = banner_of(greeting.concat().leak()).await.unwrap();
        assert!(late.ends_with("answers SSH-2.0-x"), "{late}");
        for (said, wanted) in [
            (&b"HTTP/1.1 400 no\r\n"[..], "does not speak SSH"),
            (b"SSH", "does not speak SSH"),
            (b"", "closes the connection at once"),
        ] {
            let bad = banner_of(said).await.unwrap_err();
            assert_eq!(bad.code, ErrorCode::ConnectFailed);
            assert!(bad.message.ends_with(wanted), "{bad}");
            assert!(!bad.hints.is_empty());
        }
    }

    #[tokio::test]
    async fn a_server_that_waits_after_its_greeting_is_not_waited_for() {
        let mut said = Vec::new();
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"hello\nSSH-2.0-x\n").await.unwrap();
        listen(&mut ours, &mut said).await;
        assert_eq!(banner(&said).as_deref(), Some("SSH-2.0-x"));
    }
}
