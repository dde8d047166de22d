//! Clients of object stores, with the settings and credentials that Feast's own clients (boto3,
//! google-cloud-storage) would find: environment variables, AWS's profile files, what the
//! machine or the container has.

use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::ClientOptions;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectStore, RetryConfig};

use super::profile::Profile;
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

/// Whose object store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Gcs,
}

impl Cloud {
    /// The tool that finds credentials as we do.
    pub(super) fn tool(self) -> &'static str {
        match self {
            Cloud::S3 => "the AWS command line",
            Cloud::Gcs => "gcloud (application default credentials)",
        }
    }
}

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

/// Why a request came to nothing.
pub(super) enum Stop {
    ByCaller(Error),
    ByStore(object_store::Error),
}

impl From<object_store::Error> for Stop {
    fn from(error: object_store::Error) -> Self {
        Stop::ByStore(error)
    }
}

/// A client for one bucket. It may ask which region the bucket is in.
pub(super) async fn open(
    cloud: Cloud,
    bucket: &str,
    purpose: Purpose,
) -> Result<Box<dyn ObjectStore>, Stop> {
    // TLS needs to be told who does the cryptography; whoever was first with it is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cloud {
        Cloud::S3 => s3(bucket, purpose).await,
        Cloud::Gcs => Ok(Box::new(gcs(bucket, purpose, &variable)?)),
    }
}

/// The value of an environment variable; `None` also if it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn s3(bucket: &str, purpose: Purpose) -> Result<Box<dyn ObjectStore>, Stop> {
    let endpoint = variable("FEAST_S3_ENDPOINT_URL")
        .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| variable("AWS_ENDPOINT_URL"));
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client_options())
        .with_retry(retries(purpose));
    if variable("AWS_ACCESS_KEY_ID").is_none() && variable("AWS_WEB_IDENTITY_TOKEN_FILE").is_none()
    {
        let profile = Profile::load(&variable).map_err(Stop::ByCaller)?;
        builder = with_profile(builder, &profile)?;
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

fn with_profile(builder: AmazonS3Builder, profile: &Profile) -> Result<AmazonS3Builder, Stop> {
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
        match (builder.get_config_value(&key), profile.get(name)) {
            (None, Some(value)) => builder.with_config(key, value),
            _ => builder,
        }
    }))
}

fn gcs(
    bucket: &str,
    purpose: Purpose,
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
