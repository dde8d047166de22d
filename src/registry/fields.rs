//! The fields of a protobuf message as they lie in its bytes, whatever they mean: what
//! splicing and the check for a torn file are made of.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
/// The wire type of strings, bytes and messages.
const LEN: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// One field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldSpan {
    /// The field's number.
    pub number: u32,
    /// The whole field: tag, length, content.
    pub whole: Range<usize>,
    /// The content of a string, bytes or message field; otherwise the value.
    pub content: Range<usize>,
    /// Whether the content may be a message.
    pub is_len: bool,
}

/// The fields of `message`, in their order.
pub(super) fn fields_of(message: &[u8]) -> Result<Vec<FieldSpan>> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < message.len() {
        let field = field_at(message, at, 0).ok_or_else(|| {
            let message = format!(
                "not a Feast registry ({} bytes): cut off or damaged at byte {at}",
                message.len()
            );
            Error::new(ErrorKind::RegistryInvalid, message)
        })?;
        at = field.whole.end;
        fields.push(field);
    }
    Ok(fields)
}

/// An error if `message` does not end where its last field ends: a file that was cut off, or
/// is being written just now.
pub(super) fn check_framing(message: &[u8]) -> Result<()> {
    fields_of(message).map(|_| ())
}

/// How deep groups may nest; protobuf's own limit.
const MAX_DEPTH: u32 = 100;

fn field_at(message: &[u8], start: usize, depth: u32) -> Option<FieldSpan> {
    let (tag, at) = varint(message, start)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
    let wire_type = (tag & 7) as u8;
    let content = match wire_type {
        VARINT => at..varint(message, at)?.1,
        FIXED64 => at..at.checked_add(8)?,
        FIXED32 => at..at.checked_add(4)?,
        LEN => {
            let (len, at) = varint(message, at)?;
            at..at.checked_add(usize::try_from(len).ok()?)?
        }
        GROUP_START if depth < MAX_DEPTH => at..group_end(message, at, number, depth)?,
        _ => return None,
    };
    if content.end > message.len() {
        return None;
    }
    let whole = start..content.end;
    Some(FieldSpan { number, whole, content, is_len: wire_type == LEN })
}

/// Where the group `number` ends, its end tag included.
fn group_end(message: &[u8], mut at: usize, number: u32, depth: u32) -> Option<usize> {
    loop {
        let (tag, after) = varint(message, at)?;
        if (tag & 7) as u8 == GROUP_END {
            return (tag >> 3 == u64::from(number)).then_some(after);
        }
        at = field_at(message, at, depth + 1)?.whole.end;
    }
}

fn varint(bytes: &[u8], start: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.get(start..)?.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, start + index + 1));
        }
    }
    None
}

/// A string, bytes or message field.
pub(super) fn len_field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(content.len() + 8);
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut field);
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend_from_slice(content);
    field
}

/// An enum field; zero, the default, is written as nothing.
pub(super) fn enum_field(number: u32, value: u64) -> Vec<u8> {
    let mut field = Vec::new();
    if value != 0 {
        prost::encoding::encode_key(number, prost::encoding::WireType::Varint, &mut field);
        prost::encoding::encode_varint(value, &mut field);
    }
    field
}

/// `message` with `field` (encoded whole) in place of every field `number`; where there is
/// none, before the first field of a higher number, the order in which protobuf writes.
pub(super) fn replace(message: &[u8], number: u32, field: &[u8]) -> Result<Vec<u8>> {
    let fields = fields_of(message)?;
    let place = fields
        .iter()
        .find(|span| span.number >= number)
        .map_or(message.len(), |span| span.whole.start);
    let mut spliced = Vec::with_capacity(message.len() + field.len());
    for span in fields.iter().filter(|span| span.whole.start < place) {
        spliced.extend_from_slice(&message[span.whole.clone()]);
    }
    spliced.extend_from_slice(field);
    let rest = fields.iter().filter(|span| span.whole.start >= place && span.number != number);
    for span in rest {
        spliced.extend_from_slice(&message[span.whole.clone()]);
    }
    Ok(spliced)
}

/// `message` with `field` (encoded whole) after the last field `number`; where there is none,
/// before the first field of a higher number.
pub(super) fn append(message: &[u8], number: u32, field: &[u8]) -> Result<Vec<u8>> {
    let fields = fields_of(message)?;
    let last = fields.iter().rev().find(|span| span.number == number);
    let place = match last {
        Some(span) => span.whole.end,
        None => fields
            .iter()
            .find(|span| span.number > number)
            .map_or(message.len(), |span| span.whole.start),
    };
    Ok([&message[..place], field, &message[place..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_put_back_in_order() {
        let message = [len_field(1, b"a"), enum_field(4, 300), len_field(9, b"zz")].concat();
        let fields = fields_of(&message).unwrap();
        assert_eq!(fields.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 4, 9]);
        assert_eq!(&message[fields[2].content.clone()], b"zz");

        let spliced = replace(&message, 4, &enum_field(4, 2)).unwrap();
        assert_eq!(spliced, [len_field(1, b"a"), enum_field(4, 2), len_field(9, b"zz")].concat());
        let inserted = replace(&message, 5, &len_field(5, b"n")).unwrap();
        assert_eq!(fields_of(&inserted).unwrap()[2].number, 5);
        let appended = append(&message, 1, &len_field(1, b"b")).unwrap();
        assert_eq!(&appended[..6], &[10, 1, b'a', 10, 1, b'b']);
    }

    #[test]
    fn cut_off_bytes_are_noticed() {
        let message = [len_field(1, b"abc"), len_field(9, b"zz")].concat();
        for len in [1, 2, 4, 6, message.len() - 1] {
            let error = check_framing(&message[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RegistryInvalid);
        }
        assert!(check_framing(&message).is_ok());
        assert!(check_framing(b"\x00\x01").is_err(), "field number zero");
        assert!(check_framing(&[0x0B; 5000]).is_err(), "groups without end");
    }
}
