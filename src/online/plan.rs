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
use crate::registry::{Catalog, FeatureView, Projection, ViewKind, ViewState};
use crate::store::{StoredFeature, StoredGroup, StoredView};
use crate::value::ValueType;

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
    /// For each view and feature, its declared type.
    pub value_types: Vec<Vec<ValueType>>,
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
    /// What to give, after the join keys.
    pub columns: Vec<PlanColumn>,
    /// Version of the entity-key serialization.
    pub key_version: KeyVersion,
}

/// A requested view: the catalog's, seen through a projection.
struct Asked<'a> {
    view: &'a FeatureView,
    join_key_map: Option<&'a Projection>,
    name_in_request: &'a str,
}

impl ReadPlan {
    /// Plans the reading of `features` from `catalog`.
    pub fn new(catalog: &Catalog, features: FeatureSet<'_>, options: &PlanOptions) -> Result<Self> {
        match features {
            FeatureSet::References([]) => Err(Error::new(
                ErrorKind::InvalidArgument,
                "no features asked for; give a list of '<feature view>:<feature>' or a feature service",
            )),
            FeatureSet::References(references) => {
                let refs = references
                    .iter()
                    .map(|text| FeatureRef::parse(text))
                    .collect::<Result<Vec<_>>>()?;
                let asked = refs
                    .iter()
                    .map(|r| asked_by_reference(catalog, r))
                    .collect::<Result<Vec<_>>>()?;
                Planner::new(catalog, options).plan(&refs, &asked)
            }
            FeatureSet::Service(name) => {
                let (refs, asked) = asked_by_service(catalog, name)?;
                Planner::new(catalog, options).plan(&refs, &asked)
            }
        }
    }
}

fn asked_by_reference<'a>(catalog: &'a Catalog, reference: &'a FeatureRef) -> Result<Asked<'a>> {
    if let Some(version) = reference.version {
        return Err(Error::new(
            ErrorKind::NeedsFeast,
            format!("'{}@v{version}' asks for a version of a view", reference.view),
        ));
    }
    let view = catalog.view(&reference.view)?;
    Ok(Asked { view, join_key_map: None, name_in_request: &reference.view })
}

fn asked_by_service<'a>(
    catalog: &'a Catalog,
    name: &str,
) -> Result<(Vec<FeatureRef>, Vec<Asked<'a>>)> {
    let service = catalog.service(name)?;
    if service.precompute_online {
        return Err(Error::new(
            ErrorKind::NeedsFeast,
            format!("feature service '{name}' has precomputed vectors"),
        ));
    }
    let mut refs = Vec::new();
    let mut asked = Vec::new();
    for projection in &service.projections {
        if projection.version_tag.is_some() {
            return Err(Error::new(
                ErrorKind::NeedsFeast,
                format!("feature service '{name}' pins a version of '{}'", projection.view),
            ));
        }
        let view = catalog.view(&projection.view)?;
        let name_in_request =
            if projection.alias.is_empty() { &projection.view } else { &projection.alias };
        for field in &projection.features {
            refs.push(FeatureRef {
                view: name_in_request.clone(),
                version: None,
                feature: field.name.clone(),
            });
            asked.push(Asked { view, join_key_map: Some(projection), name_in_request });
        }
    }
    Ok((refs, asked))
}

struct Planner<'a> {
    catalog: &'a Catalog,
    options: &'a PlanOptions,
    keys: Vec<RequestKey>,
    groups: Vec<PlanGroup>,
    // Name in the request -> (group, view).
    placed: HashMap<&'a str, (usize, usize)>,
}

impl<'a> Planner<'a> {
    fn new(catalog: &'a Catalog, options: &'a PlanOptions) -> Self {
        Planner { catalog, options, keys: Vec::new(), groups: Vec::new(), placed: HashMap::new() }
    }

    fn plan(mut self, refs: &[FeatureRef], asked: &'a [Asked<'a>]) -> Result<ReadPlan> {
        check_collisions(refs, self.options.full_feature_names)?;
        let mut columns = Vec::with_capacity(refs.len());
        for (reference, asked) in refs.iter().zip(asked) {
            let (group, view) = self.place(asked)?;
            let feature = self.add_feature(group, view, asked.view, &reference.feature)?;
            let name = reference.column_name(self.options.full_feature_names).into();
            columns.push(PlanColumn { name, group, view, feature });
        }
        self.add_other_entities();
        let key_version = self.options.key_version;
        Ok(ReadPlan { keys: self.keys, groups: self.groups, columns, key_version })
    }

    fn place(&mut self, asked: &'a Asked<'a>) -> Result<(usize, usize)> {
        if let Some(&place) = self.placed.get(asked.name_in_request) {
            return Ok(place);
        }
        check_servable(asked.view, self.options)?;
        let join_keys = self.join_keys(asked)?;
        let group = match self.groups.iter().position(|group| group.join_keys == join_keys) {
            Some(group) => group,
            None => {
                let expected_fields = self.expected_fields(asked.view);
                self.groups.push(PlanGroup {
                    join_keys,
                    stored: StoredGroup { views: Vec::new(), expected_fields },
                    value_types: Vec::new(),
                    ttls: Vec::new(),
                });
                self.groups.len() - 1
            }
        };
        let stored = stored_view(asked.view, self.options.versioned_views);
        let target = &mut self.groups[group];
        target.stored.views.push(stored);
        target.value_types.push(Vec::new());
        target.ttls.push(asked.view.ttl.filter(|&ttl| ttl > 0));
        let place = (group, target.stored.views.len() - 1);
        self.placed.insert(asked.name_in_request, place);
        Ok(place)
    }

    // The view's join keys, each with the index of the request's column that brings it.
    fn join_keys(&mut self, asked: &Asked<'_>) -> Result<Vec<(String, usize)>> {
        if asked.view.is_entityless() {
            return Ok(Vec::new());
        }
        let mut join_keys = Vec::with_capacity(asked.view.entities.len());
        for entity_name in &asked.view.entities {
            let entity = self.catalog.entity(entity_name)?;
            let name = asked
                .join_key_map
                .and_then(|projection| projection.join_key_map.get(&entity.join_key))
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
        let Some(field) = definition.features.iter().find(|field| field.name == feature) else {
            let known: Vec<&str> = definition.features.iter().map(|f| f.name.as_str()).collect();
            return Err(Error::new(
                ErrorKind::FeatureNotFound,
                format!(
                    "feature '{feature}' is not in view '{}', which has: {}",
                    definition.name,
                    known.join(", ")
                ),
            ));
        };
        stored.features.push(StoredFeature {
            name: field.name.clone(),
            field: hash::field_name(&stored.name, &field.name),
        });
        group.value_types[view].push(field.value_type);
        Ok(stored.features.len() - 1)
    }

    fn expected_fields(&self, view: &FeatureView) -> usize {
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
    StoredView { name, features: Vec::new(), timestamp_field }
}

// Matches the gates of `feast/utils.py::_get_feature_views_to_use`.
fn check_servable(view: &FeatureView, options: &PlanOptions) -> Result<()> {
    if !view.enabled {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "feature view '{0}' is disabled; enable it with `feast feature-views enable {0}`",
                view.name
            ),
        ));
    }
    let is_ready = match view.state {
        ViewState::Unspecified | ViewState::AvailableOnline => true,
        ViewState::Materializing => options.serve_while_materializing,
        ViewState::Created | ViewState::Generated => false,
    };
    if !is_ready {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "feature view '{}' is in state {}; only views that are AVAILABLE_ONLINE serve: \
                 materialize it first",
                view.name,
                view.state.name()
            ),
        ));
    }
    if view.kind == ViewKind::OnDemand {
        return Err(Error::new(
            ErrorKind::NeedsFeast,
            format!("'{}' is an on-demand feature view", view.name),
        ));
    }
    Ok(())
}

fn check_collisions(refs: &[FeatureRef], full_feature_names: bool) -> Result<()> {
    let mut seen: HashMap<String, &FeatureRef> = HashMap::with_capacity(refs.len());
    for reference in refs {
        let name = reference.column_name(full_feature_names);
        if let Some(first) = seen.insert(name, reference) {
            let advice = if full_feature_names {
                "ask for it once"
            } else {
                "set full_feature_names=True, or ask for one of them"
            };
            return Err(Error::new(
                ErrorKind::FeatureNameCollision,
                format!(
                    "'{}:{}' and '{}:{}' would both be named '{}': {advice}",
                    first.view,
                    first.feature,
                    reference.view,
                    reference.feature,
                    reference.column_name(full_feature_names)
                ),
            ));
        }
    }
    Ok(())
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
