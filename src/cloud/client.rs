//! Clients of object stores, with the settings and credentials that Feast's own clients (boto3,
//! google-cloud-storage) would find: environment variables, AWS's profile files, what the
//! machine or the container has.

use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::ClientOptions;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{ObjectStore, RetryConfig};

use super::profile::Profile;
use super::scheme::Cloud;
use super::stop::Stop;
use crate::error::{Error, ErrorKind};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take, its answer included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a request that may succeed when repeated is repeated.
const RETRIES: usize = 3;
/// The same for a write: Google's store takes one a second of the same object and refuses more.
const WRITE_RETRIES: usize = 10;
/// After this time nothing is repeated any more.
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

/// What a client is for: it tells how often a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Only to read.
    Read,
    /// To write, too.
    Write,
}

/// What is said of an object store besides its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudSettings {
    /// An S3 endpoint, as `host:port` or a URL. `None`: as the environment says, else Amazon's.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket. `None`: as the environment or the profile says, else asked.
    pub region: Option<String>,
    /// A profile of AWS's own files. `None`: as the environment says.
    pub profile: Option<String>,
    /// Send no credentials: for buckets that are public.
    pub is_anonymous: bool,
}

/// A client for one bucket. It may ask which region the bucket is in.
pub async fn open(
    cloud: Cloud,
    bucket: &str,
    purpose: Purpose,
    settings: &CloudSettings,
) -> Result<Box<dyn ObjectStore>, Stop> {
    // TLS needs to be told who does the cryptography; whoever was first with it is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cloud {
        Cloud::S3 => s3(bucket, purpose, settings).await,
        Cloud::Gcs => Ok(Box::new(gcs(bucket, purpose, settings, &variable)?)),
        Cloud::Http | Cloud::Https => {
            let url = format!("{}://{bucket}", cloud.scheme());
            let builder = HttpBuilder::new().with_url(url);
            Ok(Box::new(
                builder
                    .with_client_options(client_options())
                    .with_retry(retries(purpose))
                    .build()?,
            ))
        }
    }
}

/// The value of an environment variable; `None` also if it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn s3(
    bucket: &str,
    purpose: Purpose,
    settings: &CloudSettings,
) -> Result<Box<dyn ObjectStore>, Stop> {
    let endpoint = settings
        .endpoint
        .clone()
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        // pyarrow's `endpoint_override` needs no scheme.
        .map(|url| if url.contains("://") { url } else { format!("https://{url}") });
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client_options())
        .with_retry(retries(purpose));
    if let Some(region) = &settings.region {
        builder = builder.with_region(region);
    }
    let has_credentials = variable("AWS_ACCESS_KEY_ID").is_some()
        || variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
    if settings.is_anonymous {
        builder = builder.with_skip_signature(true);
    } else if settings.profile.is_some() || !has_credentials {
        let profile = Profile::load(settings.profile.as_deref(), &variable);
        builder = with_profile(builder, &profile.map_err(Stop::NoCredentials)?, settings)?;
    }
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() && endpoint.is_none() {
        let region = object_store::aws::resolve_bucket_region(bucket, &client_options()).await?;
        builder = builder.with_region(region);
    }
    Ok(Box::new(builder.build()?))
}

fn with_profile(
    builder: AmazonS3Builder,
    profile: &Profile,
    chosen: &CloudSettings,
) -> Result<AmazonS3Builder, Stop> {
    if let Some(how) = profile.needs_sdk() {
        let message = format!("the AWS profile '{}' has {how}, which is boto3's", profile.name);
        return Err(Stop::ByCaller(Error::new(ErrorKind::NeedsFeast, message)));
    }
    let settings = [
        ("aws_access_key_id", AmazonS3ConfigKey::AccessKeyId),
        ("aws_secret_access_key", AmazonS3ConfigKey::SecretAccessKey),
        ("aws_session_token", AmazonS3ConfigKey::Token),
        ("region", AmazonS3ConfigKey::Region),
    ];
    Ok(settings.into_iter().fold(builder, |builder, (name, key)| {
        // A profile that is asked for goes before the environment, but for the region chosen.
        let is_free = match key {
            AmazonS3ConfigKey::Region if chosen.region.is_some() => false,
            _ => chosen.profile.is_some() || builder.get_config_value(&key).is_none(),
        };
        match profile.get(name) {
            Some(value) if is_free => builder.with_config(key, value),
            _ => builder,
        }
    }))
}

fn gcs(
    bucket: &str,
    purpose: Purpose,
    settings: &CloudSettings,
    variable: &dyn Fn(&str) -> Option<String>,
) -> object_store::Result<impl ObjectStore + use<>> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client_options())
        .with_retry(retries(purpose));
    // As google-cloud-storage has it, for an emulator, which takes any credentials. Without some,
    // object_store asks the machine for them before it writes.
    if let Some(host) = variable("STORAGE_EMULATOR_HOST") {
        let url = if host.contains("://") { host } else { format!("http://{host}") };
        builder = builder.with_base_url(&url).with_bearer_token("emulator");
    } else if settings.is_anonymous {
        builder = builder.with_skip_signature(true);
    }
    builder.build()
}

/// An endpoint may be one of `http://`: inside a cluster, or in a test.
fn client_options() -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(REQUEST_TIMEOUT)
}

fn retries(purpose: Purpose) -> RetryConfig {
    let max_retries = match purpose {
        Purpose::Read => RETRIES,
        Purpose::Write => WRITE_RETRIES,
    };
    RetryConfig { max_retries, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}
