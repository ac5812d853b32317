//! How many runs are read at the same time: as many as this process may have files for.
//!
//! Used by `follow`. A run that waits for its turn has nothing to read, and its viewers cost no file.
//! Invariants: all readers together stay below four fifths of RLIMIT_NOFILE, with room for the
//! connections of viewers and shims; whoever is refused is told, nobody waits unseen.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::RunError;

/// The places for readers.
#[derive(Clone, Debug)]
pub(super) struct Readers(Arc<Semaphore>);

/// A reader's place, taken when it first reads.
#[derive(Debug)]
pub(super) struct Seat {
    readers: Readers,
    taken: Option<OwnedSemaphorePermit>,
}

impl Readers {
    /// Makes as many places as there are files for.
    pub(super) fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self(Arc::new(Semaphore::new(places(limit))))
    }

    /// Returns a place that is not taken yet.
    pub(super) fn seat(&self) -> Seat {
        Seat {
            readers: self.clone(),
            taken: None,
        }
    }
}

impl Seat {
    /// Takes the place, once.
    pub(super) fn take(&mut self) -> Result<(), RunError> {
        if self.taken.is_none() {
            let place = Arc::clone(&self.readers.0).try_acquire_owned();
            self.taken = Some(place.map_err(|_| RunError::TooManyReaders)?);
        }
        Ok(())
    }
}

fn places(limit: u64) -> usize {
    let rest = (limit / 5 * 4).saturating_sub(OTHER_FILES) / FILES_OF_ONE;
    usize::try_from(rest).unwrap_or(MOST).clamp(FEWEST, MOST)
}

/// The index and the segments of two streams.
const FILES_OF_ONE: u64 = 3;

/// 128 connections, 100 shims, and what the agent itself has open.
const OTHER_FILES: u64 = 300;

const FEWEST: usize = 16;

const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_leave_room_below_the_limit() {
        for limit in [0, 64, 256, 1024, 4096, 1 << 20, u64::MAX] {
            let files = places(limit) as u64 * FILES_OF_ONE + OTHER_FILES;
            assert!(limit < 1024 || files <= limit / 5 * 4, "{limit}: {files}");
        }
        assert_eq!(
            (places(256), places(1024), places(u64::MAX)),
            (16, 172, 1024)
        );
    }

    #[test]
    fn a_place_is_taken_once_and_given_back() {
        let readers = Readers(Arc::new(Semaphore::new(1)));
        let (mut one, mut two) = (readers.seat(), readers.seat());
        one.take().unwrap();
        one.take().unwrap();
        assert!(matches!(two.take(), Err(RunError::TooManyReaders)));
        drop(one);
        two.take().unwrap();
    }
}
