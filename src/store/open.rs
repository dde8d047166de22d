//! From configuration to a store: the one place that knows which types there are.

use std::sync::Arc;

use super::OnlineStore;
use super::redis::RedisStore;
use super::sqlite::SqliteStore;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};

/// The online store that `config` describes. Nothing is connected or opened yet: that
/// happens at the first read or write, in the process that makes it.
///
/// Errors: [`ErrorKind::NeedsFeast`] for a type that only Feast itself can serve,
/// [`ErrorKind::Unsupported`] where the store is switched off, [`ErrorKind::InvalidConfig`] for
/// settings that can't be used.
pub fn open(config: &RepoConfig) -> Result<Arc<dyn OnlineStore>> {
    match &config.online_store {
        OnlineStoreConfig::Sqlite(sqlite) => {
            Ok(Arc::new(SqliteStore::new(sqlite, &config.project)))
        }
        OnlineStoreConfig::Redis(redis) => Ok(Arc::new(RedisStore::new(redis, &config.project)?)),
        OnlineStoreConfig::Disabled => Err(Error::new(
            ErrorKind::Unsupported,
            "online_store is switched off (null) in feature_store.yaml: there is nothing to read \
             from or write to",
        )),
        OnlineStoreConfig::Other(name) => Err(Error::new(
            ErrorKind::NeedsFeast,
            format!(
                "online_store type '{name}' is not one that feastrs reads and writes itself \
                 (redis, sqlite)"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn kind_of(online_store: &str) -> Option<ErrorKind> {
        let yaml = format!("project: p\nregistry: registry.db\nonline_store: {online_store}\n");
        let config = RepoConfig::from_yaml_text(&yaml, Path::new("/repo")).unwrap();
        open(&config).err().map(|error| error.kind())
    }

    #[test]
    fn what_is_feasts_is_told_from_what_nobody_can_do() {
        let redis = |kind: &str| {
            format!("{{type: redis, redis_type: {kind}, connection_string: 'localhost:6379'}}")
        };
        assert_eq!(kind_of("{type: sqlite, path: online.db}"), None);
        assert_eq!(kind_of(&redis("redis")), None);
        assert_eq!(kind_of(&redis("redis_cluster")), None);
        assert_eq!(kind_of(&redis("redis_sentinel")), None);
        assert_eq!(kind_of("{type: dynamodb, region: x}"), Some(ErrorKind::NeedsFeast));
        assert_eq!(kind_of("null"), Some(ErrorKind::Unsupported));
    }
}
