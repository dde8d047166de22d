//! A bucket of an object store, or a web server, that a source is in: what is there, and ranges
//! of it. Must not know what the bytes mean.
//!
//! It has a thread of its own for as long as the source is read, so that bytes come while others
//! are decoded, and nothing stays behind afterwards.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    UpdateVersion,
};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::call::{Call, Interrupt};
use crate::cloud::{self, Cloud, CloudSettings, Purpose, Stop, until_stopped};
use crate::error::{Error, ErrorKind, Result};

/// Requests at one time.
const REQUESTS: usize = 16;

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub cloud: Cloud,
    /// The bucket, or host and port.
    pub bucket: String,
    /// The path within it.
    pub key: String,
}

impl Address {
    /// The address that `path` is; `None` if it is none of an object store.
    pub fn parse(path: &str) -> Option<Self> {
        let (scheme, rest) = path.split_once("://")?;
        let cloud = Cloud::of_scheme(scheme)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        Some(Address { cloud, bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

/// What an object is known by, as long as it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectStamp {
    pub bytes: u64,
    e_tag: Option<String>,
    // Where the store gives no ETag.
    modified: Option<DateTime<Utc>>,
}

impl ObjectStamp {
    fn of(meta: &ObjectMeta) -> Self {
        let modified = meta.e_tag.is_none().then_some(meta.last_modified);
        ObjectStamp { bytes: meta.size, e_tag: meta.e_tag.clone(), modified }
    }

    /// The ETag to ask for. A weak one equals nothing, not even itself (RFC 9110, 13.1.1).
    fn strong_e_tag(&self) -> Option<String> {
        self.e_tag.clone().filter(|tag| !tag.starts_with("W/"))
    }
}

/// The client side of one bucket.
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    permits: Arc<Semaphore>,
    // None only while it is being dropped.
    runtime: Option<Runtime>,
    stop: StopSwitch,
    cloud: Cloud,
    name: String,
}

/// Ends waiting for a bucket, from any thread.
#[derive(Clone, Debug, Default)]
pub struct StopSwitch(Arc<AtomicBool>);

impl StopSwitch {
    /// Ends all waiting, now and later.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Interrupt for StopSwitch {
    fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Interrupted, "stopped")),
            false => Ok(()),
        }
    }
}

impl Bucket {
    /// A client for the bucket of `address`.
    pub fn open(
        address: &Address,
        settings: &CloudSettings,
        purpose: Purpose,
        call: &Call<'_>,
    ) -> Result<Self> {
        // It is shut down in the background, as a name that is being resolved may hold a thread.
        let runtime = runtime()?;
        let (cloud, name) = (address.cloud, address.bucket.clone());
        let opened = cloud::open(cloud, &name, purpose, settings);
        let outcome = runtime.block_on(until_stopped(*call, opened));
        let store = match outcome {
            Ok(store) => store.into(),
            Err(stop) => {
                runtime.shutdown_background();
                return Err(refused(cloud, &format!("{}://{name}", cloud.scheme()), stop));
            }
        };
        Ok(Bucket::of(store, runtime, cloud, name))
    }

    fn of(store: Arc<dyn ObjectStore>, runtime: Runtime, cloud: Cloud, name: String) -> Self {
        let permits = Arc::new(Semaphore::new(REQUESTS));
        let stop = StopSwitch::default();
        Bucket { store, permits, runtime: Some(runtime), stop, cloud, name }
    }

    /// A bucket in memory, for tests.
    #[cfg(test)]
    pub fn in_memory(store: Arc<dyn ObjectStore>) -> Self {
        Bucket::of(store, runtime().unwrap(), Cloud::S3, "bucket".to_owned())
    }

    /// What to tell a user of the object at `key`.
    pub fn url(&self, key: &str) -> String {
        format!("{}://{}/{key}", self.cloud.scheme(), self.name)
    }

    /// Whether the keys of the bucket can be listed.
    pub fn can_list(&self) -> bool {
        self.cloud.has_buckets()
    }

    /// Ends waiting for this bucket.
    pub fn stop(&self) -> &StopSwitch {
        &self.stop
    }

    /// Size and the like of the object at `key`; `None`: there is none.
    pub fn head(&self, key: &str, call: &Call<'_>) -> Result<Option<ObjectMeta>> {
        let path = self.path(key)?;
        match self.wait(call, async { self.store.head(&path).await }) {
            Ok(meta) => Ok(Some(meta)),
            Err(Stop::ByStore(object_store::Error::NotFound { .. })) => Ok(None),
            Err(stop) => Err(self.refused(key, stop)),
        }
    }

    /// All objects below the folder `prefix`; everything, where that is empty.
    pub fn list(&self, prefix: &str, call: &Call<'_>) -> Result<Vec<ObjectMeta>> {
        let path = self.path(prefix)?;
        let below = (!path.as_ref().is_empty()).then_some(&path);
        let listed = self.wait(call, self.store.list(below).try_collect());
        listed.map_err(|stop| self.refused(prefix, stop))
    }

    /// The bytes of the object at `key`, and the version to be replaced by a [`Bucket::put`].
    pub fn get(&self, key: &str, call: &Call<'_>) -> Result<(Bytes, UpdateVersion)> {
        let path = self.path(key)?;
        let got = self.wait(call, async {
            let found = self.store.get(&path).await?;
            let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
            Ok::<_, object_store::Error>((found.bytes().await?, UpdateVersion { e_tag, version }))
        });
        got.map_err(|stop| self.refused(key, stop))
    }

    /// Writes the object at `key`; `false`: it is not the version that `mode` asks for.
    pub fn put(&self, key: &str, bytes: Bytes, mode: PutMode, call: &Call<'_>) -> Result<bool> {
        let path = self.path(key)?;
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.wait(call, self.store.put_opts(&path, bytes.into(), options)) {
            Ok(_) => Ok(true),
            Err(Stop::ByStore(object_store::Error::Precondition { .. })) => Ok(false),
            Err(stop) => Err(self.refused(key, stop)),
        }
    }

    /// Runs `work` on this thread, until it is done or the caller stops it.
    pub fn wait<T, E: Into<Stop>>(
        &self,
        call: &Call<'_>,
        work: impl Future<Output = std::result::Result<T, E>>,
    ) -> std::result::Result<T, Stop> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(until_stopped(*call, work)),
            None => Err(Stop::ByCaller(Error::new(ErrorKind::Internal, "the bucket is closed"))),
        }
    }

    /// Begins to fetch bytes of an object; the answer waits until it is asked for.
    pub fn fetch(&self, key: &Path, range: Range<u64>, stamp: &ObjectStamp) -> Fetch {
        let (store, permits) = (Arc::clone(&self.store), Arc::clone(&self.permits));
        let (key, stamp) = (key.clone(), stamp.clone());
        let work = async move {
            // It is never closed.
            let _turn = permits.acquire().await.ok();
            let (bytes, found) =
                get(store.as_ref(), &key, range.clone(), stamp.strong_e_tag()).await?;
            let is_same = found == stamp && bytes.len() as u64 == range.end - range.start;
            Ok(is_same.then_some(bytes))
        };
        Fetch { task: self.runtime.as_ref().map(|runtime| runtime.spawn(work)) }
    }

    /// The bytes of a [`Bucket::fetch`]; `None`: the object is not what it was.
    pub fn finish(&self, key: &Path, mut fetch: Fetch) -> Result<Option<Bytes>> {
        let Some(task) = fetch.task.take() else { return Ok(None) };
        let call = Call { deadline: None, interrupt: &self.stop };
        let joined = self.wait(&call, async {
            let join = task.await;
            join.unwrap_or_else(|cause| {
                Err(object_store::Error::Generic { store: "fetch", source: cause.into() })
            })
        });
        match joined {
            Ok(bytes) => Ok(bytes),
            Err(Stop::ByStore(
                object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. },
            )) => Ok(None),
            Err(stop) => Err(self.refused(key.as_ref(), stop)),
        }
    }

    /// Bytes of an object that is not known yet, and what it is known by.
    pub async fn look(
        &self,
        key: &Path,
        range: Range<u64>,
    ) -> object_store::Result<(Bytes, ObjectStamp)> {
        get(self.store.as_ref(), key, range, None).await
    }

    /// The path of `key`.
    pub fn path(&self, key: &str) -> Result<Path> {
        Path::parse(key.trim_end_matches('/')).map_err(|cause| {
            let message = format!("'{}' can't be an object's address", self.url(key));
            Error::new(ErrorKind::SourceNotFound, message).with_source(cause)
        })
    }

    /// The error to tell for the object at `key`.
    #[cold]
    pub fn refused(&self, key: &str, stop: Stop) -> Error {
        refused(self.cloud, &self.url(key), stop)
    }
}

fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_name("feastrs-fetch").enable_all();
    builder.build().map_err(|cause| {
        Error::new(ErrorKind::Io, "can't start a thread that fetches sources").with_source(cause)
    })
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Bytes that are on their way. They are not fetched any further when this is dropped.
pub(super) struct Fetch {
    task: Option<tokio::task::JoinHandle<object_store::Result<Option<Bytes>>>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn get(
    store: &dyn ObjectStore,
    key: &Path,
    range: Range<u64>,
    if_match: Option<String>,
) -> object_store::Result<(Bytes, ObjectStamp)> {
    let range = Some(GetRange::Bounded(range));
    let options = GetOptions { range, if_match, ..GetOptions::default() };
    let found = store.get_opts(key, options).await?;
    let stamp = ObjectStamp::of(&found.meta);
    Ok((found.bytes().await?, stamp))
}

#[cold]
fn refused(cloud: Cloud, url: &str, stop: Stop) -> Error {
    use object_store::Error as Refused;
    let denied = |why: String| {
        Error::new(
            ErrorKind::SourceDenied,
            format!(
                "the source '{url}' may not be used: {why}; give this process credentials as for \
                 {}, or set `offline_store: {{anonymous: true}}` for what is public",
                cloud.tool()
            ),
        )
    };
    match stop {
        Stop::ByCaller(error) => error,
        Stop::NoCredentials(why) => denied(why),
        Stop::ByStore(Refused::NotFound { .. }) => {
            Error::new(ErrorKind::SourceNotFound, format!("there is no '{url}'"))
        }
        Stop::ByStore(Refused::PermissionDenied { .. } | Refused::Unauthenticated { .. }) => {
            denied("the store refused".to_owned())
        }
        Stop::ByStore(error) => {
            let message = format!("the source '{url}' can't be reached: {error}");
            Error::new(ErrorKind::SourceUnavailable, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        let parse = |path: &str| Address::parse(path).map(|a| (a.cloud, a.bucket, a.key));
        let of = |cloud, bucket: &str, key: &str| Some((cloud, bucket.to_owned(), key.to_owned()));
        assert_eq!(parse("s3://b/a/x.parquet"), of(Cloud::S3, "b", "a/x.parquet"));
        assert_eq!(parse("gs://b"), of(Cloud::Gcs, "b", ""));
        assert_eq!(parse("https://h:80/x"), of(Cloud::Https, "h:80", "x"));
        for path in ["data/x.parquet", "/x", "file:///x", "hdfs://h/x"] {
            assert_eq!(parse(path), None);
        }
    }
}
