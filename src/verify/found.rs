//! What is online for some keys, row by row, however broken: a row that can't be read must not
//! hide the others.

use crate::call::Call;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{RowSink, StoreReader};
use crate::value::PackedBytes;

/// What is online for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No row.
    Absent,
    /// A row of this event timestamp, microseconds since the epoch.
    Row(i64),
    /// Something that is no row, and why.
    Unreadable(String),
}

/// Rows of one view, in the order of the keys asked for.
#[derive(Debug, Default)]
pub(super) struct FoundRows {
    rows: Vec<Found>,
    features: usize,
    data: Vec<u8>,
    // For each row and feature, in step; `None`: not there.
    values: Vec<Option<(usize, usize)>>,
}

impl FoundRows {
    /// Reads the rows of `keys`, of a view with so many features.
    pub fn read(
        reader: &dyn StoreReader,
        keys: &PackedBytes,
        features: usize,
        call: &Call<'_>,
    ) -> Result<Self> {
        let mut found = FoundRows { features, ..FoundRows::default() };
        found.fill(reader, keys, call)?;
        Ok(found)
    }

    /// The row at `index`.
    pub fn row(&self, index: usize) -> &Found {
        &self.rows[index]
    }

    /// The value of a feature of the row at `index`, as it is stored; `None`: it is not there.
    pub fn value(&self, index: usize, feature: usize) -> Option<&[u8]> {
        let (start, end) = (*self.values.get(index * self.features + feature)?)?;
        self.data.get(start..end)
    }

    /// Reads all keys at once; where one of them makes that fail, in halves, down to that one.
    fn fill(
        &mut self,
        reader: &dyn StoreReader,
        keys: &PackedBytes,
        call: &Call<'_>,
    ) -> Result<()> {
        let (rows, bytes) = (self.rows.len(), self.data.len());
        let error = match reader.read(std::slice::from_ref(keys), self, call) {
            Ok(()) if self.rows.len() == rows + keys.len() => return Ok(()),
            Ok(()) => return Err(Error::new(ErrorKind::Internal, "a store left out rows")),
            Err(error) if error.kind() == ErrorKind::StoreInvalid => error,
            Err(error) => return Err(error),
        };
        self.rows.truncate(rows);
        self.values.truncate(rows * self.features);
        self.data.truncate(bytes);
        if keys.len() == 1 {
            return self.push(Found::Unreadable(error.to_string()), &[]);
        }
        let (mut first, mut second) = (PackedBytes::default(), PackedBytes::default());
        for (index, key) in keys.iter().enumerate() {
            if index < keys.len() / 2 { first.push(key) } else { second.push(key) }
        }
        self.fill(reader, &first, call)?;
        self.fill(reader, &second, call)
    }

    fn push(&mut self, found: Found, values: &[Option<&[u8]>]) -> Result<()> {
        self.rows.push(found);
        for feature in 0..self.features {
            let value = values.get(feature).copied().flatten();
            let start = self.data.len();
            self.data.extend_from_slice(value.unwrap_or_default());
            self.values.push(value.map(|_| (start, self.data.len())));
        }
        Ok(())
    }
}

impl RowSink for FoundRows {
    fn row(
        &mut self,
        _group: usize,
        _view: usize,
        event_timestamp: Option<i64>,
        values: &[Option<&[u8]>],
    ) -> Result<()> {
        self.push(event_timestamp.map_or(Found::Absent, Found::Row), values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Key `n` has a row of time `n` with the values `n` and none; those in `broken` are no rows.
    struct Numbers {
        broken: Vec<u8>,
        reads: AtomicUsize,
    }

    impl StoreReader for Numbers {
        fn read(&self, keys: &[PackedBytes], sink: &mut dyn RowSink, _: &Call<'_>) -> Result<()> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            keys[0].iter().try_for_each(|key| {
                if self.broken.contains(&key[0]) {
                    return Err(Error::new(
                        ErrorKind::StoreInvalid,
                        format!("{} is broken", key[0]),
                    ));
                }
                sink.row(0, 0, Some(i64::from(key[0])), &[Some(key), None])
            })
        }
    }

    #[test]
    fn what_is_broken_does_not_hide_the_rest() {
        let mut keys = PackedBytes::default();
        (0..100).for_each(|key| keys.push(&[key]));
        let reader = Numbers { broken: vec![0, 41, 42, 99], reads: AtomicUsize::new(0) };

        let found = FoundRows::read(&reader, &keys, 2, &Call::unlimited()).unwrap();

        for key in 0..100_u8 {
            let index = usize::from(key);
            if reader.broken.contains(&key) {
                let reason = format!("{key} is broken");
                assert_eq!(found.row(index), &Found::Unreadable(reason));
                assert_eq!(found.value(index, 0), None);
            } else {
                assert_eq!(found.row(index), &Found::Row(i64::from(key)));
                assert_eq!(found.value(index, 0), Some(&[key][..]));
                assert_eq!(found.value(index, 1), None);
            }
        }
        assert!(reader.reads.load(Ordering::Relaxed) < 60);
    }
}
