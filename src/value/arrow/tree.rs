//! Rows of structs, maps and nested lists as value trees. Plain parts are converted a whole
//! array at a time; the tree of a row then borrows from them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::DataType;

use super::flatten::flatten;
use super::refusal::Refused;
use super::{coerce, is_text, lists};
use crate::value::wire::{ColumnDecoder, Entries, Value};
use crate::value::{Column, Layout, PackedBytes, ValueType, json};

/// Serializes each row of `array` as one of the types without an Arrow type of their own.
pub(super) fn encode(array: &dyn Array, value_type: ValueType) -> Result<PackedBytes, Refused> {
    let array = flatten(array)?;
    let mut packed = PackedBytes::with_capacity(array.len(), array.len() * 32);
    if is_text(array.data_type()) {
        for (row, text) in array.as_string::<i32>().iter().enumerate() {
            let value = match text {
                Some(text) => json::parse(text).map_err(|why| Refused::row(row, why))?,
                None => Value::Null,
            };
            let value = shaped(value, value_type, row)?;
            packed.push_with(|out| value.encode(out));
        }
        return Ok(packed);
    }
    let node = Node::new(&array)?;
    for row in 0..array.len() {
        let value = shaped(node.value(row)?, value_type, row)?;
        packed.push_with(|out| value.encode(out));
    }
    Ok(packed)
}

/// The value as `value_type`, if it has that shape.
fn shaped(value: Value<'_>, value_type: ValueType, row: usize) -> Result<Value<'_>, Refused> {
    use ValueType as T;
    Ok(match (value_type, value) {
        (_, Value::Null) => Value::Null,
        (T::Map | T::Struct, Value::Map(_, entries)) => Value::Map(value_type, entries),
        (T::MapList | T::StructList, Value::Maps(_, maps)) => Value::Maps(value_type, maps),
        (T::MapList | T::StructList, Value::Nested(_, items)) if items.is_empty() => {
            Value::Maps(value_type, Vec::new())
        }
        (T::ScalarMap, Value::ScalarMap(entries)) => Value::ScalarMap(entries),
        (T::ValueList | T::ValueSet, Value::Nested(_, items)) => Value::Nested(value_type, items),
        _ => return Err(Refused::row(row, "it has another shape")),
    })
}

/// The rows as JSON text in Python's own form (`json.dumps`).
pub(super) fn json_texts(array: &ArrayRef) -> Result<ArrayRef, Refused> {
    let node = Node::new(array)?;
    let mut texts = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        texts.push(match node.value(row)? {
            Value::Null => None,
            value => Some(json::to_python_text(&value)),
        });
    }
    Ok(Arc::new(StringArray::from_iter(texts)))
}

/// Rows of JSON text, each a list, as a canonical array of lists.
pub(super) fn lists_from_json(
    array: &ArrayRef,
    value_type: ValueType,
) -> Result<ArrayRef, Refused> {
    let texts = flatten(&arrow_cast::cast(array, &DataType::Utf8)?)?;
    let mut decoder = ColumnDecoder::new(value_type, array.len());
    for (row, text) in texts.as_string::<i32>().iter().enumerate() {
        let Some(text) = text else {
            decoder.push_missing();
            continue;
        };
        let list = json::parse_list(text, value_type).map_err(|why| Refused::row(row, why))?;
        decoder.push(&list.to_bytes()).map_err(|e| Refused::row(row, e.to_string()))?;
    }
    let column = decoder.finish().map_err(|error| Refused::row(0, error.to_string()))?;
    Ok(column.values)
}

/// An array, ready to give the tree of each of its rows.
enum Node {
    Plain(Column),
    Struct {
        names: Vec<String>,
        fields: Vec<Node>,
        nulls: Option<NullBuffer>,
    },
    Map {
        keys: Box<Node>,
        values: Box<Node>,
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
    },
    List {
        items: Box<Node>,
        of_maps: bool,
        offsets: OffsetBuffer<i32>,
        nulls: Option<NullBuffer>,
    },
}

impl Node {
    fn new(array: &ArrayRef) -> Result<Self, Refused> {
        let array = flatten(array)?;
        let nulls = array.nulls().cloned();
        match array.data_type() {
            DataType::Struct(fields) => {
                let names = fields.iter().map(|field| field.name().clone()).collect();
                let columns = array.as_struct().columns();
                let fields = columns.iter().map(Node::new).collect::<Result<_, _>>()?;
                Ok(Node::Struct { names, fields, nulls })
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let keys = Box::new(Node::new(map.keys())?);
                let values = Box::new(Node::new(map.values())?);
                Ok(Node::Map { keys, values, offsets: map.offsets().clone(), nulls })
            }
            DataType::List(_) => Node::list(&array),
            _ => {
                let value_type = scalar_type(array.data_type()).ok_or(Refused::Type)?;
                Node::plain(coerce::column(&array, value_type)?, value_type)
            }
        }
    }

    fn list(array: &ArrayRef) -> Result<Self, Refused> {
        let list = array.as_list::<i32>();
        let items = flatten(list.values())?;
        if let Some(element) = element_type(items.data_type())
            && let Some(value_type) = element.list_of()
        {
            return Node::plain(lists::column(array, value_type, element)?, value_type);
        }
        let of_maps = matches!(items.data_type(), DataType::Struct(_) | DataType::Map(..));
        let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
        Ok(Node::List { items: Box::new(Node::new(&items)?), of_maps, offsets, nulls })
    }

    fn plain(values: ArrayRef, value_type: ValueType) -> Result<Self, Refused> {
        Ok(Node::Plain(Column { value_type, layout: Layout::Typed, values }))
    }

    fn value(&self, row: usize) -> Result<Value<'_>, Refused> {
        match self {
            Node::Plain(column) => {
                column.cell(row).map_err(|error| Refused::row(row, error.to_string()))
            }
            Node::Struct { nulls, .. } | Node::Map { nulls, .. } | Node::List { nulls, .. }
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) =>
            {
                Ok(Value::Null)
            }
            Node::Struct { names, fields, .. } => {
                let mut entries: Entries<'_> = Vec::with_capacity(names.len());
                for (name, field) in names.iter().zip(fields) {
                    entries.push((Cow::Borrowed(name.as_str()), field.value(row)?));
                }
                Ok(Value::Map(ValueType::Map, entries))
            }
            Node::Map { keys, values, offsets, .. } => map(keys, values, range(offsets, row)),
            Node::List { items, of_maps, offsets, .. } => {
                let items: Vec<Value<'_>> = range(offsets, row)
                    .map(|index| items.value(index))
                    .collect::<Result<_, _>>()?;
                if *of_maps {
                    maps(items, row)
                } else {
                    Ok(Value::Nested(ValueType::ValueList, items))
                }
            }
        }
    }
}

fn range(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Text keys make a map, any other a scalar map.
fn map<'a>(
    keys: &'a Node,
    values: &'a Node,
    range: std::ops::Range<usize>,
) -> Result<Value<'a>, Refused> {
    let is_text = matches!(keys, Node::Plain(column) if column.value_type == ValueType::String);
    if !is_text {
        let entry = |index| Ok((keys.value(index)?, values.value(index)?));
        return Ok(Value::ScalarMap(range.map(entry).collect::<Result<_, Refused>>()?));
    }
    let mut entries: Entries<'a> = Vec::with_capacity(range.len());
    for index in range {
        let Value::Text(_, key) = keys.value(index)? else { return Err(Refused::Type) };
        entries.push((key, values.value(index)?));
    }
    Ok(Value::Map(ValueType::Map, entries))
}

fn maps(items: Vec<Value<'_>>, row: usize) -> Result<Value<'_>, Refused> {
    let entries = |item| match item {
        Value::Map(_, entries) => Ok(entries),
        _ => Err(Refused::row(row, "a list of maps with an element that is none")),
    };
    Ok(Value::Maps(ValueType::MapList, items.into_iter().map(entries).collect::<Result<_, _>>()?))
}

/// What Feast infers for a Python scalar that pyarrow makes of this type: int and float, so
/// INT64 and DOUBLE, whatever the width.
fn scalar_type(data_type: &DataType) -> Option<ValueType> {
    Some(match data_type {
        _ if data_type.is_integer() => ValueType::Int64,
        _ if data_type.is_floating() => ValueType::Double,
        _ => return element_type(data_type),
    })
}

/// What Feast infers for the elements of a NumPy array that pyarrow makes of this type.
fn element_type(data_type: &DataType) -> Option<ValueType> {
    Some(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => ValueType::Int32,
        DataType::UInt8 | DataType::UInt16 => ValueType::Int32,
        _ if data_type.is_integer() => ValueType::Int64,
        DataType::Float32 => ValueType::Float,
        DataType::Float64 => ValueType::Double,
        DataType::Boolean => ValueType::Bool,
        DataType::Utf8 | DataType::Null => ValueType::String,
        DataType::Binary => ValueType::Bytes,
        DataType::FixedSizeBinary(_) => ValueType::Bytes,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => ValueType::UnixTimestamp,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => ValueType::Decimal,
        _ => return None,
    })
}
