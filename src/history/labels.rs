//! What the join needs of an entity frame: its time column and its key columns. Must not know
//! where the frame came from.

use arrow_array::{Array, ArrayRef};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, TimeUnit};

use crate::error::{Error, ErrorKind, Result};
use crate::offline::Ticks;

/// The name that a time column has unless there is only one that it could be.
pub(super) const TIME_COLUMN: &str = "event_timestamp";

/// Rows to be joined to.
#[derive(Debug)]
pub struct Labels {
    /// When each is.
    pub times: Ticks,
    /// Columns by name: at least the join keys.
    pub columns: Vec<(String, ArrayRef)>,
}

impl Labels {
    /// Rows with these times, in the column `name`; text is read as ISO 8601, UTC unless it says
    /// otherwise.
    pub fn new(name: &str, times: &ArrayRef, columns: Vec<(String, ArrayRef)>) -> Result<Self> {
        let times = match Ticks::unit_of(times.data_type()) {
            Some(_) => times.clone(),
            None => parsed(name, times)?,
        };
        Ok(Labels { times: Ticks::read(&times, name)?, columns })
    }

    /// `count` rows from `start` on, without copying them.
    pub fn slice(&self, start: usize, count: usize) -> Self {
        let slice = |(name, array): &(String, ArrayRef)| (name.clone(), array.slice(start, count));
        let times = Ticks {
            values: self.times.values.slice(start, count),
            nulls: self.times.nulls.as_ref().map(|nulls| nulls.slice(start, count)),
            unit: self.times.unit,
        };
        Labels { times, columns: self.columns.iter().map(slice).collect() }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.times.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.values.is_empty()
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Result<&ArrayRef> {
        let found = self.columns.iter().find(|(known, _)| known == name);
        found.map(|(_, array)| array).ok_or_else(|| {
            let message = format!("the entity frame has no column '{name}', which is a join key");
            Error::new(ErrorKind::JoinKeyMissing, message)
        })
    }
}

fn parsed(name: &str, times: &ArrayRef) -> Result<ArrayRef> {
    let data_type = match times.data_type() {
        DataType::Dictionary(_, values) => values,
        other => other,
    };
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if !is_text && !matches!(data_type, DataType::Null) {
        return Err(Error::new(
            ErrorKind::TypeMismatch,
            format!(
                "column '{name}' of the entity frame has type {data_type}; it is its event \
                 timestamp, and must be a timestamp, a date or text in ISO 8601"
            ),
        ));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(times, &utc, &options).map_err(|cause| {
        let message = format!("column '{name}' of the entity frame, its event timestamp, has text");
        Error::new(ErrorKind::InvalidArgument, message + " that is no time").with_source(cause)
    })
}

/// Which of `columns` (a name, and whether its type is a timestamp) has the times of the rows:
/// `event_timestamp`, else the only timestamp
/// (`offline_utils.py::infer_event_timestamp_from_entity_df`).
pub fn time_column<'a>(columns: &[(&'a str, bool)]) -> Result<&'a str> {
    if let Some((name, _)) = columns.iter().find(|(name, _)| *name == TIME_COLUMN) {
        return Ok(name);
    }
    let times: Vec<&str> =
        columns.iter().filter(|(_, is_time)| *is_time).map(|(name, _)| *name).collect();
    match times.as_slice() {
        [name] => Ok(name),
        [] => Err(no_time_column(&format!(
            "has no column '{TIME_COLUMN}', and no other of a timestamp type"
        ))),
        several => Err(no_time_column(&format!(
            "has no column '{TIME_COLUMN}', and {} others of a timestamp type: {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

#[cold]
fn no_time_column(what: &str) -> Error {
    let message = format!(
        "the entity frame {what}; name the column that says when each row is '{TIME_COLUMN}'"
    );
    Error::new(ErrorKind::EntityTimestampMissing, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};

    use super::*;

    #[test]
    fn the_time_column_is_found_as_feast_finds_it() {
        assert_eq!(
            time_column(&[("ts", true), ("event_timestamp", false)]).unwrap(),
            "event_timestamp"
        );
        assert_eq!(time_column(&[("id", false), ("ts", true)]).unwrap(), "ts");
        let none = time_column(&[("id", false)]).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::EntityTimestampMissing);
        let two = time_column(&[("a", true), ("b", true)]).unwrap_err();
        assert!(two.to_string().contains("2 others of a timestamp type: a, b"), "{two}");
    }

    #[test]
    fn text_is_read_as_time_and_numbers_are_not() {
        let text: ArrayRef = Arc::new(StringArray::from(vec![
            Some("1970-01-01T00:00:01Z"),
            Some("1970-01-01 02:00:00+01:00"),
            None,
        ]));
        let labels = Labels::new("t", &text, Vec::new()).unwrap();
        assert_eq!(labels.times.get(0), Some(1_000_000));
        assert_eq!(labels.times.get(1), Some(3_600_000_000));
        assert_eq!(labels.times.get(2), None);

        let wrong: ArrayRef = Arc::new(StringArray::from(vec!["soon"]));
        assert_eq!(
            Labels::new("t", &wrong, Vec::new()).unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(
            Labels::new("t", &number, Vec::new()).unwrap_err().kind(),
            ErrorKind::TypeMismatch
        );
    }
}
