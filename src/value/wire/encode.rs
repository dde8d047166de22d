//! Trees to serialized values. The same tree always gives the same bytes: entries of maps
//! are sorted by key, for protobuf's own order is random.

use std::borrow::Cow;
use std::convert::Infallible;

use super::parse::{MAP_KEYS, is_packable};
use super::value::{Entries, Value};
use super::writer::{FIXED32, FIXED64, VARINT, put_message, put_sized, put_tag, put_varint};
use crate::value::ValueType;

impl Value<'_> {
    /// Appends the value, serialized as a `feast.types.Value`; nothing for `Null`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let field = self.value_type() as u32;
        match self {
            Value::Null => {}
            Value::ZonedTimestamp(seconds, zone) => {
                message(out, field, |out| put_zoned(out, *seconds, zone));
            }
            Value::Items(value_type, items) => {
                message(out, field, |out| put_items(out, *value_type, items));
            }
            Value::Map(_, entries) => message(out, field, |out| put_entries(out, entries)),
            Value::Maps(_, maps) => message(out, field, |out| {
                for entries in maps {
                    message(out, 1, |out| put_entries(out, entries));
                }
            }),
            Value::Nested(_, values) => message(out, field, |out| {
                for value in values {
                    message(out, 1, |out| value.encode(out));
                }
            }),
            Value::ScalarMap(entries) => message(out, field, |out| {
                for (key, value) in entries {
                    message(out, 1, |out| put_scalar_entry(out, key, value));
                }
            }),
            scalar => put_scalar(out, field, scalar),
        }
    }

    /// The value, serialized as a `feast.types.Value`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let done = put_message::<Infallible>(out, field, |out| {
        write(out);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

/// The fields of a `feast.types.ZonedTimestamp`: those of proto3, so zeros are left out.
pub(in crate::value) fn put_zoned(out: &mut Vec<u8>, seconds: i64, zone: &str) {
    if seconds != 0 {
        put_tag(out, 1, VARINT);
        put_varint(out, seconds as u64);
    }
    if !zone.is_empty() {
        put_sized(out, 2, zone.as_bytes());
    }
}

fn put_scalar(out: &mut Vec<u8>, field: u32, scalar: &Value<'_>) {
    match scalar {
        Value::Bytes(bytes) => put_sized(out, field, bytes),
        Value::Text(_, text) => put_sized(out, field, text.as_bytes()),
        Value::Double(_) => put_number(out, Some((field, FIXED64)), scalar),
        Value::Float(_) => put_number(out, Some((field, FIXED32)), scalar),
        _ => put_number(out, Some((field, VARINT)), scalar),
    }
}

fn put_number(out: &mut Vec<u8>, tag: Option<(u32, u32)>, number: &Value<'_>) {
    if let Some((field, wire_type)) = tag {
        put_tag(out, field, wire_type);
    }
    match number {
        // Negative int32 takes ten bytes, as protobuf has it.
        Value::Int32(number) => put_varint(out, i64::from(*number) as u64),
        Value::Int64(number) | Value::UnixTimestamp(number) => put_varint(out, *number as u64),
        Value::Bool(number) => put_varint(out, u64::from(*number)),
        // Python's protobuf has one NaN, whatever sign and payload it came with.
        Value::Double(number) if number.is_nan() => out.extend_from_slice(&f64::NAN.to_le_bytes()),
        Value::Float(number) if number.is_nan() => out.extend_from_slice(&f32::NAN.to_le_bytes()),
        Value::Double(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        _ => {}
    }
}

fn put_items(out: &mut Vec<u8>, value_type: ValueType, items: &[Value<'_>]) {
    let packs = value_type.element().is_some_and(is_packable);
    if packs && !items.is_empty() {
        return message(out, 1, |out| items.iter().for_each(|item| put_number(out, None, item)));
    }
    items.iter().for_each(|item| put_scalar(out, 1, item));
}

fn put_entries(out: &mut Vec<u8>, entries: &Entries<'_>) {
    let mut sorted: Vec<&(Cow<'_, str>, Value<'_>)> = entries.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (index, (key, value)) in sorted.iter().enumerate() {
        // A key that stands twice: the later value counts, as in a Python dict.
        if sorted.get(index + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        message(out, 1, |out| {
            put_sized(out, 1, key.as_bytes());
            message(out, 2, |out| value.encode(out));
        });
    }
}

fn put_scalar_entry(out: &mut Vec<u8>, key: &Value<'_>, value: &Value<'_>) {
    let key_type = key.value_type();
    message(out, 1, |out| {
        if let Some(index) = MAP_KEYS.iter().position(|value_type| *value_type == key_type) {
            put_scalar(out, index as u32 + 1, key);
        }
    });
    message(out, 2, |out| value.encode(out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_and_the_last_of_a_key_counts() {
        let entry = |key: &'static str, number| (Cow::Borrowed(key), Value::Int64(number));
        let map = Value::Map(ValueType::Map, vec![entry("b", 1), entry("a", 2), entry("b", 3)]);

        let sorted = Value::Map(ValueType::Map, vec![entry("a", 2), entry("b", 3)]);

        let bytes = map.to_bytes();
        assert_eq!(Value::parse(&bytes).unwrap(), sorted);
    }

    #[test]
    fn scalar_maps_keep_their_order() {
        let map = Value::ScalarMap(vec![
            (Value::Int64(2), Value::Null),
            (Value::Bool(true), Value::Double(0.5)),
        ]);

        assert_eq!(Value::parse(&map.to_bytes()).unwrap(), map);
    }
}
