//! Values of eight bytes in the one form that every writer gives them: the tag, the payload,
//! nothing else. Columns of them need no decoder of their own while nothing else turns up.

use std::sync::Arc;

use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, PrimitiveArray, TimestampSecondArray};
use arrow_buffer::{Buffer, ScalarBuffer};

use super::decode::Tag;
use super::sink::lone_varint;
use crate::value::{Column, Layout, ValueType};

/// Decodes plain values of one type.
#[derive(Clone, Copy, Debug)]
pub struct PlainDecoder {
    tag: Tag,
    kind: Kind,
}

/// Plain values of one type, all there.
#[derive(Clone, Copy, Debug)]
pub enum PlainValues<'a> {
    /// Of type `Double`.
    Doubles(&'a [f64]),
    /// Of type `Int64`.
    Integers(&'a [i64]),
    /// Of type `UnixTimestamp`: seconds since the epoch.
    Times(&'a [i64]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Double,
    Int64,
    UnixTimestamp,
}

impl PlainDecoder {
    /// `None` for the types whose values are not of eight bytes.
    pub fn new(value_type: ValueType) -> Option<Self> {
        let kind = match value_type {
            ValueType::Double => Kind::Double,
            ValueType::Int64 => Kind::Int64,
            ValueType::UnixTimestamp => Kind::UnixTimestamp,
            _ => return None,
        };
        Some(PlainDecoder { tag: Tag::new(value_type), kind })
    }

    /// The eight bytes of a value, as memory holds them; `None` for a null and for any other
    /// form.
    #[inline]
    pub fn decode(&self, bytes: &[u8]) -> Option<u64> {
        let payload = self.tag.strip(bytes)?;
        match self.kind {
            Kind::Double => payload.try_into().ok().map(u64::from_le_bytes),
            Kind::Int64 => lone_varint(payload),
            Kind::UnixTimestamp => {
                lone_varint(payload).filter(|number| *number as i64 != super::NOT_A_TIME)
            }
        }
    }

    /// What was decoded, as values of their type. `buffer` holds what [`decode`](Self::decode)
    /// gave.
    pub fn values<'a>(
        &self,
        buffer: &'a Buffer,
        start: usize,
        rows: usize,
    ) -> Option<PlainValues<'a>> {
        let rows = start..start + rows;
        Some(match self.kind {
            Kind::Double => PlainValues::Doubles(buffer.typed_data().get(rows)?),
            Kind::Int64 => PlainValues::Integers(buffer.typed_data().get(rows)?),
            Kind::UnixTimestamp => PlainValues::Times(buffer.typed_data().get(rows)?),
        })
    }

    /// The column whose values are those of `buffer` from the `start`th on.
    pub fn column(&self, buffer: &Buffer, start: usize, rows: usize) -> Column {
        let (value_type, values): (_, ArrayRef) = match self.kind {
            Kind::Double => {
                let values = ScalarBuffer::new(buffer.clone(), start, rows);
                (ValueType::Double, Arc::new(PrimitiveArray::<Float64Type>::new(values, None)))
            }
            Kind::Int64 => {
                let values = ScalarBuffer::new(buffer.clone(), start, rows);
                (ValueType::Int64, Arc::new(PrimitiveArray::<Int64Type>::new(values, None)))
            }
            Kind::UnixTimestamp => {
                let values = ScalarBuffer::new(buffer.clone(), start, rows);
                let times = TimestampSecondArray::new(values, None).with_timezone("UTC");
                (ValueType::UnixTimestamp, Arc::new(times))
            }
        };
        Column { value_type, layout: Layout::Typed, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;

    #[test]
    fn plain_values_and_nothing_else() {
        let doubles = PlainDecoder::new(ValueType::Double).unwrap();
        let seven = [&[0x29][..], &7.0_f64.to_le_bytes()].concat();

        assert_eq!(doubles.decode(&seven), Some(7.0_f64.to_bits()));
        assert_eq!(doubles.decode(&[]), None);
        assert_eq!(doubles.decode(&seven[..8]), None);
        assert_eq!(PlainDecoder::new(ValueType::Int64).unwrap().decode(&[0x20, 5]), Some(5));
        assert!(PlainDecoder::new(ValueType::Bool).is_none());
    }

    #[test]
    fn a_column_is_a_window_of_the_buffer() {
        let decoder = PlainDecoder::new(ValueType::Int64).unwrap();
        let buffer = Buffer::from_vec(vec![1_u64, 2, 3, 4]);

        let column = decoder.column(&buffer, 1, 2);

        assert_eq!(column.values.as_primitive::<Int64Type>().values(), &[2, 3]);
    }
}
