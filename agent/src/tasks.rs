//! Tasks of the runtime and work for its blocking threads, each of one type.
//!
//! Called wherever the agent starts something. The scheduler's code is made anew for each type of task that is given to
//! it, a kilobyte or two of a binary that has to travel to the node; a box costs nothing beside what a task does.
//! Invariants: every task is one that the stop waits for.

use std::pin::Pin;

use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// Starts tasks and waits for them; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Starts a task.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let task: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(task);
        self.0.spawn(task)
    }

    /// Runs a future that somebody else polls, as a task of these.
    pub async fn track<T>(&self, task: impl Future<Output = T>) -> T {
        self.0.track_future(task).await
    }

    /// Says that no more are started, so that [`Self::wait`] can end.
    pub fn close(&self) {
        self.0.close();
    }

    /// Waits until all have ended.
    pub async fn wait(&self) {
        self.0.wait().await;
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Starts work on a blocking thread, at once. What is returned ends with an error when the agent stopped before it began.
pub fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    // Whoever asked may be gone.
    let work: Box<dyn FnOnce() + Send> = Box::new(move || drop(answer.send(work())));
    tokio::task::spawn_blocking(work);
    answered
}
