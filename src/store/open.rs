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
/// Errors: [`ErrorKind::Unsupported`] for a type that only Feast itself can serve,
/// [`ErrorKind::InvalidConfig`] for settings that can't be used.
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
            ErrorKind::Unsupported,
            format!(
                "online_store type '{name}' is not one that feastrs reads and writes itself \
                 (redis, sqlite); it goes through Feast: pip install 'feastrs[feast]'"
            ),
        )),
    }
}
