//! The parts that definitions of every kind are made of: fields, projections, times.

use super::catalog::{Field, Projection, VectorIndex};
use super::dtype::take_dtype;
use super::messages::{self as pb, Time};
use crate::error::Result;
use crate::value::ValueType;

/// A view as a service or an on-demand view uses it.
pub(super) fn projection(projection: &pb::Projection) -> Result<Projection> {
    let view = projection.feature_view_name.clone();
    Ok(Projection {
        features: fields_of(&projection.feature_columns)
            .map_err(|error| error.context(format!("view '{view}'")))?,
        view,
        alias: projection.feature_view_name_alias.clone(),
        join_key_map: projection.join_key_map.clone(),
        version_tag: projection.version_tag,
    })
}

/// The fields of a schema, in its order.
pub(super) fn fields_of(specs: &[pb::FeatureSpec]) -> Result<Vec<Field>> {
    specs.iter().map(field).collect()
}

fn field(spec: &pb::FeatureSpec) -> Result<Field> {
    let what = format!("field '{}'", spec.name);
    let value_type = ValueType::require(spec.value_type, &what)?;
    let mut tags = spec.tags.clone();
    let dtype = take_dtype(value_type, &mut tags).map_err(|error| error.context(what))?;
    let (name, description) = (spec.name.clone(), spec.description.clone());
    Ok(Field { name, value_type, dtype, description, tags, vector: vector(spec) })
}

fn vector(spec: &pb::FeatureSpec) -> Option<VectorIndex> {
    let vector = VectorIndex {
        is_indexed: spec.vector_index,
        length: spec.vector_length,
        search_metric: spec.vector_search_metric.clone(),
    };
    (vector != VectorIndex::default()).then_some(vector)
}

/// Microseconds since the epoch of a time that may not be set.
pub(super) fn micros(time: &Option<Time>) -> Option<i64> {
    time.as_ref().map(Time::micros)
}
