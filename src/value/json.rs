//! Values as JSON text, and JSON text as values. Knows value trees; must not know columns.
//!
//! Numbers are numbers (NaN and infinities the strings "NaN", "Infinity", "-Infinity"), bytes
//! are base64, times ISO-8601 in UTC, UUIDs, decimals and JSON documents strings.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value as Json;

use super::ValueType;
use super::text::{iso_time, python_float};
use super::wire::{Entries, NOT_A_TIME, Value};

/// The value as compact JSON text.
///
/// ```
/// use feastrs::value::{json::to_text, wire::Value};
///
/// assert_eq!(to_text(&Value::Double(0.5)), "0.5");
/// ```
pub fn to_text(value: &Value<'_>) -> String {
    let mut writer = Writer { out: String::new(), style: Style::Compact };
    writer.value(value);
    writer.out
}

/// The value as `json.dumps` writes it: a space after each comma and colon, ASCII only.
pub(crate) fn to_python_text(value: &Value<'_>) -> String {
    let mut writer = Writer { out: String::new(), style: Style::Python };
    writer.value(value);
    writer.out
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    Compact,
    Python,
}

struct Writer {
    out: String,
    style: Style,
}

impl Writer {
    fn value(&mut self, value: &Value<'_>) {
        match value {
            Value::Null | Value::UnixTimestamp(NOT_A_TIME) => self.out.push_str("null"),
            Value::Bool(bool) => self.out.push_str(if *bool { "true" } else { "false" }),
            Value::Int32(number) => self.number(*number),
            Value::Int64(number) => self.number(*number),
            Value::Double(number) => self.float(*number, python_float(*number)),
            Value::Float(number) => self.float(f64::from(*number), number.to_string()),
            Value::Text(_, text) => self.string(text),
            Value::Bytes(bytes) => self.string(&base64(bytes)),
            Value::UnixTimestamp(seconds) => self.string(&iso_time(*seconds)),
            Value::ZonedTimestamp(seconds, zone) => {
                let time = iso_time(*seconds);
                self.string(&if zone.is_empty() { time } else { format!("{time}[{zone}]") });
            }
            Value::Items(_, items) | Value::Nested(_, items) => {
                self.list(items, |writer, item| writer.value(item));
            }
            Value::Map(_, entries) => self.entries(entries),
            Value::Maps(_, maps) => self.list(maps, |writer, entries| writer.entries(entries)),
            Value::ScalarMap(entries) => self.object(entries.iter().map(|(key, value)| {
                let text = to_text(key);
                (Cow::Owned(text.trim_matches('"').to_owned()), value)
            })),
        }
    }

    fn number(&mut self, number: impl std::fmt::Display) {
        // Writing to a String does not fail.
        let _ = write!(self.out, "{number}");
    }

    fn float(&mut self, number: f64, text: String) {
        if number.is_finite() {
            return self.out.push_str(&text);
        }
        let word = match (number.is_nan(), number > 0.0) {
            (true, _) => "NaN",
            (_, true) => "Infinity",
            _ => "-Infinity",
        };
        match self.style {
            Style::Compact => self.string(word),
            Style::Python => self.out.push_str(word),
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for char in text.chars() {
            match char {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..' ' => self.escape(char),
                '\u{7f}'.. if self.style == Style::Python && char != '\u{7f}' => self.escape(char),
                _ => self.out.push(char),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, char: char) {
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a String does not fail.
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.out.push('[');
        for (index, item) in items.iter().enumerate() {
            self.comma(index);
            write(self, item);
        }
        self.out.push(']');
    }

    fn entries(&mut self, entries: &Entries<'_>) {
        self.object(entries.iter().map(|(key, value)| (Cow::Borrowed(key.as_ref()), value)));
    }

    fn object<'a>(&mut self, entries: impl Iterator<Item = (Cow<'a, str>, &'a Value<'a>)>) {
        self.out.push('{');
        for (index, (key, value)) in entries.enumerate() {
            self.comma(index);
            self.string(&key);
            self.out.push_str(if self.style == Style::Python { ": " } else { ":" });
            self.value(value);
        }
        self.out.push('}');
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.out.push_str(if self.style == Style::Python { ", " } else { "," });
        }
    }
}

/// The bytes in base64: standard alphabet, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let padded = [0, 1, 2].map(|index| chunk.get(index).copied().unwrap_or(0));
        let [a, b, c] = padded.map(u32::from);
        let bits = a << 16 | b << 8 | c;
        for position in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * position) & 63) as usize];
            text.push(if position > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

/// JSON text as the value that Feast infers for what `json.loads` gives.
pub(crate) fn parse(text: &str) -> Result<Value<'static>, String> {
    infer(serde_json::from_str(text).map_err(|why| format!("not JSON ({why})"))?)
}

fn infer(json: Json) -> Result<Value<'static>, String> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(bool),
        Json::String(text) => Value::Text(ValueType::String, Cow::Owned(text)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int64(number),
            (None, Some(float)) if number.is_f64() => Value::Double(float),
            _ => return Err(format!("{number} does not fit INT64")),
        },
        Json::Object(object) => {
            let entry = |(key, value)| Ok((Cow::Owned(key), infer(value)?));
            let entries = object.into_iter().map(entry).collect::<Result<_, String>>()?;
            Value::Map(ValueType::Map, entries)
        }
        Json::Array(items) => list(items.into_iter().map(infer).collect::<Result<_, String>>()?)?,
    })
}

/// A list as Feast infers it from its elements: of maps, of lists, or of one scalar type. An
/// empty one, for which Feast has no type, is an empty list of values.
pub(crate) fn list(items: Vec<Value<'static>>) -> Result<Value<'static>, String> {
    let Some(first) = items.first().map(Value::value_type) else {
        return Ok(Value::Nested(ValueType::ValueList, items));
    };
    if matches!(first, ValueType::Map) {
        let entries = |item| match item {
            Value::Map(_, entries) => Ok(entries),
            _ => Err("a list of maps with an element that is none".to_owned()),
        };
        let maps = items.into_iter().map(entries).collect::<Result<_, String>>()?;
        return Ok(Value::Maps(ValueType::MapList, maps));
    }
    let Some(list_type) = first.list_of() else {
        return Ok(Value::Nested(ValueType::ValueList, items));
    };
    match items.iter().find(|item| item.value_type() != first) {
        None => Ok(Value::Items(list_type, items)),
        Some(other) => Err(format!(
            "a list with elements of type {} and {}",
            first.name(),
            other.value_type().name()
        )),
    }
}

/// JSON text as a list or set of scalars of `value_type`.
pub(super) fn parse_list(text: &str, value_type: ValueType) -> Result<Value<'static>, String> {
    let json: Json = serde_json::from_str(text).map_err(|why| format!("not JSON ({why})"))?;
    let Json::Array(items) = json else { return Err("not a JSON list".to_owned()) };
    let element = value_type.element().unwrap_or(ValueType::Invalid);
    let items = items.into_iter().map(|item| scalar(item, element));
    Ok(Value::Items(value_type, items.collect::<Result<_, String>>()?))
}

fn scalar(json: Json, element: ValueType) -> Result<Value<'static>, String> {
    let refused = || format!("an element that is no {}", element.name());
    let int = || json.as_i64().ok_or_else(refused);
    Ok(match element {
        ValueType::Int64 => Value::Int64(int()?),
        ValueType::UnixTimestamp => Value::UnixTimestamp(int()?),
        ValueType::Int32 => Value::Int32(int()?.try_into().map_err(|_| refused())?),
        ValueType::Double => Value::Double(json.as_f64().ok_or_else(refused)?),
        ValueType::Float => Value::Float(json.as_f64().ok_or_else(refused)? as f32),
        ValueType::Bool => Value::Bool(json.as_bool().ok_or_else(refused)?),
        ValueType::Json => Value::Text(element, Cow::Owned(json.to_string())),
        ValueType::Bytes => return Err(refused()),
        _ => match json {
            Json::String(text) => Value::Text(element, Cow::Owned(text)),
            _ => return Err(refused()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_become_json() {
        let value = parse(r#"{"b":[1,2],"a":{"x":null,"t":"é"},"m":[{"q":1.5}],"e":[]}"#).unwrap();

        let text = to_text(&value);

        assert_eq!(
            serde_json::from_str::<Json>(&text).unwrap(),
            serde_json::from_str::<Json>(
                r#"{"b":[1,2],"a":{"x":null,"t":"é"},"m":[{"q":1.5}],"e":[]}"#
            )
            .unwrap()
        );
        assert_eq!(
            to_python_text(&Value::Text(ValueType::String, "é😀".into())),
            r#""\u00e9\ud83d\ude00""#
        );
    }

    #[test]
    fn bytes_are_base64_and_nan_is_a_string() {
        assert_eq!(base64(b""), "");
        assert_eq!(base64(b"a"), "YQ==");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"abc"), "YWJj");
        assert_eq!(to_text(&Value::Double(f64::NAN)), "\"NaN\"");
    }

    #[test]
    fn mixed_lists_are_refused() {
        assert!(parse("[1, \"a\"]").unwrap_err().contains("INT64 and STRING"));
    }
}
