//! The words between the agent and a shim, and their bytes on the control socket.
//!
//! ```text
//!   json_len u32 | data_len u32 | JSON | data        (big endian; JSON ≤ 64 KiB, data ≤ 1 MiB)
//! ```
//!
//! Used by both sides. An agent may meet shims of older releases, so this is version 1 for good:
//! add fields with defaults, never change one.
//! Not here: sockets.

use std::marker::PhantomData;

use hpcclient_protocol::{
    ByteString, RunId, SessionId,
    run::{StreamSizes, TerminalSize},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::store::RunRecord;

/// The version of these words.
pub const CONTROL_VERSION: u32 = 1;
/// The largest JSON part.
pub const MAX_JSON: usize = 64 << 10;
/// The largest data part.
pub const MAX_DATA: usize = 1 << 20;
const HEAD: usize = 8;

/// What the agent says to a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum ToShim {
    /// Run a line; its folder exists. Sessions only.
    Start {
        /// The run.
        run: RunId,
        /// The run's folder.
        dir: ByteString,
    },
    /// Feed the message's data to a run's stdin.
    Stdin {
        /// The run.
        run: RunId,
        /// Who writes; each has its own numbers.
        writer: String,
        /// Counts up from 1; one that was taken is acknowledged and not written again.
        seq: u64,
        /// Whether stdin ends after the data.
        eof: bool,
    },
    /// Send a signal to the run's process group.
    Signal {
        /// The run.
        run: RunId,
        /// The signal's name without `SIG`.
        signal: String,
    },
    /// SIGKILL every process of a run. A run that waits in a session's queue ends there.
    Kill {
        /// The run.
        run: RunId,
    },
    /// Change the size of a run's terminal.
    Resize {
        /// The run.
        run: RunId,
        /// The size.
        size: TerminalSize,
    },
    /// End a session's shell; the shim exits when its runs are over.
    End,
}

/// What a shim says to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum FromShim {
    /// The first message of every connection.
    Hello {
        /// [`CONTROL_VERSION`].
        version: u32,
        /// The shim's process id.
        pid: u32,
        /// The session, when it keeps one.
        session: Option<SessionId>,
        /// The runs that are queued or running.
        live: Vec<RunId>,
    },
    /// A run has another state or more bytes. They are in the store already.
    Changed {
        /// The run.
        run: RunId,
        /// Its record.
        record: Box<RunRecord>,
        /// The sizes of its streams.
        sizes: StreamSizes,
        /// How much of them the disk has for sure, where the shim knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        durable: Option<StreamSizes>,
    },
    /// Data for stdin was taken, or could not be.
    StdinAck {
        /// The run.
        run: RunId,
        /// The writer.
        writer: String,
        /// The highest number that was taken from this writer; with `error` the number refused.
        seq: u64,
        /// Why it was not taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The shim could not start and ends; said instead of `Hello`, and only on the connection that it
    /// was started with: to an agent of the same release.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// Says why bytes are not a message, or a message does not fit.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A part is over its limit.
    #[error("a control message with {json} bytes of JSON and {data} of data is over the limit")]
    TooLong {
        /// Bytes of JSON.
        json: usize,
        /// Bytes of data.
        data: usize,
    },
    /// The JSON is not a message that we know.
    #[error("a control message cannot be read")]
    Json(#[from] serde_json::Error),
}

/// Returns a message's bytes.
///
/// # Errors
/// The message is over a limit.
pub fn encode<T: Serialize>(message: &T, data: &[u8]) -> Result<Vec<u8>, ControlError> {
    let json = serde_json::to_vec(message)?;
    let too_long = || ControlError::TooLong {
        json: json.len(),
        data: data.len(),
    };
    if json.len() > MAX_JSON || data.len() > MAX_DATA {
        return Err(too_long());
    }
    let json_len = u32::try_from(json.len()).map_err(|_| too_long())?;
    let data_len = u32::try_from(data.len()).map_err(|_| too_long())?;
    let mut bytes = Vec::with_capacity(HEAD + json.len() + data.len());
    bytes.extend_from_slice(&json_len.to_be_bytes());
    bytes.extend_from_slice(&data_len.to_be_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(data);
    Ok(bytes)
}

/// Puts messages together from bytes that arrive in any pieces.
#[derive(Debug)]
pub struct Decoder<T> {
    buffer: Vec<u8>,
    message: PhantomData<fn() -> T>,
}

impl<T> Default for Decoder<T> {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            message: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Decoder<T> {
    /// Takes bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole message and its data, or `None` until more bytes come.
    ///
    /// # Errors
    /// The bytes are not messages; the connection is of no more use.
    pub fn next_message(&mut self) -> Result<Option<(T, Vec<u8>)>, ControlError> {
        let Some((json_len, rest)) = self.buffer.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let Some((data_len, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let json_len = u32::from_be_bytes(*json_len) as usize;
        let data_len = u32::from_be_bytes(*data_len) as usize;
        if json_len > MAX_JSON || data_len > MAX_DATA {
            return Err(ControlError::TooLong {
                json: json_len,
                data: data_len,
            });
        }
        let Some((json, rest)) = rest.split_at_checked(json_len) else {
            return Ok(None);
        };
        let Some(data) = rest.get(..data_len) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(json)?;
        let data = data.to_vec();
        self.buffer.drain(..HEAD + json_len + data_len);
        Ok(Some((message, data)))
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::RunState;
    use proptest::prelude::*;

    use super::*;

    fn to_shim() -> impl Strategy<Value = (ToShim, Vec<u8>)> {
        let run = RunId::random();
        let start = any::<Vec<u8>>().prop_map(move |dir| ToShim::Start {
            run,
            dir: dir.into(),
        });
        let stdin =
            (any::<String>(), any::<u64>(), any::<bool>()).prop_map(move |(writer, seq, eof)| {
                ToShim::Stdin {
                    run,
                    writer,
                    seq,
                    eof,
                }
            });
        let size = any::<(u16, u16)>().prop_map(move |(cols, rows)| ToShim::Resize {
            run,
            size: TerminalSize { cols, rows },
        });
        let rest = prop_oneof![Just(ToShim::Kill { run }), Just(ToShim::End)];
        (
            prop_oneof![start, stdin, size, rest],
            prop::collection::vec(any::<u8>(), 0..300),
        )
    }

    proptest! {
        #[test]
        fn messages_survive_any_cutting(
            messages in prop::collection::vec(to_shim(), 0..6), cut in 1usize..50,
        ) {
            let wire: Vec<u8> = messages
                .iter()
                .flat_map(|(message, data)| encode(message, data).unwrap())
                .collect();
            let (mut decoder, mut seen) = (Decoder::<ToShim>::default(), vec![]);
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(message) = decoder.next_message().unwrap() {
                    seen.push(message);
                }
            }
            prop_assert_eq!(seen, messages);
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let mut decoder = Decoder::<FromShim>::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_message() {}
        }
    }

    #[test]
    fn the_wire_form_stays_as_it_is() {
        let run: RunId = "0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70".parse().unwrap();
        let changed = FromShim::Changed {
            run,
            record: Box::new(RunRecord::new(RunState::Running)),
            sizes: StreamSizes::default(),
            durable: None,
        };
        assert_eq!(
            serde_json::to_string(&changed).unwrap(),
            r#"{"type":"changed","run":"0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70","record":{"state":"running"},"sizes":{"stdout":0,"stderr":0,"tty":0}}"#
        );
        let end = encode(&ToShim::End, b"").unwrap();
        assert_eq!(end, b"\0\0\0\x0e\0\0\0\0{\"type\":\"end\"}");
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_buffered() {
        let mut decoder = Decoder::<ToShim>::default();
        decoder.push(&[0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.next_message().is_err());
        assert!(encode(&ToShim::End, &vec![0; MAX_DATA + 1]).is_err());
    }
}
