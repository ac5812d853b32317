//! The smallest HTTP client that can also say what a browser or an attacker would: any Host, any Origin, any header.
//!
//! One request per connection, HTTP/1.1, over loopback or a Unix socket.
//! Not here: typed calls (`hpcclient-client`); this one exists to send what that one cannot.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};

const DEADLINE: Duration = Duration::from_secs(30);

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Address {
    /// A port on 127.0.0.1.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

/// A request that is being put together.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; of a 101 answer what came at once.
    pub body: Vec<u8>,
}

impl Request {
    /// Starts a request; `Host` is set by [`Request::send`] unless [`Request::header`] did.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: vec![],
            body: vec![],
        }
    }

    /// Adds a header as it is.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("content-type", "application/json")
    }

    /// Sets a body of bytes.
    #[must_use]
    pub fn bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("content-type", "application/octet-stream")
    }

    /// Asks for a WebSocket.
    #[must_use]
    pub fn websocket(self, protocols: &str) -> Self {
        self.header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocols)
    }

    /// Sends it and reads the answer to its end.
    ///
    /// # Errors
    /// Nobody listens, or the answer is not HTTP.
    pub fn send(&self, to: &Address) -> Result<Response> {
        let mut bytes = vec![];
        match to {
            Address::Port(port) => {
                let mut stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_read_timeout(Some(DEADLINE))?;
                self.write(&mut stream, &format!("127.0.0.1:{port}"))?;
                self.read(&mut stream, &mut bytes)?;
            }
            Address::Socket(path) => {
                let mut stream = UnixStream::connect(path)
                    .with_context(|| format!("cannot connect to {}", path.display()))?;
                stream.set_read_timeout(Some(DEADLINE))?;
                self.write(&mut stream, "agent")?;
                self.read(&mut stream, &mut bytes)?;
            }
        }
        Response::parse(&bytes)
    }

    /// Sends it over loopback and reads the answer's head; its body, or the WebSocket, is what follows.
    ///
    /// # Errors
    /// Nobody listens, or the answer is not HTTP.
    pub fn open(&self, to: &Address) -> Result<(Response, TcpStream)> {
        let Address::Port(port) = to else {
            bail!("only a port can be kept open");
        };
        let mut stream = TcpStream::connect(("127.0.0.1", *port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        self.write(&mut stream, &format!("127.0.0.1:{port}"))?;
        let mut head = vec![];
        read_head(&mut stream, &mut head)?;
        Ok((Response::parse_head(&head)?, stream))
    }

    fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    fn write(&self, stream: &mut impl Write, host: &str) -> Result<()> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        let mut put = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        if !self.has("host") {
            put("host", host);
        }
        if !self.has("connection") {
            put("connection", "close");
        }
        if !self.body.is_empty() {
            put("content-length", &self.body.len().to_string());
        }
        for (name, value) in &self.headers {
            put(name, value);
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&self.body)?;
        Ok(())
    }

    fn read(&self, stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<()> {
        if !self.has("upgrade") {
            stream.read_to_end(bytes)?;
            return Ok(());
        }
        // A WebSocket stays open: its head is all that is asked for.
        read_head(stream, bytes)
    }
}

fn read_head(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<()> {
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        bytes.extend_from_slice(&byte);
    }
    Ok(())
}

impl Response {
    /// Returns a header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the body as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).with_context(|| format!("status {}: {text}", self.status))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut response = Self::parse_head(bytes)?;
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = unchunk(&response.body)?;
        }
        Ok(response)
    }

    fn parse_head(bytes: &[u8]) -> Result<Self> {
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
            bail!("not an HTTP answer: {:?}", String::from_utf8_lossy(bytes));
        };
        let (head, body) = bytes.split_at(end);
        let head = String::from_utf8_lossy(head).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self {
            status: status.context("no status line")?.parse()?,
            headers,
            body: body.get(4..).unwrap_or_default().to_vec(),
        })
    }
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = vec![];
    while let Some(line) = rest.windows(2).position(|part| part == b"\r\n") {
        let (size, after) = rest.split_at(line);
        let size = usize::from_str_radix(std::str::from_utf8(size)?.trim(), 16)?;
        let chunk = after.get(2..2 + size).context("a chunk was cut")?;
        body.extend_from_slice(chunk);
        rest = after.get(size + 4..).unwrap_or_default();
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_put_together() {
        let wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let response = Response::parse(wire).unwrap();
        assert_eq!((response.status, response.body), (200, b"abcde".to_vec()));
    }
}
