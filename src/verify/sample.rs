//! A sample of entities, drawn while all rows go by: those with the smallest hashes of their
//! keys. One pass, memory for the sample alone, each entity with the same chance whatever the
//! order and the number of its rows, and the same entities in every run.

use std::collections::HashMap;

use crate::error::Result;
use crate::offline::{Candidate, CandidateBatch, RowSet};

/// The newest row of each entity in the sample, so far.
pub(super) struct Sample {
    size: usize,
    seed: u64,
    // Keys with larger hashes are out: there are `size` smaller ones.
    limit: u64,
    kept: HashMap<Box<[u8]>, Kept>,
}

struct Kept {
    hash: u64,
    newest: Candidate,
}

impl Sample {
    /// Of at most `size` entities, of which there is at least one.
    pub fn new(size: usize, seed: u64) -> Self {
        Sample { size: size.max(1), seed, limit: u64::MAX, kept: HashMap::new() }
    }

    /// Takes rows. An entity that is in the sample in the end was so all the time, so that none
    /// of its rows is missed.
    pub fn observe(&mut self, batch: &CandidateBatch) -> Result<()> {
        for (key, &candidate) in batch.keys.iter().zip(&batch.candidates) {
            let hash = hash(self.seed, key);
            if hash > self.limit {
                continue;
            }
            match self.kept.get_mut(key) {
                Some(kept) => kept.newest = kept.newest.max(candidate),
                None => {
                    self.kept.insert(key.into(), Kept { hash, newest: candidate });
                    // Cut when it is twice too large: rarely, and not at each new entity.
                    if self.kept.len() >= self.size.saturating_mul(2) {
                        self.cut();
                    }
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self) {
        if self.kept.len() <= self.size {
            return;
        }
        let mut hashes: Vec<u64> = self.kept.values().map(|kept| kept.hash).collect();
        let (_, limit, _) = hashes.select_nth_unstable(self.size - 1);
        self.limit = *limit;
        self.kept.retain(|_, kept| kept.hash <= self.limit);
    }

    /// Adds the winning rows to `rows`; tells how many entities there are, and whether that is
    /// an estimate.
    pub fn finish(mut self, rows: &mut RowSet) -> (u64, bool) {
        self.cut();
        self.kept.values().for_each(|kept| rows.insert(kept.newest.row));
        if self.limit == u64::MAX {
            return (self.kept.len() as u64, false);
        }
        // The k-th smallest of n even hashes lies about k/n up (k - 1 makes it unbiased).
        let share = (self.limit as f64 + 1.0) / 2f64.powi(64);
        let estimate = (self.size.max(2) - 1) as f64 / share;
        ((estimate.round() as u64).max(self.kept.len() as u64), true)
    }
}

/// FNV-1a, then the finalizer of SplitMix64, for FNV's high bits are poor. Not the hasher of the
/// process: samples are to be the same on every machine and in every version.
fn hash(seed: u64, key: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    mix(key.iter().fold(start, fnv))
}

/// The next number after `state` of SplitMix64.
pub(super) fn mix(state: u64) -> u64 {
    let mut bits = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::Moment;

    /// The rows in a sample of entities 0 to `entities`, each with rows `rows` times over; those
    /// later in the source are newer.
    fn drawn(entities: u64, rows: u64, size: usize, seed: u64) -> (Vec<u64>, (u64, bool)) {
        let mut sample = Sample::new(size, seed);
        for row in 0..entities * rows {
            let mut batch = CandidateBatch::default();
            batch.keys.push(&(row % entities).to_le_bytes());
            let event = Moment::from_micros(row as i64);
            batch.candidates.push(Candidate { event, created: None, row });
            sample.observe(&batch).unwrap();
        }
        let mut set = RowSet::new(entities * rows);
        let known = sample.finish(&mut set);
        ((0..entities * rows).filter(|&row| set.contains(row)).collect(), known)
    }

    #[test]
    fn the_newest_rows_of_the_same_entities_whatever_the_number_of_rows() {
        let (once, _) = drawn(1000, 1, 50, 7);
        let (thrice, _) = drawn(1000, 3, 50, 7);

        assert_eq!(once.len(), 50);
        assert_eq!(thrice.iter().map(|row| row - 2000).collect::<Vec<_>>(), once);
        assert_ne!(drawn(1000, 1, 50, 8).0, once);
    }

    #[test]
    fn few_entities_are_all_there_and_many_are_estimated() {
        assert_eq!(drawn(40, 2, 50, 0).1, (40, false));
        assert_eq!(drawn(50, 2, 50, 0).1, (50, false));
        let (rows, (entities, is_estimate)) = drawn(20_000, 1, 1000, 0);
        assert!(is_estimate && rows.len() == 1000);
        assert!((18_000..22_000).contains(&entities), "{entities}");
    }

    #[test]
    fn each_entity_has_the_same_chance() {
        let mut drawn_times = [0; 100];
        for seed in 0..400 {
            drawn(100, 1, 10, seed).0.iter().for_each(|&row| drawn_times[row as usize] += 1);
        }
        // 40 times each are expected, and 6 are the standard deviation.
        assert!(drawn_times.iter().all(|times| (15..=65).contains(times)), "{drawn_times:?}");
    }
}
