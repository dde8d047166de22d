//! The settings themselves: what feastrs needs of `feature_store.yaml`, already checked.
//!
//! Secrets (a connection string may hold one) live in [`Secret`], which never prints.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Text that must not appear in an error, a log or a `repr`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one who must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The settings of one feature repository.
#[derive(Clone, Debug)]
pub struct RepoConfig {
    /// The project's name.
    pub project: String,
    /// The folder against which relative paths are resolved; `None` for a config that was
    /// given as a mapping without one.
    pub repo_path: Option<PathBuf>,
    /// `provider:`.
    pub provider: String,
    /// `registry:`.
    pub registry: RegistryConfig,
    /// `online_store:`.
    pub online_store: OnlineStoreConfig,
    /// Settings of ours under `online_store:` that hold for every store.
    pub serving: ServingConfig,
    /// `offline_store: type`.
    pub offline_store_type: String,
    /// Settings of ours under `offline_store:`, for sources in object stores.
    pub object_stores: ObjectStoreConfig,
    /// `batch_engine: type`.
    pub batch_engine_type: String,
    /// `entity_key_serialization_version:`, 2 or 3.
    pub entity_key_serialization_version: u8,
    /// `materialization:`.
    pub materialization: MaterializationConfig,
    /// `auth:`.
    pub auth: AuthConfig,
    /// `feature_server: metrics`.
    pub metrics: MetricsConfig,
    /// `feature_server: offline_push_batching_…`; `None`: each push is written offline at once.
    pub offline_batching: Option<OfflineBatching>,
    /// `feature_server: audit_logging`; `None`: there is no audit log.
    pub audit: Option<AuditConfig>,
    /// What the user should be told: unknown top-level keys and the like.
    pub warnings: Vec<String>,
}

/// Offline stores that read the files of a source themselves.
const FILE_STORES: &[&str] = &[
    "file",
    "dask",
    "duckdb",
    "feast.infra.offline_stores.dask.DaskOfflineStore",
    "feast.infra.offline_stores.duckdb.DuckDBOfflineStore",
    "feastrs.feast.FileOfflineStore",
    "feastrs.feast.files.FileOfflineStore",
];

impl RepoConfig {
    /// Whether the offline store is one of files, which the core reads, too.
    pub fn has_file_store(&self) -> bool {
        FILE_STORES.contains(&self.offline_store_type.as_str())
    }
}

/// `registry:`.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// `registry_type`: `file` is ours; any other goes through Feast.
    pub registry_type: String,
    /// A local path, resolved, or a URI.
    pub path: String,
    /// How long a snapshot is used before it is read again; 0 is for ever.
    pub cache_ttl_seconds: u64,
    /// Whether a changed file is read at once, which `cache_mode: sync`, the default, says;
    /// with `thread` only `cache_ttl_seconds` counts, and an object store is asked in the
    /// background.
    pub watches_file: bool,
    /// Whether `s3_additional_kwargs` are given: arguments of boto3 for writes to S3.
    pub has_s3_arguments: bool,
    /// `enable_online_feature_view_versioning`.
    pub enable_online_feature_view_versioning: bool,
    /// `serve_features_while_materializing`.
    pub serve_features_while_materializing: bool,
}

/// `online_store:`.
#[derive(Clone, Debug)]
pub enum OnlineStoreConfig {
    /// `type: sqlite`.
    Sqlite(SqliteConfig),
    /// `type: redis`.
    Redis(RedisConfig),
    /// Switched off with `online_store: null`.
    Disabled,
    /// Any other type: goes through Feast.
    Other(String),
}

/// Settings of the SQLite store.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    /// The database file, resolved.
    pub path: PathBuf,
    /// Ours: `overwrite` (default) or `skip` a row with an equal timestamp.
    pub equal_timestamps_skip: bool,
}

/// Settings of the Redis store, with Feast's names.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// What the connection string leads to.
    pub redis_type: RedisType,
    /// `sentinel_master`: the name that the sentinels give the master.
    pub sentinel_master: String,
    /// `host:port,db=0,ssl=true,password=…`, or a URL.
    pub connection_string: Secret,
    /// `key_ttl_seconds`; `None`: keys live for ever.
    pub key_ttl_seconds: Option<u64>,
    /// `skip_dedup`: write without looking at the stored timestamp.
    pub skip_dedup: bool,
    /// `full_scan_for_deletion`.
    pub full_scan_for_deletion: bool,
    /// Ours: `overwrite` (default) or `skip` a row with an equal timestamp.
    pub equal_timestamps_skip: bool,
    /// Ours: the fields of a row expire with its view's ttl.
    pub field_ttl: bool,
    /// Ours: `auto` (default), `hgetall` or `hmget`.
    pub read_command: ReadCommand,
}

/// How Redis is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedisType {
    /// One server.
    #[default]
    Redis,
    /// A Redis Cluster.
    Cluster,
    /// A master that sentinels watch over.
    Sentinel,
}

impl RedisType {
    /// Feast's names, in the order of the variants.
    pub const NAMES: &[&str] = &["redis", "redis_cluster", "redis_sentinel"];

    /// Feast's name.
    pub fn name(self) -> &'static str {
        match self {
            RedisType::Redis => "redis",
            RedisType::Cluster => "redis_cluster",
            RedisType::Sentinel => "redis_sentinel",
        }
    }
}

/// How a Redis hash is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadCommand {
    /// Whichever costs the server less for what is asked.
    #[default]
    Auto,
    /// The whole hash.
    Hgetall,
    /// Only the fields asked for.
    Hmget,
}

/// Settings of ours that hold for every online store, under `online_store:`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServingConfig {
    /// `online_statuses: feast`: an entity that is not there is `PRESENT` with a null.
    pub feast_statuses: bool,
    /// `enforce_online_ttl`: rows older than the view's `ttl` are `OUTSIDE_MAX_AGE`.
    pub enforce_online_ttl: bool,
}

/// Settings of ours for sources in object stores, under `offline_store:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectStoreConfig {
    /// `s3_region`; `None`: as the environment or the profile says, else asked.
    pub s3_region: Option<String>,
    /// `s3_profile`: a profile of AWS's own files; `None`: as the environment says.
    pub s3_profile: Option<String>,
    /// `anonymous`: send no credentials.
    pub is_anonymous: bool,
}

/// `materialization:`.
#[derive(Clone, Debug)]
pub struct MaterializationConfig {
    /// Feast's `pull_latest_features`.
    pub pull_latest_features: bool,
    /// Feast's `online_write_batch_size`; `None`: ours to choose.
    pub online_write_batch_size: Option<usize>,
    /// Ours: memory for deciding and writing, in MB.
    pub max_memory_mb: u64,
    /// Ours: skip and count rows with a null join key instead of failing.
    pub skip_null_keys: bool,
}

/// `auth:`: who may use the server. Clients' settings in the same block (a user's password, a
/// client's secret) are not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthConfig {
    /// `type: no_auth`: whoever asks.
    #[default]
    NoAuth,
    /// `type: oidc`: who shows a token of the identity provider.
    Oidc(OidcConfig),
    /// Any other type: the server does not start with it.
    Other(String),
}

/// `auth:` of the type `oidc`, as the server uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcConfig {
    /// `auth_discovery_url`; `None` in the settings of a client that brings its own token.
    pub discovery_url: Option<String>,
    /// `client_id`: whose roles under `resource_access` count; `None`: only the roles at the
    /// top of a token do.
    pub client_id: Option<String>,
    /// `verify_ssl`: whether the provider's certificate is checked.
    pub verify_tls: bool,
    /// `ca_cert_path`: whom to trust beside the system's authorities; `None`: nobody.
    pub ca_cert_path: Option<PathBuf>,
    /// `audience`: what a token's `aud` must have; `None`: it is not looked at.
    pub audience: Option<String>,
    /// `issuer`: what a token's `iss` must be; `None`: it is not looked at.
    pub issuer: Option<String>,
    /// `jwks_cache_lifespan_seconds`: how long the provider's keys are used before they are
    /// fetched again.
    pub keys_lifespan: Duration,
    /// `jwks_request_timeout_seconds`: how long the provider may take to answer.
    pub request_timeout: Duration,
}

/// `feature_server: metrics`: which of Feast's metrics are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// `enabled`: also served on a port of their own.
    pub is_enabled: bool,
    /// CPU and memory of the process.
    pub resource: bool,
    /// Requests and their latency.
    pub request: bool,
    /// Online reads: entities, statuses, time in the store.
    pub online_features: bool,
    /// Pushes.
    pub push: bool,
    /// Materializations.
    pub materialization: bool,
    /// How long ago each view was materialized.
    pub freshness: bool,
    /// Retrievals from the offline store.
    pub offline_features: bool,
    /// `feature_count_bins`: upper bounds, growing, of the label `feature_count`.
    pub feature_count_bins: Vec<u64>,
}

/// When rows that wait for the offline store are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfflineBatching {
    /// Once there are so many.
    pub rows: usize,
    /// Or once the first have waited for so long.
    pub interval: Duration,
}

/// Where the server writes who has asked for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Where to.
    pub sink: AuditSink,
    /// `log_successful_reads`.
    pub logs_reads: bool,
}

/// `sink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// Standard output.
    Stdout,
    /// A file, which grows.
    File(PathBuf),
    /// The logger `feast.audit`.
    Logger,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        MetricsConfig {
            is_enabled: false,
            resource: true,
            request: true,
            online_features: true,
            push: true,
            materialization: true,
            freshness: true,
            offline_features: true,
            feature_count_bins: vec![10, 50, 200],
        }
    }
}
