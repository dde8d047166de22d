//! One cell of a column as a value tree: for JSON, Python objects and nested values, where
//! a loop over the column's own buffers does not pay.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampSecondType};
use arrow_array::{Array, ArrayRef};

use super::wire::{NOT_A_TIME, Value};
use super::{Column, Layout, ValueType};
use crate::error::{Error, ErrorKind, Result};

impl Column {
    /// The value in `row`. An error of kind `StoreInvalid` where a column in wire layout holds
    /// bytes that are none. Panics past the end, as slices do.
    pub fn cell(&self, row: usize) -> Result<Value<'_>> {
        if self.values.is_null(row) {
            return Ok(Value::Null);
        }
        match self.layout {
            Layout::Wire => Value::parse(self.values.as_binary::<i32>().value(row)),
            Layout::Typed => typed(&self.values, self.value_type, row),
        }
    }
}

fn typed(values: &ArrayRef, value_type: ValueType, row: usize) -> Result<Value<'_>> {
    if let Some(element) = value_type.element() {
        let lists = values.as_list::<i32>();
        let (start, end) = (lists.offsets()[row] as usize, lists.offsets()[row + 1] as usize);
        let items = (start..end).map(|index| scalar(lists.values(), element, index));
        return Ok(Value::Items(value_type, items.collect::<Result<_>>()?));
    }
    scalar(values, value_type, row)
}

fn scalar(values: &ArrayRef, value_type: ValueType, row: usize) -> Result<Value<'_>> {
    if values.is_null(row) {
        return Ok(filler(value_type));
    }
    Ok(match value_type {
        ValueType::Bytes => Value::Bytes(Cow::Borrowed(values.as_binary::<i32>().value(row))),
        ValueType::String
        | ValueType::Json
        | ValueType::Uuid
        | ValueType::TimeUuid
        | ValueType::Decimal => {
            Value::Text(value_type, Cow::Borrowed(values.as_string::<i32>().value(row)))
        }
        ValueType::Int32 => Value::Int32(values.as_primitive::<Int32Type>().value(row)),
        ValueType::Int64 => Value::Int64(values.as_primitive::<Int64Type>().value(row)),
        ValueType::Double => Value::Double(values.as_primitive::<Float64Type>().value(row)),
        ValueType::Float => Value::Float(values.as_primitive::<Float32Type>().value(row)),
        ValueType::Bool => Value::Bool(values.as_boolean().value(row)),
        ValueType::UnixTimestamp => {
            Value::UnixTimestamp(values.as_primitive::<TimestampSecondType>().value(row))
        }
        ValueType::ZonedTimestamp => {
            let fields = values.as_struct();
            let seconds = fields.column(0).as_primitive::<TimestampSecondType>().value(row);
            let zone = fields.column(1).as_string::<i32>().value(row);
            Value::ZonedTimestamp(seconds, Cow::Borrowed(zone))
        }
        _ => {
            let message = format!("a column of type {} in typed layout", value_type.name());
            return Err(Error::new(ErrorKind::Internal, message));
        }
    })
}

// What Feast stores for a null among the elements of a list.
fn filler(element: ValueType) -> Value<'static> {
    match element {
        ValueType::Bytes => Value::Bytes(Cow::Borrowed(&[])),
        ValueType::String => Value::Text(element, Cow::Borrowed("")),
        ValueType::Json => Value::Text(element, Cow::Borrowed("null")),
        ValueType::Double => Value::Double(f64::NAN),
        ValueType::Float => Value::Float(f32::NAN),
        ValueType::Bool => Value::Bool(false),
        ValueType::UnixTimestamp => Value::UnixTimestamp(NOT_A_TIME),
        _ => Value::Null,
    }
}
