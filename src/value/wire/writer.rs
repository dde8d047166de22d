//! Protobuf's wire format, written to a vector. Knows tags, varints and lengths; no message.

pub(crate) const VARINT: u32 = 0;
pub(crate) const FIXED64: u32 = 1;
pub(crate) const SIZED: u32 = 2;
pub(crate) const FIXED32: u32 = 5;

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[inline]
pub(crate) fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

#[inline]
pub(crate) fn put_sized(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_tag(out, field, SIZED);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A length-delimited field whose content `write` appends. The length is put in its place
/// afterwards: one byte is kept free, which is enough for nearly every value.
pub(crate) fn put_message<E>(
    out: &mut Vec<u8>,
    field: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, field, SIZED);
    let start = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    if let Some(byte) = out.get_mut(start)
        && length < 0x80
    {
        *byte = length as u8;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
    Ok(())
}

/// How many bytes the varint of `number` has.
#[inline]
pub(crate) fn varint_len(number: u64) -> usize {
    (70 - (number | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_the_length_that_is_foretold() {
        for number in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            assert_eq!(out.len(), varint_len(number), "{number}");
        }
    }

    #[test]
    fn long_messages_get_a_long_length() {
        let mut out = Vec::new();
        let fill = |out: &mut Vec<u8>| {
            out.extend_from_slice(&[7; 300]);
            Ok::<(), ()>(())
        };
        put_message(&mut out, 1, fill).unwrap();

        assert_eq!(out[..4], [0x0a, 0xac, 0x02, 7]);
        assert_eq!(out.len(), 303);
    }
}
