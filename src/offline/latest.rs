//! The newest row of each entity, decided on keys and times alone.
//!
//! Newest: by event timestamp, then by created timestamp (a null one loses), then the later
//! row. Feast's local engine sorts and keeps the first, which is the same up to ties in both
//! timestamps, where its choice depends on the sort.

use ahash::RandomState;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::row_set::RowSet;
use super::timestamps::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::value::PackedBytes;

/// How many positions of rows with null keys an error names.
const SAMPLE: usize = 5;

/// A share of all entities, by the hash of their keys: those whose first `bits` hash bits
/// are `value`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    bits: u32,
    value: u64,
}

impl Partition {
    // Bits that neither the hash table (the lowest, and the seven highest) nor `shard` uses.
    const SHIFT: u32 = 36;
    const MAX_BITS: u32 = 16;

    /// All entities.
    pub const ALL: Partition = Partition { bits: 0, value: 0 };

    /// The two halves of this share; `None` when it can't be cut further.
    pub fn halves(self) -> Option<[Partition; 2]> {
        let bits = self.bits + 1;
        let half = |value| Partition { bits, value };
        (bits <= Self::MAX_BITS).then(|| [half(self.value), half(self.value | 1 << self.bits)])
    }

    /// Whether keys of this hash are in the share.
    pub fn contains(self, hash: u64) -> bool {
        (hash >> Self::SHIFT) & ((1 << self.bits) - 1) == self.value
    }
}

/// Hashes encoded keys: always the same way, so that passes agree on partitions and shards.
#[derive(Clone, Debug)]
pub struct KeyHasher(RandomState);

impl Default for KeyHasher {
    fn default() -> Self {
        KeyHasher(RandomState::with_seeds(0x6665, 0x6173, 0x7472, 0x7321))
    }
}

impl KeyHasher {
    /// The hash of an encoded key.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.0.hash_one(key)
    }

    /// Which of `count` writers a key belongs to.
    pub fn shard(&self, key: &[u8], count: usize) -> usize {
        (self.hash(key) >> 20) as usize % count
    }
}

/// What may have become of a row in [`Latest::observe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Observed {
    /// The table is within its limit.
    Fits,
    /// The table is past its limit: give it up and decide a smaller partition.
    Full,
}

/// One row that may win: its times and its number in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// When the row happened.
    pub event: Moment,
    /// When it was written; `None` loses against any.
    pub created: Option<Moment>,
    /// Its number in the source; the later one wins among equals.
    pub row: u64,
}

/// The newest row so far of each entity of one partition.
pub struct Latest {
    partition: Partition,
    limit_bytes: usize,
    hasher: KeyHasher,
    table: HashTable<u32>,
    keys: PackedBytes,
    winners: Vec<Candidate>,
}

impl Latest {
    /// For the entities of `partition`, in at most about `limit_bytes` of memory.
    pub fn new(partition: Partition, limit_bytes: usize) -> Self {
        Latest {
            partition,
            limit_bytes,
            hasher: KeyHasher::default(),
            table: HashTable::new(),
            keys: PackedBytes::default(),
            winners: Vec::new(),
        }
    }

    /// Takes rows: the encoded key of each, and its times and number, in step.
    pub fn observe(&mut self, keys: &PackedBytes, rows: &[Candidate]) -> Observed {
        for (key, &candidate) in keys.iter().zip(rows) {
            let hash = self.hasher.hash(key);
            if !self.partition.contains(hash) {
                continue;
            }
            let (known, hasher) = (&self.keys, &self.hasher);
            let entry = self.table.entry(
                hash,
                |&index| known.get(index as usize) == key,
                |&index| hasher.hash(known.get(index as usize)),
            );
            match entry {
                Entry::Occupied(found) => {
                    let winner = &mut self.winners[*found.get() as usize];
                    *winner = candidate.max(*winner);
                }
                Entry::Vacant(slot) => {
                    let Ok(index) = u32::try_from(self.winners.len()) else {
                        return Observed::Full;
                    };
                    slot.insert(index);
                    self.keys.push(key);
                    self.winners.push(candidate);
                }
            }
        }
        if self.bytes() > self.limit_bytes { Observed::Full } else { Observed::Fits }
    }

    /// Adds the winning rows to `rows`.
    pub fn finish(self, rows: &mut RowSet) {
        for winner in self.winners {
            rows.insert(winner.row);
        }
    }

    fn bytes(&self) -> usize {
        const SLOT: usize = size_of::<u32>() + 1;
        let entry = size_of::<Candidate>() + size_of::<usize>();
        self.keys.byte_len() + self.winners.len() * entry + self.table.capacity() * SLOT
    }
}

/// Rows whose join key is null: how many, and where the first are.
#[derive(Clone, Debug, Default)]
pub struct NullKeys {
    /// How many rows.
    pub count: u64,
    sample: Vec<u64>,
}

impl NullKeys {
    /// Counts `row`.
    pub fn add(&mut self, row: u64) {
        self.count += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(row);
        }
    }

    /// `Err` if there are any; `join_keys` names the columns.
    pub fn require_none(&self, join_keys: &[String]) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let rows: Vec<String> = self.sample.iter().map(u64::to_string).collect();
        let more = if self.count as usize > rows.len() { ", …" } else { "" };
        Err(Error::new(
            ErrorKind::NullKey,
            format!(
                "{} rows have a null in the join key ({}), the first at source rows {}{more} \
                 (counted from 0); mend the source, or skip such rows with \
                 `materialization: {{on_null_key: skip}}`",
                self.count,
                join_keys.join(", "),
                rows.join(", "),
            ),
        ))
    }
}

/// Where any of `columns` is null.
pub fn null_keys(columns: &[ArrayRef]) -> Option<NullBuffer> {
    columns.iter().fold(None, |nulls, column| {
        NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(event: i64, created: Option<i64>, row: u64) -> Candidate {
        let created = created.map(Moment::from_micros);
        Candidate { event: Moment::from_micros(event), created, row }
    }

    fn decide(rows: &[(&str, Candidate)], partition: Partition) -> Vec<u64> {
        let mut keys = PackedBytes::default();
        rows.iter().for_each(|(key, _)| keys.push(key.as_bytes()));
        let candidates: Vec<Candidate> = rows.iter().map(|&(_, candidate)| candidate).collect();
        let mut latest = Latest::new(partition, usize::MAX);
        assert_eq!(latest.observe(&keys, &candidates), Observed::Fits);
        let mut set = RowSet::new(rows.len() as u64);
        latest.finish(&mut set);
        (0..rows.len() as u64).filter(|&row| set.contains(row)).collect()
    }

    #[test]
    fn event_then_created_then_position_decide() {
        let rows = [
            ("a", candidate(5, None, 0)),
            ("a", candidate(7, None, 1)),
            ("a", candidate(6, Some(9), 2)),
            ("b", candidate(1, Some(3), 3)),
            ("b", candidate(1, Some(2), 4)),
            ("b", candidate(1, None, 5)),
            ("c", candidate(1, Some(3), 6)),
            ("c", candidate(1, Some(3), 7)),
        ];
        assert_eq!(decide(&rows, Partition::ALL), [1, 3, 7]);
    }

    #[test]
    fn partitions_together_decide_what_one_decides() {
        let names: Vec<String> = (0..500).map(|index| format!("k{}", index % 200)).collect();
        let rows: Vec<(&str, Candidate)> = names
            .iter()
            .enumerate()
            .map(|(row, name)| {
                (name.as_str(), candidate((row * 7919 % 97) as i64, None, row as u64))
            })
            .collect();
        let whole = decide(&rows, Partition::ALL);

        let [left, right] = Partition::ALL.halves().unwrap();
        let [low, high] = right.halves().unwrap();
        let mut parts: Vec<u64> =
            [left, low, high].into_iter().flat_map(|part| decide(&rows, part)).collect();
        parts.sort_unstable();
        assert_eq!(parts, whole);
        assert_eq!(whole.len(), 200);
    }

    #[test]
    fn a_full_table_says_so() {
        let mut keys = PackedBytes::default();
        keys.push(b"key");
        let mut latest = Latest::new(Partition::ALL, 0);
        assert_eq!(latest.observe(&keys, &[candidate(1, None, 0)]), Observed::Full);
    }

    #[test]
    fn null_keys_are_counted_and_named() {
        let mut nulls = NullKeys::default();
        assert!(nulls.require_none(&[]).is_ok());
        (10..17).for_each(|row| nulls.add(row));

        let error = nulls.require_none(&["driver_id".to_owned()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NullKey);
        let text = error.to_string();
        assert!(text.starts_with("7 rows have a null in the join key (driver_id)"), "{text}");
        assert!(text.contains("rows 10, 11, 12, 13, 14, …"), "{text}");
    }
}
