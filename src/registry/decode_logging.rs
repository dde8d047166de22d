//! Where a feature service logs what it serves (`feast/feature_logging.py`).

use std::collections::BTreeMap;

use super::catalog::{LoggingConfig, LoggingSetting};
use super::messages as pb;

/// `None` where no destination is set, as for Feast.
pub(super) fn logging_config(config: pb::LoggingConfig) -> Option<LoggingConfig> {
    let sample_rate = config.sample_rate;
    let (kind, settings) = destination(config)?;
    Some(LoggingConfig { kind, settings, sample_rate })
}

type Settings = BTreeMap<String, LoggingSetting>;

fn destination(config: pb::LoggingConfig) -> Option<(String, Settings)> {
    if let Some(custom) = config.custom {
        let settings = custom.config.into_iter();
        let settings = settings.map(|(name, value)| (name, LoggingSetting::Text(value)));
        return Some((custom.kind, settings.collect()));
    }
    let (kind, settings) = if let Some(file) = config.file {
        let settings = [
            ("path", LoggingSetting::Text(file.path)),
            ("s3_endpoint_override", LoggingSetting::Text(file.s3_endpoint_override)),
            ("partition_by", LoggingSetting::Names(file.partition_by)),
        ];
        ("file_destination", settings.to_vec())
    } else if let Some(couchbase) = config.couchbase {
        let settings = [
            ("database", LoggingSetting::Text(couchbase.database)),
            ("scope", LoggingSetting::Text(couchbase.scope)),
            ("collection", LoggingSetting::Text(couchbase.collection)),
        ];
        ("couchbase_columnar_destination", settings.to_vec())
    } else {
        let tables = [
            ("bigquery_destination", "table_ref", config.bigquery),
            ("redshift_destination", "table_name", config.redshift),
            ("snowflake_destination", "table_name", config.snowflake),
            ("athena_destination", "table_name", config.athena),
        ];
        let mut given = tables.into_iter();
        let (kind, name, table) = given.find(|(_, _, table)| table.is_some())?;
        (kind, vec![(name, LoggingSetting::Text(table.unwrap_or_default().table))])
    };
    let named = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
    Some((kind.to_owned(), named.collect()))
}
