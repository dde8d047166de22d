//! A registry that is one object of S3 or Google Cloud Storage.
//!
//! It is fetched only if its ETag is another than before, and replaced only if it is the one
//! that was changed: a store that compares in the same step loses no writer's change, and a
//! look afterwards finds what a store that does not compare has lost.
//!
//! Each call has a client and a current-thread runtime of its own. A registry is asked for every
//! few minutes, so a connection would not be kept anyway; and so there is nothing that a fork
//! could inherit, and no thread that stays.

use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, UpdateVersion};

use crate::call::Call;
use crate::cloud::{self, Cloud, CloudSettings, Purpose, Stop, until_stopped};
use crate::config::RegistryConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::splice::Change;

/// How often a change is made again that somebody was faster than.
const UPDATES: u32 = 8;

/// A registry in an object store.
#[derive(Clone, Debug)]
pub struct RegistryObject {
    cloud: Cloud,
    bucket: String,
    key: Path,
    url: String,
}

/// Bytes, and what they are known by.
struct Fetched {
    bytes: Vec<u8>,
    version: UpdateVersion,
}

impl RegistryObject {
    /// The object that `config.path` names: `s3://bucket/key` or `gs://bucket/key`.
    pub fn open(config: &RegistryConfig) -> Result<Self> {
        let url = &config.path;
        let wrong = || {
            let message = format!("registry '{url}' must be s3://bucket/key or gs://bucket/key");
            Error::new(ErrorKind::InvalidConfig, message)
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let cloud = if scheme == "s3" { Cloud::S3 } else { Cloud::Gcs };
        let (bucket, key) = rest.split_once('/').ok_or_else(wrong)?;
        let key = Path::parse(key).map_err(|_| wrong())?;
        if bucket.is_empty() || key.as_ref().is_empty() {
            return Err(wrong());
        }
        Ok(RegistryObject { cloud, bucket: bucket.to_owned(), key, url: url.clone() })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The bytes and their ETag; `None`: they are those of the ETag `known` still.
    pub fn read(
        &self,
        call: Call<'_>,
        known: Option<String>,
    ) -> Result<Option<(Vec<u8>, Option<String>)>> {
        let fetched =
            self.run(call, Purpose::Read, async |store| self.fetch(store, known).await)?;
        Ok(fetched.map(|fetched| (fetched.bytes, fetched.version.e_tag)))
    }

    /// Makes `change`: again, on the newer registry, if somebody was faster.
    pub fn update(&self, call: Call<'_>, change: &Change) -> Result<()> {
        for _ in 0..UPDATES {
            let fetch = async |store: &dyn ObjectStore| self.fetch(store, None).await;
            let Some(fetched) = self.run(call, Purpose::Read, fetch)? else { continue };
            let changed = change.apply(&fetched.bytes).map_err(|error| self.named(error))?;
            let payload = PutPayload::from(changed);
            let mode = PutMode::Update(fetched.version);
            let options = PutOptions { mode, ..PutOptions::default() };
            let is_written = self.run(call, Purpose::Write, async |store| {
                match store.put_opts(&self.key, payload, options).await {
                    Ok(_) => Ok(true),
                    Err(object_store::Error::Precondition { .. }) => Ok(false),
                    Err(error) => Err(error),
                }
            })?;
            if is_written && self.has(call, change)? {
                return Ok(());
            }
        }
        Err(Error::new(
            ErrorKind::Io,
            format!(
                "the registry '{}' is written over by others all the time; the change is not in it",
                self.url
            ),
        ))
    }

    /// Whether `change` is in the registry: a store may not know conditional writes.
    fn has(&self, call: Call<'_>, change: &Change) -> Result<bool> {
        match self.run(call, Purpose::Read, async |store| self.fetch(store, None).await)? {
            Some(now) => change.is_in(&now.bytes).map_err(|error| self.named(error)),
            None => Ok(false),
        }
    }

    async fn fetch(
        &self,
        store: &dyn ObjectStore,
        known: Option<String>,
    ) -> object_store::Result<Option<Fetched>> {
        let options = GetOptions { if_none_match: known, ..GetOptions::default() };
        match store.get_opts(&self.key, options).await {
            Ok(found) => {
                let version = UpdateVersion {
                    e_tag: found.meta.e_tag.clone(),
                    version: found.meta.version.clone(),
                };
                Ok(Some(Fetched { bytes: found.bytes().await?.to_vec(), version }))
            }
            Err(object_store::Error::NotModified { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs `work` to its end, or until the caller stops it.
    fn run<T: Send>(
        &self,
        call: Call<'_>,
        purpose: Purpose,
        work: impl AsyncFnOnce(&dyn ObjectStore) -> object_store::Result<T> + Send,
    ) -> Result<T> {
        // Of Feast's own, for its registry only.
        let endpoint = std::env::var("FEAST_S3_ENDPOINT_URL").ok().filter(|url| !url.is_empty());
        let settings = CloudSettings { endpoint, ..CloudSettings::default() };
        let failed =
            |source| Error::new(ErrorKind::Internal, "can't start a runtime").with_source(source);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let outcome = runtime.block_on(until_stopped(call, async {
            let store = cloud::open(self.cloud, &self.bucket, purpose, &settings).await?;
            work(store.as_ref()).await.map_err(Stop::from)
        }));
        // A name that is being resolved may hold a thread for a while.
        runtime.shutdown_background();
        outcome.map_err(|stop| match stop {
            Stop::ByCaller(error) => error,
            Stop::NoCredentials(why) => Error::new(ErrorKind::RegistryDenied, why),
            Stop::ByStore(error) => self.refused(error),
        })
    }

    #[cold]
    fn refused(&self, error: object_store::Error) -> Error {
        use object_store::Error as Refused;
        let url = &self.url;
        let kind = match &error {
            Refused::NotFound { .. } => ErrorKind::RegistryNotFound,
            Refused::PermissionDenied { .. } | Refused::Unauthenticated { .. } => {
                ErrorKind::RegistryDenied
            }
            _ => ErrorKind::RegistryUnavailable,
        };
        let text = error.to_string();
        let message = match kind {
            ErrorKind::RegistryNotFound if text.contains("NoSuchBucket") => {
                format!("there is no bucket '{}', where the registry '{url}' is to be", self.bucket)
            }
            ErrorKind::RegistryNotFound => format!(
                "no registry at '{url}'; run 'feast apply' in the feature repository, or correct \
                 'registry' in feature_store.yaml"
            ),
            ErrorKind::RegistryDenied => format!(
                "the credentials of this process may not use the registry '{url}'; give it some \
                 as for {}",
                self.cloud.tool()
            ),
            _ => return Error::new(kind, format!("the registry '{url}' can't be reached: {text}")),
        };
        Error::new(kind, message)
    }

    /// `error` with the address of the registry.
    pub(super) fn named(&self, error: Error) -> Error {
        error.context(format!("registry '{}'", self.url))
    }
}
