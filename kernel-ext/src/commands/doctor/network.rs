//! Whether the first host answers and speaks SSH. Nothing is sent to it.

use std::time::Duration;

use hpcclient_protocol::{ApiError, ErrorCode};
use hpcclient_ssh::Destination;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use super::finding::Finding;

/// How long the server may take to say that it speaks SSH.
const BANNER: Duration = Duration::from_secs(10);

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
        Err(ApiError::new(ErrorCode::ConnectFailed, message).hint("is it the right port?"))
    }
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
        assert!(!bad.hints.is_empty());
    }
}
