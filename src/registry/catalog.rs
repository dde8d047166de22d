//! An immutable snapshot of one project of a registry, with indexes by name. It is swapped
//! whole when the registry is read again; who holds one keeps a consistent picture.
//!
//! Must not know bytes or files: `messages` decodes, `sources` fetches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lookup::Index;
use super::permission::Permission;
use crate::value::ValueType;

/// Free-form labels.
pub type Tags = BTreeMap<String, String>;

/// An entity: what a join key identifies.
#[derive(Clone, Debug, Default)]
pub struct Entity {
    /// The entity's name.
    pub name: String,
    /// The column that identifies it.
    pub join_key: String,
    /// The declared type of the join key; `None` where Feast wrote `INVALID`.
    pub value_type: Option<ValueType>,
    /// Free text.
    pub description: String,
    /// Free-form labels.
    pub tags: Tags,
    /// Who is responsible.
    pub owner: String,
    /// Microseconds since the epoch; `None` if never set.
    pub created_timestamp: Option<i64>,
    /// Microseconds since the epoch; `None` if never set.
    pub last_updated_timestamp: Option<i64>,
}

/// A named, typed column of a view: a feature or an entity column.
#[derive(Clone, Debug)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// The declared type.
    pub value_type: ValueType,
    /// How Feast prints the dtype: `Array(Int64)`; nested types and struct schemas, which
    /// Feast keeps in the field's tags, included.
    pub dtype: String,
    /// Free text.
    pub description: String,
    /// Free-form labels, without those that Feast uses for nested types.
    pub tags: Tags,
    /// How it is searched by vectors; `None`: it isn't.
    pub vector: Option<VectorIndex>,
}

/// What Feast keeps of a field that is searched by vectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VectorIndex {
    /// Whether the store indexes it.
    pub is_indexed: bool,
    /// How many numbers a vector has; 0: not declared.
    pub length: i32,
    /// The distance; empty: not declared.
    pub search_metric: String,
}

/// What a data source reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Parquet files (`FileSource` with the Parquet format, or none given).
    Parquet,
    /// A `FileSource` with a format other than Parquet (Delta).
    OtherFile,
    /// Rows that are pushed; has a batch source of its own.
    Push,
    /// Kafka; may have a batch source.
    Kafka,
    /// Kinesis; may have a batch source.
    Kinesis,
    /// Values that come with the request.
    Request,
    /// Any other: a warehouse, a query, a custom source.
    Other,
}

/// Where rows of a view come from.
#[derive(Clone, Debug)]
pub struct DataSource {
    /// The source's name; may be empty for an unnamed inline source.
    pub name: String,
    /// What it reads from.
    pub kind: SourceKind,
    /// Feast's class path: `feast.infra.offline_stores.file_source.FileSource`; may be empty.
    pub class_type: String,
    /// File sources: path, folder, glob or URI as written; otherwise empty.
    pub path: String,
    /// File sources: S3 endpoint; otherwise empty.
    pub s3_endpoint_override: String,
    /// The column of event timestamps, as named in the source.
    pub timestamp_field: String,
    /// The column of created timestamps, as named in the source; may be empty.
    pub created_timestamp_column: String,
    /// A partition column; may be empty.
    pub date_partition_column: String,
    /// From names in the source to names in the view.
    pub field_mapping: BTreeMap<String, String>,
    /// Request sources: the schema.
    pub schema: Vec<Field>,
    /// Push and stream sources: where history is.
    pub batch_source: Option<Box<DataSource>>,
    /// Free text.
    pub description: String,
    /// Free-form labels.
    pub tags: Tags,
    /// Who is responsible.
    pub owner: String,
    /// Microseconds since the epoch; `None` if never set.
    pub created_timestamp: Option<i64>,
    /// Microseconds since the epoch; `None` if never set.
    pub last_updated_timestamp: Option<i64>,
}

impl DataSource {
    /// The column that has `name` after the field mapping, which leads from names in the source
    /// to names in the view; the timestamp fields go the same way
    /// (`feast/utils.py::_get_column_names`).
    pub fn source_name<'a>(&'a self, name: &'a str) -> &'a str {
        let mapped = self.field_mapping.iter().rev().find(|(_, to)| to.as_str() == name);
        mapped.map_or(name, |(from, _)| from)
    }
}

/// The class of a feature view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewKind {
    /// `FeatureView`, and `BatchFeatureView`, which Feast keeps in the same list.
    Batch,
    /// `StreamFeatureView`.
    Stream,
    /// `OnDemandFeatureView`.
    OnDemand,
    /// `LabelView`.
    Label,
}

/// `feast.core.FeatureViewState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ViewState {
    /// Not tracked: a registry of an older Feast.
    #[default]
    Unspecified,
    /// Registered, never materialized.
    Created,
    /// Generated by a transformation.
    Generated,
    /// A materialization is under way.
    Materializing,
    /// Ready to serve.
    AvailableOnline,
}

impl ViewState {
    /// Feast's name for it.
    pub fn name(self) -> &'static str {
        match self {
            ViewState::Unspecified => "STATE_UNSPECIFIED",
            ViewState::Created => "CREATED",
            ViewState::Generated => "GENERATED",
            ViewState::Materializing => "MATERIALIZING",
            ViewState::AvailableOnline => "AVAILABLE_ONLINE",
        }
    }
}

/// An input of an on-demand view.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a registry holds few of them; a box buys nothing")]
pub enum OnDemandSource {
    /// Features of another view.
    View(Projection),
    /// Values that come with the request.
    Request(DataSource),
}

/// A feature view of any kind.
#[derive(Clone, Debug)]
pub struct FeatureView {
    /// The view's name.
    pub name: String,
    /// Its class.
    pub kind: ViewKind,
    /// Names of its entities (`__dummy` for an entity-less view).
    pub entities: Vec<String>,
    /// Join keys with their types, in Feast's order.
    pub entity_columns: Vec<Field>,
    /// Its features, in Feast's order.
    pub features: Vec<Field>,
    /// How long a row is valid, microseconds. Zero means for ever, and so does a view without
    /// one: Feast reads it as zero. `None` for an on-demand view, which has none.
    pub ttl: Option<i64>,
    /// Whether it is materialized to the online store.
    pub online: bool,
    /// Whether it is also written to the offline store.
    pub offline: bool,
    /// Whether it may serve.
    pub enabled: bool,
    /// Where it is in its life.
    pub state: ViewState,
    /// The version, counted by Feast; 0 for a view that never changed or is not versioned.
    pub current_version_number: i32,
    /// Where its history is; `None` for an on-demand view or one made from other views.
    pub batch_source: Option<DataSource>,
    /// Where fresh rows come from; `None` for a plain view.
    pub stream_source: Option<DataSource>,
    /// On-demand views: inputs by name.
    pub on_demand_sources: BTreeMap<String, OnDemandSource>,
    /// On-demand views: whether rows are transformed when written.
    pub write_to_online_store: bool,
    /// On-demand views: whether the function takes one row at a time.
    pub singleton: bool,
    /// On-demand views: the serialized `OnDemandFeatureView` message, function included;
    /// otherwise empty.
    pub definition: Arc<[u8]>,
    /// The transformation mode (`python`, `pandas`, `spark`, …); may be empty.
    pub mode: String,
    /// Why the native path can't materialize it rightly: "has a transformation",
    /// "has aggregations", "is made from other views", "asks for validation", "is also written
    /// to the offline store". Empty if it can.
    pub beyond_native: Vec<&'static str>,
    /// Intervals already materialized: (start, end), microseconds since the epoch.
    pub materialization_intervals: Vec<(i64, i64)>,
    /// Free text.
    pub description: String,
    /// Free-form labels.
    pub tags: Tags,
    /// Who is responsible.
    pub owner: String,
    /// Microseconds since the epoch; `None` if never set.
    pub created_timestamp: Option<i64>,
    /// Microseconds since the epoch; `None` if never set.
    pub last_updated_timestamp: Option<i64>,
}

impl FeatureView {
    /// One of the reasons in `beyond_native`.
    pub const HAS_AGGREGATIONS: &'static str = "has aggregations";
    /// Another.
    pub const HAS_A_TRANSFORMATION: &'static str = "has a transformation";
    /// The name of the entity that Feast gives to views without one.
    pub const DUMMY_ENTITY_NAME: &'static str = "__dummy";
    /// Its join key.
    pub const DUMMY_ENTITY_ID: &'static str = "__dummy_id";
    /// The value of that join key in every row.
    pub const DUMMY_ENTITY_VALUE: &'static str = "";

    /// The view's name in online stores: with the suffix `_vN` where the registry versions
    /// online views and the view has changed since it was made.
    pub fn stored_name(&self, is_versioned: bool) -> String {
        if is_versioned && self.current_version_number > 0 {
            format!("{}_v{}", self.name, self.current_version_number)
        } else {
            self.name.clone()
        }
    }

    /// Whether rows are transformed after they are read from the source.
    pub fn has_transformation(&self) -> bool {
        self.beyond_native.contains(&Self::HAS_A_TRANSFORMATION)
    }

    /// Whether rows are aggregated before they are transformed.
    pub fn has_aggregations(&self) -> bool {
        self.beyond_native.contains(&Self::HAS_AGGREGATIONS)
    }

    /// Whether the view has no entity: one row for everything.
    pub fn is_entityless(&self) -> bool {
        self.entities.iter().any(|name| name == Self::DUMMY_ENTITY_NAME)
    }
}

/// A view as a feature service or an on-demand view uses it.
#[derive(Clone, Debug, Default)]
pub struct Projection {
    /// The view's name.
    pub view: String,
    /// The name to use instead; empty for none.
    pub alias: String,
    /// The chosen features.
    pub features: Vec<Field>,
    /// From the view's join keys to the names that the caller uses.
    pub join_key_map: BTreeMap<String, String>,
    /// A version of the view; `None` for the current one.
    pub version_tag: Option<i32>,
}

/// A named set of features.
#[derive(Clone, Debug)]
pub struct FeatureService {
    /// The service's name.
    pub name: String,
    /// The views, in the order given.
    pub projections: Vec<Projection>,
    /// Whether Feast keeps ready-made vectors for it.
    pub precompute_online: bool,
    /// Where what it serves is logged; `None`: nowhere.
    pub logging_config: Option<LoggingConfig>,
    /// Free text.
    pub description: String,
    /// Free-form labels.
    pub tags: Tags,
    /// Who is responsible.
    pub owner: String,
    /// Microseconds since the epoch; `None` if never set.
    pub created_timestamp: Option<i64>,
    /// Microseconds since the epoch; `None` if never set.
    pub last_updated_timestamp: Option<i64>,
}

/// How what a feature service serves is logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggingConfig {
    /// Feast's name of the destination: "file_destination", "bigquery_destination", …, or that
    /// of a custom one.
    pub kind: String,
    /// Its settings by Feast's names.
    pub settings: BTreeMap<String, LoggingSetting>,
    /// Which share of the answers is logged.
    pub sample_rate: f32,
}

/// A setting of a logging destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggingSetting {
    /// Most of them.
    Text(String),
    /// Names of columns.
    Names(Vec<String>),
}

/// One version of a feature view, as `feast apply` kept it: decoded when it is asked for.
#[derive(Clone, Debug)]
pub struct ViewVersion {
    /// The view's name.
    pub view: String,
    /// The version, counted by Feast from 0.
    pub number: i32,
    /// Feast's word for the view's class: "feature_view", "stream_feature_view", …
    pub kind: String,
    /// The serialized view.
    pub definition: Arc<[u8]>,
    /// Microseconds since the epoch; `None` if never set.
    pub created_timestamp: Option<i64>,
    /// Feast's id of it.
    pub version_id: String,
}

/// A definition that this version of feastrs can't read; the others of its registry are
/// not hindered by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What it is: "Feature view", "Feature service", "Entity" or "Data source".
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A project of the registry.
#[derive(Clone, Debug, Default)]
pub struct Project {
    /// The project's name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Free-form labels.
    pub tags: Tags,
    /// Who is responsible.
    pub owner: String,
    /// Microseconds since the epoch; `None` if never set.
    pub created_timestamp: Option<i64>,
    /// Microseconds since the epoch; `None` if never set.
    pub last_updated_timestamp: Option<i64>,
}

/// One project of a registry. Look things up with [`Catalog::view`] and its kin.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The project's name.
    pub project: String,
    /// All projects of the registry.
    pub projects: Vec<Project>,
    /// Entities, in the registry's order.
    pub entities: Vec<Entity>,
    /// Data sources, in the registry's order.
    pub data_sources: Vec<DataSource>,
    /// Views of every kind: batch, then stream, then on-demand, then label views.
    pub views: Vec<FeatureView>,
    /// Feature services, in the registry's order.
    pub services: Vec<FeatureService>,
    /// Permissions, in the registry's order.
    pub permissions: Vec<Permission>,
    /// Versions of views, in the registry's order.
    pub versions: Vec<ViewVersion>,
    /// What can't be read.
    pub unreadable: Vec<Unreadable>,
    /// The registry's own version id; changes with every write by Feast.
    pub version_id: String,
    /// Positions by name, filled at the first lookup.
    pub index: Index,
}
