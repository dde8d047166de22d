//! The native half of `feastrs.FeatureStore`: configuration, registry, online store and plans
//! of one repository.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;

use crate::call::now_micros;
use crate::config::{self, OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::history::HistoryPlan;
use crate::key::KeyVersion;
use crate::materialize::frame::FramePlans;
use crate::materialize::{divide, frame};
use crate::online::assemble::{FeastStatuses, StatusRules};
use crate::online::{OnlineReader as CoreReader, PlanOptions, ReadPlan};
use crate::registry::Catalog;
use crate::registry::cache::RegistryCache;
use crate::server::Limits;
use crate::store::{self, OnlineStore, Scope};

use super::answer::OnlineResult;
use super::asgi::ServerApp;
use super::event_loop::LoopReads;
use super::frame_write::{self, FrameWrite, Written};
use super::history::HistoricalJob;
use super::history_frame::Frame;
use super::logging;
use super::materialize::{self, PyOutcome};
use super::online::{self, OnlineReader};
use super::plans::{Plans, Prepared, Request};
use super::ready;
use super::registry;
use super::signals::interruptible;
use super::verify::{self, PyVerified};

/// Views that the core writes, those that only Feast can, each with the reason, and services
/// whose vectors are to be computed anew; and views whose source the core can append to.
type Targets = (Vec<String>, BTreeMap<String, String>, Vec<String>, Vec<String>);
type Dicts<'py> = Vec<Bound<'py, PyDict>>;

/// One feature repository, opened.
#[pyclass(frozen, module = "feastrs._native")]
pub struct Store {
    pub(super) config: RepoConfig,
    registry: OnceLock<RegistryCache>,
    online: OnceLock<Arc<dyn OnlineStore>>,
    plans: Plans,
    frame_plans: FramePlans,
}

impl Store {
    // Neither registry nor online store is opened yet: what a repository can't do is no
    // hindrance to what it can.
    fn new(config: RepoConfig) -> Self {
        Store {
            config,
            registry: OnceLock::new(),
            online: OnceLock::new(),
            plans: Plans::default(),
            frame_plans: FramePlans::default(),
        }
    }

    /// The registry, opened on first need.
    pub(super) fn registry(&self) -> Result<&RegistryCache> {
        if let Some(registry) = self.registry.get() {
            return Ok(registry);
        }
        let opened = RegistryCache::open(&self.config, interruptible())?;
        Ok(self.registry.get_or_init(|| opened))
    }

    // Opening it has read it.
    fn refresh(&self) -> Result<Arc<Catalog>> {
        match self.registry.get() {
            Some(registry) => registry.refresh(interruptible()),
            None => self.registry()?.catalog(interruptible()),
        }
    }

    /// The online store, opened on first need.
    pub(super) fn online(&self) -> Result<Arc<dyn OnlineStore>> {
        if let Some(online) = self.online.get() {
            return Ok(online.clone());
        }
        let opened = store::open(&self.config)?;
        Ok(self.online.get_or_init(|| opened).clone())
    }

    /// What is settled for `features`, made now if it was not yet for the registry's present
    /// snapshot.
    pub(super) fn prepared(
        &self,
        py: Python<'_>,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
    ) -> PyResult<Arc<Prepared>> {
        let catalog = self.present_catalog(py)?;
        if let Some(prepared) = self.plans.find_last(features, full_feature_names, &catalog)? {
            return Ok(prepared);
        }
        let request = Request::new(features, full_feature_names)?;
        if let Some(prepared) = self.plans.find(py, &request, &catalog) {
            return Ok(prepared);
        }
        let features = request.features(py)?;
        let reader = py.detach(|| {
            let options = self.plan_options(full_feature_names);
            let plan = ReadPlan::new(&catalog, features.as_set(), &options)?;
            Ok::<_, Error>(CoreReader::new(plan, self.online()?.as_ref()))
        })?;
        let prepared = Arc::new(Prepared::new(py, reader, catalog));
        self.plans.keep(py, request, &prepared)?;
        Ok(prepared)
    }

    /// The registry's snapshot; the GIL is released where that takes more than a look.
    pub(super) fn present_catalog(&self, py: Python<'_>) -> Result<Arc<Catalog>> {
        let catalog = match self.registry.get().and_then(RegistryCache::fresh) {
            Some(catalog) => Ok(catalog),
            None => py.detach(|| self.registry()?.catalog(interruptible())),
        };
        logging::hand_over(py);
        catalog
    }

    fn plan_options(&self, full_feature_names: bool) -> PlanOptions {
        PlanOptions {
            full_feature_names,
            key_version: self.key_version(),
            versioned_views: self.config.registry.enable_online_feature_view_versioning,
            serve_while_materializing: self.config.registry.serve_features_while_materializing,
        }
    }

    fn key_version(&self) -> KeyVersion {
        match self.config.entity_key_serialization_version {
            2 => KeyVersion::V2,
            _ => KeyVersion::V3,
        }
    }

    /// The snapshot that rows are written by.
    fn write_catalog(&self, py: Python<'_>, allow_cache: bool) -> Result<Arc<Catalog>> {
        match allow_cache {
            true => self.present_catalog(py),
            false => py.detach(|| self.refresh()),
        }
    }

    fn catalog(&self, py: Python<'_>, allow_cache: bool) -> Result<Arc<Catalog>> {
        let catalog = py.detach(|| {
            if allow_cache { self.registry()?.catalog(interruptible()) } else { self.refresh() }
        });
        logging::hand_over(py);
        catalog
    }

    /// The plan of a historical retrieval, and what it is done by.
    pub(super) fn history_plan(
        &self,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
    ) -> PyResult<(HistoryPlan, RepoConfig)> {
        let py = features.py();
        let catalog = self.present_catalog(py)?;
        let features = Request::new(features, full_feature_names)?.features(py)?;
        let plan = py.detach(|| {
            let options = self.plan_options(full_feature_names);
            HistoryPlan::new(&catalog, features.as_set(), &options, &self.config)
        })?;
        Ok((plan, self.config.clone()))
    }

    fn frame_write(&self, views: &[String], frame: &Bound<'_, PyAny>) -> PyResult<FrameWrite> {
        let py = frame.py();
        let catalog = self.present_catalog(py)?;
        let plans = py.detach(|| {
            let plan = |view: &String| self.frame_plans.plan(view, &catalog, &self.config);
            views.iter().map(plan).collect::<Result<_>>()
        })?;
        FrameWrite::new(plans, frame, &self.config, self.online()?)
    }

    pub(super) fn status_rules(&self) -> StatusRules {
        let serving = self.config.serving;
        let feast = match (&self.config.online_store, serving.feast_statuses) {
            (_, false) => None,
            (OnlineStoreConfig::Redis(_), true) => Some(FeastStatuses::Redis),
            (_, true) => Some(FeastStatuses::Sqlite),
        };
        StatusRules { max_age_at: serving.enforce_online_ttl.then(now_micros), feast }
    }
}

#[pymethods]
impl Store {
    /// Opens the repository at `repo_path`, or the one that `fs_yaml_file` describes.
    #[staticmethod]
    #[pyo3(signature = (repo_path = None, fs_yaml_file = None))]
    fn open(
        py: Python<'_>,
        repo_path: Option<PathBuf>,
        fs_yaml_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let store = py.detach(|| {
            let (repo_path, yaml_file) =
                config::locate(repo_path.as_deref(), fs_yaml_file.as_deref())?;
            RepoConfig::load(&repo_path, &yaml_file).map(Store::new)
        })?;
        Ok(store)
    }

    /// Opens a repository whose configuration is given as JSON text.
    #[staticmethod]
    #[pyo3(signature = (json, repo_path = None))]
    fn from_json(py: Python<'_>, json: &str, repo_path: Option<PathBuf>) -> PyResult<Self> {
        let config = py.detach(|| RepoConfig::from_json(json, repo_path.as_deref()))?;
        Ok(Store::new(config))
    }

    /// Opens a repository whose registry somebody else reads: `registry` is its present state,
    /// a serialized `feast.core.Registry`.
    #[staticmethod]
    #[pyo3(signature = (json, registry, repo_path = None))]
    fn with_registry(
        py: Python<'_>,
        json: &str,
        registry: PyBackedBytes,
        repo_path: Option<PathBuf>,
    ) -> PyResult<Self> {
        let store = py.detach(|| {
            let config = RepoConfig::from_json(json, repo_path.as_deref())?;
            let registry = RegistryCache::given(&config, &registry)?;
            Ok::<_, Error>(Store { registry: OnceLock::from(registry), ..Store::new(config) })
        })?;
        Ok(store)
    }

    /// The next state of a registry that somebody else reads.
    fn give_registry(&self, py: Python<'_>, registry: PyBackedBytes) -> PyResult<()> {
        py.detach(|| self.registry()?.give(&registry))?;
        Ok(())
    }

    /// A historical retrieval: `features`, as they were known at each row of `frame`.
    fn historical(
        &self,
        frame: &Bound<'_, PyAny>,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
        filter_by_created: bool,
    ) -> PyResult<HistoricalJob> {
        let planned = self.history_plan(features, full_feature_names)?;
        HistoricalJob::new(frame.py(), planned, Frame::new(frame)?, filter_by_created)
    }

    /// The project's name.
    #[getter]
    fn project(&self) -> &str {
        &self.config.project
    }

    /// What the user should know about the configuration.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.config.warnings.clone()
    }

    /// The settings, defaults included.
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        super::config::to_dict(py, &self.config)
    }

    /// Reads the registry again now.
    fn refresh_registry(&self, py: Python<'_>) -> PyResult<()> {
        let refreshed = py.detach(|| self.refresh());
        logging::hand_over(py);
        refreshed?;
        Ok(())
    }

    /// The projects of the registry, as keywords of `feastrs.objects.Project`.
    fn list_projects<'py>(&self, py: Python<'py>, allow_cache: bool) -> PyResult<Dicts<'py>> {
        self.catalog(py, allow_cache)?
            .projects
            .iter()
            .map(|one| registry::project(py, one))
            .collect()
    }

    /// The project's entities, as keywords of `feastrs.objects.Entity`.
    fn list_entities<'py>(&self, py: Python<'py>, allow_cache: bool) -> PyResult<Dicts<'py>> {
        self.catalog(py, allow_cache)?
            .entities
            .iter()
            .map(|one| registry::entity(py, one))
            .collect()
    }

    /// The project's data sources, as keywords of `feastrs.objects.DataSource`.
    fn list_data_sources<'py>(&self, py: Python<'py>, allow_cache: bool) -> PyResult<Dicts<'py>> {
        let catalog = self.catalog(py, allow_cache)?;
        catalog.data_sources.iter().map(|one| registry::data_source(py, one)).collect()
    }

    /// The project's views of one kind, or of all for `kind` "all".
    fn list_feature_views<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        allow_cache: bool,
    ) -> PyResult<Dicts<'py>> {
        let catalog = self.catalog(py, allow_cache)?;
        let views = catalog.views.iter().filter(|view| registry::is_of_kind(view, kind));
        views.map(|one| registry::feature_view(py, one)).collect()
    }

    /// The project's feature services.
    fn list_feature_services<'py>(
        &self,
        py: Python<'py>,
        allow_cache: bool,
    ) -> PyResult<Dicts<'py>> {
        let catalog = self.catalog(py, allow_cache)?;
        catalog.services.iter().map(|one| registry::feature_service(py, one)).collect()
    }

    /// The entity of that name.
    fn get_entity<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        allow_cache: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        registry::entity(py, self.catalog(py, allow_cache)?.entity(name)?)
    }

    /// The data source of that name.
    fn get_data_source<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        allow_cache: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        registry::data_source(py, self.catalog(py, allow_cache)?.data_source(name)?)
    }

    /// The view of that name and kind.
    fn get_feature_view<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        kind: &str,
        allow_cache: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let catalog = self.catalog(py, allow_cache)?;
        let view = catalog.view(name)?;
        if !registry::is_of_kind(view, kind) {
            return Err(Error::new(
                ErrorKind::FeatureViewNotFound,
                format!(
                    "'{name}' is a feature view of another kind: {}",
                    registry::view_kind(view.kind)
                ),
            )
            .into());
        }
        registry::feature_view(py, view)
    }

    /// The versions of a feature view, oldest first.
    fn list_feature_view_versions<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Dicts<'py>> {
        let catalog = self.catalog(py, true)?;
        let mut versions: Vec<_> =
            catalog.versions.iter().filter(|version| version.view == name).collect();
        versions.sort_by_key(|version| version.number);
        versions.into_iter().map(|version| registry::view_version(py, version)).collect()
    }

    /// The feature service of that name.
    fn get_feature_service<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        allow_cache: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        registry::feature_service(py, self.catalog(py, allow_cache)?.service(name)?)
    }

    /// Reads features online. What switches something is looked at as Python does.
    #[pyo3(signature = (
        features, entity_rows, full_feature_names = None,
        include_feature_view_version_metadata = None,
    ))]
    fn get_online_features(
        &self,
        py: Python<'_>,
        features: &Bound<'_, PyAny>,
        entity_rows: &Bound<'_, PyAny>,
        full_feature_names: Option<&Bound<'_, PyAny>>,
        include_feature_view_version_metadata: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<OnlineResult> {
        let is_on =
            |given: Option<&Bound<'_, PyAny>>| given.map_or(Ok(false), |one| one.is_truthy());
        let prepared = self.prepared(py, features, is_on(full_feature_names)?)?;
        let wants_versions = is_on(include_feature_view_version_metadata)?;
        online::read(py, prepared, entity_rows, &self.status_rules(), wants_versions)
    }

    /// Starts reading features online; see `feastrs.event_loop`.
    #[expect(clippy::too_many_arguments, reason = "those of Feast's method, and the loop's")]
    fn start_online_features(
        &self,
        py: Python<'_>,
        features: &Bound<'_, PyAny>,
        entity_rows: &Bound<'_, PyAny>,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
        reads: &Bound<'_, LoopReads>,
        future: Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let prepared = self.prepared(py, features, full_feature_names)?;
        let (rules, wants_versions) = (self.status_rules(), include_feature_view_version_metadata);
        online::start(prepared, entity_rows, rules, wants_versions, reads.get(), future)
    }

    /// Reads the registry and begins to connect to the online store, unless that is done.
    fn initialize(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            self.registry()?;
            self.online()?.open()
        })?;
        Ok(())
    }

    /// Closes what this process has open and does not use; what is asked for later opens it
    /// again.
    fn close(&self, py: Python<'_>) {
        if let Some(online) = self.online.get() {
            py.detach(|| online.close());
        }
    }

    /// Prepares a reader of `features`.
    #[pyo3(signature = (features, full_feature_names = false))]
    fn online_reader(
        slf: &Bound<'_, Self>,
        features: &Bound<'_, PyAny>,
        full_feature_names: bool,
    ) -> PyResult<OnlineReader> {
        OnlineReader::new(slf, features, full_feature_names)
    }

    /// The views that a materialization is about: those that the core writes, and those that
    /// only Feast can do, each with the reason.
    fn materialization_plan(
        &self,
        py: Python<'_>,
        feature_views: Option<Vec<String>>,
    ) -> PyResult<(Vec<String>, BTreeMap<String, String>)> {
        let catalog = self.catalog(py, false)?;
        Ok(divide(&catalog, &self.config, feature_views.as_deref())?)
    }

    /// Materializes views; `start` is None for an incremental run, which begins `overlap`
    /// earlier than where the last one ended. Times are microseconds since the epoch.
    #[expect(clippy::too_many_arguments, reason = "what Python passes, one by one")]
    fn materialize(
        &self,
        py: Python<'_>,
        feature_views: Vec<String>,
        start: Option<i64>,
        end: i64,
        overlap: i64,
        disable_event_timestamp: bool,
        progress: Py<PyAny>,
    ) -> PyResult<PyOutcome> {
        let request =
            materialize::request(feature_views, start, end, overlap, disable_event_timestamp);

        let outcome = py.detach(|| {
            let (registry, online) = (self.registry()?, self.online()?);
            materialize::run(&request, registry, online.as_ref(), &self.config, progress)
        });
        logging::hand_over(py);
        let (done, failed) = outcome?;

        let failed = failed.into_iter().map(|(view, error)| (view, error.into_value(py)));
        Ok((done, failed.collect()))
    }

    /// Compares what is online of views with what their sources say. `start` and `end` bound the
    /// event timestamps, microseconds since the epoch; `sample` is None for all entities. The
    /// keywords of `feastrs.verification.ViewVerification` of those that could be compared, and
    /// the exceptions of the others.
    #[expect(clippy::too_many_arguments, reason = "what Python passes, one by one")]
    fn verify_online<'py>(
        &self,
        py: Python<'py>,
        feature_views: Vec<String>,
        start: Option<i64>,
        end: Option<i64>,
        sample: Option<usize>,
        seed: u64,
        examples: usize,
        progress: Py<PyAny>,
    ) -> PyResult<PyVerified<'py>> {
        let request = verify::request(feature_views, start, end, sample, seed, examples);

        let outcome = py.detach(|| {
            let (catalog, online) = (self.refresh()?, self.online()?);
            verify::run(&request, &catalog, online.as_ref(), &self.config, progress)
        });
        logging::hand_over(py);

        verify::to_python(py, outcome?)
    }

    /// Which views a frame for `feature_view` is for.
    fn view_targets(
        &self,
        py: Python<'_>,
        feature_view: &str,
        allow_cache: bool,
    ) -> PyResult<Targets> {
        let catalog = self.write_catalog(py, allow_cache)?;
        Ok(targets(frame::of_view(&catalog, &self.config, feature_view)?))
    }

    /// Which views a frame for `push_source` is for.
    fn push_targets(
        &self,
        py: Python<'_>,
        push_source: &str,
        allow_cache: bool,
    ) -> PyResult<Targets> {
        let catalog = self.write_catalog(py, allow_cache)?;
        Ok(targets(frame::of_push_source(&catalog, &self.config, push_source)?))
    }

    /// Writes the newest row of each entity of `frame` to each of `views`.
    fn write_frame(
        &self,
        feature_views: Vec<String>,
        frame: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Written>> {
        let write = self.frame_write(&feature_views, frame)?;

        let reports = frame.py().detach(|| write.run(&interruptible()))?;

        Ok(reports.into_iter().map(frame_write::written).collect())
    }

    /// Starts the same write; see `feastrs.event_loop`.
    fn start_write_frame(
        &self,
        feature_views: Vec<String>,
        frame: &Bound<'_, PyAny>,
        reads: &Bound<'_, LoopReads>,
        future: Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let write = self.frame_write(&feature_views, frame)?;

        Ok(reads.get().start_write(write, future.unbind())?)
    }

    /// Why rows of its source, which Feast's offline store gives, can't be written to a view as
    /// they are; None if they can.
    fn source_rows_obstacle(&self, py: Python<'_>, feature_view: &str) -> PyResult<Option<String>> {
        let catalog = self.catalog(py, true)?;
        Ok(frame::of_source(catalog.view(feature_view)?, &self.config))
    }

    /// Writes the newest row of each entity of `frame`, which holds rows of the view's source.
    fn write_source_rows(
        &self,
        feature_view: String,
        frame: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Written>> {
        let write = self.frame_write(&[feature_view], frame)?.of_source();

        let reports = frame.py().detach(|| write.run(&interruptible()))?;

        Ok(reports.into_iter().map(frame_write::written).collect())
    }

    /// Joins recorded intervals of views that overlap or touch; all views for None. For each view
    /// that was changed how many it had, and how many it has.
    #[pyo3(signature = (feature_views = None))]
    fn compact_intervals(
        &self,
        py: Python<'_>,
        feature_views: Option<Vec<String>>,
    ) -> PyResult<Vec<(String, usize, usize)>> {
        let changed = py.detach(|| {
            materialize::compact_intervals(self.registry()?, feature_views, interruptible())
        })?;

        Ok(changed)
    }

    /// Writes rows that are messages of Feast's already, as `online_write_batch` is given them:
    /// of each entity the newest. How many the store took, and how many it has newer ones of.
    fn write_rows(
        &self,
        py: Python<'_>,
        stored_view: &str,
        rows: &Bound<'_, PyAny>,
        ttl: Option<TimeDelta>,
    ) -> PyResult<(u64, u64)> {
        let mut groups = ready::rows(rows)?;
        let ttl_micros = ttl.and_then(|ttl| ttl.num_microseconds()).filter(|ttl| *ttl > 0);
        groups.iter_mut().for_each(|rows| rows.ttl_micros = ttl_micros);

        let report = py.detach(|| {
            let (online, version) = (self.online()?, self.key_version());
            let call = interruptible();
            ready::write(stored_view, &groups, version, &self.config, online.as_ref(), &call)
        })?;

        Ok((report.written, report.older))
    }

    /// Deletes the rows of views, each given by the name that it is stored under, its features
    /// and its join keys; with `whole_entities` everything that this project has for entities
    /// with these join keys. How many entities (SQLite: views) had something to be deleted.
    fn delete_rows(
        &self,
        py: Python<'_>,
        views: Vec<ready::Deleted>,
        whole_entities: bool,
    ) -> PyResult<u64> {
        let scope = if whole_entities { Scope::Entities } else { Scope::Rows };

        let deleted = py.detach(|| {
            let views = ready::deleted(views, self.key_version())?;
            self.online()?.delete(&views, scope, &interruptible())
        })?;

        Ok(deleted)
    }

    /// What answers requests to a server; `host` is a `feastrs.hosting.Host`.
    fn server_app(&self, py: Python<'_>, host: Py<PyAny>) -> PyResult<ServerApp> {
        Ok(ServerApp::new(py.detach(|| self.app(host, &Limits::default()))?))
    }

    /// Adds the rows of `frame`, which has an Arrow capsule, to the batch sources of `views`; gives
    /// how many, view by view.
    fn append_frame(
        &self,
        feature_views: Vec<String>,
        frame: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<(String, u64)>> {
        let py = frame.py();
        let catalog = self.present_catalog(py)?;
        let batches = super::frame::arrow_batches(frame)?;
        let views = feature_views.iter().map(|name| catalog.view(name));
        let views = views.collect::<Result<Vec<_>>>()?;

        let append = || frame::append_frame(&views, &batches, &self.config, &interruptible());
        Ok(py.detach(append)?)
    }
}

fn targets(targets: frame::FrameTargets) -> Targets {
    (targets.native, targets.feasts, targets.precomputed, targets.appendable)
}
