//! A set of row numbers of a source, one bit for each row.

use std::ops::Range;

/// Row numbers below a fixed bound.
#[derive(Clone, Debug, Default)]
pub struct RowSet {
    words: Vec<u64>,
    len: u64,
}

impl RowSet {
    /// An empty set for rows `0..rows`.
    pub fn new(rows: u64) -> Self {
        RowSet { words: vec![0; rows.div_ceil(64) as usize], len: 0 }
    }

    /// Adds `row`, which must be below the bound.
    pub fn insert(&mut self, row: u64) {
        let (word, bit) = (&mut self.words[(row / 64) as usize], 1 << (row % 64));
        self.len += u64::from(*word & bit == 0);
        *word |= bit;
    }

    /// Whether `row` is in the set.
    pub fn contains(&self, row: u64) -> bool {
        self.words.get((row / 64) as usize).is_some_and(|word| word & (1 << (row % 64)) != 0)
    }

    /// Whether any row of `rows` is in the set.
    pub fn intersects(&self, rows: Range<u64>) -> bool {
        let mut row = rows.start;
        while row < rows.end {
            let word = self.words.get((row / 64) as usize).copied().unwrap_or(0) >> (row % 64);
            let here = (64 - row % 64).min(rows.end - row);
            let mask = if here == 64 { u64::MAX } else { (1 << here) - 1 };
            if word & mask != 0 {
                return true;
            }
            row += here;
        }
        false
    }

    /// How many rows are in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_see_single_rows() {
        let mut set = RowSet::new(300);
        for row in [0, 63, 64, 299] {
            set.insert(row);
        }
        set.insert(63);

        assert_eq!(set.len(), 4);
        assert!(set.contains(299) && !set.contains(298) && !set.contains(10_000));
        assert!(set.intersects(60..64) && set.intersects(1..65) && set.intersects(64..300));
        assert!(!set.intersects(1..63) && !set.intersects(65..299) && !set.intersects(5..5));
    }
}
