//! From row numbers of a source to places among the rows that are read of it.

use arrow_array::UInt32Array;
use arrow_buffer::{NullBuffer, ScalarBuffer};

use super::timeline::NO_ROW;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::RowSet;

/// The rows that labels have won, each once, and for each label which of them it is.
pub struct Ranks {
    /// The rows.
    pub rows: RowSet,
    /// The place of each label's row among `rows` in their order; null for a label without one.
    pub places: UInt32Array,
}

impl Ranks {
    /// Of `winners`, row numbers of a source with `source_rows` rows, or [`NO_ROW`].
    pub fn of(winners: &[u64], source_rows: u64) -> Result<Self> {
        let mut rows = RowSet::new(source_rows);
        winners.iter().filter(|row| **row != NO_ROW).for_each(|row| rows.insert(*row));
        let Ok(_) = u32::try_from(rows.len()) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "more than four billion rows of a source are joined at once; give fewer labels",
            ));
        };
        let before = rows.counts_before();
        let place = |row: &u64| match *row {
            NO_ROW => 0,
            row => rows.rank(&before, row),
        };
        let places: ScalarBuffer<u32> = winners.iter().map(place).collect();
        let nulls: NullBuffer = winners.iter().map(|row| *row != NO_ROW).collect();
        let nulls = Some(nulls).filter(|nulls| nulls.null_count() > 0);
        Ok(Ranks { rows, places: UInt32Array::new(places, nulls) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_among_the_rows_that_won() {
        let ranks = Ranks::of(&[99, NO_ROW, 3, 99, 64], 100).unwrap();
        assert_eq!(ranks.rows.len(), 3);
        let places: Vec<Option<u32>> = ranks.places.iter().collect();
        assert_eq!(places, [Some(2), None, Some(0), Some(2), Some(1)]);
    }
}
