//! The section `online_store:` for the two stores that feastrs has; any other goes through
//! Feast. Feast's own keys: `feast/infra/online_stores/{sqlite,redis}.py`.

use std::path::Path;

use serde_json::{Map, Value};

use super::locate::resolve;
use super::section::Section;
use super::settings::{
    OnlineStoreConfig, ReadCommand, RedisConfig, RedisType, Secret, ServingConfig, SqliteConfig,
};
use crate::error::{Error, ErrorKind, Result};

const SQLITE_TYPES: &[&str] = &[
    "sqlite",
    "feast.infra.online_stores.sqlite.SqliteOnlineStore",
    "feastrs.feast.SqliteOnlineStore",
    "feastrs.feast.sqlite.SqliteOnlineStore",
];

const REDIS_TYPES: &[&str] = &[
    "redis",
    "feast.infra.online_stores.redis.RedisOnlineStore",
    "feastrs.feast.RedisOnlineStore",
    "feastrs.feast.redis.RedisOnlineStore",
];

const SQLITE_KEYS: &[&str] = &[
    "type",
    "path",
    "vector_enabled",
    "similarity",
    "text_search_enabled",
    "enable_openai_compatible_store",
    "online_statuses",
    "enforce_online_ttl",
    "equal_timestamps",
];

const REDIS_KEYS: &[&str] = &[
    "type",
    "redis_type",
    "client",
    "sentinel_master",
    "connection_string",
    "key_ttl_seconds",
    "full_scan_for_deletion",
    "skip_dedup",
    "online_statuses",
    "enforce_online_ttl",
    "equal_timestamps",
    "read_command",
    "field_ttl",
];

/// In milliseconds since the epoch, Redis could not count further.
const MAX_KEY_TTL_SECONDS: u64 = 9_000_000_000_000_000;

/// The store and the settings of ours that hold for every store. `None`: the key
/// `online_store` is absent, which means SQLite.
pub(super) fn read(
    value: Option<&Value>,
    repo_path: Option<&Path>,
) -> Result<(OnlineStoreConfig, ServingConfig)> {
    let empty = Map::new();
    match value {
        None => from_mapping(&empty, repo_path),
        Some(Value::Null) => Ok((OnlineStoreConfig::Disabled, ServingConfig::default())),
        Some(Value::String(name)) if is_nothing(name) => {
            Ok((OnlineStoreConfig::Disabled, ServingConfig::default()))
        }
        Some(Value::String(name)) => {
            let entries = Map::from_iter([("type".to_owned(), Value::String(name.clone()))]);
            from_mapping(&entries, repo_path)
        }
        Some(Value::Object(entries)) => from_mapping(entries, repo_path),
        Some(_) => Err(Error::new(
            ErrorKind::InvalidConfig,
            "online_store must be the name of a type, a mapping with a type, or null",
        )),
    }
}

fn is_nothing(name: &str) -> bool {
    name.eq_ignore_ascii_case("none") || name.eq_ignore_ascii_case("null")
}

fn from_mapping(
    entries: &Map<String, Value>,
    repo_path: Option<&Path>,
) -> Result<(OnlineStoreConfig, ServingConfig)> {
    let section = Section::new("online_store", entries);
    let kind = section.text("type")?.unwrap_or("sqlite");
    if SQLITE_TYPES.contains(&kind) {
        section.require_known(SQLITE_KEYS)?;
        Ok((sqlite(&section, repo_path)?, serving(&section)?))
    } else if REDIS_TYPES.contains(&kind) {
        section.require_known(REDIS_KEYS)?;
        Ok((OnlineStoreConfig::Redis(redis(&section)?), serving(&section)?))
    } else {
        Ok((OnlineStoreConfig::Other(kind.to_owned()), ServingConfig::default()))
    }
}

/// Vectors and numeric columns change what is written to the tables: such a store goes
/// through Feast rather than being written without them.
fn sqlite(section: &Section<'_>, repo_path: Option<&Path>) -> Result<OnlineStoreConfig> {
    for key in ["vector_enabled", "enable_openai_compatible_store"] {
        if section.flag(key, false)? {
            return Ok(OnlineStoreConfig::Other(format!("sqlite with {key}: true")));
        }
    }
    section.flag("text_search_enabled", false)?;
    section.text("similarity")?;
    let path = section.text("path")?.unwrap_or("data/online.db");
    if path.is_empty() {
        return Err(section.wrong("path", "the path of a database file"));
    }
    Ok(OnlineStoreConfig::Sqlite(SqliteConfig {
        path: resolve(repo_path, path),
        equal_timestamps_skip: equal_timestamps_skip(section)?,
    }))
}

/// `client` chooses Feast's Python client; it does not change what is stored, so any of
/// Feast's names is accepted.
fn redis(section: &Section<'_>) -> Result<RedisConfig> {
    section.choice("client", &["redis", "glide"])?;
    let redis_type = match section.choice("redis_type", RedisType::NAMES)? {
        1 => RedisType::Cluster,
        2 => RedisType::Sentinel,
        _ => RedisType::Redis,
    };
    let connection_string = section.text("connection_string")?.unwrap_or("localhost:6379");
    Ok(RedisConfig {
        redis_type,
        sentinel_master: section.text("sentinel_master")?.unwrap_or("mymaster").to_owned(),
        connection_string: Secret::new(connection_string),
        key_ttl_seconds: key_ttl_seconds(section)?,
        skip_dedup: section.flag("skip_dedup", false)?,
        full_scan_for_deletion: section.flag("full_scan_for_deletion", true)?,
        equal_timestamps_skip: equal_timestamps_skip(section)?,
        field_ttl: section.flag("field_ttl", false)?,
        read_command: match section.choice("read_command", &["auto", "hgetall", "hmget"])? {
            1 => ReadCommand::Hgetall,
            2 => ReadCommand::Hmget,
            _ => ReadCommand::Auto,
        },
    })
}

/// Feast takes 0 for "no TTL", as it does null.
fn key_ttl_seconds(section: &Section<'_>) -> Result<Option<u64>> {
    const KEY: &str = "key_ttl_seconds";
    match section.number(KEY, 0)? {
        Some(seconds) if seconds > MAX_KEY_TTL_SECONDS => {
            Err(section.wrong(KEY, &format!("{MAX_KEY_TTL_SECONDS} at most, not {seconds}")))
        }
        seconds => Ok(seconds.filter(|seconds| *seconds > 0)),
    }
}

fn serving(section: &Section<'_>) -> Result<ServingConfig> {
    Ok(ServingConfig {
        feast_statuses: section.choice("online_statuses", &["feastrs", "feast"])? == 1,
        enforce_online_ttl: section.flag("enforce_online_ttl", false)?,
    })
}

fn equal_timestamps_skip(section: &Section<'_>) -> Result<bool> {
    Ok(section.choice("equal_timestamps", &["overwrite", "skip"])? == 1)
}
