//! A slow network in user space: a TCP proxy that holds every byte for a time each way and counts round trips.
//!
//! Called by `site`. A round trip is counted by cause, not by clock: what the client sends after it has received an
//! answer of depth `n` has depth `n + 1`, and an answer has the depth of what the server had received before it. So
//! `round_trips` is how often the client had to wait for the server, however fast the machine is; bytes that a side
//! sends without waiting (acknowledgements, window updates) do not count unless an answer had to wait for them.
//!
//! Invariants: order is kept; a byte leaves `delay` after it came, not later because of the one before.
//! Not here: loss and cuts; those are made by killing processes (`site`) and by `fault`.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::wait::pause;

/// How many pieces may be under way in one direction; more make the sender wait, as a full socket does.
const IN_FLIGHT: usize = 4096;

/// A proxy to a port of 127.0.0.1; it stops accepting when dropped, and its connections are closed.
#[derive(Debug)]
pub struct DelayProxy {
    port: u16,
    stop: Arc<AtomicBool>,
    count: Arc<Mutex<Count>>,
}

/// A depth, and the measurement in which it was counted.
type Tag = (u64, u32);

#[derive(Debug, Default)]
struct Count {
    epoch: u64,
    round_trips: u32,
    open: Vec<TcpStream>,
}

/// What the two ends of one connection have been given so far.
#[derive(Debug, Default)]
struct Depth {
    server_has: Tag,
    client_has: Tag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

struct Piece {
    due: Instant,
    tag: Tag,
    bytes: Vec<u8>,
}

impl DelayProxy {
    /// Starts a proxy on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(target: u16, delay: Duration) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let this = Self {
            port: listener.local_addr()?.port(),
            stop: Arc::default(),
            count: Arc::default(),
        };
        let (stop, count) = (Arc::clone(&this.stop), Arc::clone(&this.count));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // A server that is away is the client's to notice: its connection is closed.
                drop(connect(client, target, delay, &count));
            }
        });
        Ok(this)
    }

    /// Returns its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts counting from zero.
    pub fn reset(&self) {
        let mut count = lock(&self.count);
        count.epoch += 1;
        count.round_trips = 0;
    }

    /// Returns how many round trips, one after the other, have ended since the last reset.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        lock(&self.count).round_trips
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        for stream in &lock(&self.count).open {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn connect(
    client: TcpStream,
    target: u16,
    delay: Duration,
    count: &Arc<Mutex<Count>>,
) -> Result<()> {
    let server = TcpStream::connect(("127.0.0.1", target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    lock(count)
        .open
        .extend([client.try_clone()?, server.try_clone()?]);
    let depth = Arc::new(Mutex::new(Depth::default()));
    let ways = [
        (
            Direction::ToServer,
            client.try_clone()?,
            server.try_clone()?,
        ),
        (Direction::ToClient, server, client),
    ];
    for (direction, from, to) in ways {
        let (sender, receiver) = sync_channel(IN_FLIGHT);
        let (d, c) = (Arc::clone(&depth), Arc::clone(count));
        thread::spawn(move || take(direction, from, delay, &sender, &d, &c));
        let (d, c) = (Arc::clone(&depth), Arc::clone(count));
        thread::spawn(move || give(direction, to, &receiver, &d, &c));
    }
    Ok(())
}

fn take(
    direction: Direction,
    mut from: TcpStream,
    delay: Duration,
    sender: &SyncSender<Piece>,
    depth: &Mutex<Depth>,
    count: &Mutex<Count>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = from.read(&mut buffer) {
        let due = Instant::now() + delay;
        let epoch = lock(count).epoch;
        let tag = match (direction, &*lock(depth)) {
            (Direction::ToServer, depth) if depth.client_has.0 == epoch => {
                (epoch, depth.client_has.1 + 1)
            }
            (Direction::ToServer, _) => (epoch, 1),
            (Direction::ToClient, depth) => depth.server_has,
        };
        let bytes = buffer.get(..size).unwrap_or_default().to_vec();
        if sender.send(Piece { due, tag, bytes }).is_err() {
            return;
        }
    }
}

fn give(
    direction: Direction,
    mut to: TcpStream,
    receiver: &Receiver<Piece>,
    depth: &Mutex<Depth>,
    count: &Mutex<Count>,
) {
    while let Ok(Piece { due, tag, bytes }) = receiver.recv() {
        pause(due.saturating_duration_since(Instant::now()));
        // Before the bytes are given: who receives them may answer at once.
        match (direction, &mut *lock(depth)) {
            (Direction::ToServer, depth) => depth.server_has = depth.server_has.max(tag),
            (Direction::ToClient, depth) => depth.client_has = depth.client_has.max(tag),
        }
        if direction == Direction::ToClient {
            let mut count = lock(count);
            if count.epoch == tag.0 {
                count.round_trips = count.round_trips.max(tag.1);
            }
        }
        if to.write_all(&bytes).is_err() {
            return;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with itself.
    fn echo_server() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).unwrap() == 1 {
                stream.write_all(&byte).unwrap();
            }
        });
        port
    }

    #[test]
    fn it_delays_each_way_and_counts_what_the_client_waited_for() {
        let delay = Duration::from_millis(10);
        let proxy = DelayProxy::start(echo_server(), delay).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        client.set_nodelay(true).unwrap();
        let mut byte = [0];
        for trips in [1, 3] {
            proxy.reset();
            let start = Instant::now();
            for _ in 0..trips {
                client.write_all(b"x").unwrap();
                client.read_exact(&mut byte).unwrap();
            }
            assert_eq!(proxy.round_trips(), trips);
            assert!(
                start.elapsed() >= delay * 2 * trips,
                "{:?}",
                start.elapsed()
            );
        }
        proxy.reset();
        client.write_all(b"x").unwrap();
        client.write_all(b"y").unwrap();
        client.read_exact(&mut byte).unwrap();
        client.read_exact(&mut byte).unwrap();
        assert_eq!(proxy.round_trips(), 1, "two at once are one round trip");
    }
}
