//! Services with `precompute_online`: Feast keeps all their features of an entity in one value,
//! a serialized `PrecomputedFeatureVector`. How it is found and taken apart, as
//! `feast/infra/online_stores/online_store.py::_try_precomputed_fast_path` does. Pure.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::hash;
use crate::store::{StoredFeature, StoredGroup, StoredView};
use crate::value::wire::reader::{Payload, Reader, malformed, text};
use crate::value::wire::{ColumnDecoder, Decoded, Value};
use crate::value::{Column, ValueType};

use super::answer::{FeatureVector, OnlineFeatures, Status, Statuses};
use super::asked::Asked;
use super::assemble::StatusRules;
use super::message::take_time;
use super::plan::{PlanColumn, PlanGroup, Planner, ReadPlan, field};

/// What a service's ready-made vectors must hold.
#[derive(Clone, Debug)]
pub struct Precomputed {
    /// The service's name.
    pub service: String,
    /// Its features, in its order.
    pub features: Vec<PrecomputedFeature>,
}

/// One feature of a ready-made vector.
#[derive(Clone, Debug)]
pub struct PrecomputedFeature {
    /// Its name in the vector, `view__feature`.
    pub stored_name: String,
    /// Its name in the answer.
    pub name: Arc<str>,
    /// The declared type.
    pub value_type: ValueType,
    /// The name of its view in the vector.
    pub view: String,
    /// How long a row of its view is valid, microseconds; `None`: for ever.
    pub ttl: Option<i64>,
}

impl Planner<'_> {
    /// The read of a service's ready-made vectors: one value, found by the join keys of the
    /// service's first view (`feast/infra/online_stores/online_store.py::get_online_features`).
    pub(super) fn plan_precomputed(mut self, asked: &Asked<'_>, service: &str) -> Result<ReadPlan> {
        let mut first_keys = None;
        let mut features = Vec::with_capacity(asked.refs.len());
        for (reference, view) in asked.iter() {
            let join_keys = self.join_keys(view)?;
            first_keys.get_or_insert((join_keys, self.expected_fields(&view.view)));
            let field = field(&view.view, &reference.feature)?;
            features.push(PrecomputedFeature {
                stored_name: reference.column_name(true),
                name: reference.column_name(self.options.full_feature_names).into(),
                value_type: field.value_type,
                view: view.name.clone(),
                ttl: view.view.ttl.filter(|&ttl| ttl > 0),
            });
        }
        let (join_keys, expected_fields) = first_keys.unwrap_or_default();
        let name = format!("__precomputed__{service}");
        let vector = "vector".to_owned();
        let field = hash::field_name(&name, &vector);
        let timestamp_field = format!("_ts:{name}").into_bytes();
        let names = vec![name.as_str().into()];
        let features_stored = vec![StoredFeature { name: vector.clone(), field }];
        let stored =
            StoredView { name, features: features_stored, timestamp_field, ttl_micros: None };
        self.groups.push(PlanGroup {
            join_keys,
            stored: StoredGroup { views: vec![stored], expected_fields },
            names,
            types: vec![Arc::new([ValueType::Bytes].into_iter().collect())],
            ttls: vec![None],
        });
        self.columns.push(PlanColumn { name: vector.into(), group: 0, view: 0, feature: 0 });
        let precomputed = Precomputed { service: service.to_owned(), features };
        Ok(ReadPlan { precomputed: Some(precomputed), ..self.finish() })
    }
}

/// `feast.core.PrecomputedFeatureVector`.
#[derive(Default)]
struct Vector<'a> {
    names: Vec<&'a str>,
    values: Vec<&'a [u8]>,
    // View -> when its row was true, microseconds since the epoch.
    times: Vec<(&'a str, i64)>,
    made_at: i64,
}

impl Precomputed {
    /// The answer with the features in place of the vectors, which are its last column. `now`
    /// is microseconds since the epoch.
    pub fn unpack(
        &self,
        mut answer: OnlineFeatures,
        rules: &StatusRules,
        now: i64,
    ) -> Result<OnlineFeatures> {
        let Some(packed) = answer.vectors.pop() else { return Err(self.missing("nothing read")) };
        let mut cells = Vec::with_capacity(answer.rows);
        for row in 0..answer.rows {
            match packed.column.cell(row)? {
                Value::Bytes(bytes) => cells.push(bytes),
                _ => return Err(self.missing(&format!("row {row} has none"))),
            }
        }
        let vectors = cells.iter().map(|bytes| Vector::parse(bytes)).collect::<Result<Vec<_>>>()?;
        let places = self.places(&vectors)?;
        let made_at: Arc<Vec<i64>> =
            Arc::new(vectors.iter().map(|vector| vector.made_at).collect());
        for (feature, place) in self.features.iter().zip(places) {
            let (column, statuses) = feature.column(&vectors, place, rules, now)?;
            answer.vectors.push(FeatureVector {
                name: feature.name.clone(),
                column,
                statuses,
                event_timestamps: made_at.clone(),
            });
        }
        Ok(answer)
    }

    /// Where each feature stands in the vectors, which must all be of one form.
    fn places(&self, vectors: &[Vector<'_>]) -> Result<Vec<usize>> {
        let Some(first) = vectors.first() else { return Ok(vec![0; self.features.len()]) };
        let is_of_form = |vector: &Vector<'_>| {
            vector.names == first.names && vector.values.len() == first.names.len()
        };
        let place = |feature: &PrecomputedFeature| {
            first.names.iter().position(|name| *name == feature.stored_name)
        };
        let places: Option<Vec<usize>> = self.features.iter().map(place).collect();
        match places {
            Some(places) if first.names.len() == places.len() && vectors.iter().all(is_of_form) => {
                Ok(places)
            }
            _ => Err(self.missing("they were made for other features")),
        }
    }

    #[cold]
    fn missing(&self, why: &str) -> Error {
        let message = format!(
            "feature service '{0}' has precompute_online, and its vectors can't be used: {why}; \
             run `feast precompute {0}` or materialize its views",
            self.service
        );
        Error::new(ErrorKind::PrecomputedMissing, message)
    }
}

impl PrecomputedFeature {
    // As in Feast, a value that is too old is marked and stays; but where `ttl` is enforced
    // online it is null, as everywhere.
    fn column(
        &self,
        vectors: &[Vector<'_>],
        place: usize,
        rules: &StatusRules,
        now: i64,
    ) -> Result<(Column, Statuses)> {
        let mut decoder = ColumnDecoder::new(self.value_type, vectors.len());
        let mut statuses = Statuses::all_present(0);
        for vector in vectors {
            let is_too_old = self.is_too_old(vector, now);
            if is_too_old && rules.max_age_at.is_some() {
                decoder.push_missing();
                statuses.push(Status::OutsideMaxAge);
                continue;
            }
            let bytes = vector.values.get(place).copied().unwrap_or_default();
            statuses.push(match decoder.push(bytes)? {
                _ if is_too_old => Status::OutsideMaxAge,
                Decoded::Null if rules.feast.is_none() => Status::NullValue,
                _ => Status::Present,
            });
        }
        Ok((decoder.finish()?, statuses))
    }

    fn is_too_old(&self, vector: &Vector<'_>, now: i64) -> bool {
        let time = vector.times.iter().find(|(view, _)| *view == self.view);
        match (time, self.ttl) {
            (Some((_, time)), Some(ttl)) => time.saturating_add(ttl) < now,
            _ => false,
        }
    }
}

impl<'a> Vector<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut vector = Vector::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Payload::Bytes(name)) => vector.names.push(text(name)?),
                (2, Payload::Bytes(value)) => vector.values.push(value),
                (3, Payload::Bytes(time)) => vector.times.push(view_time(time)?),
                (4, Payload::Bytes(time)) => vector.made_at = take_time(time)?,
                (1..=4, _) => return Err(malformed("a ready-made vector")),
                _ => {}
            }
        }
        Ok(vector)
    }
}

/// `feast.core.FeatureViewTimestamp`.
fn view_time(bytes: &[u8]) -> Result<(&str, i64)> {
    let mut time = ("", 0);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(view)) => time.0 = text(view)?,
            (2, Payload::Bytes(moment)) => time.1 = take_time(moment)?,
            _ => {}
        }
    }
    Ok(time)
}
