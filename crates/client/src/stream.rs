//! A run's output with every byte once, across cut connections.
//!
//! Used by `hpcclient run` and `attach`, and by tests.
//! Invariants: each byte of a stream is given out once and in order, or named as a gap; a body that
//! ends without `End` is asked for again from the offsets held; a silent body counts as cut,
//! because the agent pings every 15 s.

#[cfg(test)]
mod resume;
mod way;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use hpcclient_protocol::{
    ErrorCode, Frame, FrameDecoder, Run, RunId, RunSpec, StreamName,
    run::{StreamSizes, TerminalSize},
};
use tokio::time::{Instant, sleep, timeout};

pub use self::way::{Body, Way};
use crate::{Agent, ClientError};

/// Three missed pings of the agent.
const SILENCE: Duration = Duration::from_secs(45);

/// The first pause after a failed attempt; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause after a login node that could not be reached; it is not to be asked more often.
const LONGEST_LOGIN_PAUSE: Duration = Duration::from_secs(30);

/// About how many bytes are put together.
const JOINED: usize = 256 * 1024;

/// How long to go on trying when the connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until it works, or fails in a way that waiting does not mend.
    Forever,
    /// This long after each cut.
    For(Duration),
}

/// Finds the agent again after a cut; a restarted bridge has another address and token.
pub trait Renew: Send {
    /// What leads to the agent.
    type Way: Way;

    /// Returns the agent to ask next.
    fn renew(&mut self) -> impl Future<Output = Result<Self::Way, ClientError>> + Send;
}

/// The same agent every time.
#[derive(Clone, Debug)]
pub struct Same(pub Agent);

impl Renew for Same {
    type Way = Agent;

    async fn renew(&mut self) -> Result<Agent, ClientError> {
        Ok(self.0.clone())
    }
}

/// Something of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// The next bytes of a stream.
    Data {
        /// The stream.
        stream: StreamName,
        /// The offset of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Bytes that are not kept any more.
    Gap {
        /// The stream.
        stream: StreamName,
        /// The first offset that is missing.
        offset: u64,
        /// The next offset that exists.
        to: u64,
    },
    /// A console changed its size.
    Resize(TerminalSize),
    /// The run, first of all and on each change.
    State(Box<Run>),
    /// The connection was cut; it is being made again.
    Cut {
        /// Why, for people.
        reason: String,
    },
    /// The run at its end; nothing follows.
    End(Box<Run>),
}

/// A run's frames, resumed when they are cut.
#[derive(Debug)]
pub struct RunStream<R: Renew> {
    id: RunId,
    /// What to start, until the agent is known to have it.
    spec: Option<RunSpec>,
    held: StreamSizes,
    follow: bool,
    renew: R,
    agent: Option<R::Way>,
    /// What came while bytes were put together.
    kept: Option<Result<Option<RunEvent>, ClientError>>,
    body: Option<(<R::Way as Way>::Body, FrameDecoder)>,
    patience: Patience,
    pause: Duration,
    give_up: Option<Instant>,
    /// Whether the way has ever worked. Until then an unreachable node is the answer.
    has_begun: bool,
    is_over: bool,
}

impl<R: Renew> RunStream<R> {
    /// Starts a run and streams it.
    pub fn start(agent: R::Way, renew: R, id: RunId, spec: RunSpec, patience: Patience) -> Self {
        let from = StreamSizes::default();
        Self {
            spec: Some(spec),
            ..Self::attach(agent, renew, id, from, true, patience)
        }
    }

    /// Streams a known run from these offsets; without `follow`, what is stored now.
    pub const fn attach(
        agent: R::Way,
        renew: R,
        id: RunId,
        from: StreamSizes,
        follow: bool,
        patience: Patience,
    ) -> Self {
        Self {
            id,
            spec: None,
            held: from,
            follow,
            renew,
            agent: Some(agent),
            kept: None,
            body: None,
            patience,
            pause: FIRST_PAUSE,
            give_up: None,
            has_begun: false,
            is_over: false,
        }
    }

    /// Returns the offsets held: how much of each stream was given out.
    pub const fn held(&self) -> StreamSizes {
        self.held
    }

    /// Returns what comes next, or `None` after `End`. It is cancel-safe.
    ///
    /// # Errors
    /// What waiting does not mend, or the last failure when the patience is over.
    pub async fn next(&mut self) -> Result<Option<RunEvent>, ClientError> {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        while !self.is_over {
            let error = match self.step().await {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => continue,
                Err(error) => error,
            };
            let had_body = self.body.take().is_some();
            self.agent = None;
            let is_unreachable = error.code() == ErrorCode::ConnectFailed;
            if !error.is_transient() || (is_unreachable && !self.has_begun) {
                return Err(error);
            }
            let now = Instant::now();
            let give_up = match self.patience {
                Patience::Forever => None,
                Patience::For(patience) => Some(*self.give_up.get_or_insert(now + patience)),
            };
            if give_up.is_some_and(|at| now >= at) {
                return Err(error);
            }
            if had_body {
                return Ok(Some(RunEvent::Cut {
                    reason: error.to_string(),
                }));
            }
            let pause = self.pause;
            self.pause = longer(pause, is_unreachable);
            sleep(pause).await;
        }
        Ok(None)
    }

    /// Returns what comes next, as [`Self::next`] does, with all bytes of a stream that are there already
    /// in one piece: for a reader to whom each piece costs something. It is cancel-safe.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_joined(&mut self) -> Result<Option<RunEvent>, ClientError> {
        let first = self.next().await?;
        let Some(RunEvent::Data {
            stream,
            offset,
            bytes,
        }) = first
        else {
            return Ok(first);
        };
        let mut joined = BytesMut::from(bytes);
        while joined.len() < JOINED {
            // No wait from here on, so that nothing is lost when this is dropped.
            let more = poll_fn(|context| {
                let more = pin!(self.next()).poll(context);
                Poll::Ready(more)
            });
            match more.await {
                Poll::Ready(Ok(Some(RunEvent::Data {
                    stream: same,
                    bytes,
                    ..
                }))) if same == stream => joined.extend_from_slice(&bytes),
                Poll::Ready(other) => {
                    self.kept = Some(other);
                    break;
                }
                Poll::Pending => break,
            }
        }
        Ok(Some(RunEvent::Data {
            stream,
            offset,
            bytes: joined.freeze(),
        }))
    }

    /// Does one step: opens a body, takes a frame, or reads a piece. Every await may be dropped.
    async fn step(&mut self) -> Result<Option<RunEvent>, ClientError> {
        let Some((body, decoder)) = &mut self.body else {
            self.open().await?;
            return Ok(None);
        };
        let frame = decoder.next_frame();
        let frame = frame.map_err(|error| ClientError::Protocol {
            detail: error.to_string(),
        })?;
        if let Some(frame) = frame {
            return self.take(frame);
        }
        match timeout(SILENCE, body.next_piece()).await {
            Ok(Ok(Some(piece))) => decoder.push(&piece),
            Ok(Ok(None)) | Err(_) => return Err(ClientError::Cut { source: None }),
            Ok(Err(error)) => return Err(error),
        }
        Ok(None)
    }

    async fn open(&mut self) -> Result<(), ClientError> {
        let agent = match self.agent.clone() {
            Some(agent) => agent,
            None => self.renew.renew().await?,
        };
        let body = match &self.spec {
            Some(spec) => agent.start(self.id, spec).await?,
            None => agent.resume(self.id, self.held, self.follow).await?,
        };
        self.agent = Some(agent);
        self.body = Some((body, FrameDecoder::default()));
        Ok(())
    }

    /// Applies a frame. Data comes out only at its own offset.
    fn take(&mut self, frame: Frame) -> Result<Option<RunEvent>, ClientError> {
        // Whatever arrives shows that the way works and that the agent has the run.
        self.spec = None;
        self.has_begun = true;
        self.pause = FIRST_PAUSE;
        self.give_up = None;
        Ok(match frame {
            Frame::Data {
                stream,
                offset,
                mut bytes,
            } => {
                let held = held_of(&mut self.held, stream);
                let Some(known) = held.checked_sub(offset) else {
                    let detail = format!(
                        "bytes {held} to {offset} of {} are missing",
                        stream.as_str()
                    );
                    return Err(ClientError::Protocol { detail });
                };
                let known = usize::try_from(known)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let bytes = bytes.split_off(known);
                if bytes.is_empty() {
                    return Ok(None);
                }
                let offset = *held;
                *held += bytes.len() as u64;
                Some(RunEvent::Data {
                    stream,
                    offset,
                    bytes,
                })
            }
            Frame::Gap { stream, to, .. } => {
                let held = held_of(&mut self.held, stream);
                let offset = *held;
                if to <= offset {
                    return Ok(None);
                }
                *held = to;
                Some(RunEvent::Gap { stream, offset, to })
            }
            Frame::Resize(size) => Some(RunEvent::Resize(size)),
            Frame::State(run) => Some(RunEvent::State(run)),
            Frame::End(run) => {
                self.is_over = true;
                self.body = None;
                Some(RunEvent::End(run))
            }
            Frame::Ping => None,
        })
    }
}

/// Returns the pause after this one.
fn longer(pause: Duration, is_unreachable: bool) -> Duration {
    let longest = if is_unreachable {
        LONGEST_LOGIN_PAUSE
    } else {
        LONGEST_PAUSE
    };
    (pause * 2).min(longest)
}

const fn held_of(held: &mut StreamSizes, stream: StreamName) -> &mut u64 {
    match stream {
        StreamName::Stdout => &mut held.stdout,
        StreamName::Stderr => &mut held.stderr,
        StreamName::Tty => &mut held.tty,
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{ApiError, Command, RunState, bridge::BridgeAddress};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::Bridge;

    /// Answers each connection with the next of these bodies; one that is not whole is cut off.
    async fn serve(bodies: Vec<(BytesMut, bool)>, listener: TcpListener) -> Vec<String> {
        let mut requests = Vec::new();
        for (body, is_whole) in bodies {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            requests.push(head.lines().next().unwrap().to_owned());
            assert!(
                head.to_lowercase().contains("origin: http://127.0.0.1:"),
                "{head}"
            );
            let length = head.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap_or("0\r");
            let mut sent = vec![0; length.split('\r').next().unwrap().parse().unwrap()];
            stream.read_exact(&mut sent).await.unwrap();
            let start =
                "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(start.as_bytes()).await.unwrap();
            let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n"].concat();
            stream.write_all(&chunk).await.unwrap();
            if is_whole {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
            stream.shutdown().await.unwrap();
        }
        requests
    }

    fn data(offset: u64, bytes: &'static [u8]) -> Frame {
        let stream = StreamName::Stdout;
        let bytes = Bytes::from_static(bytes);
        Frame::Data {
            stream,
            offset,
            bytes,
        }
    }

    fn run(id: RunId, state: RunState) -> Box<Run> {
        let json = serde_json::json!({
            "id": id, "spec": {"command": {"shell": "x"}}, "state": state, "createdMs": 0,
            "host": "h", "exitCode": 0,
        });
        Box::new(serde_json::from_value(json).unwrap())
    }

    fn body(frames: &[Frame]) -> BytesMut {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    }

    async fn agent() -> (Agent, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = BridgeAddress {
            url: format!("http://{}/", listener.local_addr().unwrap()),
            token: "t".to_owned(),
            pid: 1,
            version: "0".to_owned(),
        };
        (Bridge::new(&address).unwrap().agent("c"), listener)
    }

    #[tokio::test]
    async fn every_byte_comes_once_across_cuts() {
        let (agent, listener) = agent().await;
        let id = RunId::random();
        let started = Frame::State(run(id, RunState::Running));
        let mut torn = body(&[started, data(0, b"hel"), data(3, b"lo w")]);
        torn.truncate(torn.len() - 1);
        let bodies = vec![
            // Nothing arrives, then a frame arrives in part, then data that is known already.
            (body(&[]), false),
            (torn, false),
            (
                body(&[data(2, b"ll"), data(4, b"o world"), Frame::Ping]),
                true,
            ),
            (
                body(&[
                    data(0, b"hello world!"),
                    Frame::End(run(id, RunState::Exited)),
                ]),
                true,
            ),
        ];
        let server = serve(bodies, listener);
        let spec = RunSpec::new(Command::Shell("x".into()));
        let mut stream = RunStream::start(agent.clone(), Same(agent), id, spec, Patience::Forever);
        let reader = async {
            let (mut seen, mut cuts) = (Vec::new(), 0);
            while let Some(event) = stream.next().await.unwrap() {
                match event {
                    RunEvent::Data { offset, bytes, .. } => {
                        assert_eq!(offset, seen.len() as u64);
                        seen.extend_from_slice(&bytes);
                    }
                    RunEvent::Cut { .. } => cuts += 1,
                    _ => {}
                }
            }
            (String::from_utf8(seen).unwrap(), cuts)
        };
        let (requests, (seen, cuts)) = tokio::join!(server, reader);
        assert_eq!(seen, "hello world!");
        assert_eq!(cuts, 3);
        assert!(requests[0].starts_with(&format!("PUT /c/c/v1/runs/{id}?stream=true")));
        assert_eq!(
            requests[0], requests[1],
            "nobody knows yet whether the run was started"
        );
        assert!(
            requests[2].starts_with("GET") && requests[3].contains("stdout=11&"),
            "{requests:?}"
        );
    }

    #[test]
    fn a_node_that_cannot_be_reached_is_asked_less_often_than_the_bridge() {
        let after_many =
            |is_unreachable| (0..20).fold(FIRST_PAUSE, |pause, _| longer(pause, is_unreachable));
        assert_eq!(after_many(false), Duration::from_secs(2));
        assert_eq!(after_many(true), Duration::from_secs(30));
        assert_eq!(longer(after_many(true), false), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_hole_is_an_error_and_patience_ends() {
        let (agent, listener) = agent().await;
        let id = RunId::random();
        let holed = vec![(body(&[data(0, b"a"), data(2, b"c")]), true)];
        let from = StreamSizes::default();
        let patience = Patience::For(Duration::from_millis(100));
        let attach = |agent: &Agent| {
            RunStream::attach(agent.clone(), Same(agent.clone()), id, from, true, patience)
        };
        let mut stream = attach(&agent);
        let (_, first) = tokio::join!(serve(holed, listener), stream.next());
        assert!(matches!(first, Ok(Some(RunEvent::Data { .. }))));
        assert!(matches!(
            stream.next().await,
            Err(ClientError::Protocol { .. })
        ));
        // Nobody listens any more.
        let error = attach(&agent).next().await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        let api = ApiError::from(error);
        assert_eq!(api.code, ErrorCode::Unavailable);
        assert!(
            !api.causes.is_empty() && !api.to_string().contains('?'),
            "{api}"
        );
    }
}
