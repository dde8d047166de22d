//! The settings of a repository as nested dicts, for `feastrs.config.RepoConfig`.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::config::{OnlineStoreConfig, ReadCommand, RedisConfig, RepoConfig};

/// All settings, defaults included, under Feast's names. A connection string is in it as it is:
/// whoever prints the result hides it.
pub fn to_dict<'py>(py: Python<'py>, config: &RepoConfig) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    all.set_item("project", &config.project)?;
    all.set_item("provider", &config.provider)?;
    all.set_item("repo_path", config.repo_path.as_ref().map(|path| path.display().to_string()))?;
    all.set_item("registry", registry(py, config)?)?;
    all.set_item("online_store", online_store(py, config)?)?;
    all.set_item("offline_store", with_type(py, &config.offline_store_type)?)?;
    all.set_item("batch_engine", with_type(py, &config.batch_engine_type)?)?;
    all.set_item("entity_key_serialization_version", config.entity_key_serialization_version)?;
    all.set_item("materialization", materialization(py, config)?)?;
    Ok(all)
}

fn with_type<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let section = PyDict::new(py);
    section.set_item("type", name)?;
    Ok(section)
}

fn registry<'py>(py: Python<'py>, config: &RepoConfig) -> PyResult<Bound<'py, PyDict>> {
    let settings = &config.registry;
    let section = PyDict::new(py);
    section.set_item("registry_type", &settings.registry_type)?;
    section.set_item("path", &settings.path)?;
    section.set_item("cache_ttl_seconds", settings.cache_ttl_seconds)?;
    section.set_item(
        "enable_online_feature_view_versioning",
        settings.enable_online_feature_view_versioning,
    )?;
    section.set_item(
        "serve_features_while_materializing",
        settings.serve_features_while_materializing,
    )?;
    Ok(section)
}

fn online_store<'py>(py: Python<'py>, config: &RepoConfig) -> PyResult<Option<Bound<'py, PyDict>>> {
    let section = match &config.online_store {
        OnlineStoreConfig::Disabled => return Ok(None),
        OnlineStoreConfig::Other(name) => return with_type(py, name).map(Some),
        OnlineStoreConfig::Sqlite(sqlite) => {
            let section = with_type(py, "sqlite")?;
            section.set_item("path", sqlite.path.display().to_string())?;
            section.set_item("equal_timestamps", equal_timestamps(sqlite.equal_timestamps_skip))?;
            section
        }
        OnlineStoreConfig::Redis(redis) => redis_section(py, redis)?,
    };
    let serving = config.serving;
    section
        .set_item("online_statuses", if serving.feast_statuses { "feast" } else { "feastrs" })?;
    section.set_item("enforce_online_ttl", serving.enforce_online_ttl)?;
    Ok(Some(section))
}

fn redis_section<'py>(py: Python<'py>, redis: &RedisConfig) -> PyResult<Bound<'py, PyDict>> {
    let section = with_type(py, "redis")?;
    section.set_item("redis_type", redis.redis_type.name())?;
    section.set_item("sentinel_master", &redis.sentinel_master)?;
    section.set_item("connection_string", redis.connection_string.reveal())?;
    section.set_item("key_ttl_seconds", redis.key_ttl_seconds)?;
    section.set_item("skip_dedup", redis.skip_dedup)?;
    section.set_item("full_scan_for_deletion", redis.full_scan_for_deletion)?;
    section.set_item("equal_timestamps", equal_timestamps(redis.equal_timestamps_skip))?;
    let read_command = match redis.read_command {
        ReadCommand::Auto => "auto",
        ReadCommand::Hgetall => "hgetall",
        ReadCommand::Hmget => "hmget",
    };
    section.set_item("read_command", read_command)?;
    section.set_item("field_ttl", redis.field_ttl)?;
    Ok(section)
}

fn equal_timestamps(skip: bool) -> &'static str {
    if skip { "skip" } else { "overwrite" }
}

fn materialization<'py>(py: Python<'py>, config: &RepoConfig) -> PyResult<Bound<'py, PyDict>> {
    let settings = &config.materialization;
    let section = PyDict::new(py);
    section.set_item("pull_latest_features", settings.pull_latest_features)?;
    section.set_item("online_write_batch_size", settings.online_write_batch_size)?;
    section.set_item("max_memory_mb", settings.max_memory_mb)?;
    section.set_item("on_null_key", if settings.skip_null_keys { "skip" } else { "error" })?;
    Ok(section)
}
