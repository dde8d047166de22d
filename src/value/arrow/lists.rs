//! Lists and sets of scalars to their canonical Arrow type. The elements of all rows are
//! converted in one go.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, ListArray, UInt32Array, new_null_array};
use arrow_buffer::OffsetBuffer;
use arrow_ord::ord::make_comparator;
use arrow_schema::{DataType, SortOptions};
use arrow_select::take::take;

use super::flatten::{flatten, item};
use super::refusal::Refused;
use super::{coerce, is_text, tree};
use crate::value::ValueType;
use crate::value::column::arrow_type;

/// A flat array as lists (or sets) of `element`.
pub(super) fn column(
    array: &ArrayRef,
    value_type: ValueType,
    element: ValueType,
) -> Result<ArrayRef, Refused> {
    if array.data_type() == &DataType::Null {
        let canonical = arrow_type(value_type).ok_or(Refused::Type)?;
        return Ok(new_null_array(&canonical, array.len()));
    }
    if is_text(array.data_type()) || array.data_type() == &DataType::Binary {
        return tree::lists_from_json(array, value_type);
    }
    let lists = compact(array.as_list_opt::<i32>().ok_or(Refused::Type)?)?;
    let items = flatten(lists.values())?;
    if !is_accepted(items.data_type(), element) {
        return Err(Refused::Type);
    }
    let items = coerce::scalar(&items, element).map_err(|refused| match refused {
        Refused::Row(index, why) => Refused::row(row_of(lists.offsets(), index), why),
        other => other,
    })?;
    if let Some(index) = first_null(&items)
        && !has_null_form(element, value_type.is_set())
    {
        let why = format!("a null among elements of type {}", element.name());
        return Err(Refused::row(row_of(lists.offsets(), index), why));
    }
    let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
    let lists = ListArray::try_new(item(items.data_type()), offsets, items, nulls)?;
    if value_type.is_set() { sets(&lists) } else { Ok(Arc::new(lists)) }
}

/// The lists with only the elements that a row refers to, so that no other is looked at.
fn compact(lists: &ListArray) -> Result<ListArray, Refused> {
    let used: usize = (0..lists.len())
        .filter(|row| !lists.is_null(*row))
        .map(|row| lists.value_length(row) as usize)
        .sum();
    if used == lists.values().len() {
        return Ok(lists.clone());
    }
    let all = UInt32Array::from_iter_values(0..lists.len() as u32);
    Ok(take(lists, &all, None)?.as_list::<i32>().clone())
}

fn row_of(offsets: &OffsetBuffer<i32>, index: usize) -> usize {
    offsets.partition_point(|start| *start as usize <= index).saturating_sub(1)
}

fn first_null(items: &ArrayRef) -> Option<usize> {
    items.nulls()?.iter().position(|is_valid| !is_valid)
}

// Feast is stricter with elements than with scalars: text is text, whole numbers are whole.
// Widening whole numbers to floats is ours.
fn is_accepted(items: &DataType, element: ValueType) -> bool {
    if items == &DataType::Null {
        return true;
    }
    match element {
        ValueType::Int32 | ValueType::Int64 => items.is_integer(),
        ValueType::Double | ValueType::Float => items.is_floating() || items.is_integer(),
        ValueType::Bool => items == &DataType::Boolean,
        ValueType::String => items == &DataType::Utf8,
        ValueType::UnixTimestamp => items.is_temporal() || items.is_integer(),
        _ => true,
    }
}

/// Whether Feast stores a null among the elements as something that reads back: "", b"",
/// false, NaN, NaT, or JSON's own null.
fn has_null_form(element: ValueType, in_set: bool) -> bool {
    match element {
        ValueType::Double | ValueType::Float | ValueType::Bool | ValueType::UnixTimestamp => true,
        ValueType::String | ValueType::Bytes | ValueType::Json => !in_set,
        _ => false,
    }
}

/// The lists as sets: each element once, in order. Feast's own order is random.
fn sets(lists: &ListArray) -> Result<ArrayRef, Refused> {
    let items = lists.values();
    let compare = make_comparator(items, items, SortOptions::default())?;
    let mut kept: Vec<u32> = Vec::with_capacity(items.len());
    let mut lengths = Vec::with_capacity(lists.len());
    let mut row_items: Vec<usize> = Vec::new();
    for window in lists.offsets().windows(2) {
        let [start, end] = window else { continue };
        row_items.clear();
        row_items.extend(*start as usize..*end as usize);
        row_items.sort_by(|a, b| compare(*a, *b));
        row_items.dedup_by(|later, earlier| {
            compare(*later, *earlier) == Ordering::Equal && !is_nan(items, *later)
                || is_zero(items, *later) && is_zero(items, *earlier)
        });
        lengths.push(row_items.len());
        kept.extend(row_items.iter().map(|index| *index as u32));
    }
    let items = take(items, &UInt32Array::from(kept), None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let nulls = lists.nulls().cloned();
    Ok(Arc::new(ListArray::try_new(item(items.data_type()), offsets, items, nulls)?))
}

// In Python no NaN equals another, so a set keeps each of them.
fn is_nan(items: &ArrayRef, index: usize) -> bool {
    number(items, index).is_some_and(f64::is_nan)
}

// -0.0 and 0.0 are one element of a Python set.
fn is_zero(items: &ArrayRef, index: usize) -> bool {
    number(items, index) == Some(0.0)
}

fn number(items: &ArrayRef, index: usize) -> Option<f64> {
    match items.data_type() {
        DataType::Float64 => Some(items.as_primitive::<Float64Type>().value(index)),
        DataType::Float32 => Some(f64::from(items.as_primitive::<Float32Type>().value(index))),
        _ => None,
    }
}
