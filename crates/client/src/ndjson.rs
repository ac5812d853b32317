//! JSON documents, one a line, from a body that arrives in any pieces.

use std::marker::PhantomData;

use bytes::BytesMut;
use serde::de::DeserializeOwned;

use crate::ClientError;

/// The longest line in bytes; a longer one is a broken or hostile peer.
const MAX_LINE: usize = 4 << 20;

/// A body of NDJSON.
#[derive(Debug)]
pub struct Ndjson<T> {
    response: reqwest::Response,
    buffer: BytesMut,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Ndjson<T> {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self {
            response,
            buffer: BytesMut::new(),
            item: PhantomData,
        }
    }

    /// Returns the next document, or `None` at the end of the body. It is cancel-safe.
    ///
    /// # Errors
    /// The body was cut, or a line is not a document of this type.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let item = serde_json::from_slice(&line);
                return item.map(Some).map_err(|error| ClientError::Protocol {
                    detail: error.to_string(),
                });
            }
            if self.buffer.len() > MAX_LINE {
                return Err(ClientError::Protocol {
                    detail: "a line is too long".to_owned(),
                });
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|source| ClientError::Cut {
                source: Some(source),
            })? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ClientError::Cut { source: None }),
            }
        }
    }
}
