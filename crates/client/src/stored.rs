//! What a run has stored, asked for in parts: lines that match, a console's screen, the last lines, a file.
//!
//! Used by the command line. Invariant: nothing here is held in memory but one piece or one answer.

use bytes::Bytes;
use hpcclient_protocol::{
    Frame, FrameDecoder, RunId, StreamName,
    output::{Screen, SearchResult},
    run::StreamSizes,
};
use reqwest::{Method, Response};

use crate::{Agent, ClientError, agent::segment};

/// What to look for in a run's output.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The pattern: an extended regular expression.
    pub pattern: String,
    /// Whether the pattern is plain text.
    pub fixed: bool,
    /// Whether small and capital letters are the same.
    pub ignore_case: bool,
    /// In which stream; in each without it.
    pub stream: Option<StreamName>,
    /// How many lines at most.
    pub limit: Option<usize>,
}

/// A body of any size, a piece at a time.
#[derive(Debug)]
pub struct Download(Response);

impl Download {
    /// Returns the next piece, or `None` at the end.
    ///
    /// # Errors
    /// The body was cut.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.0.chunk().await.map_err(|source| ClientError::Cut {
            source: Some(source),
        })
    }
}

impl Agent {
    /// Finds lines in a run's output, at the node.
    ///
    /// # Errors
    /// `BadRequest` for a pattern that is none; else as every request.
    pub async fn search(&self, id: RunId, search: &Search) -> Result<SearchResult, ClientError> {
        let pattern = segment(&search.pattern);
        let mut path = format!(
            "v1/runs/{id}/search?pattern={pattern}&fixed={}&ignoreCase={}",
            search.fixed, search.ignore_case
        );
        if let Some(stream) = search.stream {
            path += &format!("&stream={}", stream.as_str());
        }
        if let Some(limit) = search.limit {
            path += &format!("&limit={limit}");
        }
        self.get(&path).await
    }

    /// Returns what brings a terminal to a console's present state.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when the run has no terminal; else as every request.
    pub async fn screen(&self, id: RunId) -> Result<Screen, ClientError> {
        self.get(&format!("v1/runs/{id}/screen")).await
    }

    /// Returns a run's output as a file: `form` is `raw`, `text` or `cast`.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for a `cast` of what has no terminal; else as every request.
    pub async fn export(
        &self,
        id: RunId,
        form: &str,
        stream: Option<StreamName>,
    ) -> Result<Download, ClientError> {
        let stream = stream.map_or_else(String::new, |name| format!("&stream={}", name.as_str()));
        self.download(&format!("v1/runs/{id}/export?as={form}{stream}"))
            .await
    }

    /// Returns what was written to a stream from a moment (in milliseconds since 1970, by the node's clock) up to an
    /// offset.
    ///
    /// # Errors
    /// As every request.
    pub async fn since(
        &self,
        id: RunId,
        stream: StreamName,
        since_ms: u64,
        to: u64,
    ) -> Result<Download, ClientError> {
        let name = stream.as_str();
        self.download(&format!("v1/runs/{id}/{name}?since={since_ms}&to={to}"))
            .await
    }

    /// Returns the offsets at which the last so many lines of each stream start.
    ///
    /// # Errors
    /// `NotFound`; else as every request.
    pub async fn tail(&self, id: RunId, lines: u64) -> Result<StreamSizes, ClientError> {
        let path = format!("v1/runs/{id}/stream?tail={lines}&follow=false");
        let mut body = self.download(&path).await?;
        let mut decoder = FrameDecoder::default();
        let mut start = Starts::default();
        while let Some(piece) = body.next().await? {
            decoder.push(&piece);
            while let Some(frame) = decoder.next_frame().map_err(|error| {
                let detail = error.to_string();
                ClientError::Protocol { detail }
            })? {
                if start.take(frame) {
                    return Ok(start.sizes);
                }
            }
        }
        Err(ClientError::Cut { source: None })
    }

    async fn download(&self, path: &str) -> Result<Download, ClientError> {
        let request = self.endpoint().request(Method::GET, path);
        self.endpoint().open(request).await.map(Download)
    }
}

/// Where each stream's first bytes lie; what has none starts at its end.
#[derive(Debug, Default)]
struct Starts {
    sizes: StreamSizes,
    found: Vec<StreamName>,
}

impl Starts {
    /// Takes a frame; returns whether everything is known.
    fn take(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::State(run) if self.found.is_empty() => self.sizes = run.sizes,
            Frame::Data { stream, offset, .. } if !self.found.contains(&stream) => {
                self.found.push(stream);
                let place = match stream {
                    StreamName::Stdout => &mut self.sizes.stdout,
                    StreamName::Stderr => &mut self.sizes.stderr,
                    StreamName::Tty => &mut self.sizes.tty,
                };
                *place = offset.min(*place);
            }
            Frame::End(_) => return true,
            _ => {}
        }
        // A console has one stream; the others have two.
        self.found.contains(&StreamName::Tty) || self.found.len() == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_start_where_the_first_bytes_of_each_stream_lie() {
        let json = serde_json::json!({
            "id": RunId::random(), "spec": {"command": {"shell": "x"}}, "state": "running", "createdMs": 0,
            "host": "h", "sizes": {"stdout": 100, "stderr": 50, "tty": 0},
        });
        let state = Box::new(serde_json::from_value(json).unwrap());
        let data = |stream, offset| Frame::Data {
            stream,
            offset,
            bytes: Bytes::from_static(b"x"),
        };
        let mut starts = Starts::default();
        assert!(!starts.take(Frame::State(Box::clone(&state))));
        assert!(!starts.take(data(StreamName::Stdout, 90)));
        assert!(!starts.take(data(StreamName::Stdout, 95)));
        assert!(starts.take(Frame::End(Box::clone(&state))));
        assert_eq!((starts.sizes.stdout, starts.sizes.stderr), (90, 50));
        assert!(starts.take(data(StreamName::Stderr, 7)));
        assert_eq!(starts.sizes.stderr, 7);
    }
}
