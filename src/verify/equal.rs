//! Whether two serialized values are the same value, where their bytes are not.

use super::report::Problem;
use crate::value::ValueType;
use crate::value::wire::{NOT_A_TIME, Value};

/// How `online` differs from `source`; `None`: they are the same value. The order of the entries
/// of maps and of the elements of sets says nothing (stock Feast writes it at random), nor does
/// the sign or payload of a NaN, nor in which of its forms a null is stored, nor that older Feast
/// stored UUIDs as plain text.
#[cold]
pub(super) fn problem(source: &[u8], online: Option<&[u8]>) -> Option<Problem> {
    let Some(online) = online else { return Some(Problem::Absent) };
    let (Ok(source), Ok(online)) = (Value::parse(source), Value::parse(online)) else {
        return Some(Problem::Undecodable);
    };
    let (source, online) = (plain(source), plain(online));
    if source.to_bytes() == online.to_bytes() {
        return None;
    }
    let (expected, found) = (source.value_type(), online.value_type());
    let is_null = |value_type| value_type == ValueType::Null;
    match expected == found || is_null(expected) || is_null(found) {
        true => Some(Problem::Value),
        false => Some(Problem::Type),
    }
}

/// The same value with what has no order in order. Entries of maps are sorted when they are
/// serialized.
fn plain(value: Value<'_>) -> Value<'_> {
    match value {
        Value::UnixTimestamp(NOT_A_TIME) | Value::ZonedTimestamp(NOT_A_TIME, _) => Value::Null,
        Value::Text(ValueType::Uuid | ValueType::TimeUuid, text) => {
            Value::Text(ValueType::String, text)
        }
        Value::Items(value_type, items) => {
            let items = items.into_iter().map(plain).collect();
            Value::Items(
                as_text(value_type),
                if value_type.is_set() { sorted(items) } else { items },
            )
        }
        Value::Nested(value_type, values) => {
            let values = values.into_iter().map(plain).collect();
            match value_type {
                ValueType::ValueSet => Value::Nested(value_type, sorted(values)),
                _ => Value::Nested(value_type, values),
            }
        }
        Value::Map(value_type, entries) => {
            let entries = entries.into_iter().map(|(key, value)| (key, plain(value)));
            Value::Map(value_type, entries.collect())
        }
        Value::Maps(value_type, maps) => {
            let entries = maps.into_iter().map(|entries| {
                entries.into_iter().map(|(key, value)| (key, plain(value))).collect()
            });
            Value::Maps(value_type, entries.collect())
        }
        Value::ScalarMap(entries) => {
            let mut entries: Vec<_> =
                entries.into_iter().map(|(key, value)| (key, plain(value))).collect();
            entries.sort_by_cached_key(|(key, _)| key.to_bytes());
            Value::ScalarMap(entries)
        }
        other => other,
    }
}

fn as_text(uuids: ValueType) -> ValueType {
    match uuids {
        ValueType::UuidList | ValueType::TimeUuidList => ValueType::StringList,
        ValueType::UuidSet | ValueType::TimeUuidSet => ValueType::StringSet,
        other => other,
    }
}

fn sorted(mut values: Vec<Value<'_>>) -> Vec<Value<'_>> {
    values.sort_by_cached_key(Value::to_bytes);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn of(source: &Value<'_>, online: &Value<'_>) -> Option<Problem> {
        problem(&source.to_bytes(), Some(&online.to_bytes()))
    }

    #[test]
    fn what_has_no_order_is_compared_without() {
        let set = |items: &[i64]| {
            let items = items.iter().map(|item| Value::Int64(*item)).collect();
            Value::Items(ValueType::Int64Set, items)
        };
        let entry = |key: &'static str, value: Value<'static>| (Cow::Borrowed(key), value);
        let map = |items: &[i64]| {
            Value::Map(ValueType::Map, vec![entry("a", set(items)), entry("b", Value::Null)])
        };
        assert_eq!(of(&set(&[1, 2]), &set(&[2, 1])), None);
        assert_eq!(of(&set(&[1, 2]), &set(&[2, 3])), Some(Problem::Value));
        assert_eq!(of(&map(&[1, 2]), &map(&[2, 1])), None);
        let list = |items: &[i64]| match set(items) {
            Value::Items(_, items) => Value::Items(ValueType::Int64List, items),
            other => other,
        };
        assert_eq!(of(&list(&[1, 2]), &list(&[2, 1])), Some(Problem::Value));
        let pairs = |keys: [i64; 2]| {
            Value::ScalarMap(keys.map(|key| (Value::Int64(key), Value::Bool(key > 1))).to_vec())
        };
        assert_eq!(of(&pairs([1, 2]), &pairs([2, 1])), None);
    }

    #[test]
    fn problems_are_told_apart() {
        let five = Value::Int64(5);
        assert_eq!(of(&five, &Value::Int64(6)), Some(Problem::Value));
        assert_eq!(of(&five, &Value::Int32(5)), Some(Problem::Type));
        assert_eq!(of(&five, &Value::Null), Some(Problem::Value));
        assert_eq!(problem(&five.to_bytes(), None), Some(Problem::Absent));
        assert_eq!(problem(&[], None), Some(Problem::Absent));
        assert_eq!(problem(&five.to_bytes(), Some(&[0xff])), Some(Problem::Undecodable));
        // `null_val`, and the time that stands for none.
        assert_eq!(problem(&[], Some(&[0x98, 1, 0])), None);
        assert_eq!(of(&Value::UnixTimestamp(NOT_A_TIME), &Value::Null), None);
        let minus_nan = [&[0x29][..], &(-f64::NAN).to_le_bytes()].concat();
        assert_eq!(problem(&Value::Double(f64::NAN).to_bytes(), Some(&minus_nan)), None);
        assert_eq!(of(&Value::Double(0.0), &Value::Double(-0.0)), Some(Problem::Value));
        let text = |value_type| Value::Text(value_type, Cow::Borrowed("x"));
        assert_eq!(of(&text(ValueType::Uuid), &text(ValueType::String)), None);
        assert_eq!(of(&text(ValueType::Json), &text(ValueType::String)), Some(Problem::Type));
    }
}
