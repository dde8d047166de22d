//! Rows without a key: found, counted, and named.

use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;

use crate::error::{Error, ErrorKind, Result};

/// How many positions of rows with null keys an error names.
const SAMPLE: usize = 5;

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
                 `materialization: {{on_null_key: skip}}`, in an unchanged Feast with \
                 `on_null_key: skip` in the section batch_engine of our engine",
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
