//! Arrow arrays to and from Feast's values, with the coercions that Feast makes when it
//! materializes (`feast/type_map.py::python_values_to_proto_values`), mended where they lose data.
//!
//! - `coerce`, `lists`: any reasonable Arrow array to the canonical type of a value type.
//! - `tree`: rows of structs, maps and nested lists to value trees.
//! - `encode`: canonical arrays to serialized values.
//! - `export`: columns as they are given out.

mod coerce;
mod encode;
mod export;
mod flatten;
mod lists;
mod refusal;
mod tree;

use std::sync::Arc;

use arrow_array::{Array, BinaryArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow_schema::DataType;

pub use export::export;

use super::column::arrow_type;
use super::wire::NOT_A_TIME;
use super::{Column, Layout, PackedBytes, ValueType};
use crate::error::{Error, ErrorKind, Result};

/// Serializes each row of `array` as a `feast.types.Value` of `value_type`; null rows are
/// empty. What can't be converted gives an error of kind `TypeMismatch` that names `column`
/// and row.
///
/// ```
/// use arrow_array::Int32Array;
/// use feastrs::value::{ValueType, arrow::encode_values};
///
/// let values = encode_values(&Int32Array::from(vec![Some(5), None]), ValueType::Int64, "trips")?;
/// assert_eq!((values.get(0), values.get(1)), (&[0x20, 5][..], &[][..]));
/// # Ok::<(), feastrs::Error>(())
/// ```
pub fn encode_values(
    array: &dyn Array,
    value_type: ValueType,
    column: &str,
) -> Result<PackedBytes> {
    let name = |refused: refusal::Refused| refused.into_error(column, value_type, array);
    if arrow_type(value_type).is_none() {
        return tree::encode(array, value_type).map_err(name);
    }
    let values = coerce::column(array, value_type).map_err(name)?;
    // A null time that comes from Arrow reaches Feast as NaT, and that is what it stores.
    let is_numpy_time = array.data_type().is_temporal() || array.data_type().is_numeric();
    let null_time = is_numpy_time.then_some(NOT_A_TIME);
    Ok(encode::typed(&values, value_type, null_time))
}

/// Serializes each row of a column; null rows are empty.
pub fn encode_column(column: &Column) -> Result<PackedBytes> {
    if column.layout == Layout::Typed {
        return Ok(encode::typed(&column.values, column.value_type, None));
    }
    let rows = column.values.as_any().downcast_ref::<BinaryArray>().ok_or_else(|| {
        Error::new(ErrorKind::Internal, "a column in wire layout is not of Arrow type Binary")
    })?;
    let mut packed = PackedBytes::with_capacity(rows.len(), rows.value_data().len());
    rows.iter().for_each(|row| packed.push(row.unwrap_or_default()));
    Ok(packed)
}

/// The array as a column of `value_type`, with Feast's coercions: what a join-key column of a
/// source, or one of a request, has to become before keys are encoded. What can't be converted
/// gives an error of kind `TypeMismatch` that names `column` and row.
pub fn to_column(array: &dyn Array, value_type: ValueType, column: &str) -> Result<Column> {
    let name = |refused: refusal::Refused| refused.into_error(column, value_type, array);
    if arrow_type(value_type).is_some() {
        let values = coerce::column(array, value_type).map_err(name)?;
        return Ok(Column { value_type, layout: Layout::Typed, values });
    }
    wire_column(&tree::encode(array, value_type).map_err(name)?, value_type)
}

/// A column in wire layout of serialized values; empty ones are null.
pub fn wire_column(values: &PackedBytes, value_type: ValueType) -> Result<Column> {
    let nulls: NullBuffer = values.iter().map(|value| !value.is_empty()).collect();
    let offsets = OffsetBuffer::<i32>::from_lengths(values.iter().map(<[u8]>::len));
    let data: Vec<u8> = values.iter().flatten().copied().collect();
    let rows = BinaryArray::try_new(offsets, Buffer::from_vec(data), Some(nulls))
        .map_err(|e| Error::new(ErrorKind::Internal, "can't build a wire column").with_source(e))?;
    Ok(Column { value_type, layout: Layout::Wire, values: Arc::new(rows) })
}

/// Whether the array's type is text, in any of Arrow's forms.
fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
