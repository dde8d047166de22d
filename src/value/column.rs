//! The column that flows through everything: Arrow memory and the Feast type it stands for.
//!
//! Two layouts. **Typed**: an Arrow array of the type's own Arrow type ([`arrow_type`]).
//! **Wire**: a `Binary` array that holds one serialized `feast.types.Value` for each row; it
//! serves the types whose shape differs from row to row (maps, structs, nested collections)
//! and any column whose stored values turn out to be of another type than declared.

use arrow_array::ArrayRef;
use arrow_schema::DataType;

use super::ValueType;

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

/// The Arrow type of a typed column of `value_type`; `None` for the types that are always
/// kept in wire layout (Map, MapList, Struct, StructList, ScalarMap, ValueList, ValueSet).
pub fn arrow_type(value_type: ValueType) -> Option<DataType> {
    let _ = value_type;
    todo!("values")
}
