//! Online reads: request columns -> keys -> store -> answer. [`OnlineReader`] joins the pure
//! plan and the pure assembly to a store.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use arrow_array::{ArrayRef, StringArray, UInt32Array};
use smallvec::SmallVec;

use crate::call::{Call, now_micros};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyEncoder;
use crate::registry::FeatureView;
use crate::store::{OnlineStore, StoreReader, StoredGroup};
use crate::value::{Column, PackedBytes, ValueType};

use super::assemble::{Assembler, StatusRules};
use super::found::{Answer, Found, RowMaps, StoreTime};
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

/// A plan and a store, joined: what is asked again and again, for any entities.
pub struct OnlineReader {
    plan: Arc<ReadPlan>,
    stored: Arc<dyn StoreReader>,
    // For each group, the encoder of keys of the declared types; `None` where a type is not
    // declared.
    encoders: Vec<Option<KeyEncoder>>,
}

impl OnlineReader {
    /// Reads what `plan` says from `store`.
    pub fn new(plan: ReadPlan, store: &dyn OnlineStore) -> Self {
        let groups: Vec<StoredGroup> =
            plan.groups.iter().map(|group| group.stored.clone()).collect();
        let stored = store.reader(&groups);
        let declared = |key: usize| plan.keys.get(key)?.value_type;
        let encoder = |group: &PlanGroup| {
            let is_declared = group.join_keys.iter().all(|(_, key)| declared(*key).is_some());
            let value_type = |key| declared(key).unwrap_or(ValueType::Invalid);
            is_declared.then(|| group.key_encoder(plan.key_version, value_type).ok())?
        };
        let encoders = plan.groups.iter().map(encoder).collect();
        OnlineReader { plan: Arc::new(plan), stored, encoders }
    }

    /// What it reads.
    pub fn plan(&self) -> &ReadPlan {
        &self.plan
    }

    /// Reads for `entities`.
    pub fn read(&self, entities: Entities, rules: &StatusRules, call: &Call<'_>) -> Result<Answer> {
        let lookup = Lookup::new(&self.plan, &self.encoders, entities)?;
        let mut assembler = lookup.assembler(rules);
        self.stored.read(&lookup.keys, &mut assembler, call)?;
        lookup.answer(assembler.finish()?, rules)
    }

    /// The same, with the time that the store took.
    pub fn read_timed(
        &self,
        entities: Entities,
        rules: &StatusRules,
        call: &Call<'_>,
    ) -> Result<Answer> {
        let lookup = Lookup::new(&self.plan, &self.encoders, entities)?;
        let mut assembler = lookup.assembler(rules);
        let begun = Instant::now();
        self.stored.read(&lookup.keys, &mut assembler, call)?;
        let store_time = StoreTime { begun, ended: Instant::now() };
        Ok(lookup.answer(assembler.finish()?, rules)?.read_in(store_time))
    }

    /// The same, awaited on the runtime; everything is over by `deadline`, if there is one.
    /// Dropped, it stops.
    pub async fn read_async(
        &self,
        entities: Entities,
        rules: &StatusRules,
        deadline: Option<Instant>,
    ) -> Result<Answer> {
        let lookup = Lookup::new(&self.plan, &self.encoders, entities)?;
        let mut assembler = lookup.assembler(rules);
        let begun = Instant::now();
        self.stored.read_async(&lookup.keys, &mut assembler, deadline).await?;
        let store_time = StoreTime { begun, ended: Instant::now() };
        let found = assembler.finish()?;
        Ok(lookup.answer(found, rules)?.read_in(store_time))
    }
}

/// One read before and after the store: pure.
struct Lookup<'a> {
    plan: &'a Arc<ReadPlan>,
    entities: Entities,
    // For each group of the plan, its keys, each once, and for each row of the request which
    // one it is; `None`: row i is key i.
    keys: SmallVec<[PackedBytes; 1]>,
    rows: RowMaps,
}

impl<'a> Lookup<'a> {
    fn new(
        plan: &'a Arc<ReadPlan>,
        encoders: &[Option<KeyEncoder>],
        entities: Entities,
    ) -> Result<Self> {
        if let Some(on_demand) = &plan.on_demand {
            let given = entities.columns.iter().map(|(key, _)| plan.keys[*key].name.as_str());
            on_demand.check_request_data(&given.collect::<Vec<_>>())?;
        }
        let (mut keys, mut rows) = (SmallVec::new(), SmallVec::new());
        for (group, prepared) in plan.groups.iter().zip(encoders) {
            let unique = unique_keys(plan, group, prepared.as_ref(), &entities)?;
            keys.push(unique.keys);
            rows.push(unique.rows);
        }
        Ok(Lookup { plan, entities, keys, rows })
    }

    /// What takes the rows that the store finds.
    fn assembler(&self, rules: &'a StatusRules) -> Assembler<'a> {
        Assembler::new(self.plan, self.keys.iter().map(PackedBytes::len), rules)
    }

    /// The answer, from what was found.
    fn answer(self, found: Found, rules: &StatusRules) -> Result<Answer> {
        let answer = Answer::new(self.plan.clone(), self.entities, self.rows, found);
        match &self.plan.precomputed {
            None => Ok(answer),
            Some(precomputed) => {
                Ok(precomputed.unpack(answer.into_whole()?, rules, now_micros())?.into())
            }
        }
    }
}

struct UniqueKeys {
    keys: PackedBytes,
    rows: Option<UInt32Array>,
}

fn unique_keys(
    plan: &ReadPlan,
    group: &PlanGroup,
    prepared: Option<&KeyEncoder>,
    entities: &Entities,
) -> Result<UniqueKeys> {
    let type_of = |key| given(entities, key).map_or(ValueType::Invalid, |column| column.value_type);
    let is_declared = |key: usize| plan.keys[key].value_type == Some(type_of(key));
    let encoder = match prepared {
        Some(encoder) if group.join_keys.iter().all(|(_, key)| is_declared(*key)) => {
            Ok(Cow::Borrowed(encoder))
        }
        _ => group.key_encoder(plan.key_version, type_of).map(Cow::Owned),
    };
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
        .collect::<Result<SmallVec<[_; 2]>>>()?;
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
