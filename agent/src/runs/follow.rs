//! Follows one run for one viewer: its stored frames, then what comes, then the end.
//!
//! Called by `http::streams` (a body) and `http::live` (a channel with credit).
//! Invariants: the state is read before the store, so that an end is told only after every byte of
//! it; nothing is kept for a viewer but its place; the first frame is `State`, the last is `End`.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use hpcclient_protocol::{Frame, Run, RunState, frame::HEADER_LEN};
use tokio::{sync::watch, time::timeout};

use super::{
    RunError,
    live_run::{Growth, LiveRun},
    readers::Seat,
};
use crate::store::RunReader;

/// Whether a follower waits for what is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until the run's end.
    Follow,
    /// What is stored now, then `End`.
    Stored,
}

/// One viewer's place in a run.
#[derive(Debug)]
pub struct Follower {
    source: Source,
    reader: RunReader,
    mode: Mode,
    seat: Seat,
    is_local: bool,
    behind: Option<u64>,
    told: Option<(RunState, Option<String>)>,
    ended: bool,
}

#[derive(Debug)]
enum Source {
    Live(Arc<LiveRun>, watch::Receiver<Growth>),
    Stored(Box<Run>),
}

impl Follower {
    /// Follows a run that lives; `watch` was made before `reader`. `is_local` says that the store is on a
    /// disk of this node.
    pub(super) const fn live(
        live: Arc<LiveRun>,
        watch: watch::Receiver<Growth>,
        reader: RunReader,
        mode: Mode,
        seat: Seat,
        is_local: bool,
    ) -> Self {
        Self {
            source: Source::Live(live, watch),
            reader,
            mode,
            seat,
            is_local,
            behind: None,
            told: None,
            ended: false,
        }
    }

    /// Follows a run that will not change.
    pub(super) fn stored(run: Run, reader: RunReader, seat: Seat) -> Self {
        let source = Source::Stored(Box::new(run));
        Self {
            source,
            reader,
            mode: Mode::Stored,
            seat,
            is_local: false,
            behind: None,
            told: None,
            ended: false,
        }
    }

    /// Lets it pass over what its viewer is too far behind to see: whenever a living run's stream is more
    /// than `behind` bytes ahead, it goes on at a quarter of that before the end, without a `Gap`.
    pub(crate) fn no_further_behind(&mut self, behind: Option<u32>) {
        self.behind = behind.map(u64::from);
    }

    /// Returns whether `End` was handed out.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the next frame with at most `max` bytes of data, or `None` until there is more. With
    /// `max` 0 only a new state comes.
    ///
    /// # Errors
    /// The store cannot be read, or not by one more.
    pub fn next_now(&mut self, max: usize) -> Result<Option<Frame>, RunError> {
        if self.ended {
            return Ok(None);
        }
        // Before the store is read: what it tells is in the store by then.
        let (state, reason) = match &mut self.source {
            Source::Live(_, watch) => {
                let record = &watch.borrow_and_update().record;
                (record.state, record.reason.clone())
            }
            Source::Stored(run) => (run.state, run.reason.clone()),
        };
        let is_last = state.is_final() || self.mode == Mode::Stored;
        let now = Some((state, reason));
        // A last state comes as `End`, after the bytes.
        if self.told.is_none() || (self.told != now && !state.is_final()) {
            self.told = now;
            return Ok(Some(Frame::State(Box::new(self.run()))));
        }
        if max == 0 {
            return Ok(None);
        }
        // Before its turn a run has written nothing.
        if state != RunState::Queued {
            self.seat.take()?;
            self.pass_over();
            if let Some(frame) = self.reader.next(max)? {
                return Ok(Some(frame));
            }
        }
        if is_last {
            self.ended = true;
            return Ok(Some(Frame::End(Box::new(self.run()))));
        }
        Ok(None)
    }

    fn pass_over(&mut self) {
        let (Some(behind), Source::Live(_, watch)) = (self.behind, &self.source) else {
            return;
        };
        let (end, mut at) = (watch.borrow().sizes, self.reader.offsets());
        let pairs = [
            (end.stdout, &mut at.stdout),
            (end.stderr, &mut at.stderr),
            (end.tty, &mut at.tty),
        ];
        let mut passes = false;
        for (end, at) in pairs {
            if end.saturating_sub(*at) > behind {
                *at = end - behind / 4;
                passes = true;
            }
        }
        if passes {
            self.reader.pass_to(at);
        }
    }

    /// Waits until there may be more, at most until it is time for a `Ping`; `false` says the latter.
    pub async fn more(&mut self) -> bool {
        match &mut self.source {
            Source::Live(_, watch) => timeout(PING_EVERY, watch.changed()).await.is_ok(),
            // Nothing comes any more: whoever waits, waits for something else, such as credit.
            Source::Stored(_) => std::future::pending().await,
        }
    }

    /// Appends the frames that are ready, with at most `max` bytes of data, where that does not hold up
    /// others. Returns them, how many bytes of data they have, and the follower, which cancelling it loses.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn step(
        mut self,
        mut to: BytesMut,
        max: usize,
    ) -> Result<(BytesMut, usize, Self), RunError> {
        if max == 0 || self.is_quick() {
            let data = self.append(&mut to, max)?;
            return Ok((to, data, self));
        }
        let work = move || self.append(&mut to, max).map(|data| (to, data, self));
        crate::tasks::blocking(work)
            .await
            .map_err(|_| RunError::Stopping)?
    }

    /// Ends with the first data: what is longer waits as long in memory for a viewer that does not read.
    fn append(&mut self, to: &mut BytesMut, max: usize) -> Result<usize, RunError> {
        let before = to.len();
        loop {
            let frame = match self.next_now(max) {
                // What was read before the failure is good; the failure comes again next time.
                Err(_) if to.len() > before => return Ok(0),
                frame => frame?,
            };
            let Some(frame) = frame else {
                return Ok(0);
            };
            frame.encode(to);
            if let Frame::Data { bytes, .. } = &frame {
                return Ok(bytes.len());
            }
            // Sizes of the terminal may come for ever without data.
            if to.len() - before >= FRAME {
                return Ok(0);
            }
        }
    }

    /// Returns the next encoded frames, as many as are ready up to [`CHUNK`]; `None` after the end.
    /// Cancelling it loses the follower.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn chunk(mut self) -> Result<Option<(Bytes, Self)>, RunError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let (follower, chunk) = if self.is_quick() {
                // What the shim has just written lies in this node's page cache, and reading it is
                // cheaper than a trip to the blocking pool. Old output may come from a disk.
                let chunk = self.fill()?;
                (self, chunk)
            } else {
                let work = move || self.fill().map(|chunk| (self, chunk));
                crate::tasks::blocking(work)
                    .await
                    .map_err(|_| RunError::Stopping)??
            };
            self = follower;
            if !chunk.is_empty() {
                return Ok(Some((chunk, self)));
            }
            if !self.more().await {
                return Ok(Some((Frame::Ping.to_bytes(), self)));
            }
        }
    }

    fn fill(&mut self) -> Result<Bytes, RunError> {
        // At the tail there is little; behind it a chunk is filled, and growing it would copy it again.
        let mut chunk = BytesMut::with_capacity(if self.is_at_tail() { 0 } else { CHUNK });
        loop {
            let room = CHUNK.saturating_sub(chunk.len() + HEADER_LEN);
            if room < LEAST_ROOM {
                return Ok(chunk.freeze());
            }
            match self.next_now(room.min(FRAME)) {
                Ok(Some(frame)) => frame.encode(&mut chunk),
                Ok(None) => return Ok(chunk.freeze()),
                // What was read before the failure is good; the failure comes again next time.
                Err(_) if !chunk.is_empty() => return Ok(chunk.freeze()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns whether the next read does not wait: a network disk may hang at any byte.
    fn is_quick(&self) -> bool {
        self.is_local && self.is_at_tail()
    }

    fn is_at_tail(&self) -> bool {
        match &self.source {
            Source::Live(_, watch) => {
                let (end, at) = (watch.borrow().sizes, self.reader.offsets());
                let left = |end: u64, at: u64| end.saturating_sub(at);
                let behind = left(end.stdout, at.stdout)
                    + left(end.stderr, at.stderr)
                    + left(end.tty, at.tty);
                behind <= TAIL
            }
            Source::Stored(_) => false,
        }
    }

    fn run(&self) -> Run {
        match &self.source {
            Source::Live(live, _) => live.to_run(),
            Source::Stored(run) => (**run).clone(),
        }
    }
}

/// Frames that are ready travel together up to this size: fewer wake-ups on both sides.
const CHUNK: usize = 256 * 1024;

const FRAME: usize = 64 * 1024;

const LEAST_ROOM: usize = 4 * 1024;

/// Behind by more than this, a viewer is reading history.
const TAIL: u64 = 1 << 20;

const PING_EVERY: Duration = Duration::from_secs(15);
