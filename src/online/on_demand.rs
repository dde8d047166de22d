//! On-demand views: which stored features and request data their functions need, and how what
//! they compute becomes part of the answer (`feast/utils.py`,
//! `_augment_response_with_on_demand_transforms`). Pure: it runs no function, for those are
//! Python, and does not know what they do.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::registry::{FeatureView, Field, OnDemandSource, Projection, ViewKind};
use crate::value::{Column, ValueType};

use super::answer::{FeatureVector, OnlineFeatures, Status};
use super::asked::AskedView;
use super::plan::{Planner, RequestKey, field};

/// What has to be computed, and what the answer then shows.
#[derive(Clone, Debug)]
pub struct OnDemand {
    /// The views, in the order asked.
    pub views: Vec<ComputedView>,
    /// The columns of the answer after the join keys, in the order asked.
    pub shown: Vec<Shown>,
    /// Columns of the request that are input only, and are not shown.
    pub request_data: Vec<String>,
}

/// A column of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A stored feature: its index among the plan's columns.
    Stored(usize),
    /// A computed feature.
    Computed {
        /// Index in [`OnDemand::views`].
        view: usize,
        /// Index in the view's features.
        feature: usize,
    },
}

/// A view that is computed.
#[derive(Clone, Debug)]
pub struct ComputedView {
    /// Its name.
    pub name: String,
    /// The serialized `OnDemandFeatureView` message, function included.
    pub definition: Arc<[u8]>,
    /// The stored features that its function is given: those of the views that it declares.
    pub inputs: Vec<Input>,
    /// The features that are asked of it.
    pub features: Vec<ComputedFeature>,
}

/// A stored feature that a function is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The name by which it is given.
    pub name: String,
    /// Its index among the plan's columns.
    pub column: usize,
}

/// A feature that is computed.
#[derive(Clone, Debug)]
pub struct ComputedFeature {
    /// Its name in the view.
    pub name: String,
    /// Its name in the answer.
    pub column_name: String,
    /// The declared type.
    pub value_type: ValueType,
}

/// The computed views of a request, each with the features asked of it.
#[derive(Default)]
pub(super) struct Computed<'a>(Vec<(&'a AskedView<'a>, Vec<ComputedFeature>)>);

impl<'a> Computed<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a feature, and gives its place in the answer.
    pub(super) fn add(
        &mut self,
        asked: &'a AskedView<'a>,
        feature: &str,
        column_name: String,
    ) -> Result<Shown> {
        let field = field(&asked.view, feature)?;
        let view = match self.0.iter().position(|(known, _)| known.name == asked.name) {
            Some(view) => view,
            None => {
                self.0.push((asked, Vec::new()));
                self.0.len() - 1
            }
        };
        let features = &mut self.0[view].1;
        let (name, value_type) = (field.name.clone(), field.value_type);
        features.push(ComputedFeature { name, column_name, value_type });
        Ok(Shown::Computed { view, feature: features.len() - 1 })
    }
}

impl Planner<'_> {
    /// Adds what the functions of `computed` need to what is read.
    pub(super) fn plan_on_demand(
        &mut self,
        computed: Computed<'_>,
        shown: Vec<Shown>,
    ) -> Result<OnDemand> {
        let mut request_data = Vec::new();
        for (view, _) in &computed.0 {
            for source in view.view.on_demand_sources.values() {
                match source {
                    OnDemandSource::View(projection) => self.add_inputs(view, projection)?,
                    OnDemandSource::Request(source) => {
                        self.add_request_data(&source.schema, &mut request_data);
                    }
                }
            }
        }
        let read = self.read_features();
        let is_full = self.options.full_feature_names;
        let views = computed.0.into_iter().map(|(view, features)| ComputedView {
            name: view.view.name.clone(),
            definition: view.view.definition.clone(),
            inputs: inputs(&view.view, &read, is_full),
            features,
        });
        let views = views.collect();
        Ok(OnDemand { views, shown, request_data })
    }

    /// The stored features that an on-demand view takes from another view.
    fn add_inputs(&mut self, of: &AskedView<'_>, projection: &Projection) -> Result<()> {
        let view = self.catalog.view(&projection.view)?;
        if view.kind == ViewKind::OnDemand && !view.write_to_online_store {
            let message = format!(
                "'{}' is made from '{}', an on-demand feature view that is not stored",
                of.view.name, view.name
            );
            return Err(Error::new(ErrorKind::NeedsFeast, message));
        }
        let source = AskedView::of_catalog(view, Some(&projection.join_key_map));
        let place = self.place(&source)?;
        for field in &projection.features {
            let known = self.groups[place.0].stored.views[place.1].features.iter();
            if known.clone().all(|known| known.name != field.name) {
                let name = format!("{}__{}", source.name, field.name);
                self.add_column(name, &source, &field.name)?;
            }
        }
        Ok(())
    }

    fn add_request_data(&mut self, schema: &[Field], request_data: &mut Vec<String>) {
        for field in schema {
            if self.keys.iter().all(|key| key.name != field.name) {
                request_data.push(field.name.clone());
                self.keys.push(RequestKey {
                    name: field.name.clone(),
                    entity_name: field.name.clone(),
                    value_type: None,
                    is_needed: false,
                });
            }
        }
    }

    /// For each column that is read, the name of its view in the request, and of its feature.
    fn read_features(&self) -> Vec<(&str, &str)> {
        let by_place: HashMap<(usize, usize), &str> =
            self.placed.iter().map(|(name, place)| (*place, name.as_str())).collect();
        self.columns
            .iter()
            .map(|column| {
                let view = &self.groups[column.group].stored.views[column.view];
                let name = by_place.get(&(column.group, column.view)).copied().unwrap_or_default();
                (name, view.features[column.feature].name.as_str())
            })
            .collect()
    }
}

/// What the function of `view` is given of `read`, where each column has the name of its view
/// and its own: the features of the views that it declares, asked for or not, by their short
/// names, or with their view's where two have one name.
fn inputs(view: &FeatureView, read: &[(&str, &str)], full_feature_names: bool) -> Vec<Input> {
    let declared = |view_name: &str| {
        view.on_demand_sources.values().find_map(|source| match source {
            OnDemandSource::View(projection) if projection.view == view_name => Some(projection),
            _ => None,
        })
    };
    let known = read.iter().enumerate().filter_map(|(column, &(view_name, feature))| {
        // A version of a declared view is of that view.
        let plain = view_name.split_once("@v").map_or(view_name, |(plain, _)| plain);
        Some((column, view_name, feature, declared(view_name).or_else(|| declared(plain))?))
    });
    let known: Vec<_> = known.collect();
    let name = |&(column, view_name, feature, projection): &(usize, &str, &str, &Projection)| {
        let is_declared = projection.features.iter().any(|field| field.name == feature);
        let is_single = known.iter().filter(|(_, _, other, _)| *other == feature).count() == 1;
        let is_short = is_single && (is_declared || !full_feature_names);
        let name = if is_short { feature.to_owned() } else { format!("{view_name}__{feature}") };
        Input { name, column }
    };
    known.iter().map(name).collect()
}

impl OnDemand {
    /// An error that names the request data which `given` lacks: names of the request's columns.
    pub(super) fn check_request_data(&self, given: &[&str]) -> Result<()> {
        let missing: Vec<&str> = self
            .request_data
            .iter()
            .map(String::as_str)
            .filter(|name| !given.contains(name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the entity rows have no '{}', which on-demand views take from the request",
            missing.join("', '")
        );
        Err(Error::new(ErrorKind::RequestDataMissing, message))
    }

    /// What the function of a view is given, by name: the request's own columns, then features.
    pub fn inputs<'a>(
        &'a self,
        view: usize,
        answer: &'a OnlineFeatures,
    ) -> impl Iterator<Item = (&'a str, &'a FeatureVector)> {
        let of_request = answer.vectors.iter().take(answer.join_keys);
        let of_request = of_request.map(|vector| (&*vector.name, vector));
        let inputs = self.views.get(view).map_or(&[][..], |view| &view.inputs);
        let of_views = inputs
            .iter()
            .filter_map(|input| Some((input.name.as_str(), answer.features().get(input.column)?)));
        of_request.chain(of_views)
    }

    /// The answer as it was asked for: `computed` in its place, and without what was but an
    /// input. `computed[v][f]` is feature `f` of view `v`; `None`: its function gave none, and
    /// the answer has no such column, as in Feast.
    pub fn finish(
        &self,
        answer: &OnlineFeatures,
        mut computed: Vec<Vec<Option<Column>>>,
        null_status: Status,
    ) -> Result<OnlineFeatures> {
        let is_shown =
            |vector: &&FeatureVector| self.request_data.iter().all(|name| **name != *vector.name);
        let mut vectors: Vec<FeatureVector> =
            answer.vectors.iter().take(answer.join_keys).filter(is_shown).cloned().collect();
        let join_keys = vectors.len();
        let no_time = Arc::new(vec![0; answer.rows]);
        for shown in &self.shown {
            match *shown {
                Shown::Stored(column) => vectors.extend(answer.features().get(column).cloned()),
                Shown::Computed { view, feature } => {
                    let column = computed.get_mut(view).and_then(|of| of.get_mut(feature)?.take());
                    let Some(column) = column else { continue };
                    let definition = &self.views[view];
                    let name = &definition.features[feature].column_name;
                    if column.len() != answer.rows {
                        return Err(uneven(definition, name, column.len(), answer.rows));
                    }
                    vectors.push(computed_vector(name, column, &no_time, null_status));
                }
            }
        }
        Ok(OnlineFeatures { vectors, join_keys, rows: answer.rows })
    }
}

fn computed_vector(
    name: &str,
    column: Column,
    no_time: &Arc<Vec<i64>>,
    null_status: Status,
) -> FeatureVector {
    let mut vector = FeatureVector::of_request(name, column, no_time.clone());
    for row in 0..vector.column.len() {
        if vector.column.is_null(row) {
            vector.statuses.set(row, null_status);
        }
    }
    vector
}

#[cold]
fn uneven(view: &ComputedView, feature: &str, len: usize, rows: usize) -> Error {
    let message = format!(
        "on demand feature view '{}' gave {len} values of '{feature}' for {rows} rows; it must \
         give one for each row",
        view.name
    );
    Error::new(ErrorKind::TypeMismatch, message)
}
