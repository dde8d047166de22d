//! Arrow's many encodings of one thing to the plain one: dictionaries, runs, views, large
//! offsets, fixed sizes and half floats.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, make_array};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field};

/// The same rows with one of the plain types: Utf8, Binary, List, or a number, boolean,
/// temporal, decimal, struct, map or null.
pub(super) fn flatten(array: &dyn Array) -> Result<ArrayRef, ArrowError> {
    let target = match array.data_type() {
        DataType::Dictionary(_, values) => {
            return flatten(&unpack(array, values)?);
        }
        DataType::RunEndEncoded(_, values) => {
            return flatten(&unpack(array, values.data_type())?);
        }
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(Arc::clone(item)),
        DataType::Float16 => DataType::Float32,
        _ => return Ok(make_array(array.to_data())),
    };
    cast_with_options(array, &target, &CastOptions { safe: false, ..CastOptions::default() })
}

fn unpack(array: &dyn Array, values: &DataType) -> Result<ArrayRef, ArrowError> {
    cast(array, values)
}

/// A nullable list item of this type, named as Arrow names it by default.
pub(super) fn item(data_type: &DataType) -> Arc<Field> {
    Arc::new(Field::new_list_field(data_type.clone(), true))
}
