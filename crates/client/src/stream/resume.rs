//! The resume logic on a transport made by hand: any cuts, in a time that does not pass by itself.
//!
//! A model of the agent writes a run; each body that it gives is cut anywhere, falls silent, repeats
//! bytes or is refused, by a seed. Whatever happens, the reader sees every byte once and in order, and
//! the run was started once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hpcclient_protocol::{
    ApiError, Command, ErrorCode, Frame, Run, RunId, RunSpec, RunState, StreamName,
    run::StreamSizes,
};
use tokio::time::{Instant, sleep, timeout};

use super::{Patience, Renew, RunEvent, RunStream, held_of, way};
use crate::ClientError;

/// Numbers that a seed decides (SplitMix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The run as the agent has it.
#[derive(Debug)]
struct Model {
    dice: Dice,
    id: RunId,
    spec: RunSpec,
    /// What it writes, in order.
    pieces: Vec<(StreamName, Vec<u8>)>,
    is_started: bool,
    /// Asked to start after it had been heard of.
    late_starts: u64,
    was_heard: bool,
    opened: u64,
    /// After so many requests nothing goes wrong any more.
    troubles: u64,
}

#[derive(Clone, Debug)]
struct Hand(Arc<Mutex<Model>>);

/// Pieces of a body, each after a pause; then its end.
#[derive(Debug)]
struct Given {
    pieces: std::vec::IntoIter<(Duration, Bytes)>,
    next: Option<(Instant, Bytes)>,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Clean,
    Cut,
    Silent,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let streams = [StreamName::Stdout, StreamName::Stderr, StreamName::Tty];
        let pieces = (0..dice.below(30)).map(|_| {
            let stream = streams[usize::try_from(dice.below(3)).unwrap()];
            let bytes = (0..1 + dice.below(300)).map(|_| u8::try_from(dice.below(256)).unwrap());
            (stream, bytes.collect())
        });
        let pieces = pieces.collect();
        Self {
            troubles: dice.below(40),
            dice,
            id: RunId::random(),
            spec: RunSpec::new(Command::Shell("x".into())),
            pieces,
            is_started: false,
            late_starts: 0,
            was_heard: false,
            opened: 0,
        }
    }

    fn run(&self, state: RunState) -> Box<Run> {
        let json = serde_json::json!({
            "id": self.id, "spec": {"command": {"shell": "x"}}, "state": state, "createdMs": 0,
            "host": "h", "exitCode": 7,
        });
        Box::new(serde_json::from_value(json).unwrap())
    }

    /// The frames after these offsets; some start earlier, as an agent is free to send them.
    fn frames(&mut self, mut from: StreamSizes) -> Vec<Frame> {
        let mut frames = vec![Frame::State(self.run(RunState::Running))];
        let mut at = StreamSizes::default();
        for (stream, bytes) in self.pieces.clone() {
            let start = *held_of(&mut at, stream);
            *held_of(&mut at, stream) += bytes.len() as u64;
            let known = held_of(&mut from, stream).saturating_sub(start);
            let known = usize::try_from(known).unwrap().min(bytes.len());
            let repeated = usize::try_from(self.dice.below(known as u64 + 1)).unwrap();
            let skipped = known - repeated;
            if skipped < bytes.len() {
                frames.push(Frame::Data {
                    stream,
                    offset: start + skipped as u64,
                    bytes: Bytes::from(bytes).slice(skipped..),
                });
            }
            if self.dice.one_in(5) {
                frames.push(Frame::Ping);
            }
        }
        frames.push(Frame::End(self.run(RunState::Exited)));
        frames
    }

    /// Answers a request. The answer may be lost though the request was heard.
    fn answer(&mut self, from: StreamSizes) -> Result<Given, ClientError> {
        self.opened += 1;
        let troubled = self.opened <= self.troubles;
        if troubled && self.dice.one_in(4) {
            let codes = [ErrorCode::Unavailable, ErrorCode::NotConnected];
            let code = codes[usize::try_from(self.dice.below(2)).unwrap()];
            return Err(ApiError::new(code, "not now").into());
        }
        let mut wire = BytesMut::new();
        for frame in self.frames(from) {
            frame.encode(&mut wire);
        }
        let mut end = End::Clean;
        if troubled {
            wire.truncate(usize::try_from(self.dice.below(wire.len() as u64 + 1)).unwrap());
            end = [End::Clean, End::Cut, End::Silent][usize::try_from(self.dice.below(3)).unwrap()];
        }
        let mut pieces = vec![];
        while !wire.is_empty() {
            let len = usize::try_from(1 + self.dice.below(400))
                .unwrap()
                .min(wire.len());
            let pause = Duration::from_millis(self.dice.below(3) * self.dice.below(40));
            pieces.push((pause, wire.split_to(len).freeze()));
        }
        Ok(Given {
            pieces: pieces.into_iter(),
            next: None,
            end,
        })
    }
}

impl way::Way for Hand {
    type Body = Given;

    async fn start(&self, id: RunId, spec: &RunSpec) -> Result<Given, ClientError> {
        let mut model = self.0.lock().unwrap();
        assert!(id == model.id && *spec == model.spec, "another run");
        model.late_starts += u64::from(model.was_heard);
        // The request itself may be lost; whoever asks twice with one id starts once.
        if model.opened >= model.troubles || !model.dice.one_in(3) {
            model.is_started = true;
        } else {
            model.opened += 1;
            return Err(ClientError::Cut { source: None });
        }
        model.answer(StreamSizes::default())
    }

    async fn resume(
        &self,
        id: RunId,
        from: StreamSizes,
        follow: bool,
    ) -> Result<Given, ClientError> {
        let mut model = self.0.lock().unwrap();
        assert!(id == model.id && follow);
        assert!(model.is_started, "nobody has started it");
        model.answer(from)
    }
}

impl way::Body for Given {
    async fn next_piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        if self.next.is_none() {
            let piece = self.pieces.next();
            self.next = piece.map(|(pause, bytes)| (Instant::now() + pause, bytes));
        }
        if let Some((at, _)) = &self.next {
            tokio::time::sleep_until(*at).await;
            return Ok(self.next.take().map(|(_, bytes)| bytes));
        }
        match self.end {
            End::Clean => Ok(None),
            End::Cut => Err(ClientError::Cut { source: None }),
            End::Silent => std::future::pending().await,
        }
    }
}

impl Renew for Hand {
    type Way = Self;

    async fn renew(&mut self) -> Result<Self, ClientError> {
        sleep(Duration::from_millis(10)).await;
        let mut model = self.0.lock().unwrap();
        model.opened += 1;
        if model.opened <= model.troubles && model.dice.one_in(4) {
            return Err(ClientError::Cut { source: None });
        }
        Ok(self.clone())
    }
}

async fn follow(seed: u64) {
    let model = Model::new(seed);
    let (id, spec, pieces) = (model.id, model.spec.clone(), model.pieces.clone());
    let hand = Hand(Arc::new(Mutex::new(model)));
    let mut dice = Dice(!seed);
    let mut stream = RunStream::start(hand.clone(), hand.clone(), id, spec, Patience::Forever);
    let (mut seen, mut at, mut ends) = ([vec![], vec![], vec![]], StreamSizes::default(), 0);
    loop {
        // A reader that gives up waiting and comes back loses nothing either.
        let limit = Duration::from_millis(1 + dice.below(60_000));
        let joins = dice.one_in(2);
        let next = async {
            if joins {
                stream.next_joined().await
            } else {
                stream.next().await
            }
        };
        let Ok(event) = timeout(limit, next).await else {
            continue;
        };
        let Some(event) = event.unwrap_or_else(|error| panic!("seed {seed}: {error:?}")) else {
            break;
        };
        if !matches!(event, RunEvent::Cut { .. }) {
            hand.0.lock().unwrap().was_heard = true;
        }
        match event {
            RunEvent::Data {
                stream,
                offset,
                bytes,
            } => {
                let held = held_of(&mut at, stream);
                assert_eq!(offset, *held, "seed {seed}");
                *held += bytes.len() as u64;
                seen[stream as usize - 1].extend_from_slice(&bytes);
            }
            RunEvent::End(run) => {
                assert_eq!(run.exit_code, Some(7));
                ends += 1;
            }
            RunEvent::Gap { .. } => panic!("seed {seed}: nothing was pruned"),
            _ => {}
        }
    }
    let mut whole = [vec![], vec![], vec![]];
    for (stream, bytes) in pieces {
        whole[stream as usize - 1].extend(bytes);
    }
    assert!(seen == whole, "seed {seed}: not what the run wrote");
    assert_eq!(stream.held(), at);
    let model = hand.0.lock().unwrap();
    assert_eq!((ends, model.late_starts), (1, 0), "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_cut_every_byte_comes_once_and_the_run_is_started_once() {
    for seed in 0..1000 {
        follow(seed).await;
    }
}
