//! Decides the newest row of each entity, whatever their number, in bounded memory: in one
//! table as long as they fit, else in shares that wait on disk.
//!
//! Each row is put on disk once for every 256 times that the entities are more than memory is
//! for; reading the source again for each share was rejected, as its cost grows with the square
//! of the entities.

use super::latest::{Candidate, KeyHasher, Latest};
use super::row_set::RowSet;
use super::spill::{MAX_DEPTH, Spill};
use crate::call::Call;
use crate::error::Result;
use crate::value::PackedBytes;

/// Candidates between two looks at interrupts.
const CHECK_EVERY: u64 = 1 << 16;

/// Rows for a [`Decider`]: the key and its hash and the times of each, in step.
#[derive(Default)]
pub struct CandidateBatch {
    /// Encoded keys. Leading bytes that are the same in all keys may be left out.
    pub keys: PackedBytes,
    /// Hashes of `keys` by [`KeyHasher`].
    pub hashes: Vec<u64>,
    /// Times and row numbers.
    pub candidates: Vec<Candidate>,
}

/// Takes rows, and tells which of them win.
pub struct Decider {
    depth: u32,
    limit_bytes: usize,
    latest: Latest,
    spill: Option<Spill>,
    // How many entities of the table are settled.
    settled: usize,
    // Rows that were told before the first were put on disk, where they are decided once more.
    told: Vec<u64>,
}

impl Decider {
    /// A decider with a table of about `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        Decider::at_depth(0, limit_bytes, 0)
    }

    /// The same for so many rows, about.
    pub fn for_rows(limit_bytes: usize, rows: u64) -> Self {
        Decider::at_depth(0, limit_bytes, usize::try_from(rows).unwrap_or(usize::MAX))
    }

    fn at_depth(depth: u32, limit_bytes: usize, rows: usize) -> Self {
        // A share that can't be divided again has to fit, whatever it takes.
        let limit = if depth < MAX_DEPTH { limit_bytes } else { usize::MAX };
        let (latest, told) = (Latest::new(limit, rows), Vec::new());
        Decider { depth, limit_bytes, latest, spill: None, settled: 0, told }
    }

    /// Adds to `rows` those that win, whatever comes: the caller knows that rows which are still
    /// to come are older than all so far. Each is told once.
    pub fn settle(&mut self, rows: &mut RowSet) {
        if self.spill.is_none() {
            self.latest.rows_after(self.settled).for_each(|row| rows.insert(row));
            self.settled = self.latest.len();
        }
    }

    /// Takes the rows of `batch`.
    pub fn observe(&mut self, batch: &CandidateBatch) -> Result<()> {
        let CandidateBatch { keys, hashes, candidates } = batch;
        let mut row = 0;
        loop {
            row = self.latest.observe_all(keys, hashes, candidates, row);
            let (Some(&hash), Some(&candidate)) = (hashes.get(row), candidates.get(row)) else {
                return Ok(());
            };
            self.observe_row(hash, keys.get(row), candidate)?;
            row += 1;
        }
    }

    fn observe_row(&mut self, hash: u64, key: &[u8], candidate: Candidate) -> Result<()> {
        if self.latest.observe(hash, key, candidate) {
            return Ok(());
        }
        self.put_aside()?;
        // An empty table takes one, whatever its limit.
        let _ = self.latest.observe(hash, key, candidate);
        Ok(())
    }

    /// Empties the table onto disk.
    fn put_aside(&mut self) -> Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => {
                self.told = self.latest.rows_after(0).take(self.settled).collect();
                self.spill.insert(Spill::new(self.depth, self.limit_bytes / 8)?)
            }
        };
        let hasher = KeyHasher::default();
        for (key, candidate) in self.latest.iter() {
            spill.push(hasher.hash(key), key, candidate)?;
        }
        self.latest.clear();
        Ok(())
    }

    /// Adds the winning rows to `rows`, but those that were told before.
    pub fn finish(mut self, rows: &mut RowSet, call: &Call<'_>) -> Result<()> {
        if self.spill.is_some() {
            self.put_aside()?;
        }
        let Some(spill) = self.spill.take() else {
            self.settle(rows);
            return Ok(());
        };
        let (depth, limit_bytes) = (self.depth + 1, self.limit_bytes);
        let told = std::mem::take(&mut self.told);
        drop(self);
        let hasher = KeyHasher::default();
        let mut taken = 0;
        spill.read(
            || Decider::at_depth(depth, limit_bytes, 0),
            |decider, key, candidate| {
                taken += 1;
                if taken % CHECK_EVERY == 0 {
                    call.check()?;
                }
                decider.observe_row(hasher.hash(key), key, candidate)
            },
            |decider| decider.finish(rows, call),
        )?;
        told.into_iter().for_each(|row| rows.remove(row));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::timestamps::Moment;

    fn candidate(event: i64, created: Option<i64>, row: u64) -> Candidate {
        let created = created.map(Moment::from_micros);
        Candidate { event: Moment::from_micros(event), created, row }
    }

    fn decide(rows: &[(&str, Candidate)], limit_bytes: usize) -> Vec<u64> {
        let hasher = KeyHasher::default();
        let mut decider = Decider::new(limit_bytes);
        for part in rows.chunks(7) {
            let mut batch = CandidateBatch::default();
            for (key, candidate) in part {
                batch.keys.push(key.as_bytes());
                batch.hashes.push(hasher.hash(key.as_bytes()));
                batch.candidates.push(*candidate);
            }
            decider.observe(&batch).unwrap();
        }
        let mut set = RowSet::new(rows.len() as u64);
        decider.finish(&mut set, &Call::unlimited()).unwrap();
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
        for limit in [usize::MAX, 100, 0] {
            assert_eq!(decide(&rows, limit), [1, 3, 7]);
        }
    }

    #[test]
    fn room_that_nobody_has_is_not_needed() {
        let mut decider = Decider::for_rows(usize::MAX, 1 << 50);
        decider.observe_row(1, b"a", candidate(1, None, 0)).unwrap();
        let mut rows = RowSet::new(1);
        decider.finish(&mut rows, &Call::unlimited()).unwrap();

        assert!(rows.contains(0));
    }

    #[test]
    fn a_table_of_any_size_decides_the_same() {
        let names: Vec<String> = (0..9_000).map(|index| format!("k{}", index % 3_000)).collect();
        let rows: Vec<(&str, Candidate)> = names
            .iter()
            .enumerate()
            .map(|(row, name)| {
                (name.as_str(), candidate((row * 7919 % 97) as i64, None, row as u64))
            })
            .collect();
        let whole = decide(&rows, usize::MAX);

        assert_eq!(whole.len(), 3_000);
        // Room for some thousand entities, for a few, so that shares are divided again, and for one.
        for limit in [100_000, 300, 0] {
            assert_eq!(decide(&rows, limit), whole, "with {limit} bytes");
        }
    }

    #[test]
    fn what_is_settled_is_told_once_whatever_comes() {
        // The newest rows come first, then older ones, some of entities that are known.
        let names: Vec<String> =
            (0..6_000).map(|index| format!("k{}", index * 7 % 2_000)).collect();
        let rows: Vec<(&str, Candidate)> = names
            .iter()
            .enumerate()
            .map(|(row, name)| (name.as_str(), candidate(-(row as i64 / 1_500), None, row as u64)))
            .collect();
        let whole = decide(&rows, usize::MAX);
        let hasher = KeyHasher::default();
        // Room for all, for more and for less than the newest part, and for one entity.
        for limit in [usize::MAX, 150_000, 20_000, 0] {
            let mut decider = Decider::new(limit);
            let mut told = Vec::new();
            for part in rows.chunks(1_500) {
                for (key, candidate) in part {
                    let hash = hasher.hash(key.as_bytes());
                    decider.observe_row(hash, key.as_bytes(), *candidate).unwrap();
                }
                let mut set = RowSet::new(rows.len() as u64);
                decider.settle(&mut set);
                told.extend((0..rows.len() as u64).filter(|&row| set.contains(row)));
            }
            let mut set = RowSet::new(rows.len() as u64);
            decider.finish(&mut set, &Call::unlimited()).unwrap();
            told.extend((0..rows.len() as u64).filter(|&row| set.contains(row)));

            told.sort_unstable();
            assert_eq!(told, whole, "with {limit} bytes");
        }
    }

    #[test]
    fn shares_on_disk_can_be_interrupted() {
        struct Stop;
        impl crate::call::Interrupt for Stop {
            fn check(&self) -> Result<()> {
                Err(crate::Error::new(crate::ErrorKind::Interrupted, "stop"))
            }
        }
        let mut decider = Decider::new(0);
        for row in 0..=CHECK_EVERY {
            decider.observe_row(row << 40, &row.to_le_bytes(), candidate(1, None, row)).unwrap();
        }
        let call = Call { deadline: None, interrupt: &Stop };

        let error = decider.finish(&mut RowSet::new(CHECK_EVERY + 1), &call).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Interrupted);
    }
}
