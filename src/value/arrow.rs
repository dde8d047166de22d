//! Arrow arrays to and from Feast's values. Stub.
use super::{Column, PackedBytes, ValueType};
use crate::error::Result;
use arrow_array::Array;
/// Serializes each row of `array` as a `feast.types.Value` of `value_type`.
pub fn encode_values(
    array: &dyn Array,
    value_type: ValueType,
    column: &str,
) -> Result<PackedBytes> {
    let _ = (array, value_type, column);
    todo!()
}
/// The Arrow field and array that a column is given out as (wire layout as JSON text).
pub fn export(column: &Column, name: &str) -> Result<(arrow_schema::Field, arrow_array::ArrayRef)> {
    let _ = (column, name);
    todo!()
}
