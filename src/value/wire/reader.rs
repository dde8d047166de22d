//! Protobuf's wire format, read from a slice. Knows tags, varints and lengths; no message.

use crate::error::{Error, ErrorKind, Result};

/// What stands behind a tag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
}

/// The fields of one message, in the order in which they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field, or `None` at the end of the message. Groups, which proto3 does not
    /// have, are refused.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Payload<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| malformed("a field number"))?;
        if number == 0 {
            return Err(malformed("a field number"));
        }
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(self.chunk()?),
            2 => Payload::Bytes(self.sized()?),
            5 => Payload::Fixed32(self.chunk()?),
            _ => return Err(malformed("a wire type")),
        };
        Ok(Some((number, payload)))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64> {
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(number);
            }
        }
        Err(malformed("a varint"))
    }

    #[inline]
    pub(crate) fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, tail) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| malformed("a number"))?;
        self.rest = tail;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn sized(&mut self) -> Result<&'a [u8]> {
        let length = self.varint()?;
        let (head, tail) = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .ok_or_else(|| malformed("a length"))?;
        self.rest = tail;
        Ok(head)
    }
}

/// The error for bytes that are no `feast.types.Value`.
#[cold]
pub(crate) fn malformed(what: &str) -> Error {
    Error::new(
        ErrorKind::StoreInvalid,
        format!("not a serialized feast.types.Value: {what} is malformed or cut off"),
    )
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| malformed("a text (not UTF-8)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order() {
        let mut reader = Reader::new(&[0x20, 0xac, 0x02, 0x12, 1, b'x']);

        assert_eq!(reader.field().unwrap(), Some((4, Payload::Varint(300))));
        assert_eq!(reader.field().unwrap(), Some((2, Payload::Bytes(b"x"))));
        assert_eq!(reader.field().unwrap(), None);
    }

    #[test]
    fn cut_and_overlong_bytes_are_errors() {
        for bytes in [&[0x20][..], &[0x12, 5, b'x'], &[0xff; 11], &[0x23], &[0x29, 0, 0], &[0]] {
            assert!(Reader::new(bytes).field().is_err());
        }
    }
}
