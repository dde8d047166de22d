//! Serialized values to typed columns, straight from the receive buffer.

use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, StructArray, TimestampSecondArray};
use arrow_buffer::{NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::Field;

use super::parse::{last_case, zoned};
use super::reader::{Payload, Reader, malformed};
use super::sink::{Sink, Strings};
use super::writer::{FIXED32, FIXED64, SIZED, VARINT, put_tag};
use crate::error::{Error, ErrorKind, Result};
use crate::value::column::{arrow_type, zoned_fields};
use crate::value::{Column, Layout, ValueType, arrow};

/// Collects serialized values into one column. It begins in typed layout and turns to wire
/// layout at the first value of another type than declared, so that every value comes back as
/// the one that was stored.
///
/// ```
/// use feastrs::value::ValueType;
/// use feastrs::value::wire::{ColumnDecoder, Decoded};
///
/// let mut decoder = ColumnDecoder::new(ValueType::Int64, 2);
/// assert_eq!(decoder.push(&[0x20, 5]).unwrap(), Decoded::Present);
/// assert_eq!(decoder.push(&[]).unwrap(), Decoded::Null);
/// assert_eq!(decoder.finish().unwrap().len(), 2);
/// ```
#[derive(Debug)]
pub struct ColumnDecoder {
    value_type: ValueType,
    // The tag with which a value of the declared type begins.
    tag: Tag,
    validity: NullBufferBuilder,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Scalars(Sink),
    Lists { offsets: Vec<i32>, items: Sink, validity: NullBufferBuilder },
    Zoned { seconds: Vec<i64>, zones: Sink },
    Wire(Strings),
}

/// What one serialized value was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A value.
    Present,
    /// Stored as null.
    Null,
}

impl ColumnDecoder {
    /// A decoder for about `rows` rows of `value_type`.
    pub fn new(value_type: ValueType, rows: usize) -> Self {
        ColumnDecoder {
            value_type,
            tag: Tag::new(value_type),
            validity: NullBufferBuilder::new(rows),
            rows: Rows::new(value_type, rows),
        }
    }

    /// A decoder that already holds plain values of eight bytes, as
    /// [`PlainDecoder`](super::PlainDecoder) gives them, and has room for `rows` in all.
    pub fn from_plain(value_type: ValueType, values: &[u64], rows: usize) -> Self {
        let mut decoder = ColumnDecoder::new(value_type, rows);
        if let Rows::Scalars(sink) = &mut decoder.rows {
            sink.extend_plain(values);
            decoder.validity.append_n_non_nulls(values.len());
        }
        decoder
    }

    /// Appends a row from a serialized `Value` (empty, `null_val` and the timestamp that means
    /// "none" are null). Bytes that are no `Value` give an error of kind `StoreInvalid`; the
    /// decoder is of no use then.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) -> Result<Decoded> {
        if let Rows::Scalars(sink) = &mut self.rows
            && let Some(payload) = self.tag.strip(bytes)
            && sink.push_plain(payload)
        {
            self.validity.append_non_null();
            return Ok(Decoded::Present);
        }
        self.push_any(bytes)
    }

    /// Appends a row that is not there.
    #[inline]
    pub fn push_missing(&mut self) {
        self.validity.append_null();
        self.rows.push_filler();
    }

    /// The column.
    pub fn finish(mut self) -> Result<Column> {
        let layout = self.rows.layout();
        let values = self.rows.finish(self.value_type, self.validity.finish())?;
        Ok(Column { value_type: self.value_type, layout, values })
    }

    fn push_any(&mut self, bytes: &[u8]) -> Result<Decoded> {
        let case = match last_case(bytes)? {
            None | Some((ValueType::Null, Payload::Varint(_))) => None,
            Some((ValueType::Null, _)) => return Err(malformed("a null")),
            Some((case, payload)) => (!is_no_time(case, payload)?).then_some((case, payload)),
        };
        let Some((case, payload)) = case else {
            self.push_missing();
            return Ok(Decoded::Null);
        };
        if case != self.value_type && !matches!(self.rows, Rows::Wire(_)) {
            self.turn_to_wire()?;
        }
        self.rows.push(payload, bytes)?;
        self.validity.append_non_null();
        Ok(Decoded::Present)
    }

    #[cold]
    fn turn_to_wire(&mut self) -> Result<()> {
        let fresh = ColumnDecoder {
            value_type: self.value_type,
            tag: self.tag,
            validity: NullBufferBuilder::new(self.validity.len() + 1),
            rows: Rows::Wire(Strings::new(self.validity.len() + 1)),
        };
        let typed = std::mem::replace(self, fresh).finish()?;
        for (row, value) in arrow::encode_column(&typed)?.iter().enumerate() {
            match (&mut self.rows, typed.is_null(row)) {
                (Rows::Wire(strings), false) => {
                    strings.require(value)?;
                    self.validity.append_non_null();
                }
                _ => self.push_missing(),
            }
        }
        Ok(())
    }
}

fn is_no_time(case: ValueType, payload: Payload<'_>) -> Result<bool> {
    Ok(match (case, payload) {
        (ValueType::UnixTimestamp, Payload::Varint(number)) => number as i64 == super::NOT_A_TIME,
        (ValueType::ZonedTimestamp, Payload::Bytes(bytes)) => zoned(bytes)?.0 == super::NOT_A_TIME,
        _ => false,
    })
}

/// A tag, written out: one or two bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    first: u8,
    second: Option<u8>,
}

impl Tag {
    pub(super) fn new(value_type: ValueType) -> Self {
        let mut written = Vec::with_capacity(2);
        put_tag(&mut written, value_type as u32, wire_type(value_type));
        let first = written.first().copied().unwrap_or_default();
        Tag { first, second: written.get(1).copied() }
    }

    /// What follows the tag, if `bytes` begin with it.
    #[inline]
    pub(super) fn strip<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (&first, rest) = bytes.split_first()?;
        if first != self.first {
            return None;
        }
        match self.second {
            None => Some(rest),
            Some(second) => rest.split_first().filter(|(byte, _)| **byte == second).map(|r| r.1),
        }
    }
}

fn wire_type(value_type: ValueType) -> u32 {
    match value_type {
        ValueType::Int32 | ValueType::Int64 | ValueType::Bool | ValueType::UnixTimestamp => VARINT,
        ValueType::Double => FIXED64,
        ValueType::Float => FIXED32,
        _ => SIZED,
    }
}

impl Rows {
    fn new(value_type: ValueType, rows: usize) -> Self {
        if let Some(items) = value_type.element().and_then(|element| Sink::new(element, rows)) {
            let mut offsets = Vec::with_capacity(rows + 1);
            offsets.push(0);
            return Rows::Lists { offsets, items, validity: NullBufferBuilder::new(rows) };
        }
        if value_type == ValueType::ZonedTimestamp {
            let zones = Sink::Text(Strings::new(rows));
            return Rows::Zoned { seconds: Vec::with_capacity(rows), zones };
        }
        match Sink::new(value_type, rows) {
            Some(sink) => Rows::Scalars(sink),
            None => Rows::Wire(Strings::new(rows)),
        }
    }

    fn layout(&self) -> Layout {
        match self {
            Rows::Wire(_) => Layout::Wire,
            _ => Layout::Typed,
        }
    }

    /// Appends a value of the declared type: `payload` of the value `bytes`.
    fn push(&mut self, payload: Payload<'_>, bytes: &[u8]) -> Result<()> {
        match self {
            Rows::Scalars(sink) => sink.push(payload),
            Rows::Lists { offsets, items, validity } => {
                let Payload::Bytes(list) = payload else { return Err(malformed("a list")) };
                let start = items.len();
                push_items(items, list)?;
                match items.times_from(start) {
                    Some(times) => times.for_each(|is_time| validity.append(is_time)),
                    None => validity.append_n_non_nulls(items.len() - start),
                }
                offsets.push(offset(items.len())?);
                Ok(())
            }
            Rows::Zoned { seconds, zones } => {
                let Payload::Bytes(message) = payload else { return Err(malformed("a time")) };
                let (second, zone) = zoned(message)?;
                seconds.push(second);
                zones.push(Payload::Bytes(zone.as_bytes()))
            }
            Rows::Wire(strings) => {
                super::Value::parse(bytes)?;
                strings.require(bytes)
            }
        }
    }

    fn push_filler(&mut self) {
        match self {
            Rows::Scalars(sink) => sink.push_filler(),
            Rows::Lists { offsets, .. } => offsets.push(offsets.last().copied().unwrap_or(0)),
            Rows::Zoned { seconds, zones } => {
                seconds.push(0);
                zones.push_filler();
            }
            Rows::Wire(strings) => strings.push_filler(),
        }
    }

    fn finish(self, value_type: ValueType, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        match self {
            Rows::Scalars(sink) => sink.finish(nulls),
            Rows::Wire(strings) => Ok(strings.into_binary(nulls)),
            Rows::Lists { offsets, items, mut validity } => {
                let items = items.finish(validity.finish())?;
                let item = Arc::new(Field::new_list_field(items.data_type().clone(), true));
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, items, nulls));
                debug_assert_eq!(Some(lists.data_type()), arrow_type(value_type).as_ref());
                Ok(lists)
            }
            Rows::Zoned { seconds, zones } => {
                let times = TimestampSecondArray::new(seconds.into(), None).with_timezone("UTC");
                let columns: Vec<ArrayRef> = vec![Arc::new(times), zones.finish(None)?];
                Ok(Arc::new(StructArray::new(zoned_fields(), columns, nulls)))
            }
        }
    }
}

fn push_items(items: &mut Sink, list: &[u8]) -> Result<()> {
    let mut reader = Reader::new(list);
    while let Some((number, payload)) = reader.field()? {
        match (number, payload, &mut *items) {
            (1, Payload::Bytes(text), Sink::Text(_) | Sink::Bytes(_)) => {
                items.push(Payload::Bytes(text))?;
            }
            (1, Payload::Bytes(packed), numbers) => numbers.push_packed(packed)?,
            (1, payload, numbers) => numbers.push(payload)?,
            _ => {}
        }
    }
    Ok(())
}

fn offset(items: usize) -> Result<i32> {
    i32::try_from(items).map_err(|_| {
        let message = "a list column of one response would have more than 2^31 elements";
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::wire::Value;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use std::borrow::Cow;

    fn decode(value_type: ValueType, rows: &[&[u8]]) -> Column {
        let mut decoder = ColumnDecoder::new(value_type, rows.len());
        for row in rows {
            decoder.push(row).unwrap();
        }
        decoder.finish().unwrap()
    }

    #[test]
    fn plain_values_become_a_typed_column() {
        let column = decode(ValueType::Int64, &[&[0x20, 0xac, 2], &[], &[0x98, 1, 0], &[0x20, 0]]);

        assert_eq!(column.layout, Layout::Typed);
        let values = column.values.as_primitive::<Int64Type>();
        assert_eq!(values.iter().collect::<Vec<_>>(), [Some(300), None, None, Some(0)]);
    }

    #[test]
    fn another_type_than_declared_turns_the_column_to_wire() {
        let column = decode(ValueType::Int64, &[&[0x20, 7], &[], &[0x12, 1, b'x']]);

        assert_eq!(column.layout, Layout::Wire);
        let rows = column.values.as_binary::<i32>();
        assert_eq!(Value::parse(rows.value(0)).unwrap(), Value::Int64(7));
        assert!(rows.is_null(1));
        assert_eq!(
            Value::parse(rows.value(2)).unwrap(),
            Value::Text(ValueType::String, Cow::Borrowed("x"))
        );
    }

    #[test]
    fn nat_is_null_alone_and_in_a_list() {
        let nat = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
        let scalar = [&[0x40][..], &nat].concat();
        let list = [&[0x92, 1, 13, 0x0a, 11, 5][..], &nat].concat();

        assert!(decode(ValueType::UnixTimestamp, &[&scalar]).is_null(0));
        let lists = decode(ValueType::UnixTimestampList, &[&list]);
        assert_eq!(lists.values.as_list::<i32>().values().null_count(), 1);
    }

    #[test]
    fn bytes_that_are_no_value_are_an_error() {
        let null_of_two_bytes = &[0x9a, 1, 2, 0, 0];
        for bytes in
            [&[0x20][..], &[0x12, 2, 0xff, 0xff], &[0x12, 9], &[0x23, 1], null_of_two_bytes]
        {
            let error = ColumnDecoder::new(ValueType::String, 1).push(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StoreInvalid);
        }
    }
}
