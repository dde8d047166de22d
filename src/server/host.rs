//! What the server has to ask of whoever runs it, because only Python can do it. Calls block, so
//! they are made on threads of their own, a few at a time: requests that need no Python never
//! wait for them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime;

/// Whoever runs the server. Its errors may carry what it [`Raised`].
pub trait Host: Send + Sync + 'static {
    /// The answer to a request for features that need Python: on-demand views, and views of
    /// stores that only Feast knows. `body` is that of `POST /get-online-features`, known to be
    /// valid. Gives a serialized `feast.serving.GetOnlineFeaturesResponse`.
    fn read(&self, body: Bytes) -> Result<Vec<u8>>;

    /// Does what is left to do of a write.
    fn write(&self, write: &HostedWrite) -> Result<()>;

    /// Materializes views that only Feast can.
    fn materialize(&self, order: &HostedMaterialization) -> Result<()>;
}

/// A host that is not there: what needs Python is refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHost;

impl NoHost {
    #[cold]
    fn refuse<T>() -> Result<T> {
        Err(Error::new(ErrorKind::NeedsFeast, "only Python can do this, and the server has none"))
    }
}

impl Host for NoHost {
    fn read(&self, _body: Bytes) -> Result<Vec<u8>> {
        Self::refuse()
    }

    fn write(&self, _write: &HostedWrite) -> Result<()> {
        Self::refuse()
    }

    fn materialize(&self, _order: &HostedMaterialization) -> Result<()> {
        Self::refuse()
    }
}

/// What only the host can do of rows for views.
#[derive(Clone, Debug, Default)]
pub struct HostedWrite {
    /// A JSON object whose member `df` holds the rows: columns of a shape that
    /// `pandas.DataFrame` takes.
    pub body: Bytes,
    /// Views that only Feast writes to the online store, each with the reason.
    pub online: BTreeMap<String, String>,
    /// Views to whose batch sources the core adds the rows, once they are a table.
    pub appended: Vec<String>,
    /// Views whose offline store only Feast writes.
    pub offline: Vec<String>,
    /// Feature services whose vectors have to be computed anew after that.
    pub renewed: Vec<String>,
    /// Feast's parameter.
    pub allow_registry_cache: bool,
    /// Feast's parameter.
    pub transform_on_write: bool,
}

impl HostedWrite {
    pub(super) fn is_nothing(&self) -> bool {
        self.online.is_empty()
            && self.appended.is_empty()
            && self.offline.is_empty()
            && self.renewed.is_empty()
    }
}

/// A materialization that only the host can do. Times are microseconds since the epoch.
#[derive(Clone, Debug, Default)]
pub struct HostedMaterialization {
    /// The views.
    pub views: Vec<String>,
    /// Begin of the window; `None`: from where each view's last one ended.
    pub start: Option<i64>,
    /// End of the window.
    pub end: i64,
    /// Feast's parameter.
    pub disable_event_timestamp: bool,
    /// Feast's parameter.
    pub full_feature_names: bool,
    /// Feast's parameter.
    pub version: Option<String>,
}

/// What Python raised, as an answer tells of it: the source of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The HTTP status code of its class: 500 unless Feast has another.
    pub status: u16,
    /// The class of an error of Feast's; `None`: any other.
    pub class: Option<String>,
    /// Its text.
    pub message: String,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Raised {}

impl Raised {
    /// What Python raised, if that is what `error` is about.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }
}

/// A host, and how many calls of it there may be at one time.
#[derive(Clone)]
pub(super) struct HostThreads {
    host: Arc<dyn Host>,
    turns: Arc<Semaphore>,
}

impl HostThreads {
    /// Calls of `host`, at most `at_once` at one time.
    pub fn new(host: Arc<dyn Host>, at_once: usize) -> Self {
        HostThreads { host, turns: Arc::new(Semaphore::new(at_once)) }
    }

    /// What the host makes of `work`, on a thread of its own. Past `deadline` nobody waits for it,
    /// but it has its turn until it ends.
    pub async fn call<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce(&dyn Host) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(ErrorKind::Internal, "a call of Python broke off").with_source(source)
        };
        let host = self.host.clone();
        runtime::within(deadline, async {
            let turn = self.turns.clone().acquire_owned().await;
            let turn = turn.map_err(|source| broken(source.into()))?;
            let call = tokio::task::spawn_blocking(move || {
                let outcome = work(host.as_ref());
                drop(turn);
                outcome
            });
            call.await.map_err(|source| broken(source.into()))?
        })
        .await
    }
}
