//! The newest row of each entity, decided on keys and times alone.
//!
//! Newest: by event timestamp, then by created timestamp (a null one loses), then the later
//! row. Feast's local engine sorts and keeps the first, which is the same up to ties in both
//! timestamps, where its choice depends on the sort.

use ahash::RandomState;
use hashbrown::HashTable;

use super::timestamps::Moment;
use crate::value::PackedBytes;

/// Hashes encoded keys: always the same way, so that threads and passes agree on shares.
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

/// The newest row so far of each entity, as many entities as fit.
pub(super) struct Latest {
    limit_bytes: usize,
    hasher: KeyHasher,
    table: HashTable<u32>,
    keys: PackedBytes,
    winners: Vec<Candidate>,
}

impl Latest {
    /// What an entity takes besides its key: its row, the end of its key, its slot.
    const ENTRY_BYTES: usize = size_of::<Candidate>() + size_of::<usize>();
    const SLOT_BYTES: usize = size_of::<u32>() + 1;

    /// An empty table that is full at about `limit_bytes`, and holds at least one entity.
    pub fn new(limit_bytes: usize) -> Self {
        Latest {
            limit_bytes,
            hasher: KeyHasher::default(),
            table: HashTable::new(),
            keys: PackedBytes::default(),
            winners: Vec::new(),
        }
    }

    /// Takes a row. `false`: it is of a new entity, for which there is no room.
    #[must_use]
    pub fn observe(&mut self, hash: u64, key: &[u8], candidate: Candidate) -> bool {
        let (known, hasher) = (&self.keys, &self.hasher);
        if let Some(&index) = self.table.find(hash, |&index| known.get(index as usize) == key) {
            let winner = &mut self.winners[index as usize];
            *winner = candidate.max(*winner);
            return true;
        }
        let Ok(index) = u32::try_from(self.winners.len()) else { return false };
        if self.bytes() + Self::ENTRY_BYTES + key.len() > self.limit_bytes && index > 0 {
            return false;
        }
        self.table.insert_unique(hash, index, |&index| hasher.hash(known.get(index as usize)));
        self.keys.push(key);
        self.winners.push(candidate);
        true
    }

    /// The entities so far: encoded key and newest row.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Candidate)> {
        self.keys.iter().zip(self.winners.iter().copied())
    }

    /// Forgets the entities and keeps the memory.
    pub fn clear(&mut self) {
        self.table.clear();
        self.keys.clear();
        self.winners.clear();
    }

    fn bytes(&self) -> usize {
        self.keys.byte_len()
            + self.winners.len() * Self::ENTRY_BYTES
            + self.table.capacity() * Self::SLOT_BYTES
    }
}
