//! HTTP/1.1 by hand: what a browser, or somebody worse, puts on the wire.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::SOON;

/// Sends a head and returns everything until the end of the connection.
pub(crate) async fn exchange(port: u16, request: &str, headers: &[(&str, &str)]) -> String {
    let mut stream = send(port, request, headers).await;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes));
    // A connection that is reset has still given what came before.
    let _ = read.await.expect("the answer does not end");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a head, with `Connection: close` unless it upgrades.
pub(crate) async fn send(port: u16, request: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut head = format!("{request} HTTP/1.1\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "Connection") {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Reads an answer's head.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// Returns the status of an answer.
pub(crate) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or("0").parse().unwrap_or(0)
}
