//! A set of row numbers of a source, one bit for each row.

use std::ops::Range;

use arrow_buffer::{BooleanBuffer, Buffer};

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

    /// What a set for rows `0..rows` takes.
    pub fn bytes(rows: u64) -> usize {
        usize::try_from(rows.div_ceil(8)).unwrap_or(usize::MAX / 8)
    }

    /// Adds `row`, which must be below the bound.
    pub fn insert(&mut self, row: u64) {
        let (word, bit) = (&mut self.words[(row / 64) as usize], 1 << (row % 64));
        self.len += u64::from(*word & bit == 0);
        *word |= bit;
    }

    /// Takes `row` out.
    pub fn remove(&mut self, row: u64) {
        if self.contains(row) {
            self.words[(row / 64) as usize] &= !(1 << (row % 64));
            self.len -= 1;
        }
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

    /// For each 64 rows, how many rows of the set are before them: what [`RowSet::rank`] needs.
    pub fn counts_before(&self) -> Vec<u32> {
        let mut count = 0;
        let before = |word: &u64| {
            let before = count;
            count += word.count_ones();
            before
        };
        self.words.iter().map(before).collect()
    }

    /// How many rows of the set are before `row`, which must be below the bound.
    pub fn rank(&self, counts_before: &[u32], row: u64) -> u32 {
        let word = (row / 64) as usize;
        counts_before[word] + (self.words[word] & ((1 << (row % 64)) - 1)).count_ones()
    }

    /// Which of `rows` are in the set.
    pub fn mask(&self, rows: Range<u64>) -> BooleanBuffer {
        let start = (rows.start / 64) as usize;
        let end = (rows.end.div_ceil(64) as usize).min(self.words.len()).max(start);
        let words = Buffer::from_slice_ref(&self.words[start.min(end)..end]);
        let offset = (rows.start % 64) as usize;
        BooleanBuffer::new(words, offset, (rows.end - rows.start) as usize)
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
        let before = set.counts_before();
        assert_eq!([0, 63, 64, 65, 299].map(|row| set.rank(&before, row)), [0, 1, 2, 3, 3]);
        assert_eq!(set.mask(62..66).iter().collect::<Vec<_>>(), [false, true, true, false]);
        assert_eq!(set.mask(290..300).count_set_bits(), 1);
        set.remove(64);
        set.remove(65);
        assert!(set.len() == 3 && !set.contains(64));
        assert!(!set.intersects(1..63) && !set.intersects(65..299) && !set.intersects(5..5));
    }
}
