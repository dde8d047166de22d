//! One online read: request columns -> keys -> store -> answer. Joins the pure plan and the
//! pure assembly to a store.

use std::sync::Arc;

use ahash::AHashMap;
use arrow_array::{ArrayRef, StringArray, UInt32Array};

use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::FeatureView;
use crate::store::{OnlineStore, ReadGroup};
use crate::value::{Column, PackedBytes};

use super::answer::{FeatureVector, OnlineFeatures};
use super::assemble::{Assembler, StatusRules};
use super::plan::{PlanGroup, ReadPlan};

/// The entities of a request: some of the plan's keys, in the order in which the response
/// shall show them.
#[derive(Clone, Debug)]
pub struct Entities {
    /// Index in [`ReadPlan::keys`], and the values, one for each row.
    pub columns: Vec<(usize, Column)>,
    /// Rows of the request; counts also where there are no columns.
    pub rows: usize,
}

/// Keys of one group, each once, and for each row of the request which one it is.
struct UniqueKeys {
    keys: PackedBytes,
    // `None`: row i is key i.
    rows: Option<UInt32Array>,
}

/// Reads what `plan` says for `entities` from `store`.
pub fn read(
    plan: &ReadPlan,
    entities: &Entities,
    store: &dyn OnlineStore,
    rules: &StatusRules,
    call: &Call<'_>,
) -> Result<OnlineFeatures> {
    let unique = plan
        .groups
        .iter()
        .map(|group| unique_keys(plan, group, entities))
        .collect::<Result<Vec<_>>>()?;
    let groups: Vec<ReadGroup<'_>> = plan
        .groups
        .iter()
        .zip(&unique)
        .map(|(group, unique)| ReadGroup {
            keys: &unique.keys,
            views: &group.views,
            expected_fields: group.expected_fields,
        })
        .collect();

    let key_counts: Vec<usize> = unique.iter().map(|unique| unique.keys.len()).collect();
    let mut assembler = Assembler::new(plan, &key_counts, rules);
    store.read(&groups, &mut assembler, call)?;
    let found = assembler.finish()?;

    let no_time = Arc::new(vec![0; entities.rows]);
    let mut vectors = Vec::with_capacity(entities.columns.len() + plan.columns.len());
    for (key, column) in &entities.columns {
        let name = &plan.keys[*key].name;
        vectors.push(FeatureVector::of_request(name, column.clone(), no_time.clone()));
    }
    let row_maps: Vec<Option<UInt32Array>> = unique.into_iter().map(|unique| unique.rows).collect();
    vectors.extend(found.into_vectors(plan, &row_maps)?);
    Ok(OnlineFeatures { vectors, join_keys: entities.columns.len(), rows: entities.rows })
}

fn unique_keys(plan: &ReadPlan, group: &PlanGroup, entities: &Entities) -> Result<UniqueKeys> {
    let encoder = group.key_encoder(plan.key_version, |key| {
        given(entities, key).map_or(crate::value::ValueType::Invalid, |column| column.value_type)
    });
    if group.join_keys.is_empty() {
        let dummy: ArrayRef = Arc::new(StringArray::from(vec![FeatureView::DUMMY_ENTITY_VALUE]));
        let rows = (entities.rows != 1).then(|| UInt32Array::from_value(0, entities.rows));
        return Ok(UniqueKeys { keys: encoder?.encode(&[dummy])?, rows });
    }
    let columns = group
        .join_keys
        .iter()
        .map(|(_, key)| {
            given(entities, *key)
                .map(|column| column.values.clone())
                .ok_or_else(|| missing_join_key(plan, *key, entities))
        })
        .collect::<Result<Vec<_>>>()?;
    deduplicate(encoder?.encode(&columns)?)
}

fn given(entities: &Entities, key: usize) -> Option<&Column> {
    entities.columns.iter().find(|(index, _)| *index == key).map(|(_, column)| column)
}

#[cold]
fn missing_join_key(plan: &ReadPlan, key: usize, entities: &Entities) -> Error {
    let names: Vec<String> =
        entities.columns.iter().map(|(index, _)| format!("'{}'", plan.keys[*index].name)).collect();
    let got = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Error::new(
        ErrorKind::JoinKeyMissing,
        format!(
            "the entity rows have no join key '{}', which the features need; join keys given: {got}",
            plan.keys[key].name
        ),
    )
}

fn deduplicate(keys: PackedBytes) -> Result<UniqueKeys> {
    if keys.len() < 2 {
        return Ok(UniqueKeys { keys, rows: None });
    }
    let mut first: AHashMap<&[u8], u32> = AHashMap::with_capacity(keys.len());
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys.iter() {
        let next = u32::try_from(first.len()).map_err(|_| {
            Error::new(ErrorKind::InvalidArgument, "more than 4 billion entity rows in one request")
        })?;
        rows.push(*first.entry(key).or_insert(next));
    }
    if first.len() == keys.len() {
        return Ok(UniqueKeys { keys, rows: None });
    }
    let mut unique = PackedBytes::with_capacity(first.len(), keys.byte_len());
    for (key, &row) in keys.iter().zip(&rows) {
        if row as usize == unique.len() {
            unique.push(key);
        }
    }
    Ok(UniqueKeys { keys: unique, rows: Some(UInt32Array::from(rows)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(items: &[&[u8]]) -> PackedBytes {
        let mut packed = PackedBytes::default();
        items.iter().for_each(|item| packed.push(item));
        packed
    }

    #[test]
    fn distinct_keys_need_no_row_map() {
        let unique = deduplicate(packed(&[b"b", b"a"])).unwrap();

        assert!(unique.rows.is_none());
        assert_eq!(unique.keys.len(), 2);
    }

    #[test]
    fn repeated_keys_are_read_once() {
        let unique = deduplicate(packed(&[b"b", b"a", b"b", b"c", b"a"])).unwrap();

        assert_eq!(unique.keys.iter().collect::<Vec<_>>(), [b"b", b"a", b"c"]);
        assert_eq!(unique.rows.unwrap().values(), &[0, 1, 0, 2, 1]);
    }
}
