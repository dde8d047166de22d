//! A repository with one view over Parquet files in a temporary folder, a store and a ledger
//! in memory, and rows written in one line.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use feastrs::Result;
use feastrs::call::Call;
use feastrs::config::{
    AuthConfig, MaterializationConfig, MetricsConfig, OnlineStoreConfig, RegistryConfig,
    RepoConfig, ServingConfig,
};
use feastrs::key::{KeyEncoder, KeyVersion};
use feastrs::materialize::{
    Ledger, MaterializeReport, MaterializeRequest, NoProgress, Progress, Window, materialize,
};
use feastrs::registry::{Catalog, DataSource, FeatureView, Field, SourceKind, ViewKind, ViewState};
use feastrs::store::{
    DeletedView, OnlineStore, Scope, StoreReader, StoredGroup, StoredView, WriteBatch, WriteReport,
};
use feastrs::value::arrow::encode_values;
use feastrs::value::{PackedBytes, ValueType};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

/// A row as the store has it: event timestamp, created timestamp, values.
pub type StoredRow = (i64, Option<i64>, Vec<Vec<u8>>);

/// A store in memory; newest event timestamp wins.
#[derive(Default)]
pub struct MemoryStore {
    pub rows: Mutex<HashMap<(String, Vec<u8>), StoredRow>>,
    pub writes: Mutex<Vec<usize>>,
}

impl OnlineStore for MemoryStore {
    fn reader(&self, _: &[StoredGroup]) -> Arc<dyn StoreReader> {
        unreachable!("a materialization does not read the store through this")
    }

    fn write(&self, batch: &WriteBatch<'_>, call: &Call<'_>) -> Result<WriteReport> {
        call.check()?;
        let mut report = WriteReport::default();
        let mut rows = self.rows.lock().unwrap();
        assert!(batch.values.iter().all(|values| values.len() == batch.keys.len()));
        for (row, key) in batch.keys.iter().enumerate() {
            let event = batch.event_timestamps[row];
            let created = batch.created_timestamps.and_then(|all| all[row]);
            let values = batch.values.iter().map(|values| values.get(row).to_vec()).collect();
            let slot = rows.entry((batch.view.name.clone(), key.to_vec()));
            let stored = slot.or_insert((i64::MIN, None, Vec::new()));
            if stored.0 > event {
                report.older += 1;
            } else {
                *stored = (event, created, values);
                report.written += 1;
            }
        }
        self.writes.lock().unwrap().push(batch.keys.len());
        Ok(report)
    }

    fn delete(&self, _: &[DeletedView], _: Scope, _: &Call<'_>) -> Result<u64> {
        unreachable!("a materialization deletes nothing")
    }

    fn prepare(&self, _: &[StoredView], _: &Call<'_>) -> Result<()> {
        Ok(())
    }
}

/// Remembers what was written to the registry.
#[derive(Default)]
pub struct MemoryLedger {
    pub catalog: Arc<Catalog>,
    pub events: Mutex<Vec<String>>,
}

impl Ledger for MemoryLedger {
    fn catalog(&self, _: &Call<'_>) -> Result<Arc<Catalog>> {
        Ok(Arc::clone(&self.catalog))
    }

    fn set_state(&self, view: &FeatureView, state: ViewState, _: &Call<'_>) -> Result<()> {
        self.events.lock().unwrap().push(format!("{} is {state:?}", view.name));
        Ok(())
    }

    fn record(&self, view: &FeatureView, start: i64, end: i64, _: &Call<'_>) -> Result<()> {
        self.events.lock().unwrap().push(format!("{} from {start} to {end}", view.name));
        Ok(())
    }
}

/// One repository with the view `stats`: join key `driver`, feature `trips`, both Int64.
pub struct Repo {
    pub dir: tempfile::TempDir,
    pub view: FeatureView,
    pub config: RepoConfig,
    pub store: MemoryStore,
    /// What the registry was told, after a run.
    pub events: Mutex<Vec<String>>,
}

impl Repo {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let view = view(source("stats.parquet"));
        Repo { dir, view, config, store: MemoryStore::default(), events: Mutex::default() }
    }

    pub fn source(&mut self) -> &mut DataSource {
        self.view.batch_source.as_mut().unwrap()
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        let views = vec![self.view.clone()];
        Arc::new(Catalog { project: "p".to_owned(), views, ..Catalog::default() })
    }

    /// Writes a file of the given columns below the repository.
    pub fn write(&self, name: &str, columns: Vec<(&str, ArrayRef)>) {
        self.write_groups(name, columns, 1 << 20);
    }

    pub fn write_groups(&self, name: &str, columns: Vec<(&str, ArrayRef)>, group_rows: usize) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let properties =
            WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let file = File::create(path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    /// Writes `stats.parquet` with rows of driver, event timestamp (microseconds) and trips.
    pub fn write_rows(&self, rows: &[(i64, i64, i64)]) {
        self.write_rows_to("stats.parquet", rows);
    }

    pub fn write_rows_to(&self, name: &str, rows: &[(i64, i64, i64)]) {
        self.write(
            name,
            vec![
                ("driver", ints(rows.iter().map(|row| Some(row.0)))),
                ("event_timestamp", micros(rows.iter().map(|row| Some(row.1)))),
                ("trips", ints(rows.iter().map(|row| Some(row.2)))),
            ],
        );
    }

    pub fn run(&self, start: i64, end: i64) -> Result<MaterializeReport> {
        self.run_with(start, end, &NoProgress, &Call::unlimited())
    }

    pub fn run_with(
        &self,
        start: i64,
        end: i64,
        progress: &dyn Progress,
        call: &Call<'_>,
    ) -> Result<MaterializeReport> {
        let request = MaterializeRequest {
            views: None,
            window: Window::Full { start, end },
            every_row_until: None,
        };
        let ledger = MemoryLedger { catalog: self.catalog(), events: Mutex::default() };
        let report = materialize(&request, &ledger, &self.store, &self.config, progress, call);
        *self.events.lock().unwrap() = ledger.events.into_inner().unwrap();
        report.and_then(first_failure)
    }

    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    /// The stored row of a driver.
    pub fn stored(&self, driver: i64) -> Option<StoredRow> {
        let key = key(&[("driver".to_owned(), ValueType::Int64)], &[ints([Some(driver)])]);
        self.store.rows.lock().unwrap().get(&("stats".to_owned(), key)).cloned()
    }

    /// All drivers' trips and event timestamps, for those in `drivers` that are stored.
    pub fn trips(&self, drivers: std::ops::Range<i64>) -> BTreeMap<i64, (i64, Vec<u8>)> {
        let row = |driver| self.stored(driver).map(|row| (driver, (row.0, row.2[0].clone())));
        drivers.filter_map(row).collect()
    }
}

/// The report, or the error of the first view that failed.
pub fn first_failure(mut report: MaterializeReport) -> Result<MaterializeReport> {
    if report.failures.is_empty() { Ok(report) } else { Err(report.failures.remove(0).error) }
}

/// An encoded key of one row.
pub fn key(join_keys: &[(String, ValueType)], columns: &[ArrayRef]) -> Vec<u8> {
    let encoder = KeyEncoder::new(KeyVersion::V3, join_keys).unwrap();
    encoder.encode(columns).unwrap().get(0).to_vec()
}

/// The serialized value of an Int64 feature.
pub fn int_value(value: i64) -> Vec<u8> {
    let array = Int64Array::from(vec![value]);
    let packed: PackedBytes = encode_values(&array, ValueType::Int64, "x").unwrap();
    packed.get(0).to_vec()
}

pub fn ints(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

pub fn micros(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampMicrosecondArray>())
}

pub fn field(name: &str, value_type: ValueType) -> Field {
    Field {
        name: name.to_owned(),
        value_type,
        dtype: value_type.dtype().to_owned(),
        description: String::new(),
        tags: BTreeMap::new(),
        vector: None,
    }
}

pub fn source(path: &str) -> DataSource {
    DataSource {
        name: "source".to_owned(),
        kind: SourceKind::Parquet,
        class_type: String::new(),
        path: path.to_owned(),
        s3_endpoint_override: String::new(),
        timestamp_field: "event_timestamp".to_owned(),
        created_timestamp_column: String::new(),
        date_partition_column: String::new(),
        field_mapping: BTreeMap::new(),
        schema: Vec::new(),
        batch_source: None,
        description: String::new(),
        tags: BTreeMap::new(),
        owner: String::new(),
        created_timestamp: None,
        last_updated_timestamp: None,
    }
}

fn view(source: DataSource) -> FeatureView {
    FeatureView {
        name: "stats".to_owned(),
        kind: ViewKind::Batch,
        entities: vec!["driver".to_owned()],
        entity_columns: vec![field("driver", ValueType::Int64)],
        features: vec![field("trips", ValueType::Int64)],
        ttl: None,
        online: true,
        offline: false,
        enabled: true,
        state: ViewState::Generated,
        current_version_number: 0,
        batch_source: Some(source),
        stream_source: None,
        on_demand_sources: BTreeMap::new(),
        write_to_online_store: false,
        singleton: false,
        definition: Arc::default(),
        mode: String::new(),
        beyond_native: Vec::new(),
        materialization_intervals: Vec::new(),
        description: String::new(),
        tags: BTreeMap::new(),
        owner: String::new(),
        created_timestamp: None,
        last_updated_timestamp: None,
    }
}

fn config(repo: &Path) -> RepoConfig {
    RepoConfig {
        project: "p".to_owned(),
        repo_path: Some(repo.to_owned()),
        provider: "local".to_owned(),
        registry: RegistryConfig {
            registry_type: "file".to_owned(),
            path: "registry.db".to_owned(),
            cache_ttl_seconds: 0,
            watches_file: true,
            has_s3_arguments: false,
            enable_online_feature_view_versioning: false,
            serve_features_while_materializing: false,
        },
        online_store: OnlineStoreConfig::Disabled,
        serving: ServingConfig::default(),
        object_stores: Default::default(),
        offline_store_type: "dask".to_owned(),
        batch_engine_type: "local".to_owned(),
        entity_key_serialization_version: 3,
        materialization: MaterializationConfig {
            pull_latest_features: false,
            online_write_batch_size: None,
            max_memory_mb: 256,
            skip_null_keys: false,
        },
        auth: AuthConfig::NoAuth,
        metrics: MetricsConfig::default(),
        audit: None,
        offline_batching: None,
        warnings: Vec::new(),
    }
}
