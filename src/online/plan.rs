//! The read plan: made once for a set of features and a registry snapshot, then reused.
//! Names are hashed, types resolved, the output order fixed. Pure: no store, no I/O.
//!
//! Views that share join keys share a group: in Redis one hash holds them all, so a group
//! costs one command for each entity however many views are asked.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::hash;
use crate::key::{KeyEncoder, KeyVersion};
use crate::registry::{Catalog, FeatureView, Field};
use crate::store::{StoredFeature, StoredGroup, StoredView};
use crate::value::ValueType;

use super::asked::{Asked, AskedView};
use super::columns::ViewTypes;
use super::message::ViewVersion;
use super::on_demand::{Computed, OnDemand, Shown};
use super::precomputed::{Precomputed, PrecomputedFeature};
use super::reference::FeatureRef;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub enum FeatureSet<'a> {
    /// References, in the order in which the columns shall come.
    References(&'a [String]),
    /// The name of a feature service.
    Service(&'a str),
}

/// How a plan is made, from the repository's configuration and the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlanOptions {
    /// Columns are named `view__feature` instead of `feature`.
    pub full_feature_names: bool,
    /// Version of the entity-key serialization.
    pub key_version: KeyVersion,
    /// Views are stored under `view_vN`.
    pub versioned_views: bool,
    /// Views that are being materialized keep serving.
    pub serve_while_materializing: bool,
}

/// A column that the request may bring along to identify entities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// The name of the column in the request and in the response.
    pub name: String,
    /// Another name under which it is accepted: the entity's.
    pub entity_name: String,
    /// The declared type; `None`: inferred from the values.
    pub value_type: Option<ValueType>,
    /// Whether a requested view needs it.
    pub is_needed: bool,
}

/// Views that are read for the same entities.
#[derive(Clone, Debug)]
pub struct PlanGroup {
    /// The join keys: the name in the store, and the index in [`ReadPlan::keys`]. Empty for
    /// views without entity.
    pub join_keys: Vec<(String, usize)>,
    /// The views, each with the features to read, as the store knows them.
    pub stored: StoredGroup,
    /// For each view, its name in the registry.
    pub names: Vec<Arc<str>>,
    /// For each view, the declared types of its features.
    pub types: Vec<Arc<ViewTypes>>,
    /// For each view, how long a row is valid, microseconds; `None`: for ever.
    pub ttls: Vec<Option<i64>>,
}

/// Where a column of the response comes from.
#[derive(Clone, Debug)]
pub struct PlanColumn {
    /// Its name.
    pub name: Arc<str>,
    /// Index in [`ReadPlan::groups`].
    pub group: usize,
    /// Index in the group's views.
    pub view: usize,
    /// Index in the view's features.
    pub feature: usize,
}

/// Everything about a read that does not depend on the entities.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    /// Columns that the request may bring: the join keys of the requested views first, then
    /// those of every other entity of the project, which Feast hands through too.
    pub keys: Vec<RequestKey>,
    /// What to read.
    pub groups: Vec<PlanGroup>,
    /// What to give, after the join keys; where something is computed, its inputs too.
    pub columns: Vec<PlanColumn>,
    /// Version of the entity-key serialization.
    pub key_version: KeyVersion,
    /// The versions of the stored views, for requests that want to know them.
    pub view_versions: Arc<[ViewVersion]>,
    /// What has to be computed from what is read; `None`: nothing.
    pub on_demand: Option<Arc<OnDemand>>,
    /// The features are in one value, made beforehand; `None`: they are not.
    pub precomputed: Option<Precomputed>,
}

impl ReadPlan {
    /// Plans the reading of `features` from `catalog`.
    pub fn new(catalog: &Catalog, features: FeatureSet<'_>, options: &PlanOptions) -> Result<Self> {
        let asked = Asked::new(catalog, features, options)?;
        check_collisions(&asked.refs, options.full_feature_names)?;
        let planner = Planner::new(catalog, options);
        match asked.precomputed {
            Some(service) => planner.plan_precomputed(&asked, service),
            None => planner.plan(&asked),
        }
    }

    /// Names of the columns that a read gives after the join keys, inputs of what is computed
    /// among them.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        let (made, read): (&[PrecomputedFeature], &[PlanColumn]) = match &self.precomputed {
            Some(precomputed) => (&precomputed.features, &[]),
            None => (&[], &self.columns),
        };
        made.iter().map(|one| &*one.name).chain(read.iter().map(|one| &*one.name))
    }

    /// Names of the views that are read, in the order of the groups.
    pub fn read_views(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().flat_map(|group| &group.names).map(|name| &**name)
    }

    /// Names of the features, in the order asked.
    pub fn feature_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.on_demand {
            None => Box::new(self.column_names()),
            Some(on_demand) => Box::new(on_demand.shown.iter().filter_map(|shown| match *shown {
                Shown::Stored(column) => Some(&*self.columns.get(column)?.name),
                Shown::Computed { view, feature } => {
                    Some(on_demand.views.get(view)?.features.get(feature)?.column_name.as_str())
                }
            })),
        }
    }
}

/// A plan in the making; what is computed or made beforehand is planned by `on_demand` and
/// `precomputed`.
pub(super) struct Planner<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) options: &'a PlanOptions,
    pub(super) keys: Vec<RequestKey>,
    pub(super) groups: Vec<PlanGroup>,
    pub(super) columns: Vec<PlanColumn>,
    // Name in the request -> (group, view).
    pub(super) placed: HashMap<String, (usize, usize)>,
    pub(super) view_versions: Vec<ViewVersion>,
}

impl<'a> Planner<'a> {
    fn new(catalog: &'a Catalog, options: &'a PlanOptions) -> Self {
        Planner {
            catalog,
            options,
            keys: Vec::new(),
            groups: Vec::new(),
            columns: Vec::new(),
            placed: HashMap::new(),
            view_versions: Vec::new(),
        }
    }

    fn plan(mut self, asked: &Asked<'_>) -> Result<ReadPlan> {
        let mut shown = Vec::with_capacity(asked.refs.len());
        let mut computed = Computed::default();
        for (reference, view) in asked.iter() {
            let name = reference.column_name(self.options.full_feature_names);
            if view.is_computed() {
                shown.push(computed.add(view, &reference.feature, name)?);
            } else {
                shown.push(Shown::Stored(self.columns.len()));
                self.add_column(name, view, &reference.feature)?;
            }
        }
        let on_demand = match computed.is_empty() {
            true => None,
            false => Some(Arc::new(self.plan_on_demand(computed, shown)?)),
        };
        Ok(ReadPlan { on_demand, ..self.finish() })
    }

    pub(super) fn finish(mut self) -> ReadPlan {
        self.add_other_entities();
        ReadPlan {
            keys: self.keys,
            groups: self.groups,
            columns: self.columns,
            key_version: self.options.key_version,
            view_versions: self.view_versions.into(),
            on_demand: None,
            precomputed: None,
        }
    }

    pub(super) fn add_column(
        &mut self,
        name: String,
        view: &AskedView<'_>,
        feature: &str,
    ) -> Result<()> {
        let (group, place) = self.place(view)?;
        let feature = self.add_feature(group, place, &view.view, feature)?;
        self.columns.push(PlanColumn { name: name.into(), group, view: place, feature });
        Ok(())
    }

    pub(super) fn place(&mut self, asked: &AskedView<'_>) -> Result<(usize, usize)> {
        if let Some(&place) = self.placed.get(&asked.name) {
            return Ok(place);
        }
        let join_keys = self.join_keys(asked)?;
        let group = match self.groups.iter().position(|group| group.join_keys == join_keys) {
            Some(group) => group,
            None => {
                let expected_fields = self.expected_fields(&asked.view);
                self.groups.push(PlanGroup {
                    join_keys,
                    stored: StoredGroup { views: Vec::new(), expected_fields },
                    names: Vec::new(),
                    types: Vec::new(),
                    ttls: Vec::new(),
                });
                self.groups.len() - 1
            }
        };
        let stored = stored_view(&asked.view, self.options.versioned_views);
        let target = &mut self.groups[group];
        target.stored.views.push(stored);
        target.names.push(asked.view.name.as_str().into());
        target.types.push(Arc::default());
        target.ttls.push(asked.view.ttl.filter(|&ttl| ttl > 0));
        let place = (group, target.stored.views.len() - 1);
        self.placed.insert(asked.name.clone(), place);
        self.note_version(asked);
        Ok(place)
    }

    // Two versions of a view are one line there, the first: so it is in Feast.
    fn note_version(&mut self, asked: &AskedView<'_>) {
        if self.view_versions.iter().all(|known| known.view != asked.name_without_version) {
            self.view_versions.push(ViewVersion {
                view: asked.name_without_version.clone(),
                version: asked.view.current_version_number,
            });
        }
    }

    // The view's join keys, each with the index of the request's column that brings it.
    pub(super) fn join_keys(&mut self, asked: &AskedView<'_>) -> Result<Vec<(String, usize)>> {
        if asked.view.is_entityless() {
            return Ok(Vec::new());
        }
        let mut join_keys = Vec::with_capacity(asked.view.entities.len());
        for entity_name in &asked.view.entities {
            let entity = self.catalog.entity(entity_name)?;
            let name = asked
                .join_key_map
                .and_then(|names| names.get(&entity.join_key))
                .unwrap_or(&entity.join_key);
            let column = asked.view.entity_columns.iter().find(|c| c.name == entity.join_key);
            let value_type = column.map(|column| column.value_type).or(entity.value_type);
            let index = self.add_key(name, &entity.name, value_type);
            join_keys.push((entity.join_key.clone(), index));
        }
        join_keys.sort();
        Ok(join_keys)
    }

    fn add_key(&mut self, name: &str, entity: &str, value_type: Option<ValueType>) -> usize {
        match self.keys.iter().position(|key| key.name == name) {
            Some(index) => {
                // As in Feast, the view that comes later decides.
                self.keys[index].value_type = value_type.or(self.keys[index].value_type);
                index
            }
            None => {
                self.keys.push(RequestKey {
                    name: name.to_owned(),
                    entity_name: entity.to_owned(),
                    value_type,
                    is_needed: true,
                });
                self.keys.len() - 1
            }
        }
    }

    fn add_other_entities(&mut self) {
        for entity in &self.catalog.entities {
            let is_known = self.keys.iter().any(|key| key.name == entity.join_key);
            if !is_known && entity.name != FeatureView::DUMMY_ENTITY_NAME {
                self.keys.push(RequestKey {
                    name: entity.join_key.clone(),
                    entity_name: entity.name.clone(),
                    value_type: None,
                    is_needed: false,
                });
            }
        }
    }

    fn add_feature(
        &mut self,
        group: usize,
        view: usize,
        definition: &FeatureView,
        feature: &str,
    ) -> Result<usize> {
        let group = &mut self.groups[group];
        let stored = &mut group.stored.views[view];
        if let Some(index) = stored.features.iter().position(|known| known.name == feature) {
            return Ok(index);
        }
        let field = field(definition, feature)?;
        stored.features.push(StoredFeature {
            name: field.name.clone(),
            field: hash::field_name(&stored.name, &field.name),
        });
        Arc::make_mut(&mut group.types[view]).push(field.value_type);
        Ok(stored.features.len() - 1)
    }

    pub(super) fn expected_fields(&self, view: &FeatureView) -> usize {
        let join_keys = sorted_join_keys(view);
        self.catalog
            .views
            .iter()
            .filter(|other| other.online && sorted_join_keys(other) == join_keys)
            .map(|other| other.features.len() + 1)
            .sum()
    }
}

fn sorted_join_keys(view: &FeatureView) -> Vec<&str> {
    let mut names: Vec<&str> = view.entity_columns.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names
}

/// The view as stores know it, with no features yet.
fn stored_view(view: &FeatureView, versioned_views: bool) -> StoredView {
    let name = view.stored_name(versioned_views);
    let timestamp_field = format!("_ts:{name}").into_bytes();
    StoredView { name, features: Vec::new(), timestamp_field, ttl_micros: None }
}

/// The feature of that name.
pub(crate) fn field<'v>(view: &'v FeatureView, feature: &str) -> Result<&'v Field> {
    view.features.iter().find(|field| field.name == feature).ok_or_else(|| {
        let known: Vec<&str> = view.features.iter().map(|f| f.name.as_str()).collect();
        Error::new(
            ErrorKind::FeatureNotFound,
            format!(
                "feature '{feature}' is not in view '{}', which has: {}",
                view.name,
                known.join(", ")
            ),
        )
    })
}

pub(crate) fn check_collisions(refs: &[FeatureRef], full_feature_names: bool) -> Result<()> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(refs.len());
    for reference in refs {
        *seen.entry(reference.column_name(full_feature_names)).or_default() += 1;
    }
    match seen.len() == refs.len() {
        true => Ok(()),
        false => Err(collision(refs, full_feature_names)),
    }
}

#[cold]
fn collision(refs: &[FeatureRef], full_feature_names: bool) -> Error {
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    for reference in refs {
        let name = reference.column_name(full_feature_names);
        let written = format!("'{}:{}'", reference.view, reference.feature);
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, of)) => of.push(written),
            None => names.push((name, vec![written])),
        }
    }
    names.retain(|(_, of)| of.len() > 1);
    let of: Vec<String> = names.iter().map(|(_, of)| of.join(" and ")).collect();
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    let advice = match full_feature_names {
        true => "ask for each once",
        false => "set full_feature_names=True, or ask for one of them",
    };
    let message = format!("Duplicate features named {} found.", names.join(", "));
    let hint = format!(" That would be {}: {advice}", of.join("; "));
    Error::new(ErrorKind::FeatureNameCollision, message).with_hint(hint)
}

impl PlanGroup {
    /// The encoder of the group's entity keys, for request columns of these types.
    pub(crate) fn key_encoder(
        &self,
        version: KeyVersion,
        value_type: impl Fn(usize) -> ValueType,
    ) -> Result<KeyEncoder> {
        let join_keys: Vec<(String, ValueType)> = match self.join_keys.as_slice() {
            [] => vec![(FeatureView::DUMMY_ENTITY_ID.to_owned(), ValueType::String)],
            keys => keys.iter().map(|(name, index)| (name.clone(), value_type(*index))).collect(),
        };
        KeyEncoder::new(version, &join_keys)
    }
}
