//! What a historical request asks for: which columns of which views, and under which names
//! (`feast/feature_store.py::get_historical_features`, `feast/utils.py::_group_feature_refs`).
//! Pure: it opens no file.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cloud::Cloud;
use crate::config::RepoConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::online::{
    Asked, AskedView, FeatureRef, FeatureSet, PlanOptions, check_collisions, check_computable,
    field,
};
use crate::registry::{
    Catalog, DataSource, FeatureView, OnDemandSource, Projection, SourceKind, ViewKind,
};

/// Everything about a historical request that does not depend on the labels.
#[derive(Clone, Debug)]
pub struct HistoryPlan {
    /// The views that are read.
    pub views: Vec<HistoryView>,
    /// The columns that are read, in the order asked, then what on-demand views need besides.
    pub columns: Vec<HistoryColumn>,
    /// The views that are computed afterwards.
    pub on_demand: Vec<HistoryOnDemand>,
    /// The references, in the order asked, then those of `columns` that were not asked for.
    pub references: Vec<String>,
    /// Whether columns are named `view__feature`.
    pub full_feature_names: bool,
}

/// A view that is read.
#[derive(Clone, Debug)]
pub struct HistoryView {
    /// Its name in the request.
    pub name: String,
    /// Where its rows are.
    pub source: DataSource,
    /// Its join keys; none for a view without entity.
    pub join_keys: Vec<JoinKey>,
    /// The name of the event timestamp column in the source.
    pub event_column: String,
    /// The name of the created timestamp column in the source.
    pub created_column: Option<String>,
    /// How long a row is valid, microseconds; `None`: for ever.
    pub ttl_micros: Option<i64>,
    /// The features that are read of it.
    pub features: Vec<HistoryFeature>,
}

/// A join key of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinKey {
    /// The column of the entity frame.
    pub label_column: String,
    /// The column of the source.
    pub source_column: String,
}

/// A feature of a view.
#[derive(Clone, Debug)]
pub struct HistoryFeature {
    /// Its name in the view.
    pub name: String,
    /// Its name in the source.
    pub source_column: String,
}

/// A column that is read.
#[derive(Clone, Debug)]
pub struct HistoryColumn {
    /// Its name in the answer.
    pub name: String,
    /// Index in [`HistoryPlan::views`].
    pub view: usize,
    /// Index in the view's features.
    pub feature: usize,
}

/// A view that is computed from what was read.
#[derive(Clone, Debug)]
pub struct HistoryOnDemand {
    /// Its name.
    pub name: String,
    /// Its name in the request.
    pub request_name: String,
    /// The serialized `OnDemandFeatureView` message, function included.
    pub definition: Arc<[u8]>,
    /// The names of the columns that are asked of it.
    pub columns: Vec<String>,
    /// The columns that the entity frame has to bring.
    pub request_data: Vec<String>,
}

impl HistoryPlan {
    /// Plans `features` of `catalog`. [`ErrorKind::NeedsFeast`] where only Feast can do it.
    pub fn new(
        catalog: &Catalog,
        features: FeatureSet<'_>,
        options: &PlanOptions,
        config: &RepoConfig,
    ) -> Result<Self> {
        check_offline_store(config)?;
        let asked = Asked::new(catalog, features, options)?;
        check_collisions(&asked.refs, options.full_feature_names)?;
        let mut planner = Planner::new(catalog, options.full_feature_names);
        for (reference, view) in asked.iter() {
            planner.add(reference, view)?;
        }
        planner.add_inputs()?;
        Ok(planner.plan)
    }

    /// The columns of the entity frame that are join keys, each once.
    pub fn label_columns(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for key in self.views.iter().flat_map(|view| &view.join_keys) {
            if !names.contains(&key.label_column.as_str()) {
                names.push(key.label_column.as_str());
            }
        }
        names
    }

    /// Checks that an entity frame with these columns has what is needed, and nothing that would
    /// have the name of a feature.
    pub fn check_frame(&self, given: &[&str], time_column: &str) -> Result<()> {
        let needed = self.label_columns().into_iter().chain([time_column]);
        let count = |name: &str| given.iter().filter(|known| **known == name).count();
        if let Some(twice) = needed.into_iter().find(|name| count(name) > 1) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the entity frame has more than one column '{twice}'; rename the others"),
            ));
        }
        let missing = |names: Vec<&str>| -> Vec<String> {
            let absent = names.into_iter().filter(|name| !given.contains(name));
            absent.map(|name| format!("'{name}'")).collect()
        };
        let keys = missing(self.label_columns());
        if !keys.is_empty() {
            return Err(Error::new(
                ErrorKind::JoinKeyMissing,
                format!(
                    "the entity frame has no column {}, by which views are joined; it has: {}",
                    keys.join(", "),
                    given.join(", ")
                ),
            ));
        }
        for view in &self.on_demand {
            let data = missing(view.request_data.iter().map(String::as_str).collect());
            if !data.is_empty() {
                let message = format!(
                    "the entity frame has no column {}, which on-demand feature view '{}' takes \
                     from the request",
                    data.join(", "),
                    view.name
                );
                return Err(Error::new(ErrorKind::RequestDataMissing, message));
            }
        }
        let computed = self.on_demand.iter().flat_map(|view| &view.columns);
        let names = self.columns.iter().map(|column| &column.name).chain(computed);
        match names.into_iter().find(|name| given.contains(&name.as_str())) {
            Some(name) => Err(Error::new(
                ErrorKind::FeatureNameCollision,
                format!(
                    "the entity frame has a column '{name}', which is also the name of a feature \
                     that is asked for; rename it, or set full_feature_names=True"
                ),
            )),
            None => Ok(()),
        }
    }
}

struct Planner<'a> {
    catalog: &'a Catalog,
    plan: HistoryPlan,
    /// Name in the request -> index of the view.
    placed: HashMap<String, usize>,
    projections: Vec<Projection>,
}

impl<'a> Planner<'a> {
    fn new(catalog: &'a Catalog, full_feature_names: bool) -> Self {
        let plan = HistoryPlan {
            views: Vec::new(),
            columns: Vec::new(),
            on_demand: Vec::new(),
            references: Vec::new(),
            full_feature_names,
        };
        Planner { catalog, plan, placed: HashMap::new(), projections: Vec::new() }
    }

    fn add(&mut self, reference: &FeatureRef, view: &AskedView<'_>) -> Result<()> {
        let text = format!("{}:{}", reference.view_name(), reference.feature);
        self.plan.references.push(text);
        // Feast names columns by the view without its version.
        let name = self.column_name(&view.name_without_version, &reference.feature);
        match view.view.kind {
            ViewKind::OnDemand => self.add_computed(view, &reference.feature, name),
            _ => self.add_read(view, &reference.feature, name),
        }
    }

    fn column_name(&self, view: &str, feature: &str) -> String {
        match self.plan.full_feature_names {
            true => format!("{view}__{feature}"),
            false => feature.to_owned(),
        }
    }

    fn add_read(&mut self, asked: &AskedView<'_>, feature: &str, name: String) -> Result<()> {
        let view = match self.placed.get(&asked.name) {
            Some(view) => *view,
            None => {
                self.plan.views.push(HistoryView::new(asked)?);
                self.placed.insert(asked.name.clone(), self.plan.views.len() - 1);
                self.plan.views.len() - 1
            }
        };
        let target = &mut self.plan.views[view];
        let feature = &field(&asked.view, feature)?.name;
        let source_column = target.source.source_name(feature).to_owned();
        let feature = match target.features.iter().position(|known| known.name == *feature) {
            Some(known) => known,
            None => {
                target.features.push(HistoryFeature { name: feature.clone(), source_column });
                target.features.len() - 1
            }
        };
        self.plan.columns.push(HistoryColumn { name, view, feature });
        Ok(())
    }

    fn add_computed(&mut self, asked: &AskedView<'_>, feature: &str, name: String) -> Result<()> {
        field(&asked.view, feature)?;
        let place = self.plan.on_demand.iter().position(|of| of.request_name == asked.name);
        if let Some(place) = place {
            self.plan.on_demand[place].columns.push(name);
            return Ok(());
        }
        let view = &asked.view;
        check_computable(view)?;
        let mut request_data = Vec::new();
        for source in view.on_demand_sources.values() {
            match source {
                OnDemandSource::View(projection) => self.projections.push(projection.clone()),
                OnDemandSource::Request(source) => {
                    request_data.extend(source.schema.iter().map(|field| field.name.clone()));
                }
            }
        }
        self.plan.on_demand.push(HistoryOnDemand {
            name: view.name.clone(),
            request_name: asked.name.clone(),
            definition: view.definition.clone(),
            columns: vec![name],
            request_data,
        });
        Ok(())
    }

    /// Adds what on-demand views take from other views, and was not asked for by itself. As in
    /// Feast, the answer has it, too.
    fn add_inputs(&mut self) -> Result<()> {
        for projection in std::mem::take(&mut self.projections) {
            let view = self.catalog.view(&projection.view)?;
            if view.kind == ViewKind::OnDemand {
                let message =
                    format!("'{}', an on-demand feature view, is made from another", view.name);
                return Err(Error::new(ErrorKind::NeedsFeast, message));
            }
            let source = AskedView::of_catalog(view, Some(&projection.join_key_map));
            for input in &projection.features {
                let is_known = self.placed.get(&source.name).is_some_and(|&view| {
                    self.plan.columns.iter().any(|column| {
                        let features = &self.plan.views[view].features;
                        column.view == view && features[column.feature].name == input.name
                    })
                });
                if is_known {
                    continue;
                }
                let name = self.column_name(&source.name, &input.name);
                if self.plan.columns.iter().any(|column| column.name == name) {
                    return Err(input_collision(&name, &source.name));
                }
                self.plan.references.push(format!("{}:{}", source.name, input.name));
                self.add_read(&source, &input.name, name)?;
            }
        }
        Ok(())
    }
}

impl HistoryView {
    fn new(asked: &AskedView<'_>) -> Result<Self> {
        let view = &*asked.view;
        let source = native_source(view)?;
        let label_column = |name: &String| {
            let mapped = asked.join_key_map.and_then(|names| names.get(name));
            mapped.unwrap_or(name).clone()
        };
        let keys = if view.is_entityless() { &[] } else { view.entity_columns.as_slice() };
        let join_keys: Vec<JoinKey> = keys
            .iter()
            .map(|field| JoinKey {
                label_column: label_column(&field.name),
                source_column: source.source_name(&field.name).to_owned(),
            })
            .collect();
        if join_keys.is_empty() && !view.is_entityless() {
            let message = format!(
                "view '{}' has entities but no join keys in the registry; run `feast apply` again",
                view.name
            );
            return Err(Error::new(ErrorKind::RegistryInvalid, message));
        }
        let created = &source.created_timestamp_column;
        Ok(HistoryView {
            name: asked.name.clone(),
            join_keys,
            event_column: source.source_name(&source.timestamp_field).to_owned(),
            created_column: (!created.is_empty()).then(|| source.source_name(created).to_owned()),
            ttl_micros: view.ttl.filter(|ttl| *ttl > 0),
            features: Vec::new(),
            source: source.clone(),
        })
    }
}

fn check_offline_store(config: &RepoConfig) -> Result<()> {
    if config.has_file_store() {
        return Ok(());
    }
    let message = format!("the offline store '{}' is Feast's", config.offline_store_type);
    Err(Error::new(ErrorKind::NeedsFeast, message))
}

/// The source of `view`, where its rows are what is asked for.
fn native_source(view: &FeatureView) -> Result<&DataSource> {
    let obstacle = |why: &str| {
        Err(Error::new(ErrorKind::NeedsFeast, format!("feature view '{}' {why}", view.name)))
    };
    // Validation, and writing to the offline store, are of no concern to who reads from there.
    let reads = |reason: &&&str| {
        !reason.starts_with("asks for validation") && !reason.starts_with("is also written")
    };
    if let Some(reason) = view.beyond_native.iter().find(reads) {
        return obstacle(reason);
    }
    let Some(source) = &view.batch_source else { return obstacle("has no batch source") };
    let scheme = source.path.split_once("://").map_or("file", |(scheme, _)| scheme);
    match source.kind {
        SourceKind::Parquet if scheme == "file" || Cloud::of_scheme(scheme).is_some() => Ok(source),
        SourceKind::Parquet => obstacle(&format!("has a source on '{scheme}'")),
        SourceKind::OtherFile => obstacle("has a file source that is not Parquet"),
        _ => obstacle("has a source that is not a Parquet file"),
    }
}

#[cold]
fn input_collision(name: &str, view: &str) -> Error {
    Error::new(
        ErrorKind::FeatureNameCollision,
        format!(
            "an on-demand feature view needs '{name}' of view '{view}', and another column of the \
             answer has that name; set full_feature_names=True"
        ),
    )
}
