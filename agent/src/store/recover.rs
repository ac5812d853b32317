//! What is done once for a run whose writer died: bytes without an index record get one.
//!
//! Called by the agent when it finds that a run's shim is gone. Nothing is ever cut off: a segment's
//! bytes past the index are what the command wrote in the moment before.

use hpcclient_protocol::run::StreamSizes;

use super::{RunDir, RunWriter, StoreError};

impl RunDir {
    /// Indexes what a dead writer appended without a record, and returns the sizes then. Only when
    /// no shim writes this run.
    ///
    /// # Errors
    /// The operating system refused; what was there before is still there.
    pub fn recover(&self) -> Result<StreamSizes, StoreError> {
        RunWriter::open(self)?.adopt()
    }
}
