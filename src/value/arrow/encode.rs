//! Canonical Arrow arrays to serialized values: the hot loop of a materialization. The type is
//! looked at once, buffers are sized before, and nothing is allocated for a row.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampSecondType};
use arrow_array::{Array, ArrayRef, ListArray};
use arrow_buffer::NullBuffer;

use crate::value::wire::NOT_A_TIME;
use crate::value::wire::encode::put_zoned;
use crate::value::wire::writer::{
    FIXED32, FIXED64, SIZED, VARINT, put_sized, put_tag, put_varint, varint_len,
};
use crate::value::{PackedBytes, ValueType};

/// Serializes the rows of an array that has the canonical type of `value_type`. A null
/// timestamp is stored as `null_time`; `None`: as a value that is not set.
pub(super) fn typed(
    array: &ArrayRef,
    value_type: ValueType,
    null_time: Option<i64>,
) -> PackedBytes {
    if value_type.element().is_some() {
        return lists(array.as_list::<i32>(), value_type);
    }
    let field = value_type as u32;
    match value_type {
        ValueType::Int32 => {
            let numbers = array.as_primitive::<Int32Type>();
            varints(numbers.values(), array.nulls(), field, |n| i64::from(*n) as u64, &[])
        }
        ValueType::Int64 => {
            let numbers = array.as_primitive::<Int64Type>();
            varints(numbers.values(), array.nulls(), field, |n| *n as u64, &[])
        }
        ValueType::UnixTimestamp => {
            let seconds = array.as_primitive::<TimestampSecondType>();
            let mut null = Vec::new();
            if let Some(second) = null_time {
                put_tag(&mut null, field, VARINT);
                put_varint(&mut null, second as u64);
            }
            varints(seconds.values(), array.nulls(), field, |n| *n as u64, &null)
        }
        ValueType::Bool => {
            let bits = array.as_boolean().values();
            let bytes = array.len() * 2;
            rows(array.len(), array.nulls(), bytes, &[], |row, out| {
                out.extend_from_slice(&[tag(field, VARINT), u8::from(bits.value(row))]);
            })
        }
        ValueType::Double => {
            let numbers = array.as_primitive::<Float64Type>().values();
            rows(array.len(), array.nulls(), array.len() * 9, &[], |row, out| {
                let mut bytes = [tag(field, FIXED64); 9];
                bytes[1..].copy_from_slice(&numbers[row].to_le_bytes());
                out.extend_from_slice(&bytes);
            })
        }
        ValueType::Float => {
            let numbers = array.as_primitive::<Float32Type>().values();
            rows(array.len(), array.nulls(), array.len() * 5, &[], |row, out| {
                let mut bytes = [tag(field, FIXED32); 5];
                bytes[1..].copy_from_slice(&numbers[row].to_le_bytes());
                out.extend_from_slice(&bytes);
            })
        }
        ValueType::ZonedTimestamp => zoned(array, field),
        ValueType::Bytes => {
            let bytes = array.as_binary::<i32>();
            strings(bytes.value_offsets(), bytes.value_data(), array.nulls(), field)
        }
        _ => {
            let texts = array.as_string::<i32>();
            strings(texts.value_offsets(), texts.value_data(), array.nulls(), field)
        }
    }
}

/// The tag of a field below 16, which is one byte.
#[inline]
fn tag(field: u32, wire_type: u32) -> u8 {
    (field << 3 | wire_type) as u8
}

fn rows(
    rows: usize,
    nulls: Option<&NullBuffer>,
    bytes: usize,
    null: &[u8],
    mut write: impl FnMut(usize, &mut Vec<u8>),
) -> PackedBytes {
    let mut packed = PackedBytes::with_capacity(rows, bytes);
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => (0..rows).for_each(|row| packed.push_with(|out| write(row, out))),
        Some(nulls) => (0..rows).for_each(|row| {
            if nulls.is_valid(row) {
                packed.push_with(|out| write(row, out));
            } else {
                packed.push(null);
            }
        }),
    }
    packed
}

fn varints<T>(
    values: &[T],
    nulls: Option<&NullBuffer>,
    field: u32,
    number: impl Fn(&T) -> u64,
    null: &[u8],
) -> PackedBytes {
    let content: usize = values.iter().map(|value| 1 + varint_len(number(value))).sum();
    let null_bytes = nulls.map_or(0, NullBuffer::null_count) * null.len();
    rows(values.len(), nulls, content + null_bytes, null, |row, out| {
        out.push(tag(field, VARINT));
        put_varint(out, number(&values[row]));
    })
}

fn strings(offsets: &[i32], data: &[u8], nulls: Option<&NullBuffer>, field: u32) -> PackedBytes {
    let count = offsets.len() - 1;
    let used = (offsets[count] - offsets[0]) as usize;
    rows(count, nulls, used + count * 4, &[], |row, out| {
        put_sized(out, field, &data[offsets[row] as usize..offsets[row + 1] as usize]);
    })
}

fn zoned(array: &ArrayRef, field: u32) -> PackedBytes {
    let fields = array.as_struct();
    let seconds = fields.column(0).as_primitive::<TimestampSecondType>();
    let zones = fields.column(1).as_string::<i32>();
    rows(array.len(), array.nulls(), array.len() * 24, &[], |row, out| {
        let zone = if zones.is_null(row) { "" } else { zones.value(row) };
        let second = seconds.value(row);
        let second_len = if second == 0 { 0 } else { 1 + varint_len(second as u64) };
        let zone_len =
            if zone.is_empty() { 0 } else { 1 + varint_len(zone.len() as u64) + zone.len() };
        put_tag(out, field, SIZED);
        put_varint(out, (second_len + zone_len) as u64);
        put_zoned(out, second, zone);
    })
}

fn lists(lists: &ListArray, value_type: ValueType) -> PackedBytes {
    let items = lists.values();
    match value_type.element() {
        Some(ValueType::Int32) => {
            let numbers = items.as_primitive::<Int32Type>();
            let number = |index: usize| i64::from(numbers.values()[index]) as u64;
            packed_varints(lists, value_type, number)
        }
        Some(ValueType::Int64) => {
            let numbers = items.as_primitive::<Int64Type>();
            packed_varints(lists, value_type, |index| numbers.values()[index] as u64)
        }
        Some(ValueType::UnixTimestamp) => {
            let seconds = items.as_primitive::<TimestampSecondType>();
            packed_varints(lists, value_type, |index| {
                (if seconds.is_null(index) { NOT_A_TIME } else { seconds.values()[index] }) as u64
            })
        }
        Some(ValueType::Bool) => {
            let bits = items.as_boolean();
            let number = |index| u64::from(bits.is_valid(index) && bits.value(index));
            packed_varints(lists, value_type, number)
        }
        Some(ValueType::Double) => {
            let numbers = items.as_primitive::<Float64Type>();
            packed_fixed(lists, value_type, |index| {
                let number = numbers.values()[index];
                // Python's protobuf has one NaN, whatever sign and payload it came with.
                (if numbers.is_null(index) || number.is_nan() { f64::NAN } else { number })
                    .to_le_bytes()
            })
        }
        Some(ValueType::Float) => {
            let numbers = items.as_primitive::<Float32Type>();
            packed_fixed(lists, value_type, |index| {
                let number = numbers.values()[index];
                (if numbers.is_null(index) || number.is_nan() { f32::NAN } else { number })
                    .to_le_bytes()
            })
        }
        Some(ValueType::Bytes) => {
            let bytes = items.as_binary::<i32>();
            unpacked(
                lists,
                value_type,
                |index| {
                    if bytes.is_null(index) { &[] } else { bytes.value(index) }
                },
            )
        }
        element => {
            let texts = items.as_string::<i32>();
            let null = if element == Some(ValueType::Json) { "null" } else { "" };
            unpacked(lists, value_type, |index| {
                (if texts.is_null(index) { null } else { texts.value(index) }).as_bytes()
            })
        }
    }
}

/// Elements as packed varints: the message holds one field, and nothing when there are none.
fn packed_varints(
    lists: &ListArray,
    value_type: ValueType,
    number: impl Fn(usize) -> u64,
) -> PackedBytes {
    let bytes = lists.len() * 6 + lists.values().len() * 2;
    list_rows(lists, bytes, |range, out| {
        let length = range.clone().map(|index| varint_len(number(index))).sum();
        put_packed_head(out, value_type, length);
        range.for_each(|index| put_varint(out, number(index)));
    })
}

fn packed_fixed<const N: usize>(
    lists: &ListArray,
    value_type: ValueType,
    number: impl Fn(usize) -> [u8; N],
) -> PackedBytes {
    let bytes = lists.len() * 8 + lists.values().len() * N;
    list_rows(lists, bytes, |range, out| {
        put_packed_head(out, value_type, range.len() * N);
        range.for_each(|index| out.extend_from_slice(&number(index)));
    })
}

fn put_packed_head(out: &mut Vec<u8>, value_type: ValueType, length: usize) {
    put_tag(out, value_type as u32, SIZED);
    if length == 0 {
        return put_varint(out, 0);
    }
    put_varint(out, (1 + varint_len(length as u64) + length) as u64);
    put_tag(out, 1, SIZED);
    put_varint(out, length as u64);
}

fn unpacked<'a>(
    lists: &ListArray,
    value_type: ValueType,
    item: impl Fn(usize) -> &'a [u8],
) -> PackedBytes {
    let bytes = lists.len() * 6 + lists.values().len() * 12;
    list_rows(lists, bytes, |range, out| {
        let item_len = |index| {
            let length = item(index).len();
            1 + varint_len(length as u64) + length
        };
        put_tag(out, value_type as u32, SIZED);
        put_varint(out, range.clone().map(item_len).sum::<usize>() as u64);
        range.for_each(|index| put_sized(out, 1, item(index)));
    })
}

fn list_rows(
    lists: &ListArray,
    bytes: usize,
    mut write: impl FnMut(std::ops::Range<usize>, &mut Vec<u8>),
) -> PackedBytes {
    let offsets = lists.offsets();
    rows(lists.len(), lists.nulls(), bytes, &[], |row, out| {
        write(offsets[row] as usize..offsets[row + 1] as usize, out);
    })
}
