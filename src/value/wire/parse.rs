//! Serialized values to trees. Unknown fields are skipped, the last case of the oneof wins,
//! packed and unpacked numbers are both taken, and depth has a limit.

use std::borrow::Cow;

use super::reader::{Payload, Reader, malformed, text};
use super::value::{Entries, Value};
use crate::error::Result;
use crate::value::ValueType;

// Protobuf's own limit for messages within messages.
const MAX_DEPTH: usize = 100;

impl<'a> Value<'a> {
    /// Reads one serialized `feast.types.Value`. Bytes that are none give an error of kind
    /// `StoreInvalid`.
    ///
    /// ```
    /// use feastrs::value::wire::Value;
    ///
    /// assert_eq!(Value::parse(&[0x20, 5]).unwrap(), Value::Int64(5));
    /// assert_eq!(Value::parse(&[]).unwrap(), Value::Null);
    /// ```
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        value(bytes, MAX_DEPTH)
    }
}

/// The case of the oneof that counts (the last that stands there) with its payload, not yet
/// looked into; `None` for a value that is not set.
pub(super) fn last_case(bytes: &[u8]) -> Result<Option<(ValueType, Payload<'_>)>> {
    let mut reader = Reader::new(bytes);
    let mut last = None;
    while let Some((number, payload)) = reader.field()? {
        if let Some(value_type) = i32::try_from(number).ok().and_then(ValueType::from_number) {
            last = Some((value_type, payload));
        }
    }
    Ok(last)
}

fn value(bytes: &[u8], depth: usize) -> Result<Value<'_>> {
    if depth == 0 {
        return Err(malformed("nesting (deeper than 100 levels)"));
    }
    let Some((value_type, payload)) = last_case(bytes)? else { return Ok(Value::Null) };
    if value_type.element().is_some() {
        return items(value_type, sized(payload)?);
    }
    Ok(match value_type {
        ValueType::Map | ValueType::Struct => {
            Value::Map(value_type, entries(sized(payload)?, depth)?)
        }
        ValueType::MapList | ValueType::StructList => {
            let maps = messages(sized(payload)?, |bytes| entries(bytes, depth - 1))?;
            Value::Maps(value_type, maps)
        }
        ValueType::ValueList | ValueType::ValueSet => {
            Value::Nested(value_type, messages(sized(payload)?, |bytes| value(bytes, depth - 1))?)
        }
        ValueType::ScalarMap => {
            Value::ScalarMap(messages(sized(payload)?, |bytes| scalar_entry(bytes, depth))?)
        }
        ValueType::ZonedTimestamp => {
            let (seconds, zone) = zoned(sized(payload)?)?;
            Value::ZonedTimestamp(seconds, Cow::Borrowed(zone))
        }
        _ => scalar(value_type, payload)?,
    })
}

/// A scalar of `value_type`, from its payload.
fn scalar<'a>(value_type: ValueType, payload: Payload<'a>) -> Result<Value<'a>> {
    Ok(match (value_type, payload) {
        (ValueType::Null, Payload::Varint(_)) => Value::Null,
        (ValueType::Bytes, Payload::Bytes(bytes)) => Value::Bytes(Cow::Borrowed(bytes)),
        (ValueType::Int32, Payload::Varint(number)) => Value::Int32(number as i32),
        (ValueType::Int64, Payload::Varint(number)) => Value::Int64(number as i64),
        (ValueType::UnixTimestamp, Payload::Varint(number)) => Value::UnixTimestamp(number as i64),
        (ValueType::Bool, Payload::Varint(number)) => Value::Bool(number != 0),
        (ValueType::Double, Payload::Fixed64(bytes)) => Value::Double(f64::from_le_bytes(bytes)),
        (ValueType::Float, Payload::Fixed32(bytes)) => Value::Float(f32::from_le_bytes(bytes)),
        (
            ValueType::String
            | ValueType::Json
            | ValueType::Uuid
            | ValueType::TimeUuid
            | ValueType::Decimal,
            Payload::Bytes(bytes),
        ) => Value::Text(value_type, Cow::Borrowed(text(bytes)?)),
        _ => return Err(malformed(value_type.name())),
    })
}

fn sized(payload: Payload<'_>) -> Result<&[u8]> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        _ => Err(malformed("a message")),
    }
}

/// Field 1 of a message, each time that it stands there.
fn messages<'a, T>(bytes: &'a [u8], mut read: impl FnMut(&'a [u8]) -> Result<T>) -> Result<Vec<T>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some((number, payload)) = reader.field()? {
        if number == 1 {
            found.push(read(sized(payload)?)?);
        }
    }
    Ok(found)
}

fn items(value_type: ValueType, bytes: &[u8]) -> Result<Value<'_>> {
    let element = value_type.element().unwrap_or(ValueType::Invalid);
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some((number, payload)) = reader.field()? {
        match payload {
            _ if number != 1 => {}
            Payload::Bytes(packed) if is_packable(element) => {
                let mut packed = Reader::new(packed);
                while !packed.is_empty() {
                    found.push(scalar(element, packed_payload(element, &mut packed)?)?);
                }
            }
            payload => found.push(scalar(element, payload)?),
        }
    }
    Ok(Value::Items(value_type, found))
}

/// Whether repeated elements of this type stand packed.
pub(super) fn is_packable(element: ValueType) -> bool {
    matches!(
        element,
        ValueType::Int32
            | ValueType::Int64
            | ValueType::Double
            | ValueType::Float
            | ValueType::Bool
            | ValueType::UnixTimestamp
    )
}

fn packed_payload<'a>(element: ValueType, packed: &mut Reader<'a>) -> Result<Payload<'a>> {
    Ok(match element {
        ValueType::Double => Payload::Fixed64(packed.chunk()?),
        ValueType::Float => Payload::Fixed32(packed.chunk()?),
        _ => Payload::Varint(packed.varint()?),
    })
}

fn entries(bytes: &[u8], depth: usize) -> Result<Entries<'_>> {
    messages(bytes, |bytes| {
        let (mut key, mut item) = ("", &[][..]);
        let mut reader = Reader::new(bytes);
        while let Some((number, payload)) = reader.field()? {
            match number {
                1 => key = text(sized(payload)?)?,
                2 => item = sized(payload)?,
                _ => {}
            }
        }
        Ok((Cow::Borrowed(key), value(item, depth.saturating_sub(1))?))
    })
}

fn scalar_entry(bytes: &[u8], depth: usize) -> Result<(Value<'_>, Value<'_>)> {
    let (mut key, mut item) = (Value::Null, &[][..]);
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        match number {
            1 => key = map_key(sized(payload)?)?,
            2 => item = sized(payload)?,
            _ => {}
        }
    }
    Ok((key, value(item, depth - 1)?))
}

/// The types of `feast.types.MapKey`, by the number of their field less one.
pub(super) const MAP_KEYS: [ValueType; 10] = [
    ValueType::Int32,
    ValueType::Int64,
    ValueType::Float,
    ValueType::Double,
    ValueType::Bool,
    ValueType::UnixTimestamp,
    ValueType::Bytes,
    ValueType::Uuid,
    ValueType::TimeUuid,
    ValueType::Decimal,
];

fn map_key(bytes: &[u8]) -> Result<Value<'_>> {
    let mut reader = Reader::new(bytes);
    let mut key = Value::Null;
    while let Some((number, payload)) = reader.field()? {
        let index = number as usize - 1;
        if let Some(value_type) = MAP_KEYS.get(index) {
            key = scalar(*value_type, payload)?;
        }
    }
    Ok(key)
}

/// Seconds and zone of a `feast.types.ZonedTimestamp`.
pub(super) fn zoned(bytes: &[u8]) -> Result<(i64, &str)> {
    let (mut seconds, mut zone) = (0, "");
    let mut reader = Reader::new(bytes);
    while let Some((number, payload)) = reader.field()? {
        match (number, payload) {
            (1, Payload::Varint(number)) => seconds = number as i64,
            (2, Payload::Bytes(bytes)) => zone = text(bytes)?,
            (1 | 2, _) => return Err(malformed("a zoned timestamp")),
            _ => {}
        }
    }
    Ok((seconds, zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_case_wins_and_unknown_fields_are_skipped() {
        let bytes = [0x20, 5, 0xfa, 0x3f, 1, 9, 0x12, 1, b'x'];

        let parsed = Value::parse(&bytes).unwrap();

        assert_eq!(parsed, Value::Text(ValueType::String, Cow::Borrowed("x")));
    }

    #[test]
    fn packed_and_unpacked_numbers_are_the_same() {
        let packed = Value::parse(&[0x72, 4, 0x0a, 2, 1, 2]).unwrap();
        let unpacked = Value::parse(&[0x72, 4, 0x08, 1, 0x08, 2]).unwrap();

        assert_eq!(packed, unpacked);
    }

    #[test]
    fn too_deep_is_an_error_and_no_overflow() {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            let mut outer = Vec::new();
            super::super::writer::put_message(&mut outer, 42, |out| {
                super::super::writer::put_sized(out, 1, &bytes);
                Ok::<(), ()>(())
            })
            .unwrap();
            bytes = outer;
        }

        assert!(Value::parse(&bytes).is_err());
    }
}
