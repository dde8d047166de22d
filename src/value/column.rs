//! The column that flows through everything: Arrow memory and the Feast type it stands for.
//!
//! Two layouts. **Typed**: an Arrow array of the type's own Arrow type ([`arrow_type`]).
//! **Wire**: a `Binary` array that holds one serialized `feast.types.Value` for each row; it
//! serves the types whose shape differs from row to row (maps, structs, nested collections)
//! and any column whose stored values turn out to be of another type than declared.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_schema::{DataType, Field, Fields, TimeUnit};

use super::ValueType;
use crate::error::{Error, ErrorKind, Result};

/// How a column's values lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// An Arrow array of type [`arrow_type`].
    Typed,
    /// A `Binary` array of serialized `feast.types.Value` messages.
    Wire,
}

/// Values of one feature or key, row by row. A null slot is a value that is not there.
#[derive(Clone, Debug)]
pub struct Column {
    /// The declared Feast type.
    pub value_type: ValueType,
    /// How `values` is to be read.
    pub layout: Layout,
    /// The rows.
    pub values: ArrayRef,
}

impl Column {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether the row has no value. Panics past the end, as slices do.
    pub fn is_null(&self, row: usize) -> bool {
        self.values.is_null(row)
    }

    /// The rows at `indices`, in that order, each as often as it is named; a null index gives
    /// a null row.
    pub fn take(&self, indices: &UInt32Array) -> Result<Column> {
        let values = arrow_select::take::take(&self.values, indices, None).map_err(|source| {
            Error::new(ErrorKind::Internal, "can't take rows of a column").with_source(source)
        })?;
        Ok(Column { value_type: self.value_type, layout: self.layout, values })
    }
}

/// The Arrow type of a typed column of `value_type`; `None` for the types that are always
/// kept in wire layout (Map, MapList, Struct, StructList, ScalarMap, ValueList, ValueSet).
///
/// ```
/// use feastrs::value::{ValueType, column::arrow_type};
///
/// assert_eq!(arrow_type(ValueType::Uuid), Some(arrow_schema::DataType::Utf8));
/// assert_eq!(arrow_type(ValueType::Map), None);
/// ```
pub fn arrow_type(value_type: ValueType) -> Option<DataType> {
    if let Some(element) = value_type.element() {
        let item = Field::new_list_field(arrow_type(element)?, true);
        return Some(DataType::List(Arc::new(item)));
    }
    Some(match value_type {
        ValueType::Bytes => DataType::Binary,
        ValueType::String
        | ValueType::Json
        | ValueType::Uuid
        | ValueType::TimeUuid
        | ValueType::Decimal => DataType::Utf8,
        ValueType::Int32 => DataType::Int32,
        ValueType::Int64 => DataType::Int64,
        ValueType::Double => DataType::Float64,
        ValueType::Float => DataType::Float32,
        ValueType::Bool => DataType::Boolean,
        ValueType::UnixTimestamp => timestamp_type(),
        ValueType::ZonedTimestamp => DataType::Struct(zoned_fields()),
        _ => return None,
    })
}

/// The Arrow type of a UNIX_TIMESTAMP: whole seconds, UTC.
pub(super) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Second, Some("UTC".into()))
}

/// The fields of a typed ZONED_TIMESTAMP column.
pub(super) fn zoned_fields() -> Fields {
    Fields::from(vec![
        Field::new("unix_timestamp", timestamp_type(), true),
        Field::new("zone", DataType::Utf8, true),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;

    #[test]
    fn rows_are_taken_by_index() {
        let values = Arc::new(Int64Array::from(vec![Some(5), None]));
        let column = Column { value_type: ValueType::Int64, layout: Layout::Typed, values };

        let taken = column.take(&UInt32Array::from(vec![Some(1), Some(0), None])).unwrap();

        assert_eq!(taken.len(), 3);
        assert!(taken.is_null(0) && !taken.is_null(1) && taken.is_null(2));
    }

    #[test]
    fn shapeless_types_have_no_arrow_type() {
        let wire = ValueType::ALL.iter().filter(|t| arrow_type(**t).is_none());

        assert_eq!(wire.count(), 9);
    }
}
