//! Data sources from their messages (`feast/data_source.py`, `feast/infra/offline_stores/`).

use super::catalog::{DataSource, SourceKind};
use super::decode_field::{fields_of, micros};
use super::messages as pb;
use crate::error::Result;

/// `DataSource.SourceType` of the sources that feastrs tells apart.
const BATCH_FILE: i32 = 1;
const STREAM_KAFKA: i32 = 3;
const STREAM_KINESIS: i32 = 4;
const REQUEST_SOURCE: i32 = 7;
const PUSH_SOURCE: i32 = 9;

/// A data source with the batch source inside it, if it has one.
pub(super) fn data_source(source: &pb::DataSource) -> Result<DataSource> {
    let kind = kind(source);
    let file = source.file_options.clone().unwrap_or_default();
    let meta = source.meta.clone().unwrap_or_default();
    let schema = match &source.request_data_options {
        Some(options) => fields_of(&options.schema)
            .map_err(|error| error.context(format!("data source '{}'", source.name)))?,
        None => Vec::new(),
    };
    let batch_source = match &source.batch_source {
        Some(batch_source) => Some(Box::new(data_source(batch_source)?)),
        None => None,
    };
    // Feast writes a push source's columns from its batch source, and reads them there only.
    let own = if kind == SourceKind::Push { pb::DataSource::default() } else { source.clone() };
    Ok(DataSource {
        // An unnamed file source is called by its path.
        name: if source.name.is_empty() { file.uri.clone() } else { source.name.clone() },
        kind,
        class_type: class_type(source, kind),
        path: file.uri,
        s3_endpoint_override: file.s3_endpoint_override,
        timestamp_field: own.timestamp_field,
        created_timestamp_column: own.created_timestamp_column,
        date_partition_column: own.date_partition_column,
        field_mapping: own.field_mapping,
        schema,
        batch_source,
        description: source.description.clone(),
        tags: source.tags.clone(),
        owner: source.owner.clone(),
        created_timestamp: micros(&meta.created_timestamp),
        last_updated_timestamp: micros(&meta.last_updated_timestamp),
    })
}

fn kind(source: &pb::DataSource) -> SourceKind {
    let is_delta = || {
        let format = source.file_options.as_ref().and_then(|file| file.file_format.as_ref());
        format.is_some_and(|format| format.delta_format.is_some())
    };
    match source.source_type {
        BATCH_FILE if is_delta() => SourceKind::OtherFile,
        BATCH_FILE => SourceKind::Parquet,
        STREAM_KAFKA => SourceKind::Kafka,
        STREAM_KINESIS => SourceKind::Kinesis,
        REQUEST_SOURCE => SourceKind::Request,
        PUSH_SOURCE => SourceKind::Push,
        _ => SourceKind::Other,
    }
}

/// Feast does not write the class of every source that is inside another message.
fn class_type(source: &pb::DataSource, kind: SourceKind) -> String {
    if !source.data_source_class_type.is_empty() {
        return source.data_source_class_type.clone();
    }
    match kind {
        SourceKind::Parquet | SourceKind::OtherFile => {
            "feast.infra.offline_stores.file_source.FileSource"
        }
        SourceKind::Push => "feast.data_source.PushSource",
        SourceKind::Kafka => "feast.data_source.KafkaSource",
        SourceKind::Kinesis => "feast.data_source.KinesisSource",
        SourceKind::Request => "feast.data_source.RequestSource",
        SourceKind::Other => "",
    }
    .to_owned()
}
