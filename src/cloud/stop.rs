//! Waiting for an object store, and why it came to nothing.

use std::time::Duration;

use crate::call::{Call, WAIT_SLICE};
use crate::error::Error;

/// Why a request came to nothing.
pub enum Stop {
    /// The caller stopped it, or what he asked for can't be done.
    ByCaller(Error),
    /// There are no credentials; the text says what was looked for.
    NoCredentials(String),
    /// The store refused, or can't be reached.
    ByStore(object_store::Error),
}

impl From<object_store::Error> for Stop {
    fn from(error: object_store::Error) -> Self {
        Stop::ByStore(error)
    }
}

/// Waits for `work`, but not longer than the caller wants.
pub async fn until_stopped<T, E: Into<Stop>>(
    call: Call<'_>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Stop> {
    let mut work = std::pin::pin!(work);
    let slice: Duration = WAIT_SLICE;
    loop {
        match tokio::time::timeout(slice, work.as_mut()).await {
            Ok(outcome) => return outcome.map_err(Into::into),
            Err(_) => call.check().map_err(Stop::ByCaller)?,
        }
    }
}
