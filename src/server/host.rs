//! What the server has to ask of whoever runs it, because only Python can do it. Calls block, so
//! they run on threads of their own: requests that need no Python never wait for them.

use bytes::Bytes;

use crate::error::Result;

/// Whoever runs the server.
pub trait Host: Send + Sync + 'static {
    /// The answer to a request for features that need Python: on-demand views, and views of
    /// stores that only Feast knows. `body` is that of `POST /get-online-features`, known to be
    /// valid. Gives a serialized `feast.serving.GetOnlineFeaturesResponse`.
    fn read(&self, body: Bytes) -> Result<Vec<u8>>;
}
