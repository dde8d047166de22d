//! The answer as a matrix, rows x features, row-major: what a model is given.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampSecondType};
use arrow_array::{Array, BooleanArray, PrimitiveArray, types::ArrowPrimitiveType};

use crate::error::{Error, ErrorKind, Result};
use crate::value::wire::PlainValues;
use crate::value::{Column, Layout, ValueType};

use super::found::{Answer, Values};

/// An element of a matrix.
pub trait Element: Copy {
    /// From what a float column holds.
    fn from_f64(value: f64) -> Self;
    /// From what an integer or timestamp column holds; rounds where the type is narrower.
    fn from_i64(value: i64) -> Self;
}

impl Element for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn from_i64(value: i64) -> Self {
        value as f64
    }
}

impl Element for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn from_i64(value: i64) -> Self {
        value as f32
    }
}

/// The features (not the join keys) as `rows x features` elements, row after row. Integers,
/// floats, booleans (0 and 1) and timestamps (seconds) fit; `missing` stands for null.
pub fn to_matrix<T: Element>(answer: &Answer, missing: T) -> Result<Vec<T>> {
    let join_keys = answer.join_keys();
    let width = answer.width() - join_keys;
    let mut matrix = vec![missing; answer.rows() * width];
    for offset in 0..width {
        let cells = matrix.iter_mut().skip(offset).step_by(width);
        match answer.values(join_keys + offset)? {
            Values::Plain(values) => put_plain(cells, values),
            Values::Column(column) => fill(cells, column)
                .ok_or_else(|| not_a_number(answer, join_keys + offset, column.value_type))?,
        }
    }
    Ok(matrix)
}

fn put_plain<'a, T: Element + 'a>(cells: impl Iterator<Item = &'a mut T>, values: PlainValues<'_>) {
    match values {
        PlainValues::Doubles(values) => {
            cells.zip(values).for_each(|(cell, value)| *cell = T::from_f64(*value));
        }
        PlainValues::Integers(values) | PlainValues::Times(values) => {
            cells.zip(values).for_each(|(cell, value)| *cell = T::from_i64(*value));
        }
    }
}

/// None: the column's values are no numbers.
fn fill<'a, T: Element + 'a>(
    cells: impl Iterator<Item = &'a mut T>,
    column: &Column,
) -> Option<()> {
    let values = column.values.as_ref();
    if column.layout == Layout::Wire {
        return None;
    }
    match column.value_type {
        ValueType::Double => put(cells, values.as_primitive::<Float64Type>(), T::from_f64),
        ValueType::Float => {
            put(cells, values.as_primitive::<Float32Type>(), |v| T::from_f64(f64::from(v)));
        }
        ValueType::Int64 => put(cells, values.as_primitive::<Int64Type>(), T::from_i64),
        ValueType::Int32 => {
            put(cells, values.as_primitive::<Int32Type>(), |v| T::from_i64(i64::from(v)));
        }
        ValueType::UnixTimestamp => {
            put(cells, values.as_primitive::<TimestampSecondType>(), T::from_i64);
        }
        ValueType::Bool => put_bools(cells, values.as_boolean()),
        _ => return None,
    }
    Some(())
}

fn put<'a, P: ArrowPrimitiveType, T: Element + 'a>(
    cells: impl Iterator<Item = &'a mut T>,
    values: &PrimitiveArray<P>,
    convert: impl Fn(P::Native) -> T,
) {
    if values.null_count() == 0 {
        cells.zip(values.values()).for_each(|(cell, value)| *cell = convert(*value));
        return;
    }
    for (cell, value) in cells.zip(values.iter()) {
        if let Some(value) = value {
            *cell = convert(value);
        }
    }
}

fn put_bools<'a, T: Element + 'a>(cells: impl Iterator<Item = &'a mut T>, values: &BooleanArray) {
    for (cell, value) in cells.zip(values.iter()) {
        if let Some(value) = value {
            *cell = T::from_i64(i64::from(value));
        }
    }
}

#[cold]
fn not_a_number(answer: &Answer, column: usize, value_type: ValueType) -> Error {
    let name = answer.whole().ok().and_then(|whole| whole.vectors.get(column));
    Error::new(
        ErrorKind::TypeMismatch,
        format!(
            "feature '{}' has dtype {}, which is no number; leave it out, or use to_dict or to_arrow",
            name.map_or("", |vector| &*vector.name),
            value_type.dtype()
        ),
    )
}
