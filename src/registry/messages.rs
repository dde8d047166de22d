//! The messages of `feast.core` that a registry is made of, with the fields that feastrs
//! reads. Numbers and names are Feast's. They are only read: a change to a registry is
//! spliced (see `splice`), for what is not listed here would be lost by writing it back.

use std::collections::BTreeMap;

use prost::Message;

/// `google.protobuf.Timestamp` and `google.protobuf.Duration`, which look the same.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Time {
    /// Microseconds, cut as Feast's `ToDatetime` and `ToTimedelta` cut.
    pub fn micros(&self) -> i64 {
        self.seconds.saturating_mul(1_000_000).saturating_add(i64::from(self.nanos) / 1_000)
    }

    /// The time that is `micros` from the epoch; nanoseconds are never negative.
    pub fn from_micros(micros: i64) -> Self {
        let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
        Time { seconds: micros.div_euclid(1_000_000), nanos }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Registry {
    #[prost(message, repeated, tag = "1")]
    pub entities: Vec<Entity>,
    #[prost(string, tag = "3")]
    pub registry_schema_version: String,
    #[prost(string, tag = "4")]
    pub version_id: String,
    #[prost(message, optional, tag = "5")]
    pub last_updated: Option<Time>,
    #[prost(message, repeated, tag = "6")]
    pub feature_views: Vec<FeatureView>,
    #[prost(message, repeated, tag = "7")]
    pub feature_services: Vec<FeatureService>,
    #[prost(message, repeated, tag = "8")]
    pub on_demand_feature_views: Vec<OnDemandFeatureView>,
    #[prost(message, repeated, tag = "12")]
    pub data_sources: Vec<DataSource>,
    #[prost(message, repeated, tag = "14")]
    pub stream_feature_views: Vec<StreamFeatureView>,
    #[prost(message, repeated, tag = "15")]
    pub project_metadata: Vec<ProjectMetadata>,
    #[prost(message, repeated, tag = "16")]
    pub permissions: Vec<Permission>,
    #[prost(message, repeated, tag = "17")]
    pub projects: Vec<Project>,
    #[prost(message, optional, tag = "18")]
    pub feature_view_version_history: Option<VersionHistory>,
    #[prost(message, repeated, tag = "19")]
    pub label_views: Vec<LabelView>,
}

/// `FeatureViewVersionHistory`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionHistory {
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<VersionRecord>,
}

/// `FeatureViewVersionRecord`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VersionRecord {
    #[prost(string, tag = "1")]
    pub feature_view_name: String,
    #[prost(string, tag = "2")]
    pub project_id: String,
    #[prost(int32, tag = "3")]
    pub version_number: i32,
    #[prost(string, tag = "4")]
    pub feature_view_type: String,
    #[prost(bytes = "vec", tag = "5")]
    pub feature_view_proto: Vec<u8>,
    #[prost(message, optional, tag = "6")]
    pub created_timestamp: Option<Time>,
    #[prost(string, tag = "8")]
    pub version_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProjectMetadata {
    #[prost(string, tag = "1")]
    pub project: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Project {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<ProjectSpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProjectSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub description: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub tags: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    pub owner: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Permission {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<PermissionSpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PermissionSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub project: String,
    #[prost(int32, repeated, tag = "3")]
    pub types: Vec<i32>,
    #[prost(string, repeated, tag = "4")]
    pub name_patterns: Vec<String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub required_tags: BTreeMap<String, String>,
    #[prost(int32, repeated, tag = "6")]
    pub actions: Vec<i32>,
    #[prost(message, optional, tag = "7")]
    pub policy: Option<Policy>,
    #[prost(btree_map = "string, string", tag = "8")]
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Policy {
    #[prost(message, optional, tag = "3")]
    pub role_based: Option<Names>,
    #[prost(message, optional, tag = "4")]
    pub group_based: Option<Names>,
    #[prost(message, optional, tag = "5")]
    pub namespace_based: Option<Names>,
    #[prost(message, optional, tag = "6")]
    pub combined: Option<GroupsAndNamespaces>,
}

/// `RoleBasedPolicy`, `GroupBasedPolicy` and `NamespaceBasedPolicy`, which look the same.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Names {
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
}

/// `CombinedGroupNamespacePolicy`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct GroupsAndNamespaces {
    #[prost(string, repeated, tag = "1")]
    pub groups: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub namespaces: Vec<String>,
}

/// `EntityMeta`, `FeatureServiceMeta`, `ProjectMeta`, `LabelViewMeta` and `PermissionMeta`,
/// which look the same.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Meta {
    #[prost(message, optional, tag = "1")]
    pub created_timestamp: Option<Time>,
    #[prost(message, optional, tag = "2")]
    pub last_updated_timestamp: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entity {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<EntitySpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EntitySpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "2")]
    pub value_type: i32,
    #[prost(string, tag = "3")]
    pub description: String,
    #[prost(string, tag = "4")]
    pub join_key: String,
    #[prost(btree_map = "string, string", tag = "8")]
    pub tags: BTreeMap<String, String>,
    #[prost(string, tag = "9")]
    pub project: String,
    #[prost(string, tag = "10")]
    pub owner: String,
}

/// `FeatureSpecV2`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int32, tag = "2")]
    pub value_type: i32,
    #[prost(btree_map = "string, string", tag = "3")]
    pub tags: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    pub description: String,
    #[prost(bool, tag = "5")]
    pub vector_index: bool,
    #[prost(string, tag = "6")]
    pub vector_search_metric: String,
    #[prost(int32, tag = "7")]
    pub vector_length: i32,
}

/// Present or not is all that is asked of it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Anything {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureView {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<FeatureViewSpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<FeatureViewMeta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureViewSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub project: String,
    #[prost(string, repeated, tag = "3")]
    pub entities: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub features: Vec<FeatureSpec>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: BTreeMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub ttl: Option<Time>,
    #[prost(message, optional, tag = "7")]
    pub batch_source: Option<DataSource>,
    #[prost(bool, tag = "8")]
    pub online: bool,
    #[prost(message, optional, tag = "9")]
    pub stream_source: Option<DataSource>,
    #[prost(string, tag = "10")]
    pub description: String,
    #[prost(string, tag = "11")]
    pub owner: String,
    #[prost(message, repeated, tag = "12")]
    pub entity_columns: Vec<FeatureSpec>,
    #[prost(bool, tag = "13")]
    pub offline: bool,
    #[prost(message, repeated, tag = "14")]
    pub source_views: Vec<Anything>,
    #[prost(message, optional, tag = "15")]
    pub feature_transformation: Option<Anything>,
    #[prost(string, tag = "16")]
    pub mode: String,
    #[prost(bool, tag = "17")]
    pub enable_validation: bool,
    #[prost(bool, tag = "20")]
    pub disabled: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureViewMeta {
    #[prost(message, optional, tag = "1")]
    pub created_timestamp: Option<Time>,
    #[prost(message, optional, tag = "2")]
    pub last_updated_timestamp: Option<Time>,
    #[prost(message, repeated, tag = "3")]
    pub materialization_intervals: Vec<Interval>,
    #[prost(int32, tag = "4")]
    pub current_version_number: i32,
    #[prost(int32, tag = "6")]
    pub state: i32,
}

/// `MaterializationInterval`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Interval {
    #[prost(message, optional, tag = "1")]
    pub start_time: Option<Time>,
    #[prost(message, optional, tag = "2")]
    pub end_time: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamFeatureView {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<StreamFeatureViewSpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<FeatureViewMeta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StreamFeatureViewSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub project: String,
    #[prost(string, repeated, tag = "3")]
    pub entities: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub features: Vec<FeatureSpec>,
    #[prost(message, repeated, tag = "5")]
    pub entity_columns: Vec<FeatureSpec>,
    #[prost(string, tag = "6")]
    pub description: String,
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: BTreeMap<String, String>,
    #[prost(string, tag = "8")]
    pub owner: String,
    #[prost(message, optional, tag = "9")]
    pub ttl: Option<Time>,
    #[prost(message, optional, tag = "10")]
    pub batch_source: Option<DataSource>,
    #[prost(message, optional, tag = "11")]
    pub stream_source: Option<DataSource>,
    #[prost(bool, tag = "12")]
    pub online: bool,
    #[prost(message, optional, tag = "13")]
    pub user_defined_function: Option<Anything>,
    #[prost(string, tag = "14")]
    pub mode: String,
    #[prost(message, repeated, tag = "15")]
    pub aggregations: Vec<Anything>,
    #[prost(message, optional, tag = "17")]
    pub feature_transformation: Option<Anything>,
    #[prost(bool, tag = "20")]
    pub enable_validation: bool,
    #[prost(bool, tag = "23")]
    pub disabled: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OnDemandFeatureView {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<OnDemandFeatureViewSpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<OnDemandFeatureViewMeta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OnDemandFeatureViewSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub project: String,
    #[prost(message, repeated, tag = "3")]
    pub features: Vec<FeatureSpec>,
    #[prost(btree_map = "string, message", tag = "4")]
    pub sources: BTreeMap<String, OnDemandSource>,
    #[prost(string, tag = "6")]
    pub description: String,
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: BTreeMap<String, String>,
    #[prost(string, tag = "8")]
    pub owner: String,
    #[prost(string, tag = "11")]
    pub mode: String,
    #[prost(bool, tag = "12")]
    pub write_to_online_store: bool,
    #[prost(string, repeated, tag = "13")]
    pub entities: Vec<String>,
    #[prost(message, repeated, tag = "14")]
    pub entity_columns: Vec<FeatureSpec>,
    #[prost(bool, tag = "15")]
    pub singleton: bool,
    #[prost(message, repeated, tag = "16")]
    pub aggregations: Vec<Anything>,
    #[prost(bool, tag = "19")]
    pub disabled: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OnDemandFeatureViewMeta {
    #[prost(message, optional, tag = "1")]
    pub created_timestamp: Option<Time>,
    #[prost(message, optional, tag = "2")]
    pub last_updated_timestamp: Option<Time>,
    #[prost(int32, tag = "3")]
    pub current_version_number: i32,
    #[prost(int32, tag = "5")]
    pub state: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OnDemandSource {
    #[prost(message, optional, tag = "1")]
    pub feature_view: Option<FeatureView>,
    #[prost(message, optional, tag = "2")]
    pub request_data_source: Option<DataSource>,
    #[prost(message, optional, tag = "3")]
    pub feature_view_projection: Option<Projection>,
}

/// `FeatureViewProjection`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Projection {
    #[prost(string, tag = "1")]
    pub feature_view_name: String,
    #[prost(message, repeated, tag = "2")]
    pub feature_columns: Vec<FeatureSpec>,
    #[prost(string, tag = "3")]
    pub feature_view_name_alias: String,
    #[prost(btree_map = "string, string", tag = "4")]
    pub join_key_map: BTreeMap<String, String>,
    #[prost(int32, optional, tag = "10")]
    pub version_tag: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureService {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<FeatureServiceSpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FeatureServiceSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub project: String,
    #[prost(message, repeated, tag = "3")]
    pub features: Vec<Projection>,
    #[prost(btree_map = "string, string", tag = "4")]
    pub tags: BTreeMap<String, String>,
    #[prost(string, tag = "5")]
    pub description: String,
    #[prost(string, tag = "6")]
    pub owner: String,
    #[prost(message, optional, tag = "7")]
    pub logging_config: Option<LoggingConfig>,
    #[prost(bool, tag = "8")]
    pub precompute_online: bool,
}

/// Where served features are logged to. Destinations whose messages look the same share one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LoggingConfig {
    #[prost(float, tag = "1")]
    pub sample_rate: f32,
    #[prost(message, optional, tag = "3")]
    pub file: Option<FileDestination>,
    #[prost(message, optional, tag = "4")]
    pub bigquery: Option<TableDestination>,
    #[prost(message, optional, tag = "5")]
    pub redshift: Option<TableDestination>,
    #[prost(message, optional, tag = "6")]
    pub snowflake: Option<TableDestination>,
    #[prost(message, optional, tag = "7")]
    pub custom: Option<CustomDestination>,
    #[prost(message, optional, tag = "8")]
    pub athena: Option<TableDestination>,
    #[prost(message, optional, tag = "9")]
    pub couchbase: Option<CouchbaseDestination>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FileDestination {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, tag = "2")]
    pub s3_endpoint_override: String,
    #[prost(string, repeated, tag = "3")]
    pub partition_by: Vec<String>,
}

/// `BigQueryDestination`, `RedshiftDestination`, `SnowflakeDestination`, `AthenaDestination`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TableDestination {
    #[prost(string, tag = "1")]
    pub table: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CustomDestination {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub config: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CouchbaseDestination {
    #[prost(string, tag = "1")]
    pub database: String,
    #[prost(string, tag = "2")]
    pub scope: String,
    #[prost(string, tag = "3")]
    pub collection: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelView {
    #[prost(message, optional, tag = "1")]
    pub spec: Option<LabelViewSpec>,
    #[prost(message, optional, tag = "2")]
    pub meta: Option<Meta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LabelViewSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub project: String,
    #[prost(string, repeated, tag = "3")]
    pub entities: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub features: Vec<FeatureSpec>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub tags: BTreeMap<String, String>,
    #[prost(message, optional, tag = "6")]
    pub ttl: Option<Time>,
    #[prost(message, optional, tag = "7")]
    pub source: Option<DataSource>,
    #[prost(bool, tag = "8")]
    pub online: bool,
    #[prost(string, tag = "9")]
    pub description: String,
    #[prost(string, tag = "10")]
    pub owner: String,
    #[prost(message, repeated, tag = "11")]
    pub entity_columns: Vec<FeatureSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DataSource {
    #[prost(int32, tag = "1")]
    pub source_type: i32,
    #[prost(btree_map = "string, string", tag = "2")]
    pub field_mapping: BTreeMap<String, String>,
    #[prost(string, tag = "3")]
    pub timestamp_field: String,
    #[prost(string, tag = "4")]
    pub date_partition_column: String,
    #[prost(string, tag = "5")]
    pub created_timestamp_column: String,
    #[prost(message, optional, tag = "11")]
    pub file_options: Option<FileOptions>,
    #[prost(string, tag = "17")]
    pub data_source_class_type: String,
    #[prost(message, optional, tag = "18")]
    pub request_data_options: Option<RequestDataOptions>,
    #[prost(string, tag = "20")]
    pub name: String,
    #[prost(string, tag = "21")]
    pub project: String,
    #[prost(string, tag = "23")]
    pub description: String,
    #[prost(btree_map = "string, string", tag = "24")]
    pub tags: BTreeMap<String, String>,
    #[prost(string, tag = "25")]
    pub owner: String,
    #[prost(message, optional, boxed, tag = "26")]
    pub batch_source: Option<Box<DataSource>>,
    #[prost(message, optional, tag = "50")]
    pub meta: Option<SourceMeta>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SourceMeta {
    #[prost(message, optional, tag = "3")]
    pub created_timestamp: Option<Time>,
    #[prost(message, optional, tag = "4")]
    pub last_updated_timestamp: Option<Time>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FileOptions {
    #[prost(message, optional, tag = "1")]
    pub file_format: Option<FileFormat>,
    #[prost(string, tag = "2")]
    pub uri: String,
    #[prost(string, tag = "3")]
    pub s3_endpoint_override: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct FileFormat {
    #[prost(message, optional, tag = "2")]
    pub delta_format: Option<Anything>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestDataOptions {
    #[prost(message, repeated, tag = "3")]
    pub schema: Vec<FeatureSpec>,
}
