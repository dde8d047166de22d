//! One value as a tree: what JSON, Python objects and shapeless columns are made from.

use std::borrow::Cow;

use crate::value::ValueType;

/// The entries of a map, in the order in which they stand.
pub type Entries<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A `feast.types.Value`. Each variant that serves several cases of the oneof carries the
/// type that says which.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Not set, or `null_val`.
    Null,
    /// BYTES.
    Bytes(Cow<'a, [u8]>),
    /// STRING, JSON, UUID, TIME_UUID or DECIMAL.
    Text(ValueType, Cow<'a, str>),
    /// INT32.
    Int32(i32),
    /// INT64.
    Int64(i64),
    /// DOUBLE.
    Double(f64),
    /// FLOAT.
    Float(f32),
    /// BOOL.
    Bool(bool),
    /// UNIX_TIMESTAMP: seconds since the epoch, or [`NOT_A_TIME`](super::NOT_A_TIME).
    UnixTimestamp(i64),
    /// ZONED_TIMESTAMP: seconds since the epoch and the name of a zone ("" is UTC).
    ZonedTimestamp(i64, Cow<'a, str>),
    /// A list or set of scalars, each of the type's own element type.
    Items(ValueType, Vec<Value<'a>>),
    /// MAP or STRUCT.
    Map(ValueType, Entries<'a>),
    /// MAP_LIST or STRUCT_LIST.
    Maps(ValueType, Vec<Entries<'a>>),
    /// VALUE_LIST or VALUE_SET.
    Nested(ValueType, Vec<Value<'a>>),
    /// SCALAR_MAP: keys are scalars other than text.
    ScalarMap(Vec<(Value<'a>, Value<'a>)>),
}

impl Value<'_> {
    /// Which case of the oneof it is; `Null` for a value that is not set.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::Null => ValueType::Null,
            Value::Bytes(_) => ValueType::Bytes,
            Value::Int32(_) => ValueType::Int32,
            Value::Int64(_) => ValueType::Int64,
            Value::Double(_) => ValueType::Double,
            Value::Float(_) => ValueType::Float,
            Value::Bool(_) => ValueType::Bool,
            Value::UnixTimestamp(_) => ValueType::UnixTimestamp,
            Value::ZonedTimestamp(..) => ValueType::ZonedTimestamp,
            Value::ScalarMap(_) => ValueType::ScalarMap,
            Value::Text(value_type, _)
            | Value::Items(value_type, _)
            | Value::Map(value_type, _)
            | Value::Maps(value_type, _)
            | Value::Nested(value_type, _) => *value_type,
        }
    }
}
