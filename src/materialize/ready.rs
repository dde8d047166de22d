//! Rows that come ready-made, keys and values being messages of Feast's already: what the
//! `online_write_batch` of a store is given. Must not know who gives them.

use std::collections::HashMap;

use super::plan::stored_features;
use crate::call::Call;
use crate::error::Result;
use crate::key::{KeyVersion, encode_entity_key};
use crate::store::{EqualTimestamps, OnlineStore, StoredView, WriteBatch, WriteReport};
use crate::value::PackedBytes;

/// Rows of one view, all with the same features.
#[derive(Clone, Debug, Default)]
pub struct ReadyRows {
    /// Names of the features, in the order of `values`.
    pub features: Vec<String>,
    /// For each row the serialized `feast.types.EntityKey`; an entity may come more than once.
    pub keys: PackedBytes,
    /// For each row, microseconds since the epoch, UTC.
    pub event_timestamps: Vec<i64>,
    /// For each row, microseconds since the epoch, UTC.
    pub created_timestamps: Vec<Option<i64>>,
    /// For each feature, the serialized `feast.types.Value` of each row.
    pub values: Vec<PackedBytes>,
    /// The view's ttl, microseconds; `None`: it has none.
    pub ttl_micros: Option<i64>,
}

/// Which row of several for one entity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmongRows {
    /// The newest; of equal ones the last, or the first.
    Newest(EqualTimestamps),
    /// The last, whatever its time: rows are not compared.
    Last,
}

/// Writes `rows` to the view that is stored under the name `view`.
pub fn write_ready(
    view: &str,
    rows: &ReadyRows,
    version: KeyVersion,
    among: AmongRows,
    store: &dyn OnlineStore,
    call: &Call<'_>,
) -> Result<WriteReport> {
    let stored = StoredView {
        name: view.to_owned(),
        features: stored_features(view, view, rows.features.iter().map(String::as_str))?,
        timestamp_field: format!("_ts:{view}").into_bytes(),
        ttl_micros: rows.ttl_micros,
    };
    let mut keys = PackedBytes::with_capacity(rows.keys.len(), rows.keys.byte_len() * 2);
    for (row, key) in rows.keys.iter().enumerate() {
        keys.push_with(|out| encode_entity_key(version, key, out))
            .map_err(|error| error.context(format_args!("view '{view}', row {row}")))?;
    }
    let chosen = chosen(&keys, &rows.event_timestamps, among);
    let part;
    let (keys, rows) = match chosen.len() == keys.len() {
        true => (keys, rows),
        false => {
            part = rows.only(&chosen);
            (picked(&keys, &chosen), &part)
        }
    };
    store.prepare(std::slice::from_ref(&stored), call)?;
    store.write(
        &WriteBatch {
            view: &stored,
            keys: &keys,
            event_timestamps: &rows.event_timestamps,
            created_timestamps: Some(&rows.created_timestamps),
            values: &rows.values,
        },
        call,
    )
}

impl ReadyRows {
    fn only(&self, rows: &[usize]) -> Self {
        ReadyRows {
            features: self.features.clone(),
            keys: PackedBytes::default(),
            event_timestamps: rows.iter().map(|&row| self.event_timestamps[row]).collect(),
            created_timestamps: rows.iter().map(|&row| self.created_timestamps[row]).collect(),
            values: self.values.iter().map(|values| picked(values, rows)).collect(),
            ttl_micros: self.ttl_micros,
        }
    }
}

/// The rows to write, ascending: one for each key.
fn chosen(keys: &PackedBytes, times: &[i64], among: AmongRows) -> Vec<usize> {
    let mut best: HashMap<&[u8], usize> = HashMap::with_capacity(keys.len());
    for (row, key) in keys.iter().enumerate() {
        let held = best.entry(key).or_insert(row);
        let is_better = match among {
            AmongRows::Last => true,
            AmongRows::Newest(EqualTimestamps::Overwrite) => times[row] >= times[*held],
            AmongRows::Newest(EqualTimestamps::Skip) => times[row] > times[*held],
        };
        if is_better {
            *held = row;
        }
    }
    let mut rows: Vec<usize> = best.into_values().collect();
    rows.sort_unstable();
    rows
}

fn picked(items: &PackedBytes, rows: &[usize]) -> PackedBytes {
    let mut picked = PackedBytes::with_capacity(rows.len(), items.byte_len());
    rows.iter().for_each(|&row| picked.push(items.get(row)));
    picked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_of(times: &[i64], among: AmongRows) -> Vec<usize> {
        let mut keys = PackedBytes::default();
        [&b"a"[..], b"b", b"a", b"a"].iter().for_each(|key| keys.push(key));
        chosen(&keys, times, among)
    }

    #[test]
    fn of_an_entitys_rows_one_is_written() {
        let newest = AmongRows::Newest(EqualTimestamps::Overwrite);
        let first = AmongRows::Newest(EqualTimestamps::Skip);
        assert_eq!(chosen_of(&[1, 1, 3, 2], newest), [1, 2]);
        assert_eq!(chosen_of(&[3, 1, 3, 2], newest), [1, 2]);
        assert_eq!(chosen_of(&[3, 1, 3, 2], first), [0, 1]);
        assert_eq!(chosen_of(&[3, 1, 3, 2], AmongRows::Last), [1, 3]);
    }
}
