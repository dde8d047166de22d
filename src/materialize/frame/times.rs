//! Timestamp columns of a frame, where people also write text and numbers.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{DataType, TimeUnit};

use super::columns::Cells;
use crate::error::{Error, ErrorKind, Result};
use crate::offline::Timestamps;

/// The moments of a column: a timestamp of any unit and zone, a date, ISO 8601 text, or whole
/// nanoseconds since the epoch (`pandas.to_datetime`, which Feast calls). What has no zone is
/// UTC.
pub(super) fn moments(cells: &Cells, column: &str) -> Result<Timestamps> {
    let Cells::Arrow(array) = cells else {
        return Err(Error::new(ErrorKind::Internal, "a timestamp column came as values"));
    };
    let failed = |cause| {
        Error::new(ErrorKind::Internal, format!("can't read timestamp column '{column}'"))
            .with_source(cause)
    };
    let array = match array.data_type() {
        DataType::Dictionary(_, values) => &cast(array, values).map_err(failed)?,
        _ => array,
    };
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Timestamps::from_array(parsed(array, column)?.as_ref(), column)
        }
        DataType::Int64 => {
            let numbers = array.as_primitive::<Int64Type>();
            let times = numbers.reinterpret_cast::<TimestampNanosecondType>();
            Timestamps::from_array(&times, column)
        }
        DataType::Null => {
            let target = DataType::Timestamp(TimeUnit::Microsecond, None);
            Timestamps::from_array(cast(array, &target).map_err(failed)?.as_ref(), column)
        }
        _ => Timestamps::from_array(array.as_ref(), column),
    }
}

fn parsed(array: &ArrayRef, column: &str) -> Result<ArrayRef> {
    let target = DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("+00:00")));
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let times = cast_with_options(array, &target, &options).map_err(|cause| {
        Error::new(ErrorKind::SourceInvalid, format!("timestamp column '{column}'"))
            .with_source(cause)
    })?;
    let lost = (0..array.len()).find(|&row| times.is_null(row) && !array.is_null(row));
    match lost {
        None => Ok(times),
        Some(row) => Err(Error::new(
            ErrorKind::SourceInvalid,
            format!(
                "timestamp column '{column}', row {row}: {:?} is no time; write it as \
                 2024-05-01T08:30:00Z",
                arrow_cast::display::array_value_to_string(array, row).unwrap_or_default()
            ),
        )),
    }
}
