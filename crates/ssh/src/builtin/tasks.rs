//! The tasks of one login: the pumps of its channels, and what looks after its programs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the tasks may take to end.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// Clones share their tasks.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    pub(super) tracker: TaskTracker,
    /// Ends them.
    pub(super) stop: CancellationToken,
}

impl Tasks {
    /// Ends all tasks and waits for that.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        let _ = tokio::time::timeout(END_DEADLINE, self.tracker.wait()).await;
    }
}
