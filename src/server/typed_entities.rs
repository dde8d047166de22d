//! Entity values that bring their types with them -> columns. A key is taken as its declared type
//! where that is exactly the same value, such as an INT32 for an INT64; Feast's server would look
//! for it as the type that it came with, and find nothing. Must not know who asks.

use std::borrow::Cow;

use super::entities::refused;
use crate::error::{Error, ErrorKind, Result};
use crate::value::wire::{ColumnDecoder, NOT_A_TIME, Value};
use crate::value::{Column, Layout, PackedBytes, ValueType, json};

/// Where doubles stop to hold every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Values of a join key as a column of its type.
pub(super) fn to_key(values: &PackedBytes, value_type: ValueType, name: &str) -> Result<Column> {
    if !value_type.is_key() {
        // No store has such keys: the read says so.
        return to_shown(values, name);
    }
    let column = decode(values, value_type, name)?;
    if column.layout == Layout::Typed && column.values.null_count() == 0 {
        return Ok(column);
    }
    let mut decoder = ColumnDecoder::new(value_type, values.len());
    for (row, bytes) in values.iter().enumerate() {
        let value = parse(bytes, row, name)?;
        let exact = exactly(&value, value_type)
            .map_err(|why| refused(name, row, &shown(&value), value_type, why))?;
        decoder.push(&exact.to_bytes()).map_err(|_| not_a_value(name, row))?;
    }
    decoder.finish()
}

/// Values that are part of no key, and only come back in the answer, or are given to functions:
/// as they are. They may be null.
pub(super) fn to_shown(values: &PackedBytes, name: &str) -> Result<Column> {
    let mut value_type = ValueType::String;
    for (row, bytes) in values.iter().enumerate() {
        match parse(bytes, row, name)?.value_type() {
            ValueType::Null => {}
            found => {
                value_type = found;
                break;
            }
        }
    }
    decode(values, value_type, name)
}

fn decode(values: &PackedBytes, value_type: ValueType, name: &str) -> Result<Column> {
    let mut decoder = ColumnDecoder::new(value_type, values.len());
    for (row, bytes) in values.iter().enumerate() {
        decoder.push(bytes).map_err(|_| not_a_value(name, row))?;
    }
    decoder.finish()
}

fn parse<'a>(bytes: &'a [u8], row: usize, name: &str) -> Result<Value<'a>> {
    Value::parse(bytes).map_err(|_| not_a_value(name, row))
}

/// The same value as one of `value_type`, or why there is none.
fn exactly<'a>(
    value: &'a Value<'_>,
    value_type: ValueType,
) -> std::result::Result<Value<'a>, &'static str> {
    let other = "it is of another type";
    match (value_type, value) {
        (_, Value::Null) => Err("it is null"),
        (ValueType::Int64, value) => Ok(Value::Int64(integer(value).ok_or(other)?)),
        (ValueType::Int32, value) => {
            let number = integer(value).ok_or(other)?;
            Ok(Value::Int32(number.try_into().map_err(|_| "it is out of range")?))
        }
        (ValueType::UnixTimestamp, value) => {
            let seconds = match value {
                Value::UnixTimestamp(seconds) | Value::ZonedTimestamp(seconds, _) => *seconds,
                value => integer(value).ok_or(other)?,
            };
            match seconds {
                NOT_A_TIME => Err("it is no time"),
                seconds => Ok(Value::UnixTimestamp(seconds)),
            }
        }
        (ValueType::String, Value::Text(_, text)) => {
            Ok(Value::Text(ValueType::String, Cow::Borrowed(text)))
        }
        (ValueType::Bytes, Value::Bytes(bytes)) => Ok(Value::Bytes(Cow::Borrowed(bytes))),
        _ => Err(other),
    }
}

fn integer(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int32(number) => Some(i64::from(*number)),
        Value::Int64(number) => Some(*number),
        Value::Double(number) => whole(*number),
        Value::Float(number) => whole(f64::from(*number)),
        _ => None,
    }
}

fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

fn shown(value: &Value<'_>) -> String {
    let text = json::to_text(value);
    let short = match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    };
    format!("{short} ({})", value.value_type().name())
}

#[cold]
fn not_a_value(name: &str, row: usize) -> Error {
    let message = format!("'{name}', row {row}: these bytes are no feast.types.Value");
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(values: &[Value<'_>]) -> PackedBytes {
        let mut packed = PackedBytes::default();
        values.iter().for_each(|value| packed.push(&value.to_bytes()));
        packed
    }

    fn keys(values: &[Value<'_>], value_type: ValueType) -> Result<Vec<Vec<u8>>> {
        let column = to_key(&packed(values), value_type, "k")?;
        assert_eq!((column.layout, column.value_type), (Layout::Typed, value_type));
        Ok((0..column.len()).map(|row| column.cell(row).unwrap().to_bytes()).collect())
    }

    #[test]
    fn what_is_the_same_value_is_the_same_key() {
        let given = [Value::Int32(7), Value::Int64(-1), Value::Double(3.0), Value::Float(-2.0)];
        let expected: Vec<_> = [7, -1, 3, -2].map(|number| Value::Int64(number).to_bytes()).into();
        assert_eq!(keys(&given, ValueType::Int64).unwrap(), expected);

        let text = Value::Text(ValueType::Uuid, "u".into());
        let expected = Value::Text(ValueType::String, "u".into()).to_bytes();
        assert_eq!(keys(&[text], ValueType::String).unwrap(), [expected]);
    }

    #[test]
    fn what_is_not_the_same_is_refused() {
        let text = || Value::Text(ValueType::String, "7".into());
        for (value, value_type) in [
            (text(), ValueType::Int64),
            (Value::Double(1.5), ValueType::Int64),
            (Value::Double(f64::NAN), ValueType::Int64),
            (Value::Double(1e300), ValueType::Int64),
            (Value::Bool(true), ValueType::Int64),
            (Value::Int64(1 << 31), ValueType::Int32),
            (Value::Int64(7), ValueType::String),
            (text(), ValueType::Bytes),
            (Value::Null, ValueType::Int64),
            (Value::Int64(NOT_A_TIME), ValueType::UnixTimestamp),
            (Value::UnixTimestamp(NOT_A_TIME), ValueType::UnixTimestamp),
        ] {
            let error = keys(std::slice::from_ref(&value), value_type).err();
            let error = error.unwrap_or_else(|| panic!("{value:?} as {value_type:?}"));
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().starts_with("'k', row "), "{error}");
        }
    }

    #[test]
    fn what_is_shown_stays_what_it_is() {
        let given = [Value::Null, Value::Bool(true), Value::Int64(7)];

        let column = to_shown(&packed(&given), "k").unwrap();

        let cells: Vec<_> = (0..3).map(|row| column.cell(row).unwrap().to_bytes()).collect();
        assert_eq!(cells, given.map(|value| value.to_bytes()));
    }

    #[test]
    fn what_is_no_value_is_named() {
        let mut values = PackedBytes::default();
        values.push(&[0x20]);
        for column in [to_key(&values, ValueType::Int64, "k"), to_shown(&values, "k")] {
            assert!(column.unwrap_err().to_string().starts_with("'k', row 0: these bytes"));
        }
    }
}
