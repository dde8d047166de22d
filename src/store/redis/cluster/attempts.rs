//! How often a read of a cluster is tried: as long as it gets on, and as one that does not as
//! long as one answer may take. Must not know lanes or connections.

use super::super::options::Options;
use super::super::primary::MAX_CONNECTS;
use super::super::retry::Retry;
use crate::error::{Error, ErrorKind, Result};

/// The attempts of one read.
pub(super) struct Attempts {
    pub(super) retry: Retry,
    budget: std::time::Duration,
    progress: usize,
    may_be_late: bool,
}

impl Attempts {
    pub(super) fn new(options: &Options) -> Self {
        let (budget, may_be_late) = (options.io_timeout, options.retry_on_timeout);
        Attempts { retry: Retry::new(budget), budget, progress: 0, may_be_late }
    }

    /// After an attempt ended with `error`, the read having got as far as `progress`. The error
    /// comes back as a value where there is to be a pause before the next attempt, of which
    /// `retry` decides; `None`: at once. `is_known`: whether any node of the cluster has ever
    /// answered.
    ///
    /// Errors: `error`, if there is to be no other attempt.
    pub(super) fn judge(
        &mut self,
        error: Error,
        progress: usize,
        is_known: bool,
    ) -> Result<Option<Error>> {
        if progress > self.progress {
            // It goes on, though with interruptions.
            (self.retry, self.progress) = (Retry::new(self.budget), progress);
        }
        if self.retry.failures() + 1 >= MAX_CONNECTS && !is_known {
            return Err(error);
        }
        let is_late = error.kind() == ErrorKind::StoreTimeout;
        match is_late && std::mem::take(&mut self.may_be_late) {
            true => Ok(None),
            false => Ok(Some(error)),
        }
    }
}
