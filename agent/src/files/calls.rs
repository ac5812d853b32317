//! Runs file system calls where they may hang without harm.
//!
//! Called by `http/files` around everything that touches the disk. Invariants: at most
//! [`Calls::LIMIT`] calls hold a thread; a call that was given up still counts until it returns.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use super::FileError;

/// Room for calls of the file system.
#[derive(Clone, Debug)]
pub struct Calls {
    room: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Calls {
    fn default() -> Self {
        Self::with_patience(Duration::from_secs(30))
    }
}

impl Calls {
    /// How many calls may run at a time.
    pub const LIMIT: usize = 8;

    /// Makes room with a given time for each call, of which half may be spent waiting for room.
    #[must_use]
    pub fn with_patience(patience: Duration) -> Self {
        let room = Arc::new(Semaphore::new(Self::LIMIT));
        Self { room, patience }
    }

    /// Makes room for so many calls at a time.
    #[must_use]
    pub fn with_room(limit: usize) -> Self {
        let room = Arc::new(Semaphore::new(limit));
        Self {
            room,
            ..Self::default()
        }
    }

    /// Runs `call` on a blocking thread.
    ///
    /// # Errors
    /// What the call says, or [`FileError::NoAnswer`] when it takes too long.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let room = timeout(self.patience / 2, Arc::clone(&self.room).acquire_owned());
        let Ok(Ok(permit)) = room.await else {
            return Err(FileError::NoAnswer);
        };
        let work = crate::tasks::blocking(move || {
            let result = call();
            drop(permit);
            result
        });
        match timeout(self.patience, work).await {
            Ok(Ok(result)) => result,
            // The runtime ends or the call takes too long; both are no answer to the viewer.
            Ok(Err(_)) | Err(_) => Err(FileError::NoAnswer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn calls_that_hang_leave_the_others_an_answer() {
        let calls = Calls::with_patience(Duration::from_millis(20));
        let mut hung = vec![];
        for _ in 0..Calls::LIMIT {
            let (release, wait) = mpsc::channel::<()>();
            let answer = calls.run(move || {
                let _ = wait.recv();
                Ok(())
            });
            assert!(matches!(answer.await, Err(FileError::NoAnswer)));
            hung.push(release);
        }
        assert!(matches!(
            calls.run(|| Ok(())).await,
            Err(FileError::NoAnswer)
        ));
        hung.clear();
        let mut answer = calls.run(|| Ok(1)).await;
        while answer.is_err() {
            answer = calls.run(|| Ok(1)).await;
        }
        assert_eq!(answer.unwrap(), 1);
    }
}
