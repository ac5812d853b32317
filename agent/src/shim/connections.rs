//! The shim's control socket and who is connected to it.
//!
//! Invariants: the shim never waits for an agent: news that does not fit a full socket is kept as the
//! newest state of each run and sent later; at most eight connections, all of this user.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hpcclient_protocol::{RunId, run::StreamSizes};
use rustix::net::sockopt::socket_peercred;

use super::control::{Decoder, FromShim, ToShim, encode};
use crate::store::RunRecord;

const MAX_CONNECTIONS: usize = 8;
/// News is encoded only while less than this waits in a connection.
const FULL: usize = 64 << 10;
/// A peer that lets this much wait is dropped.
const HOPELESS: usize = 4 << 20;
/// How long nobody is let in after the system had no descriptor for one more: it is asked again and
/// again otherwise.
const REST: Duration = Duration::from_secs(1);

/// A run's record, its sizes, and what the disk has of them.
type News = (Box<RunRecord>, StreamSizes, Option<StreamSizes>);

/// One peer.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) stream: UnixStream,
    decoder: Decoder<ToShim>,
    out: Vec<u8>,
    news: BTreeMap<RunId, News>,
    closed: bool,
}

impl Connection {
    /// Returns whether something waits to be sent.
    pub(super) fn wants_write(&self) -> bool {
        !self.out.is_empty() || !self.news.is_empty()
    }

    fn send(&mut self, message: &FromShim) {
        // A message of ours that does not fit its limits has a bug's size; the peer sees the rest.
        if let Ok(bytes) = encode(message, b"") {
            self.out.extend_from_slice(&bytes);
        }
        self.closed |= self.out.len() > HOPELESS;
    }

    fn flush(&mut self) {
        loop {
            while self.out.len() < FULL {
                let Some((run, (record, sizes, durable))) = self.news.pop_first() else {
                    break;
                };
                self.send(&FromShim::Changed {
                    run,
                    record,
                    sizes,
                    durable,
                });
            }
            if self.out.is_empty() || self.closed {
                return;
            }
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.closed = true,
            }
        }
    }
}

/// The listening socket and its connections.
pub(super) struct Connections {
    listener: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
    peers: Vec<Connection>,
    count: u64,
    rests_until: Option<Instant>,
}

impl Connections {
    /// Listens at a path; the caller's umask makes it private.
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        // Whoever had this name before us is gone, or is a session's shim that is ending.
        if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            inode: inode(path)?,
            peers: vec![],
            count: 0,
            rests_until: None,
        })
    }

    /// Returns the socket to wait at, unless it rests.
    pub(super) fn listener(&self) -> Option<&UnixListener> {
        self.rests_until.is_none().then_some(&self.listener)
    }

    /// Returns when to look at the socket again without any event.
    pub(super) const fn wakes_at(&self) -> Option<Instant> {
        self.rests_until
    }

    /// Does what the clock asks for.
    pub(super) fn on_time(&mut self, now: Instant) {
        self.rests_until = self.rests_until.filter(|until| *until > now);
    }

    pub(super) fn peers(&self) -> &[Connection] {
        &self.peers
    }

    /// Takes a connection that exists and greets it.
    pub(super) fn adopt(&mut self, stream: UnixStream, hello: &FromShim) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.peers.len() >= MAX_CONNECTIONS {
            // The oldest is an agent that was replaced without a word.
            self.peers.remove(0);
        }
        self.count += 1;
        let mut peer = Connection {
            id: self.count,
            stream,
            decoder: Decoder::default(),
            out: vec![],
            news: BTreeMap::new(),
            closed: false,
        };
        peer.send(hello);
        peer.flush();
        self.peers.push(peer);
    }

    /// Takes every new connection of this user.
    pub(super) fn accept(&mut self, hello: &FromShim) {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let mine = socket_peercred(&stream)
                        .is_ok_and(|peer| peer.uid == rustix::process::getuid());
                    if mine {
                        self.adopt(stream, hello);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.rests_until = Some(Instant::now() + REST);
                        return;
                    }
                },
            }
        }
    }

    /// Reads one connection and returns its whole messages.
    pub(super) fn receive(&mut self, id: u64) -> Vec<(ToShim, Vec<u8>)> {
        let mut messages = vec![];
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) else {
            return messages;
        };
        let mut buffer = [0; 16 << 10];
        // A bounded number of reads: a chatty agent must not keep the output waiting.
        for _ in 0..16 {
            match peer.stream.read(&mut buffer) {
                Ok(0) => peer.closed = true,
                Ok(count) => {
                    peer.decoder.push(buffer.get(..count).unwrap_or_default());
                    if count == buffer.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => peer.closed = true,
            }
            break;
        }
        loop {
            match peer.decoder.next_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => {
                    peer.closed = true;
                    break;
                }
            }
        }
        messages
    }

    /// Remembers a run's newest state for everybody.
    pub(super) fn announce(
        &mut self,
        run: RunId,
        record: &RunRecord,
        sizes: StreamSizes,
        durable: Option<StreamSizes>,
    ) {
        for peer in &mut self.peers {
            peer.news
                .insert(run, (Box::new(record.clone()), sizes, durable));
        }
    }

    /// Sends a message to everybody.
    pub(super) fn broadcast(&mut self, message: &FromShim) {
        for peer in &mut self.peers {
            peer.send(message);
        }
    }

    /// Writes what the sockets take now, and forgets those that are closed.
    pub(super) fn flush(&mut self) {
        for peer in &mut self.peers {
            peer.flush();
        }
        self.peers.retain(|peer| !peer.closed);
    }

    /// Gives up the name, for the next shim of a session: nobody connects here any more.
    pub(super) fn hide(&self) {
        if inode(&self.path).is_ok_and(|there| there == self.inode) {
            // Should it stay, the next one removes it.
            drop(fs::remove_file(&self.path));
        }
    }

    /// Returns whether everything has been sent.
    pub(super) fn is_flushed(&self) -> bool {
        !self.peers.iter().any(Connection::wants_write)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.hide();
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Takes descriptor 0 as the first connection, if it is a socket, and puts `/dev/null` there.
pub(super) fn first() -> Option<UnixStream> {
    let stdin = rustix::stdio::stdin();
    rustix::net::sockopt::socket_type(stdin).ok()?;
    let fd: OwnedFd = rustix::io::fcntl_dupfd_cloexec(stdin, 3).ok()?;
    let null = fs::File::open("/dev/null").ok()?;
    rustix::stdio::dup2_stdin(&null).ok()?;
    Some(UnixStream::from(fd))
}
