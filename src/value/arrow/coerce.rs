//! Arrow arrays to the canonical Arrow type of a value type, with Feast's coercions. The
//! variant is chosen once for an array; canonical arrays pass through untouched.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int64Type, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray, StringArray, StructArray, new_null_array};
use arrow_buffer::NullBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, TimeUnit};

use super::flatten::flatten;
use super::refusal::Refused;
use super::{is_text, lists, tree};
use crate::value::column::{arrow_type, timestamp_type, zoned_fields};
use crate::value::{ValueType, text};

type Coerced = Result<ArrayRef, Refused>;

/// The array in the canonical Arrow type of `value_type`, which has one.
pub(super) fn column(array: &dyn Array, value_type: ValueType) -> Coerced {
    let array = flatten(array)?;
    match value_type.element() {
        Some(element) => lists::column(&array, value_type, element),
        None => without_nan(scalar(&array, value_type)?),
    }
}

/// NaN in a scalar column is null, as in Feast (`pd.isnull`).
fn without_nan(array: ArrayRef) -> Coerced {
    Ok(match array.data_type() {
        DataType::Float64 => nan_to_null::<Float64Type>(&array, |number| number.is_nan()),
        DataType::Float32 => nan_to_null::<Float32Type>(&array, |number| number.is_nan()),
        _ => array,
    })
}

fn nan_to_null<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    is_nan: impl Fn(T::Native) -> bool,
) -> ArrayRef {
    let numbers = array.as_primitive::<T>();
    if !numbers.values().iter().any(|number| is_nan(*number)) {
        return Arc::clone(array);
    }
    let present: NullBuffer = numbers.values().iter().map(|number| !is_nan(*number)).collect();
    let nulls = NullBuffer::union(numbers.nulls(), Some(&present));
    Arc::new(PrimitiveArray::<T>::new(numbers.values().clone(), nulls))
}

/// A flat array of scalars in the canonical Arrow type of a scalar type. NaN stays.
pub(super) fn scalar(array: &ArrayRef, value_type: ValueType) -> Coerced {
    let canonical = arrow_type(value_type).ok_or(Refused::Type)?;
    if array.data_type() == &DataType::Null {
        return Ok(new_null_array(&canonical, array.len()));
    }
    match value_type {
        ValueType::Json => return json(array),
        ValueType::UnixTimestamp => return seconds(array),
        ValueType::ZonedTimestamp => return zoned(array),
        _ if array.data_type() == &canonical => return Ok(Arc::clone(array)),
        _ => {}
    }
    match value_type {
        ValueType::Int32 | ValueType::Int64 => integer(array, &canonical),
        ValueType::Double => double(array),
        ValueType::Float => float(array),
        ValueType::Bool if array.data_type().is_integer() => checked_cast(array, &canonical, ""),
        ValueType::Bytes if matches!(array.data_type(), DataType::FixedSizeBinary(_)) => {
            checked_cast(array, &canonical, "")
        }
        ValueType::String => string(array),
        ValueType::Uuid | ValueType::TimeUuid => uuid(array),
        ValueType::Decimal if is_decimal(array.data_type()) => {
            texts(array, |text, row| text::write_decimal(text, array, row))
        }
        _ => Err(Refused::Type),
    }
}

/// A cast in which a value that does not fit is an error that names the row.
pub(super) fn checked_cast(array: &ArrayRef, target: &DataType, why: &str) -> Coerced {
    let cast = cast_with_options(array, target, &CastOptions { safe: true, ..Default::default() })?;
    if cast.null_count() > array.null_count() {
        let lost = (0..array.len()).find(|row| cast.is_null(*row) && !array.is_null(*row));
        return Err(Refused::row(lost.unwrap_or(0), why));
    }
    Ok(cast)
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..)
    )
}

// Python's int(): fractions are cut, text is parsed, booleans are 0 and 1.
fn integer(array: &ArrayRef, canonical: &DataType) -> Coerced {
    let source = array.data_type();
    if source.is_floating() {
        let array = without_nan(Arc::clone(array))?;
        return checked_cast(&array, canonical, "out of range");
    }
    if source.is_integer() || is_decimal(source) || source == &DataType::Boolean {
        return checked_cast(array, canonical, "out of range");
    }
    if is_text(source) {
        let numbers = parsed::<Int64Type>(array, "not a whole number")?;
        return checked_cast(&numbers, canonical, "out of range");
    }
    // NumPy gives the nanoseconds themselves, in this unit alone.
    if let DataType::Timestamp(TimeUnit::Nanosecond, _) = source {
        let numbers = checked_cast(array, &DataType::Int64, "out of range")?;
        return checked_cast(&numbers, canonical, "out of range");
    }
    Err(Refused::Type)
}

fn parsed<T: ArrowPrimitiveType>(array: &ArrayRef, why: &str) -> Coerced
where
    T::Native: std::str::FromStr,
{
    let texts = array.as_string::<i32>();
    let mut numbers = Vec::with_capacity(texts.len());
    for (row, text) in texts.iter().enumerate() {
        let number = text.map(|text| text.trim().parse().map_err(|_| Refused::row(row, why)));
        numbers.push(number.transpose()?);
    }
    Ok(Arc::new(PrimitiveArray::<T>::from_iter(numbers)))
}

fn double(array: &ArrayRef) -> Coerced {
    let source = array.data_type();
    if source.is_numeric() {
        return checked_cast(array, &DataType::Float64, "out of range");
    }
    Err(Refused::Type)
}

// Python's float(), then cut to 32 bits.
fn float(array: &ArrayRef) -> Coerced {
    let source = array.data_type();
    if is_text(source) {
        return parsed::<Float32Type>(array, "not a number");
    }
    if source.is_numeric() || source == &DataType::Boolean {
        let options = CastOptions { safe: true, ..Default::default() };
        return Ok(cast_with_options(array, &DataType::Float32, &options)?);
    }
    Err(Refused::Type)
}

// Python's str() of what `to_numpy` gives.
fn string(array: &ArrayRef) -> Coerced {
    let source = array.data_type();
    if source.is_integer() {
        return checked_cast(array, &DataType::Utf8, "");
    }
    if let Some(bytes) = array.as_binary_opt::<i32>() {
        return texts(array, |text, row| {
            text.push_str(&text::python_bytes(bytes.value(row)));
            true
        });
    }
    if source == &DataType::Boolean {
        return texts(array, |text, row| {
            text.push_str(if array.as_boolean().value(row) { "True" } else { "False" });
            true
        });
    }
    if source.is_floating() {
        let array = without_nan(Arc::clone(array))?;
        return texts(&array, |text, row| text::write_float(text, &array, row));
    }
    if is_decimal(source) {
        return texts(array, |text, row| text::write_decimal(text, array, row));
    }
    if matches!(source, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64) {
        return texts(array, |text, row| text::write_time(text, array, row));
    }
    Err(Refused::Type)
}

fn uuid(array: &ArrayRef) -> Coerced {
    let bytes = array.as_fixed_size_binary_opt().filter(|bytes| bytes.value_length() == 16);
    let bytes = bytes.ok_or(Refused::Type)?;
    texts(array, |text, row| {
        text.push_str(&text::uuid(bytes.value(row)));
        true
    })
}

/// A text for each row that is not null; `write` gives false where it can't.
fn texts(array: &ArrayRef, write: impl Fn(&mut String, usize) -> bool) -> Coerced {
    let mut rows = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        if array.is_null(row) {
            rows.push(None);
            continue;
        }
        let mut text = String::new();
        if !write(&mut text, row) {
            return Err(Refused::row(row, "out of range"));
        }
        rows.push(Some(text));
    }
    Ok(Arc::new(StringArray::from_iter(rows)))
}

/// Whole seconds, UTC; parts of a second are floored, for times before 1970 too.
fn seconds(array: &ArrayRef) -> Coerced {
    let source = array.data_type();
    let seconds = match source {
        DataType::Timestamp(unit, _) => {
            let ticks = checked_cast(array, &DataType::Int64, "")?;
            let per_second = match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            floored(&ticks, per_second)
        }
        DataType::Date32 => {
            let days = checked_cast(array, &DataType::Int32, "")?;
            let days = checked_cast(&days, &DataType::Int64, "")?;
            Arc::new(days.as_primitive::<Int64Type>().unary::<_, Int64Type>(|day| day * 86_400))
        }
        DataType::Date64 => floored(&checked_cast(array, &DataType::Int64, "")?, 1_000),
        _ if source.is_integer() => checked_cast(array, &DataType::Int64, "out of range")?,
        _ if source.is_floating() => {
            let numbers = checked_cast(&without_nan(Arc::clone(array))?, &DataType::Float64, "")?;
            let floor = numbers.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::floor);
            checked_cast(&(Arc::new(floor) as ArrayRef), &DataType::Int64, "out of range")?
        }
        _ if is_text(source) => parsed::<Int64Type>(array, "not a whole number of seconds")?,
        _ => return Err(Refused::Type),
    };
    Ok(as_time(&seconds))
}

fn floored(ticks: &ArrayRef, per_second: i64) -> ArrayRef {
    let ticks = ticks.as_primitive::<Int64Type>();
    Arc::new(ticks.unary::<_, Int64Type>(|tick| tick.div_euclid(per_second)))
}

fn as_time(seconds: &ArrayRef) -> ArrayRef {
    let seconds = seconds.as_primitive::<Int64Type>();
    let times = seconds.reinterpret_cast::<TimestampSecondType>();
    Arc::new(times.with_data_type(timestamp_type()))
}

// From a timestamp with its column's zone, or from a struct of second and zone.
fn zoned(array: &ArrayRef) -> Coerced {
    let (times, zones): (ArrayRef, ArrayRef) = match array.data_type() {
        DataType::Timestamp(_, zone) => {
            let zone = zone.as_deref().unwrap_or("");
            let zones = StringArray::from_iter_values(std::iter::repeat_n(zone, array.len()));
            (seconds(array)?, Arc::new(zones))
        }
        DataType::Struct(_) => {
            let fields = array.as_struct();
            let time = fields.column_by_name("unix_timestamp").ok_or(Refused::Type)?;
            let zone = fields.column_by_name("zone").ok_or(Refused::Type)?;
            (seconds(&flatten(time)?)?, scalar(&flatten(zone)?, ValueType::String)?)
        }
        _ => return Err(Refused::Type),
    };
    let nulls = NullBuffer::union(array.nulls(), times.nulls());
    Ok(Arc::new(StructArray::try_new(zoned_fields(), vec![times, zones], nulls)?))
}

// Text is taken as it is, once it is known to be JSON; anything else is written as JSON.
fn json(array: &ArrayRef) -> Coerced {
    let Some(texts) = array.as_string_opt::<i32>() else { return tree::json_texts(array) };
    for (row, text) in texts.iter().enumerate() {
        if let Some(text) = text
            && let Err(why) = text::check_json(text)
        {
            return Err(Refused::row(row, why));
        }
    }
    Ok(Arc::clone(array))
}
