//! What every request for features needs, over whatever protocol it comes: registry, online
//! store, host, and the plans that were made before. Nothing here waits but the store: plans are
//! looked up under a lock that is held for the lookup alone.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use hashbrown::{Equivalent, HashMap};

use super::ask::{Ask, Features};
use super::auth::{Gate, Guard, Principal};
use super::host::{Host, HostThreads};
use super::metrics::{Counts, Metrics, ReadSeries};
use super::options::Limits;
use crate::call::now_micros;
use crate::config::{OnlineStoreConfig, RepoConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyVersion;
use crate::online::assemble::{FeastStatuses, StatusRules};
use crate::online::{
    Answer, Entities, FeatureRef, FeatureSet, OnlineReader, PlanOptions, ReadPlan, ViewVersion,
    message,
};
use crate::registry::cache::RegistryCache;
use crate::registry::{Catalog, ViewState};
use crate::runtime;
use crate::store::OnlineStore;

/// Requests of a service come in a handful of shapes; past this many, old plans are forgotten.
const MAX_PLANS: usize = 256;
/// Values of one answer: more would take too much memory at once.
const MAX_VALUES: usize = 4_000_000;
/// Reads that the host does at one time; more would wait for the same interpreter.
const HOST_READS: usize = 16;
/// Values of an answer that others need not wait for: those of more are read and written aside.
const LARGE: usize = 8192;

/// What every request for features needs.
pub struct Serving {
    registry: Arc<RegistryCache>,
    // `None`: a store that only the host can read.
    online: Option<Arc<dyn OnlineStore>>,
    host: HostThreads,
    gate: Arc<Gate>,
    options: PlanOptions,
    feast_statuses: Option<FeastStatuses>,
    enforces_ttl: bool,
    rows: usize,
    features: usize,
    plans: RwLock<Plans>,
}

/// What is settled once for a set of features and a registry snapshot.
pub struct Prepared {
    /// How it is read.
    pub way: Way,
    /// The snapshot that it was made from.
    pub catalog: Arc<Catalog>,
    /// How many features were asked for.
    pub features: usize,
    /// The names of the views that were asked for, each once, in order.
    pub views: Vec<String>,
    /// The feature service, if one was asked for.
    pub service: Option<String>,
    /// Who may read them; `None`: anybody.
    pub guard: Option<Guard>,
    /// What reads of them are counted in.
    pub series: ReadSeries,
}

/// How features are read.
pub enum Way {
    /// From the store.
    Native(Arc<OnlineReader>),
    /// By the host, from these columns of the request beside the join keys.
    Host(Vec<String>),
}

/// What was read.
pub struct Served {
    /// The columns.
    pub answer: Answer,
    /// The versions of the views; empty unless they were asked for.
    pub view_versions: Arc<[ViewVersion]>,
}

impl Served {
    /// Whether writing it takes so long that others should not wait.
    pub fn is_large(&self) -> bool {
        is_large(self.answer.rows(), self.answer.width())
    }
}

impl Serving {
    /// Serves features of `registry` from `online`; without it the host reads them all.
    pub fn new(
        config: &RepoConfig,
        registry: Arc<RegistryCache>,
        online: Option<Arc<dyn OnlineStore>>,
        host: Arc<dyn Host>,
    ) -> Self {
        let Limits { rows, features, .. } = Limits::default();
        let feast_statuses = match (&config.online_store, config.serving.feast_statuses) {
            (_, false) => None,
            (OnlineStoreConfig::Redis(_), true) => Some(FeastStatuses::Redis),
            (_, true) => Some(FeastStatuses::Sqlite),
        };
        Serving {
            registry,
            online,
            host: HostThreads::new(host, HOST_READS),
            gate: Arc::default(),
            options: PlanOptions {
                full_feature_names: false,
                key_version: match config.entity_key_serialization_version {
                    2 => KeyVersion::V2,
                    _ => KeyVersion::V3,
                },
                versioned_views: config.registry.enable_online_feature_view_versioning,
                serve_while_materializing: config.registry.serve_features_while_materializing,
            },
            feast_statuses,
            enforces_ttl: config.serving.enforce_online_ttl,
            rows,
            features,
            plans: RwLock::default(),
        }
    }

    /// The same for those alone whom the permissions behind `gate` let in.
    #[must_use]
    pub fn with_gate(self, gate: Arc<Gate>) -> Self {
        Serving { gate, ..self }
    }

    /// The same within the limits of rows and features.
    #[must_use]
    pub fn with_limits(self, limits: &Limits) -> Self {
        Serving { rows: limits.rows, features: limits.features, ..self }
    }

    /// How the features of `ask` are read: found, or planned now. Nothing is read here.
    ///
    /// Errors: what Feast says of features that can't be served, and
    /// [`ErrorKind::InvalidArgument`] for references that are no text.
    pub fn prepare(&self, ask: &Ask<'_>) -> Result<Arc<Prepared>> {
        let catalog = self.registry.latest();
        let shape = ShapeRef::of(ask);
        let known =
            self.plans.read().unwrap_or_else(PoisonError::into_inner).find(&shape, &catalog);
        if let Some(prepared) = known {
            return Ok(prepared);
        }
        let prepared = Arc::new(self.plan(ask, catalog)?);
        let mut plans = self.plans.write().unwrap_or_else(PoisonError::into_inner);
        plans.keep(shape.to_shape(), &prepared);
        Ok(prepared)
    }

    /// Whether a view that `ask` is about does not serve because it is being materialized.
    pub fn is_materializing(&self, ask: &Ask<'_>) -> bool {
        let catalog = self.registry.latest();
        let is_busy = |view: &str| {
            catalog.view(view).is_ok_and(|view| view.state == ViewState::Materializing)
        };
        !self.options.serve_while_materializing
            && match &ask.features {
                Features::Service(name) => catalog.service(name).is_ok_and(|service| {
                    service.projections.iter().any(|projection| is_busy(&projection.view))
                }),
                features => {
                    let references = features.references().unwrap_or_default();
                    let parsed = references.iter().filter_map(|one| FeatureRef::parse(one).ok());
                    parsed.into_iter().any(|one| is_busy(&one.view))
                }
            }
    }

    /// An error where an answer of so many rows would be too large.
    pub fn check_size(&self, prepared: &Prepared, rows: usize) -> Result<()> {
        if rows > self.rows {
            return Err(too_large(rows, "entity rows", self.rows));
        }
        match rows.saturating_mul(prepared.features) {
            values if values > MAX_VALUES => Err(too_large(values, "values", MAX_VALUES)),
            _ => Ok(()),
        }
    }

    /// Reads what `reader` was prepared for, for `entities`; everything is over by `deadline`.
    pub async fn read(
        &self,
        reader: &Arc<OnlineReader>,
        entities: Entities,
        deadline: Option<Instant>,
    ) -> Result<Answer> {
        let max_age_at = self.enforces_ttl.then(now_micros);
        let rules = StatusRules { max_age_at, feast: self.feast_statuses };
        if !is_large(entities.rows, reader.plan().columns.len()) {
            return reader.read_async(entities, &rules, deadline).await;
        }
        let reader = reader.clone();
        let read = async move { reader.read_async(entities, &rules, deadline).await };
        runtime::aside(read).await
    }

    /// The host's answer to a request, on a thread of its own.
    pub async fn read_by_host(&self, body: Bytes, deadline: Option<Instant>) -> Result<Served> {
        let read = self.host.call(deadline, move |host| host.read(body)).await?;
        let (answer, view_versions) = message::decode_any(&read)?;
        Ok(Served { answer: answer.into(), view_versions: view_versions.into() })
    }

    fn plan(&self, ask: &Ask<'_>, catalog: Arc<Catalog>) -> Result<Prepared> {
        let options = PlanOptions { full_feature_names: ask.full_feature_names, ..self.options };
        let (planned, features, views, service) = match &ask.features {
            Features::Service(name) => {
                let projections = &catalog.service(name)?.projections;
                let features = projections.iter().map(|one| one.features.len()).sum();
                self.check_features(features)?;
                let planned = ReadPlan::new(&catalog, FeatureSet::Service(name), &options);
                let views = distinct(projections.iter().map(|one| one.view.clone()));
                (planned, features, views, Some(name.clone().into_owned()))
            }
            features => {
                let references = features.references().ok_or_else(no_references)?;
                self.check_features(references.len())?;
                let planned =
                    ReadPlan::new(&catalog, FeatureSet::References(&references), &options);
                let parsed = references.iter().filter_map(|one| FeatureRef::parse(one).ok());
                (planned, references.len(), distinct(parsed.map(|one| one.view)), None)
            }
        };
        let way = self.way(planned)?;
        let guard = self.guard(&catalog, service.as_deref(), &views);
        let counts = Counts { features, views: views.len() };
        let series = match &way {
            Way::Native(reader) => {
                Metrics::of_process().read_series(counts, reader.plan().read_views())
            }
            Way::Host(_) => Metrics::of_process().read_series(counts, std::iter::empty()),
        };
        Ok(Prepared { way, catalog, features, views, service, guard, series })
    }

    /// What is known of a request that has no plan because of `error`: how much it asks for, as
    /// far as that counts.
    ///
    /// Errors: whoever asks may not even know what is wrong with it.
    pub fn unplanned(
        &self,
        ask: &Ask<'_>,
        principal: &Principal,
        error: &Error,
    ) -> Result<Option<Counts>> {
        use ErrorKind::{FeatureServiceNotFound, FeatureViewNotFound, FeatureViewVersionNotFound};
        let is_missing = matches!(
            error.kind(),
            FeatureServiceNotFound | FeatureViewNotFound | FeatureViewVersionNotFound
        );
        let catalog = self.registry.latest();
        let (counts, guard) = match &ask.features {
            Features::Service(name) => {
                let counts = catalog.service(name).ok().map(Counts::of_service);
                (counts, self.guard(&catalog, Some(name), &[]))
            }
            features => {
                let references = features.references().unwrap_or_default();
                let parsed = references.iter().filter_map(|one| FeatureRef::parse(one).ok());
                let views = distinct(parsed.map(|one| one.view));
                let counts = Counts { features: references.len(), views: views.len() };
                (Some(counts), self.guard(&catalog, None, &views))
            }
        };
        match guard {
            // Feast looks things up first: that they are missing is no secret.
            Some(_) if is_missing => Ok(None),
            Some(guard) => guard.check(principal).map(|()| counts),
            None => Ok(counts),
        }
    }

    fn guard(
        &self,
        catalog: &Arc<Catalog>,
        service: Option<&str>,
        views: &[String],
    ) -> Option<Guard> {
        self.gate.rules(catalog).map(|rules| rules.read_guard(catalog, service, views))
    }

    fn check_features(&self, features: usize) -> Result<()> {
        match features > self.features {
            true => Err(too_large(features, "features", self.features)),
            false => Ok(()),
        }
    }

    fn way(&self, planned: Result<ReadPlan>) -> Result<Way> {
        match (planned, &self.online) {
            (Ok(plan), Some(online)) if plan.on_demand.is_none() => {
                Ok(Way::Native(Arc::new(OnlineReader::new(plan, online.as_ref()))))
            }
            (Ok(plan), _) => {
                let on_demand = plan.on_demand.as_ref();
                Ok(Way::Host(on_demand.map(|one| one.request_data.clone()).unwrap_or_default()))
            }
            (Err(error), _) if error.kind() == ErrorKind::NeedsFeast => Ok(Way::Host(Vec::new())),
            (Err(error), _) => Err(error),
        }
    }
}

fn is_large(rows: usize, width: usize) -> bool {
    rows.saturating_mul(width) > LARGE
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for name in names {
        if !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

#[cold]
fn too_large(count: usize, what: &str, limit: usize) -> Error {
    let message =
        format!("the request is for {count} {what}, and {limit} is the limit; ask in parts");
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cold]
fn no_references() -> Error {
    Error::new(ErrorKind::InvalidArgument, "features holds something that is no text")
}

/// The plans of one snapshot of the registry.
#[derive(Default)]
struct Plans {
    catalog: Option<Arc<Catalog>>,
    known: HashMap<Shape, Arc<Prepared>>,
}

impl Plans {
    fn find(&self, shape: &ShapeRef<'_>, catalog: &Arc<Catalog>) -> Option<Arc<Prepared>> {
        self.is_of(catalog).then(|| self.known.get(shape).cloned())?
    }

    fn keep(&mut self, shape: Shape, prepared: &Arc<Prepared>) {
        if !self.is_of(&prepared.catalog) || self.known.len() >= MAX_PLANS {
            self.known.clear();
            self.catalog = Some(prepared.catalog.clone());
        }
        self.known.insert(shape, prepared.clone());
    }

    fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        self.catalog.as_ref().is_some_and(|planned| Arc::ptr_eq(planned, catalog))
    }
}

/// What plans are known by: the features as the request wrote them.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    written: Written,
    features: Box<[u8]>,
    is_full: bool,
}

/// The same, of a request: hashed as a [`Shape`] is.
#[derive(Hash)]
struct ShapeRef<'a> {
    written: Written,
    features: &'a [u8],
    is_full: bool,
}

/// How features are written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Written {
    Json,
    List,
    Service,
}

impl<'a> ShapeRef<'a> {
    fn of(ask: &'a Ask<'_>) -> Self {
        let (written, features) = match &ask.features {
            Features::References(text) => (Written::Json, text.as_bytes()),
            Features::List(list) => (Written::List, &**list),
            Features::Service(name) => (Written::Service, name.as_bytes()),
        };
        ShapeRef { written, features, is_full: ask.full_feature_names }
    }

    fn to_shape(&self) -> Shape {
        let ShapeRef { written, features, is_full } = *self;
        Shape { written, features: features.into(), is_full }
    }
}

impl Equivalent<Shape> for ShapeRef<'_> {
    fn equivalent(&self, known: &Shape) -> bool {
        (self.written, self.features, self.is_full)
            == (known.written, &*known.features, known.is_full)
    }
}
