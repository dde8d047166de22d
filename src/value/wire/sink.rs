//! Where decoded scalars are collected: plain vectors that become Arrow buffers. Knows
//! payloads; neither tags nor nulls.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray, TimestampSecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::reader::{Payload, Reader, malformed, text};
use crate::error::{Error, ErrorKind, Result};
use crate::value::ValueType;

/// The values of one scalar type.
#[derive(Debug)]
pub(super) enum Sink {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    UnixTimestamp(Vec<i64>),
    Double(Vec<f64>),
    Float(Vec<f32>),
    Bool(BooleanBufferBuilder),
    Text(Strings),
    Bytes(Strings),
}

impl Sink {
    /// For a scalar type other than ZONED_TIMESTAMP; `None` for every other type.
    pub(super) fn new(value_type: ValueType, rows: usize) -> Option<Self> {
        Some(match value_type {
            ValueType::Int32 => Sink::Int32(Vec::with_capacity(rows)),
            ValueType::Int64 => Sink::Int64(Vec::with_capacity(rows)),
            ValueType::UnixTimestamp => Sink::UnixTimestamp(Vec::with_capacity(rows)),
            ValueType::Double => Sink::Double(Vec::with_capacity(rows)),
            ValueType::Float => Sink::Float(Vec::with_capacity(rows)),
            ValueType::Bool => Sink::Bool(BooleanBufferBuilder::new(rows)),
            ValueType::Bytes => Sink::Bytes(Strings::new(rows)),
            ValueType::String
            | ValueType::Json
            | ValueType::Uuid
            | ValueType::TimeUuid
            | ValueType::Decimal => Sink::Text(Strings::new(rows)),
            _ => return None,
        })
    }

    /// Appends the value where `payload`, which is all that follows the tag, is what every
    /// writer makes of one. `false`, and nothing appended, where it is not.
    #[inline]
    pub(super) fn push_plain(&mut self, payload: &[u8]) -> bool {
        match self {
            Sink::Double(values) => match payload.try_into() {
                Ok(payload) => values.push(f64::from_le_bytes(payload)),
                Err(_) => return false,
            },
            Sink::Float(values) => match payload.try_into() {
                Ok(payload) => values.push(f32::from_le_bytes(payload)),
                Err(_) => return false,
            },
            Sink::Int64(values) => match lone_varint(payload) {
                Some(number) => values.push(number as i64),
                None => return false,
            },
            Sink::Int32(values) => match lone_varint(payload) {
                Some(number) => values.push(number as i32),
                None => return false,
            },
            Sink::Bool(values) => match payload {
                [0] => values.append(false),
                [1] => values.append(true),
                _ => return false,
            },
            Sink::UnixTimestamp(values) => match lone_varint(payload) {
                Some(number) if number as i64 != super::NOT_A_TIME => values.push(number as i64),
                _ => return false,
            },
            Sink::Text(values) => match lone_string(payload) {
                Some(bytes) if std::str::from_utf8(bytes).is_ok() => return values.push(bytes),
                _ => return false,
            },
            Sink::Bytes(values) => match lone_string(payload) {
                Some(bytes) => return values.push(bytes),
                None => return false,
            },
        }
        true
    }

    /// Appends values of a type of eight bytes, as memory holds them; other types take none.
    pub(super) fn extend_plain(&mut self, plain: &[u64]) {
        match self {
            Sink::Int64(values) | Sink::UnixTimestamp(values) => {
                values.extend(plain.iter().map(|bits| *bits as i64));
            }
            Sink::Double(values) => values.extend(plain.iter().map(|bits| f64::from_bits(*bits))),
            _ => {}
        }
    }

    /// Appends a value from its payload, whatever stood around it.
    pub(super) fn push(&mut self, payload: Payload<'_>) -> Result<()> {
        match (self, payload) {
            (Sink::Int32(values), Payload::Varint(number)) => values.push(number as i32),
            (Sink::Int64(values) | Sink::UnixTimestamp(values), Payload::Varint(number)) => {
                values.push(number as i64);
            }
            (Sink::Bool(values), Payload::Varint(number)) => values.append(number != 0),
            (Sink::Double(values), Payload::Fixed64(bytes)) => {
                values.push(f64::from_le_bytes(bytes));
            }
            (Sink::Float(values), Payload::Fixed32(bytes)) => {
                values.push(f32::from_le_bytes(bytes))
            }
            (Sink::Text(values), Payload::Bytes(bytes)) => {
                text(bytes)?;
                return values.require(bytes);
            }
            (Sink::Bytes(values), Payload::Bytes(bytes)) => return values.require(bytes),
            _ => return Err(malformed("the payload of a value")),
        }
        Ok(())
    }

    /// Appends the elements of a packed list.
    pub(super) fn push_packed(&mut self, packed: &[u8]) -> Result<()> {
        let mut reader = Reader::new(packed);
        match self {
            Sink::Double(values) => {
                values.reserve(packed.len() / 8);
                while !reader.is_empty() {
                    values.push(f64::from_le_bytes(reader.chunk()?));
                }
            }
            Sink::Float(values) => {
                values.reserve(packed.len() / 4);
                while !reader.is_empty() {
                    values.push(f32::from_le_bytes(reader.chunk()?));
                }
            }
            _ => {
                while !reader.is_empty() {
                    self.push(Payload::Varint(reader.varint()?))?;
                }
            }
        }
        Ok(())
    }

    /// Appends what fills a slot that is null.
    pub(super) fn push_filler(&mut self) {
        match self {
            Sink::Int32(values) => values.push(0),
            Sink::Int64(values) | Sink::UnixTimestamp(values) => values.push(0),
            Sink::Double(values) => values.push(0.0),
            Sink::Float(values) => values.push(0.0),
            Sink::Bool(values) => values.append(false),
            Sink::Text(values) | Sink::Bytes(values) => values.push_filler(),
        }
    }

    /// How many values.
    pub(super) fn len(&self) -> usize {
        match self {
            Sink::Int32(values) => values.len(),
            Sink::Int64(values) | Sink::UnixTimestamp(values) => values.len(),
            Sink::Double(values) => values.len(),
            Sink::Float(values) => values.len(),
            Sink::Bool(values) => values.len(),
            Sink::Text(values) | Sink::Bytes(values) => values.len(),
        }
    }

    /// Of timestamps that mean "none": which of those from `start` on are values. `None` where
    /// all are.
    pub(super) fn times_from(&self, start: usize) -> Option<impl Iterator<Item = bool> + '_> {
        match self {
            Sink::UnixTimestamp(values) => {
                let added = values.get(start..)?;
                let has_gap = added.contains(&super::NOT_A_TIME);
                has_gap.then(|| added.iter().map(|second| *second != super::NOT_A_TIME))
            }
            _ => None,
        }
    }

    /// The values as an Arrow array.
    pub(super) fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(match self {
            Sink::Int32(values) => {
                Arc::new(PrimitiveArray::<arrow_array::types::Int32Type>::new(values.into(), nulls))
            }
            Sink::Int64(values) => {
                Arc::new(PrimitiveArray::<arrow_array::types::Int64Type>::new(values.into(), nulls))
            }
            Sink::UnixTimestamp(values) => {
                Arc::new(TimestampSecondArray::new(values.into(), nulls).with_timezone("UTC"))
            }
            Sink::Double(values) => Arc::new(
                PrimitiveArray::<arrow_array::types::Float64Type>::new(values.into(), nulls),
            ),
            Sink::Float(values) => Arc::new(
                PrimitiveArray::<arrow_array::types::Float32Type>::new(values.into(), nulls),
            ),
            Sink::Bool(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Sink::Text(values) => {
                let (offsets, data) = values.finish();
                let array = StringArray::try_new(offsets, data, nulls).map_err(|source| {
                    Error::new(ErrorKind::Internal, "can't build a text column").with_source(source)
                })?;
                Arc::new(array)
            }
            Sink::Bytes(values) => values.into_binary(nulls),
        })
    }
}

/// Byte strings end to end, as Arrow has them.
#[derive(Debug)]
pub(super) struct Strings {
    offsets: Vec<i32>,
    data: Vec<u8>,
}

impl Strings {
    pub(super) fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Strings { offsets, data: Vec::with_capacity(rows * 8) }
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// `false`, and nothing appended, where the column would pass Arrow's 2 GiB.
    #[inline]
    fn push(&mut self, bytes: &[u8]) -> bool {
        match i32::try_from(self.data.len() + bytes.len()) {
            Ok(end) => {
                self.data.extend_from_slice(bytes);
                self.offsets.push(end);
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn require(&mut self, bytes: &[u8]) -> Result<()> {
        if self.push(bytes) {
            return Ok(());
        }
        let message = "a column of one response would be larger than 2 GiB; ask for fewer rows";
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }

    pub(super) fn push_filler(&mut self) {
        self.push(&[]);
    }

    fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), Buffer::from_vec(self.data))
    }

    pub(super) fn into_binary(self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (offsets, data) = self.finish();
        Arc::new(BinaryArray::new(offsets, data, nulls))
    }
}

/// The varint that fills `bytes`, if one does.
#[inline]
pub(super) fn lone_varint(bytes: &[u8]) -> Option<u64> {
    let mut number = 0u64;
    if bytes.len() > 10 {
        return None;
    }
    for (index, &byte) in bytes.iter().enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return (index + 1 == bytes.len()).then_some(number);
        }
    }
    None
}

/// The string, with its length before it, that fills `bytes`, if one does.
#[inline]
fn lone_string(bytes: &[u8]) -> Option<&[u8]> {
    let (&length, rest) = bytes.split_first()?;
    if length < 0x80 {
        return (rest.len() == usize::from(length)).then_some(rest);
    }
    let mut reader = Reader::new(bytes);
    let string = reader.sized().ok()?;
    reader.is_empty().then_some(string)
}
