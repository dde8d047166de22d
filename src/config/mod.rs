//! `feature_store.yaml`: what feastrs needs of it, with Feast's names and defaults.
//!
//! `locate` finds the file, `variables` expands `$VAR`, `section` reads one mapping with
//! checked types, `load`, `online`, `auth` and `metrics` turn sections into `settings`. Must not know how the
//! settings are used: no connection is opened and no file but the YAML is looked at.

mod auth;
mod feature_server;
mod load;
mod locate;
mod online;
mod section;
mod settings;
mod variables;

pub use locate::locate;
pub use settings::{
    AuditConfig, AuditSink, AuthConfig, MaterializationConfig, MetricsConfig, ObjectStoreConfig,
    OfflineBatching, OidcConfig, OnlineStoreConfig, ReadCommand, RedisConfig, RedisType,
    RegistryConfig, RepoConfig, Secret, ServingConfig, SqliteConfig,
};
