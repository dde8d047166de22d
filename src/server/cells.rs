//! JSON values as values of a declared type: what Feast's server makes of the cells of a `df`
//! (pandas, Arrow and `feast/type_map.py::python_values_to_proto_values`), value by value. Must
//! not know columns.

use std::borrow::Cow;
use std::result::Result;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::iso;
use super::tokens::Number;
use super::tree::{Json, Member};
use crate::value::ValueType;
use crate::value::json::list as list_of;
use crate::value::text::python_float;
use crate::value::wire::{Entries, NOT_A_TIME, Value};

/// The value of `value_type` that `json` stands for; a null for what Feast stores as null. Or
/// why there is none.
pub(super) fn value(json: &Json<'_>, value_type: ValueType) -> Result<Value<'static>, String> {
    if is_null(json) {
        return Ok(Value::Null);
    }
    if let Some(element) = value_type.element() {
        return items(json, value_type, element);
    }
    match value_type {
        ValueType::Map | ValueType::Struct => {
            let parsed = parsed(json)?;
            Ok(Value::Map(value_type, entries(members(parsed.as_ref())?)?))
        }
        ValueType::MapList | ValueType::StructList => {
            let parsed = parsed(json)?;
            let Json::List(maps) = parsed.as_ref() else { return Err("it is no list".to_owned()) };
            let maps = maps.iter().map(|map| entries(members(map)?));
            Ok(Value::Maps(value_type, maps.collect::<Result<_, _>>()?))
        }
        ValueType::ScalarMap => match json {
            Json::Object(members) if members.is_empty() => Ok(Value::ScalarMap(Vec::new())),
            _ => Err("JSON has no maps with keys other than text".to_owned()),
        },
        ValueType::ValueList | ValueType::ValueSet => nested(json, value_type),
        _ => scalar(json, value_type),
    }
}

/// `null`, and NaN, which pandas takes for the same.
pub(super) fn is_null(json: &Json<'_>) -> bool {
    match json {
        Json::Null => true,
        Json::Number(Number::Float(number)) => number.is_nan(),
        _ => false,
    }
}

/// A scalar that is not null. Of some types, collections count as null, as in Feast.
pub(super) fn scalar(json: &Json<'_>, value_type: ValueType) -> Result<Value<'static>, String> {
    let is_collection = matches!(json, Json::List(_) | Json::Object(_));
    Ok(match value_type {
        ValueType::Int32
        | ValueType::Int64
        | ValueType::Float
        | ValueType::Double
        | ValueType::String
        | ValueType::Bool
        | ValueType::Bytes
            if is_collection =>
        {
            Value::Null
        }
        ValueType::Int32 => Value::Int32(integer(json)?.try_into().map_err(|_| out_of_range())?),
        ValueType::Int64 => Value::Int64(integer(json)?),
        ValueType::Float => Value::Float(float(json)? as f32),
        ValueType::Double => match json {
            Json::Number(number) => Value::Double(to_float(*number)),
            _ => return Err("it is no number".to_owned()),
        },
        ValueType::Bool => match json {
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(Number::Integer(number)) => Value::Bool(*number != 0),
            Json::Number(Number::Big(_)) => Value::Bool(true),
            _ => return Err("it is neither true, false nor an integer".to_owned()),
        },
        ValueType::Bytes => match json {
            Json::Text(text) => Value::Bytes(Cow::Owned(from_base64(text)?)),
            _ => return Err("it is no text in base64".to_owned()),
        },
        ValueType::String => Value::Text(value_type, Cow::Owned(text(json)?)),
        ValueType::Uuid | ValueType::TimeUuid | ValueType::Decimal => {
            Value::Text(value_type, Cow::Owned(identifier(json)?))
        }
        ValueType::Json => Value::Text(value_type, Cow::Owned(document(json)?)),
        ValueType::UnixTimestamp => Value::UnixTimestamp(seconds(json)?),
        ValueType::ZonedTimestamp => match json {
            Json::Text(text) => {
                let (seconds, zone) = iso::zoned(text)?;
                Value::ZonedTimestamp(seconds, Cow::Owned(zone))
            }
            _ => return Err("it is no time as text".to_owned()),
        },
        other => return Err(format!("JSON has nothing for the type {}", other.name())),
    })
}

/// Python's `int()`.
fn integer(json: &Json<'_>) -> Result<i64, String> {
    match json {
        Json::Number(Number::Integer(number)) => Ok(*number),
        Json::Number(Number::Float(number)) if number.is_finite() => {
            let whole = number.trunc();
            // The first double that is too large is 2^63.
            let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&whole);
            if fits { Ok(whole as i64) } else { Err(out_of_range()) }
        }
        Json::Number(_) => Err(out_of_range()),
        Json::Bool(flag) => Ok(i64::from(*flag)),
        Json::Text(text) => {
            let digits = without_underscores(text.trim());
            digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| "no integer".to_owned())
        }
        _ => Err("no integer".to_owned()),
    }
}

/// Python's `float()`.
fn float(json: &Json<'_>) -> Result<f64, String> {
    match json {
        Json::Number(number) => Ok(to_float(*number)),
        Json::Bool(flag) => Ok(f64::from(u8::from(*flag))),
        Json::Text(text) => {
            let digits = without_underscores(text.trim());
            let number = digits.and_then(|digits| digits.parse().ok());
            number.ok_or_else(|| "no number".to_owned())
        }
        _ => Err("no number".to_owned()),
    }
}

fn to_float(number: Number<'_>) -> f64 {
    match number {
        Number::Integer(number) => number as f64,
        // What JSON writes, Rust reads.
        Number::Big(digits) => digits.parse().unwrap_or(f64::INFINITY),
        Number::Float(number) => number,
    }
}

/// A number's text without the underscores that Python allows between digits; `None` where one
/// is elsewhere.
fn without_underscores(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('_') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let is_digit =
        |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let mut places = text.match_indices('_');
    places
        .all(|(at, _)| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)))
        .then(|| text.replace('_', "").into())
}

/// Python's `str()`.
fn text(json: &Json<'_>) -> Result<String, String> {
    Ok(match json {
        Json::Text(text) => text.to_string(),
        Json::Number(Number::Integer(number)) => number.to_string(),
        Json::Number(Number::Big(digits)) => (*digits).to_owned(),
        Json::Number(Number::Float(number)) => python_float(*number),
        Json::Bool(true) => "True".to_owned(),
        Json::Bool(false) => "False".to_owned(),
        _ => return Err("it is no text".to_owned()),
    })
}

/// Of numbers Feast takes only zero, in which it sees a default.
fn identifier(json: &Json<'_>) -> Result<String, String> {
    match json {
        Json::Text(text) => Ok(text.to_string()),
        Json::Number(Number::Integer(0)) => Ok("0".to_owned()),
        Json::Number(Number::Float(0.0)) => text(json),
        _ => Err("it is no text".to_owned()),
    }
}

/// A JSON document: text is one already, all else is written as `json.dumps` does.
fn document(json: &Json<'_>) -> Result<String, String> {
    match json {
        Json::Text(text) => match Json::parse(text) {
            Ok(_) => Ok(text.to_string()),
            Err(_) => Err("the text is no JSON".to_owned()),
        },
        other => {
            let mut out = String::new();
            dump(other, &mut out);
            Ok(out)
        }
    }
}

/// `json.dumps`: a space after each comma and colon, ASCII only.
fn dump(json: &Json<'_>, out: &mut String) {
    match json {
        Json::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                dump(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                dump_text(key, out);
                out.push_str(": ");
                dump(value, out);
            }
            out.push('}');
        }
        Json::Text(text) => dump_text(text, out),
        Json::Number(Number::Float(number)) if !number.is_finite() => {
            let sign = if *number < 0.0 { "-" } else { "" };
            out.push_str(sign);
            out.push_str(if number.is_nan() { "NaN" } else { "Infinity" });
        }
        other => other.write(out),
    }
}

fn dump_text(text: &str, out: &mut String) {
    let quoted = serde_json::Value::from(text).to_string();
    for char in quoted.chars() {
        match char.is_ascii() {
            true => out.push(char),
            false => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
}

/// Whole seconds since the epoch: a number, floored; its text; a time in ISO 8601.
fn seconds(json: &Json<'_>) -> Result<i64, String> {
    match json {
        Json::Number(Number::Float(number)) => {
            integer(&Json::Number(Number::Float(number.floor())))
        }
        Json::Text(text) => {
            integer(json).or_else(|_| Ok(iso::instant(text)?.micros.div_euclid(1_000_000)))
        }
        _ => integer(json),
    }
}

fn items(
    json: &Json<'_>,
    value_type: ValueType,
    element: ValueType,
) -> Result<Value<'static>, String> {
    let Json::List(items) = json else { return Err("it is no list".to_owned()) };
    let are_nulls = items.iter().all(|item| matches!(item, Json::Null));
    let convert = |item: &Json<'_>| item_value(item, element, are_nulls);
    let mut found = items.iter().map(convert).collect::<Result<Vec<_>, _>>()?;
    if value_type.is_set() {
        found.sort_by_cached_key(Value::to_bytes);
        found.dedup_by_key(|item| item.to_bytes());
    }
    Ok(Value::Items(value_type, found))
}

/// An element of a list, of which Feast takes only what has the type already.
fn item_value(
    item: &Json<'_>,
    element: ValueType,
    are_nulls: bool,
) -> Result<Value<'static>, String> {
    match (element, item) {
        (_, Json::Null) => no_item(element, are_nulls),
        (ValueType::Float, Json::Number(number)) => Ok(Value::Float(to_float(*number) as f32)),
        (ValueType::Double, Json::Number(number)) => Ok(Value::Double(to_float(*number))),
        (ValueType::Int32 | ValueType::Int64, Json::Number(Number::Integer(_)))
        | (ValueType::Bool, Json::Bool(_))
        | (
            ValueType::String
            | ValueType::Bytes
            | ValueType::Uuid
            | ValueType::TimeUuid
            | ValueType::Decimal,
            Json::Text(_),
        )
        | (ValueType::UnixTimestamp, Json::Number(_) | Json::Text(_))
        | (ValueType::Json, _) => scalar(item, element),
        (ValueType::Int32 | ValueType::Int64, Json::Number(Number::Big(_))) => Err(out_of_range()),
        _ => {
            let mut text = String::new();
            item.write(&mut text);
            Err(format!("its element {} is no {}", shortened(&text), element.name()))
        }
    }
}

/// What Feast stores for a null in a list.
fn no_item(element: ValueType, are_nulls: bool) -> Result<Value<'static>, String> {
    let nothing = if are_nulls { 0.0 } else { f64::NAN };
    Ok(match element {
        ValueType::Float => Value::Float(nothing as f32),
        ValueType::Double => Value::Double(nothing),
        ValueType::String => Value::Text(element, Cow::Borrowed("")),
        ValueType::Json => Value::Text(element, Cow::Borrowed("null")),
        ValueType::Bytes => Value::Bytes(Cow::Borrowed(&[])),
        ValueType::Bool => Value::Bool(false),
        ValueType::UnixTimestamp => Value::UnixTimestamp(NOT_A_TIME),
        _ => return Err("it has a null among its elements".to_owned()),
    })
}

fn nested(json: &Json<'_>, value_type: ValueType) -> Result<Value<'static>, String> {
    let Json::List(lists) = json else { return Err("it is no list".to_owned()) };
    let list = |list: &Json<'_>| match list {
        Json::Null | Json::List(_) => inferred(list),
        _ => Err("it has an element that is no list".to_owned()),
    };
    Ok(Value::Nested(value_type, lists.iter().map(list).collect::<Result<_, _>>()?))
}

fn members<'j, 'a>(json: &'j Json<'a>) -> Result<&'j [Member<'a>], String> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err("it is no object".to_owned()),
    }
}

fn entries(members: &[Member<'_>]) -> Result<Entries<'static>, String> {
    let entry = |(key, item): &Member<'_>| Ok((Cow::Owned(key.to_string()), inferred(item)?));
    members.iter().map(entry).collect()
}

/// A value within a map, whose type nobody declared.
fn inferred(json: &Json<'_>) -> Result<Value<'static>, String> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(Number::Integer(number)) => Value::Int64(*number),
        Json::Number(Number::Float(number)) => Value::Double(*number),
        Json::Number(Number::Big(digits)) => {
            return Err(format!("{} does not fit INT64", shortened(digits)));
        }
        Json::Text(text) => Value::Text(ValueType::String, Cow::Owned(text.to_string())),
        Json::Object(members) => Value::Map(ValueType::Map, entries(members)?),
        Json::List(items) => inferred_list(items)?,
    })
}

/// Of numbers of both kinds, and of nulls among others, Arrow makes one kind before Feast sees
/// them.
fn inferred_list(items: &[Json<'_>]) -> Result<Value<'static>, String> {
    let element = items.iter().find_map(|item| match item {
        Json::Text(_) => Some(ValueType::String),
        Json::Bool(_) => Some(ValueType::Bool),
        Json::Number(_) => Some(ValueType::Double),
        _ => None,
    });
    let are_integers = items.iter().all(|item| matches!(item, Json::Number(Number::Integer(_))));
    match element.and_then(ValueType::list_of) {
        Some(list_type) if !are_integers => self::items(
            &Json::List(items.to_vec()),
            list_type,
            list_type.element().unwrap_or(ValueType::Double),
        ),
        _ => list_of(items.iter().map(inferred).collect::<Result<_, _>>()?),
    }
}

/// Text is read as JSON, as Feast does for maps.
fn parsed<'j>(json: &'j Json<'j>) -> Result<Cow<'j, Json<'j>>, String> {
    match json {
        Json::Text(text) => match Json::parse(text) {
            Ok(parsed) => Ok(Cow::Owned(parsed)),
            Err(_) => Err("the text is no JSON".to_owned()),
        },
        other => Ok(Cow::Borrowed(other)),
    }
}

fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|_| "the text is no base64".to_owned())
}

/// The beginning of a value's text, for messages.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cold]
fn out_of_range() -> String {
    "it is out of range".to_owned()
}
