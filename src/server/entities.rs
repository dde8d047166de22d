//! The entity columns of a request -> those of a read plan, with the coercions of Feast's server:
//! `int("1")`, `int(1.9)`, `str(7)`. What Feast can't use is an error that names key, row and
//! value. Values that bring their types with them are for `typed_entities`. Must not know JSON,
//! nor who asks.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, StringArray, TimestampSecondArray,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime};

use super::ask::{Item, Values};
use super::typed_entities;
use crate::error::{Error, ErrorKind, Result};
use crate::online::{Entities, ReadPlan};
use crate::value::text::python_float;
use crate::value::wire::{ColumnDecoder, Value};
use crate::value::{Column, Layout, ValueType, json};

/// The columns that `plan` knows, converted; the others are only counted.
pub fn to_entities(plan: &ReadPlan, columns: Vec<(Cow<'_, str>, Values)>) -> Result<Entities> {
    let rows = check_rows(&columns)?;
    let mut entities = Entities { columns: Vec::with_capacity(columns.len()), rows };
    for (name, values) in columns {
        let by_name = plan.keys.iter().position(|key| key.name == *name);
        let by_entity = || plan.keys.iter().position(|key| key.entity_name == *name);
        let Some(index) = by_name.or_else(by_entity) else { continue };
        let Some(key) = plan.keys.get(index) else { continue };
        let column = match key.value_type.filter(|_| key.is_needed) {
            Some(value_type) => to_key(values, value_type, &key.name)?,
            None => to_shown(values, &key.name)?,
        };
        // An entity's name and its join key may both be there: the later counts, as in Feast.
        match entities.columns.iter_mut().find(|(known, _)| *known == index) {
            Some((_, earlier)) => *earlier = column,
            None => entities.columns.push((index, column)),
        }
    }
    Ok(entities)
}

fn check_rows(columns: &[(Cow<'_, str>, Values)]) -> Result<usize> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
    let Some((first, values)) = columns.first() else {
        return invalid("entities is empty; give a list of values for each join key".to_owned());
    };
    let rows = values.len();
    if rows == 0 {
        return invalid(format!("'{first}' of entities has no values; give at least one"));
    }
    match columns.iter().find(|(_, values)| values.len() != rows) {
        None => Ok(rows),
        Some((name, values)) => invalid(format!(
            "all entity rows must have the same columns, but '{name}' has {} values and '{first}' \
             {rows}",
            values.len()
        )),
    }
}

/// Values of a join key as a column of its type.
pub(super) fn to_key(values: Values, value_type: ValueType, name: &str) -> Result<Column> {
    let array: ArrayRef = match (values, value_type) {
        (Values::Integers(values), ValueType::Int64) => Arc::new(Int64Array::from(values)),
        (Values::Texts(values), ValueType::String) => Arc::new(values),
        (Values::Wire(values), _) => return typed_entities::to_key(&values, value_type, name),
        (values, _) => return convert(&items(values), value_type, name),
    };
    Ok(Column { value_type, layout: Layout::Typed, values: array })
}

fn items(values: Values) -> Vec<Item> {
    match values {
        Values::Integers(values) => values.into_iter().map(Item::Integer).collect(),
        Values::Texts(values) => {
            values.iter().map(|text| Item::Text(text.unwrap_or_default().to_owned())).collect()
        }
        Values::Any(items) => items,
        Values::Wire(_) => Vec::new(),
    }
}

fn convert(items: &[Item], value_type: ValueType, name: &str) -> Result<Column> {
    let array: ArrayRef = match value_type {
        ValueType::Int64 => Arc::new(Int64Array::from(each(items, value_type, name, integer)?)),
        ValueType::Int32 => {
            let narrow = |item: &Item| i32::try_from(integer(item)?).map_err(|_| out_of_range());
            Arc::new(Int32Array::from(each(items, value_type, name, narrow)?))
        }
        ValueType::UnixTimestamp => {
            let seconds = each(items, value_type, name, seconds)?;
            Arc::new(TimestampSecondArray::from(seconds).with_timezone("UTC"))
        }
        ValueType::String => {
            Arc::new(StringArray::from_iter_values(each(items, value_type, name, text)?))
        }
        ValueType::Bytes => {
            Arc::new(BinaryArray::from_iter_values(each(items, value_type, name, bytes)?))
        }
        // No store has keys of another type: the read says so.
        _ => return to_shown(Values::Any(items.to_vec()), name),
    };
    Ok(Column { value_type, layout: Layout::Typed, values: array })
}

/// Values that are part of no key, and only come back in the answer, or are given to functions:
/// of the type that Feast infers from the first of them. They may be null.
pub(super) fn to_shown(values: Values, name: &str) -> Result<Column> {
    let items = match values {
        Values::Integers(values) => {
            let (value_type, values) = (ValueType::Int64, Arc::new(Int64Array::from(values)));
            return Ok(Column { value_type, layout: Layout::Typed, values });
        }
        Values::Texts(values) => {
            let (value_type, values) = (ValueType::String, Arc::new(values));
            return Ok(Column { value_type, layout: Layout::Typed, values });
        }
        Values::Any(items) => items,
        Values::Wire(values) => return typed_entities::to_shown(&values, name),
    };
    let is_sample = |item: &&Item| !matches!(item, Item::Null);
    let sample = items.iter().find(is_sample).map(infer).transpose();
    let sample = sample.map_err(|why| refused(name, 0, "a value", ValueType::Null, &why))?;
    let value_type = sample.unwrap_or(ValueType::String);
    let values = each(&items, value_type, name, |item| coerce(item, value_type))?;
    let mut decoder = ColumnDecoder::new(value_type, values.len());
    for value in values {
        match value {
            Value::Null => decoder.push_missing(),
            value => drop(decoder.push(&value.to_bytes())?),
        }
    }
    decoder.finish()
}

fn infer(item: &Item) -> Converted<ValueType> {
    Ok(match item {
        Item::Null | Item::Text(_) => ValueType::String,
        Item::Bool(_) => ValueType::Bool,
        Item::Integer(_) | Item::Big(_) => ValueType::Int64,
        Item::Float(_) => ValueType::Double,
        Item::Nested(text) => json::parse(text).map_err(Cow::Owned)?.value_type(),
    })
}

fn coerce(item: &Item, value_type: ValueType) -> Converted<Value<'static>> {
    Ok(match (item, value_type) {
        (Item::Null, _) => Value::Null,
        (Item::Nested(text), _) => json::parse(text).map_err(Cow::Owned)?,
        (item, ValueType::Int64) => Value::Int64(integer(item)?),
        (item, ValueType::Double) => Value::Double(float(item)?),
        (item, ValueType::Bool) => Value::Bool(is_true(item)),
        (item, _) => Value::Text(ValueType::String, Cow::Owned(text(item)?)),
    })
}

/// A value, or why it can't be used.
type Converted<T> = std::result::Result<T, Cow<'static, str>>;

fn each<T>(
    items: &[Item],
    value_type: ValueType,
    name: &str,
    convert: impl Fn(&Item) -> Converted<T>,
) -> Result<Vec<T>> {
    let converted = items.iter().enumerate().map(|(row, item)| {
        convert(item).map_err(|why| refused(name, row, &shown(item), value_type, &why))
    });
    converted.collect()
}

/// Python's `int()`.
fn integer(item: &Item) -> Converted<i64> {
    match item {
        Item::Integer(number) => Ok(*number),
        Item::Bool(flag) => Ok(i64::from(*flag)),
        Item::Big(_) => Err(out_of_range()),
        Item::Float(number) if number.is_nan() => Err(null()),
        Item::Float(number) => whole(number.trunc()),
        Item::Text(text) => python_int(text),
        Item::Null => Err(null()),
        Item::Nested(_) => Err(collection()),
    }
}

fn whole(number: f64) -> Converted<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    match (-END..END).contains(&number) {
        true => Ok(number as i64),
        false => Err(out_of_range()),
    }
}

/// `int()` of text: blanks around it, a sign, and underscores between digits.
fn python_int(text: &str) -> Converted<i64> {
    let is_blank = |char: char| char.is_whitespace() || matches!(char, '\u{1c}'..='\u{1f}');
    let trimmed = text.trim_matches(is_blank);
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    let is_number = !digits.is_empty()
        && digits.split('_').all(|run| !run.is_empty() && run.bytes().all(|b| b.is_ascii_digit()));
    if !is_number {
        return Err("it is no integer".into());
    }
    trimmed.replace('_', "").parse().map_err(|_| out_of_range())
}

/// Whole seconds since the epoch, floored; text is an integer or ISO 8601.
fn seconds(item: &Item) -> Converted<i64> {
    match item {
        Item::Float(number) if !number.is_nan() => whole(number.floor()),
        Item::Text(text) => python_int(text).or_else(|_| {
            iso_seconds(text.trim()).ok_or_else(|| "it is neither an integer nor ISO 8601".into())
        }),
        other => integer(other),
    }
}

fn iso_seconds(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp());
    }
    let naive = |format| NaiveDateTime::parse_from_str(text, format).ok();
    let midnight = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
    let time = naive("%Y-%m-%dT%H:%M:%S%.f").or_else(|| naive("%Y-%m-%d %H:%M:%S%.f"));
    Some(time.or_else(midnight)?.and_utc().timestamp())
}

/// Python's `str()`.
fn text(item: &Item) -> Converted<String> {
    match item {
        Item::Text(text) => Ok(text.clone()),
        Item::Integer(number) => Ok(number.to_string()),
        Item::Big(digits) => Ok(digits.clone()),
        Item::Bool(flag) => Ok(if *flag { "True" } else { "False" }.to_owned()),
        Item::Float(number) if number.is_nan() => Err(null()),
        Item::Float(number) if number.is_infinite() => {
            Ok(if *number > 0.0 { "inf" } else { "-inf" }.to_owned())
        }
        Item::Float(number) => Ok(python_float(*number)),
        Item::Null => Err(null()),
        Item::Nested(_) => Err(collection()),
    }
}

fn bytes(item: &Item) -> Converted<Vec<u8>> {
    match item {
        Item::Text(text) => BASE64_STANDARD.decode(text).map_err(|_| "it is no base64".into()),
        Item::Null => Err(null()),
        _ => Err("bytes are given as base64".into()),
    }
}

fn float(item: &Item) -> Converted<f64> {
    match item {
        Item::Float(number) => Ok(*number),
        Item::Text(text) => text.trim().parse().map_err(|_| "it is no number".into()),
        other => Ok(integer(other)? as f64),
    }
}

fn is_true(item: &Item) -> bool {
    match item {
        Item::Null => false,
        Item::Bool(flag) => *flag,
        Item::Integer(number) => *number != 0,
        Item::Float(number) => *number != 0.0,
        Item::Text(text) => !text.is_empty(),
        Item::Big(_) | Item::Nested(_) => true,
    }
}

fn out_of_range() -> Cow<'static, str> {
    "it is out of range".into()
}

fn null() -> Cow<'static, str> {
    "it is null".into()
}

fn collection() -> Cow<'static, str> {
    "it is a collection".into()
}

fn shown(item: &Item) -> String {
    let text = match item {
        Item::Null => return "null".to_owned(),
        Item::Text(text) => format!("'{text}'"),
        Item::Bool(flag) => flag.to_string(),
        Item::Integer(number) => number.to_string(),
        Item::Float(number) => number.to_string(),
        Item::Big(text) | Item::Nested(text) => text.clone(),
    };
    match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cold]
pub(super) fn refused(
    name: &str,
    row: usize,
    value: &str,
    value_type: ValueType,
    why: &str,
) -> Error {
    let message =
        format!("'{name}', row {row}: {value} can't be used as {}: {why}", value_type.name());
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ask;

    fn converted(values: &str, value_type: ValueType) -> Result<Vec<Value<'static>>> {
        let body = format!(r#"{{"entities": {{"k": {values}}}}}"#);
        let mut ask = ask::parse(&body).unwrap();
        let column = to_key(ask.entities.remove(0).1, value_type, "k")?;
        let wire = (0..column.len()).map(|row| column.cell(row).unwrap().to_bytes());
        Ok(wire.map(|bytes| own(&Value::parse(&bytes).unwrap())).collect())
    }

    fn own(value: &Value<'_>) -> Value<'static> {
        match value {
            Value::Int32(number) => Value::Int32(*number),
            Value::Int64(number) => Value::Int64(*number),
            Value::UnixTimestamp(seconds) => Value::UnixTimestamp(*seconds),
            Value::Text(kind, text) => Value::Text(*kind, text.clone().into_owned().into()),
            Value::Bytes(bytes) => Value::Bytes(bytes.clone().into_owned().into()),
            other => panic!("{other:?}"),
        }
    }

    fn error(values: &str, value_type: ValueType) -> String {
        let error = converted(values, value_type).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.to_string()
    }

    #[test]
    fn integers_are_what_python_makes_of_them() {
        let values = r#"[7, 1001.9, -1.9, 1e3, true, " 1001\u2003", "1_001", "+5"]"#;

        let found = converted(values, ValueType::Int64).unwrap();

        let expected = [7, 1001, -1, 1000, 1, 1001, 1001, 5].map(Value::Int64);
        assert_eq!(found, expected);
        for text in ["\"\"", "\"1.5\"", "\"1__0\"", "\"_1\"", "\"- 1\"", "null", "NaN", "[]", "{}"]
        {
            error(&format!("[{text}]"), ValueType::Int64);
        }
        let message = error("[1, 9223372036854775808]", ValueType::Int64);
        assert!(message.contains("'k', row 1: 9223372036854775808"), "{message}");
        assert!(error("[2147483648]", ValueType::Int32).contains("out of range"));
        assert!(error("[Infinity]", ValueType::Int64).contains("out of range"));
    }

    #[test]
    fn texts_are_what_python_makes_of_them() {
        let values = r#"["a", 1, 1.0, 1e22, true, 18446744073709551616, Infinity]"#;

        let found = converted(values, ValueType::String).unwrap();

        let expected = ["a", "1", "1.0", "1e+22", "True", "18446744073709551616", "inf"]
            .map(|text| Value::Text(ValueType::String, text.into()));
        assert_eq!(found, expected);
        error("[null]", ValueType::String);
    }

    #[test]
    fn bytes_are_base64_and_times_iso() {
        let bytes = converted(r#"["//79", ""]"#, ValueType::Bytes).unwrap();
        assert_eq!(bytes, [b"\xff\xfe\xfd".to_vec(), vec![]].map(|b| Value::Bytes(b.into())));
        error(r#"["a"]"#, ValueType::Bytes);

        let values =
            r#"[5, -0.5, "7", "2026-01-02T03:04:05.9Z", "1970-01-01", "1970-01-01 00:00:01"]"#;
        let times = converted(values, ValueType::UnixTimestamp).unwrap();
        let expected = [5, -1, 7, 1_767_323_045, 0, 1].map(Value::UnixTimestamp);
        assert_eq!(times, expected);
        error(r#"["yesterday"]"#, ValueType::UnixTimestamp);
    }

    #[test]
    fn what_is_only_shown_takes_the_type_of_its_first_value() {
        let shown = |values: &str| {
            let body = format!(r#"{{"entities": {{"k": {values}}}}}"#);
            let column = to_shown(ask::parse(&body).unwrap().entities.remove(0).1, "k").unwrap();
            (0..column.len())
                .map(|row| json::to_text(&column.cell(row).unwrap()))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(shown("[1, 2.5]"), "1 2");
        assert_eq!(shown("[null, 2.5, 1]"), "null 2.5 1.0");
        assert_eq!(shown("[null, null]"), "null null");
        assert_eq!(shown(r#"[{"a": 1}, null]"#), r#"{"a":1} null"#);
        assert_eq!(shown("[[1, 2]]"), "[1,2]");
    }
}
