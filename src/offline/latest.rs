//! The newest row of each entity, decided on keys and times alone.
//!
//! Newest: by event timestamp, then by created timestamp (a null one loses), then the later
//! row. Feast's local engine sorts and keeps the first, which is the same up to ties in both
//! timestamps, where its choice depends on the sort.

use std::hint::black_box;

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
    table: HashTable<Slot>,
    keys: PackedBytes,
    winners: Vec<Kept>,
}

/// A [`Candidate`] in less memory.
#[derive(Clone, Copy)]
struct Kept {
    event_micros: i64,
    created_micros: i64,
    row: u64,
    event_nanos: u16,
    // NO_CREATED: there is none.
    created_nanos: u16,
}

const NO_CREATED: u16 = u16::MAX;

impl From<Candidate> for Kept {
    fn from(candidate: Candidate) -> Self {
        let Candidate { event, created, row } = candidate;
        let created = created.unwrap_or(Moment { micros: 0, nanos: NO_CREATED });
        Kept {
            event_micros: event.micros,
            created_micros: created.micros,
            row,
            event_nanos: event.nanos,
            created_nanos: created.nanos,
        }
    }
}

impl From<Kept> for Candidate {
    fn from(kept: Kept) -> Self {
        let event = Moment { micros: kept.event_micros, nanos: kept.event_nanos };
        let created = Moment { micros: kept.created_micros, nanos: kept.created_nanos };
        let created = (created.nanos != NO_CREATED).then_some(created);
        Candidate { event, created, row: kept.row }
    }
}

/// Where an entity is, and enough of its hash to find it by and to move it when the table grows:
/// its key is somewhere else in memory.
#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    index: u32,
}

impl Slot {
    fn spread(&self) -> u64 {
        spread(self.hash)
    }
}

/// Half of a hash. Shares on disk have eight bits of the hash in common, not these.
fn half(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

/// What the table takes for a hash: it looks at the lowest and at the highest bits.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Latest {
    /// What an entity takes besides its key: its row, the end of its key, its slot.
    const ENTRY_BYTES: usize = size_of::<Kept>() + size_of::<usize>();
    /// What the key of an entity with one join key takes, a number.
    const KEY_BYTES: usize = 16;
    const SLOT_BYTES: usize = size_of::<Slot>() + 1;
    /// So many rows are looked up before the first of them is compared.
    const LOOK_AHEAD: usize = 64;

    /// An empty table that is full at about `limit_bytes`, and holds at least one entity. `rows`
    /// may come, or more, or less: room for them is set aside, which takes no memory until it is
    /// used, but spares copies to larger and larger rooms.
    pub fn new(limit_bytes: usize, rows: usize) -> Self {
        let each = Self::ENTRY_BYTES + Self::KEY_BYTES + Self::SLOT_BYTES;
        let entities = rows.min(limit_bytes / each);
        let (mut keys, mut winners) = (PackedBytes::default(), Vec::new());
        // Where the system grants no such room, it grows as entities come.
        let _ = keys.try_reserve(entities, entities * Self::KEY_BYTES);
        let _ = winners.try_reserve_exact(entities);
        Latest { limit_bytes, table: HashTable::new(), keys, winners }
    }

    /// Takes the rows `start..` of the given, and says where it stopped: at the end, or at the
    /// first of a new entity for which there is no room.
    ///
    /// Entities lie anywhere in memory. What some rows need is fetched from there all at once,
    /// and only then looked at: that takes a fraction of the time of one row after the other.
    pub fn observe_all(
        &mut self,
        keys: &PackedBytes,
        hashes: &[u64],
        candidates: &[Candidate],
        start: usize,
    ) -> usize {
        let mut found = [None; Self::LOOK_AHEAD];
        let end = hashes.len().min(candidates.len());
        let mut row = start;
        while row < end {
            let ahead = &hashes[row..end.min(row + Self::LOOK_AHEAD)];
            for (found, &hash) in found.iter_mut().zip(ahead) {
                *found = self.look_up(hash);
            }
            self.fetch(&found[..ahead.len()]);
            for found in &found[..ahead.len()] {
                let (key, candidate) = (keys.get(row), candidates[row]);
                match *found {
                    Some(index) if self.keys.get(index as usize) == key => {
                        self.compare(index, candidate);
                    }
                    _ if !self.observe(hashes[row], key, candidate) => return row,
                    _ => {}
                }
                row += 1;
            }
        }
        end
    }

    /// An entity of this hash; most likely the one that is meant.
    fn look_up(&self, hash: u64) -> Option<u32> {
        let half = half(hash);
        self.table.find(spread(half), |slot| slot.hash == half).map(|slot| slot.index)
    }

    /// Has the processor fetch the entities.
    fn fetch(&self, found: &[Option<u32>]) {
        let entity = |index: &u32| {
            let index = *index as usize;
            let first = self.keys.get(index).first().copied().unwrap_or_default();
            self.winners[index].row ^ u64::from(first)
        };
        black_box(found.iter().flatten().map(entity).fold(0, |all, one| all ^ one));
    }

    fn compare(&mut self, index: u32, candidate: Candidate) {
        let winner = &mut self.winners[index as usize];
        if candidate > Candidate::from(*winner) {
            *winner = candidate.into();
        }
    }

    /// Takes a row. `false`: it is of a new entity, for which there is no room.
    #[must_use]
    pub fn observe(&mut self, hash: u64, key: &[u8], candidate: Candidate) -> bool {
        let (known, half) = (&self.keys, half(hash));
        let is_key = |slot: &Slot| slot.hash == half && known.get(slot.index as usize) == key;
        if let Some(&Slot { index, .. }) = self.table.find(spread(half), is_key) {
            self.compare(index, candidate);
            return true;
        }
        let Ok(index) = u32::try_from(self.winners.len()) else { return false };
        if self.bytes() + Self::ENTRY_BYTES + key.len() > self.limit_bytes && index > 0 {
            return false;
        }
        self.table.insert_unique(spread(half), Slot { hash: half, index }, Slot::spread);
        self.keys.push(key);
        self.winners.push(candidate.into());
        true
    }

    /// The entities so far: encoded key and newest row.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Candidate)> {
        self.keys.iter().zip(self.winners.iter().map(|kept| Candidate::from(*kept)))
    }

    /// How many entities there are.
    pub fn len(&self) -> usize {
        self.winners.len()
    }

    /// The newest rows of the entities but the first `known`, in the order in which they came.
    pub fn rows_after(&self, known: usize) -> impl Iterator<Item = u64> {
        self.winners.iter().skip(known).map(|winner| winner.row)
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
