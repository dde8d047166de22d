//! The one row of a push as the body of the HTTP server's: what comes as a value is written as
//! JSON that stands for the same, what comes as text by the declared type of its column.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value as Json;

use super::request::RowRequest;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::FeatureView;
use crate::server::print;
use crate::value::ValueType;
use crate::value::wire::{NOT_A_TIME, Value};

/// The columns of `views` and their types, for text that is to be one of them.
pub(super) type Types<'a> = HashMap<&'a str, ValueType>;

/// The types of the columns that rows for `views` have.
pub(super) fn types<'a>(views: impl Iterator<Item = &'a FeatureView>) -> Types<'a> {
    let fields = views.flat_map(|view| view.entity_columns.iter().chain(&view.features));
    fields.map(|field| (field.name.as_str(), field.value_type)).collect()
}

/// The row as a `df`.
///
/// Errors: bytes that are no value, or a value that JSON has nothing for.
pub(super) fn df(request: &RowRequest<'_>, types: &Types<'_>) -> Result<String> {
    let mut out = "{".to_owned();
    let mut put = |name: &str, cell: &str| {
        out.push_str(if out.len() > 1 { "," } else { "" });
        put_text(&mut out, name);
        out.push_str(":[");
        out.push_str(cell);
        out.push(']');
    };
    for (name, text) in &request.texts {
        put(name, &of_text(text, types.get(name).copied()));
    }
    for (name, bytes) in &request.values {
        let value = Value::parse(bytes).map_err(|_| {
            let message = format!("column '{name}': these bytes are no feast.types.Value");
            Error::new(ErrorKind::InvalidArgument, message)
        })?;
        put(name, &of_value(&value).map_err(|error| error.context(format!("column '{name}'")))?);
    }
    out.push('}');
    Ok(out)
}

/// Text as a cell of that type; where it is none it stays text, and the write says so.
fn of_text(text: &str, value_type: Option<ValueType>) -> String {
    let number = || text.trim().parse::<f64>().ok();
    let parsed = match value_type {
        Some(ValueType::Double | ValueType::Float) => number().map(float),
        Some(ValueType::Bool) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some("true".to_owned()),
            "false" | "0" => Some("false".to_owned()),
            _ => None,
        },
        Some(
            ValueType::String
            | ValueType::Json
            | ValueType::Int32
            | ValueType::Int64
            | ValueType::Bytes
            | ValueType::UnixTimestamp
            | ValueType::ZonedTimestamp
            | ValueType::Uuid
            | ValueType::TimeUuid
            | ValueType::Decimal,
        )
        | None => None,
        Some(_) => {
            let json = serde_json::from_str::<Json>(text).ok();
            json.filter(|json| json.is_array() || json.is_object()).map(|_| text.to_owned())
        }
    };
    parsed.unwrap_or_else(|| {
        let mut out = String::new();
        put_text(&mut out, text);
        out
    })
}

/// A value of a row. Times are written as text, for a number would be taken for nanoseconds
/// where it is the row's own time.
fn of_value(value: &Value<'_>) -> Result<String> {
    let mut out = String::new();
    match value {
        Value::UnixTimestamp(seconds) if *seconds != NOT_A_TIME => {
            let time = chrono::DateTime::from_timestamp(*seconds, 0).ok_or_else(|| {
                let message = format!("{seconds} seconds since 1970 are no time");
                Error::new(ErrorKind::InvalidArgument, message)
            })?;
            put_text(&mut out, &time.to_rfc3339());
        }
        other => put_value(&mut out, other)?,
    }
    Ok(out)
}

fn put_value(out: &mut String, value: &Value<'_>) -> Result<()> {
    match value {
        Value::Null | Value::UnixTimestamp(NOT_A_TIME) => out.push_str("null"),
        Value::Bool(flag) => out.push_str(&flag.to_string()),
        Value::Int32(number) => out.push_str(&number.to_string()),
        Value::Int64(number) | Value::UnixTimestamp(number) => out.push_str(&number.to_string()),
        Value::Double(number) => out.push_str(&float(*number)),
        Value::Float(number) => out.push_str(&float(f64::from(*number))),
        Value::Text(_, text) => put_text(out, text),
        Value::Bytes(bytes) => put_text(out, &BASE64_STANDARD.encode(bytes)),
        Value::ZonedTimestamp(seconds, zone) => {
            let mut text = Vec::new();
            print::zoned(&mut text, *seconds, zone);
            out.push_str(&String::from_utf8_lossy(&text));
        }
        Value::Items(_, items) | Value::Nested(_, items) => put_list(out, items, put_value)?,
        Value::Map(_, entries) => put_map(out, entries)?,
        Value::Maps(_, maps) => put_list(out, maps, |out, entries| put_map(out, entries))?,
        Value::ScalarMap(_) => {
            let message = "a SCALAR_MAP can't be pushed: its keys are no text";
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
    }
    Ok(())
}

fn put_list<T>(
    out: &mut String,
    items: &[T],
    put: impl Fn(&mut String, &T) -> Result<()>,
) -> Result<()> {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        put(out, item)?;
    }
    out.push(']');
    Ok(())
}

fn put_map(out: &mut String, entries: &[(std::borrow::Cow<'_, str>, Value<'_>)]) -> Result<()> {
    out.push('{');
    for (index, (key, value)) in entries.iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        put_text(out, key);
        out.push(':');
        put_value(out, value)?;
    }
    out.push('}');
    Ok(())
}

pub(super) fn put_text(out: &mut String, text: &str) {
    out.push_str(&Json::from(text).to_string());
}

/// As Python's JSON has it, which knows words for what JSON does not.
fn float(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        // With a point or an exponent: an integer is another type.
        _ => format!("{number:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: Value<'_>) -> String {
        of_value(&value).unwrap()
    }

    #[test]
    fn values_are_written_as_what_they_are() {
        assert_eq!(written(Value::Int64(i64::MIN)), "-9223372036854775808");
        assert_eq!(written(Value::Float(0.1)), "0.10000000149011612");
        assert_eq!(written(Value::Double(2.0)), "2.0");
        assert_eq!(written(Value::Double(f64::NEG_INFINITY)), "-Infinity");
        assert_eq!(written(Value::Text(ValueType::String, "\"ü".into())), "\"\\\"ü\"");
        assert_eq!(written(Value::Bytes(b"\xff"[..].into())), "\"/w==\"");
        assert_eq!(written(Value::UnixTimestamp(0)), "\"1970-01-01T00:00:00+00:00\"");
        assert_eq!(written(Value::UnixTimestamp(NOT_A_TIME)), "null");
        let times = vec![Value::UnixTimestamp(5), Value::UnixTimestamp(6)];
        assert_eq!(written(Value::Items(ValueType::UnixTimestampList, times)), "[5,6]");
        let map = Value::Map(ValueType::Map, vec![("a".into(), Value::Null)]);
        assert_eq!(written(map), "{\"a\":null}");
        assert!(of_value(&Value::UnixTimestamp(i64::MAX)).is_err());
        assert!(of_value(&Value::ScalarMap(Vec::new())).is_err());
    }

    #[test]
    fn text_is_what_its_column_says() {
        let of = |text: &str, value_type| of_text(text, Some(value_type));
        assert_eq!(of("1.5", ValueType::Double), "1.5");
        assert_eq!(of("1", ValueType::Double), "1.0");
        assert_eq!(of("one", ValueType::Double), "\"one\"");
        assert_eq!(of("True", ValueType::Bool), "true");
        assert_eq!(of("7", ValueType::String), "\"7\"");
        assert_eq!(of("[1, 2]", ValueType::Int64List), "[1, 2]");
        assert_eq!(of("7", ValueType::Int64List), "\"7\"");
        assert_eq!(of_text("7", None), "\"7\"");
    }

    #[test]
    fn a_row_is_a_frame_of_one() {
        let number = Value::Int64(7).to_bytes();
        let request = RowRequest { values: vec![("a\"", &number)], ..RowRequest::default() };
        assert_eq!(df(&request, &Types::new()).unwrap(), r#"{"a\"":[7]}"#);
        let request = RowRequest { values: vec![("a", &[0x20])], ..RowRequest::default() };
        assert!(df(&request, &Types::new()).unwrap_err().to_string().contains("'a'"));
        assert_eq!(df(&RowRequest::default(), &Types::new()).unwrap(), "{}");
    }
}
