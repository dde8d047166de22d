//! The target `requests`: bodies of requests for features, taken apart, compared with what
//! serde_json makes of them, converted to every type of key, and refused in JSON.
#![allow(clippy::panic, clippy::unwrap_used, reason = "what does not hold stops the fuzzer")]

use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::ask::{self, Ask, Features, Item, Values};
use super::entities::to_key;
use super::tokens::{Fault, Reader};
use super::validation;
use crate::value::ValueType;

/// The body of a request.
pub fn requests(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut reader = Reader::new(text);
    let read = reader.skip().and_then(|_| reader.end());
    let strict = serde_json::from_str::<Json>(text);
    match &read {
        Ok(()) => {
            // serde_json does not know the words, nor that much depth, nor numbers past f64.
            let has_words = ["NaN", "Infinity"].iter().any(|word| text.contains(word));
            let ignored = serde_json::from_str::<IgnoredAny>(reader_text(text));
            assert!(has_words || ignored.is_ok() || is_deep(text), "accepted, and no JSON");
        }
        Err(Fault::TooMuch) => {}
        Err(other) => assert!(strict.is_err(), "JSON, and refused: {other:?}"),
    }
    match ask::parse(text) {
        Ok(ask) => {
            assert!(read.is_ok());
            check(ask, strict.ok());
        }
        Err(fault) => {
            assert!(read.is_err() == (fault != Fault::Unexpected));
            let reply = validation::refuse(input, true);
            assert!(matches!(reply.status, 400 | 422));
            serde_json::from_slice::<IgnoredAny>(&reply.body).unwrap();
        }
    }
}

fn reader_text(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn is_deep(text: &str) -> bool {
    text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > 100
}

fn check(ask: Ask<'_>, json: Option<Json>) {
    if let Features::References(features) = &ask.features {
        let strict = serde_json::from_str::<Vec<String>>(features).ok();
        assert_eq!(ask::references(features), strict);
    }
    let columns = json.as_ref().and_then(|json| json.get("entities")).and_then(Json::as_object);
    if let Some(columns) = columns {
        assert_eq!(columns.len(), ask.entities.len());
    }
    for (name, values) in ask.entities {
        if let Some(column) = columns.and_then(|columns| columns.get(&*name)) {
            assert_values(&values, column.as_array().unwrap());
        }
        convert(values);
    }
}

/// serde_json has no negative zero among its integers.
fn is_integer(json: &Json, number: i64) -> bool {
    json.as_i64() == Some(number) || (number == 0 && json.as_f64() == Some(0.0))
}

fn assert_values(values: &Values, json: &[Json]) {
    assert_eq!(values.len(), json.len());
    match values {
        Values::Integers(values) => {
            assert!(values.iter().zip(json).all(|(one, json)| is_integer(json, *one)));
        }
        Values::Texts(values) => {
            assert!(values.iter().zip(json).all(|(one, json)| json.as_str() == one));
        }
        Values::Any(items) => {
            for (item, json) in items.iter().zip(json) {
                match item {
                    Item::Null => assert!(json.is_null()),
                    Item::Bool(flag) => assert_eq!(json.as_bool(), Some(*flag)),
                    Item::Integer(number) => assert!(is_integer(json, *number)),
                    Item::Text(text) => assert_eq!(json.as_str(), Some(text.as_str())),
                    Item::Big(_) | Item::Float(_) => assert!(json.is_number()),
                    Item::Nested(text) => {
                        assert_eq!(serde_json::from_str::<Json>(text).unwrap(), *json);
                    }
                }
            }
        }
        Values::Wire(_) => panic!("JSON has none"),
    }
}

/// To every type of key: all rows, or an error.
fn convert(values: Values) {
    let rows = values.len();
    let again = |values: &Values| match values {
        Values::Integers(values) => Values::Integers(values.clone()),
        Values::Texts(values) => Values::Texts(values.clone()),
        Values::Any(items) => Values::Any(items.clone()),
        Values::Wire(values) => Values::Wire(values.clone()),
    };
    let types = ValueType::ALL.iter().filter(|value_type| value_type.is_key());
    for value_type in types {
        if let Ok(column) = to_key(again(&values), *value_type, "k") {
            assert_eq!(column.len(), rows);
            assert!((0..rows).all(|row| !column.is_null(row)), "a key that is null");
        }
    }
}
