//! A hash in Redis's own serialized form, as DUMP gives and RESTORE takes it: a type, the
//! object, the version of the format, a checksum. Pure: bytes in, bytes out.
//!
//! A server trusts what it restores unless `sanitize-dump-payload` says otherwise, so what is
//! written here must be right: each field once, lengths exact.

use crc::{CRC_64_REDIS, Crc, Table};

static CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

const TYPE_HASH: u8 = 4;
const TYPE_HASH_LISTPACK: u8 = 16;
/// The oldest version that has plain hashes in this form: every server in use reads it.
const PLAIN_VERSION: u16 = 6;
/// The oldest version that has listpacks: Redis 7.0 and later read it, older ones refuse.
const LISTPACK_VERSION: u16 = 10;
/// `hash-max-listpack-entries` is 128 or more by default; larger hashes are no listpacks.
const MAX_LISTPACK_PAIRS: usize = 128;
/// `hash-max-listpack-value`, by default.
pub(super) const MAX_LISTPACK_BYTES: usize = 64;

/// How the hash is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One block of bytes, which the server takes as it is.
    Listpack,
    /// Fields and values one by one, which the server inserts itself.
    Plain,
}

/// Whether Redis keeps a hash of these fields and values as a listpack.
pub(super) fn fits_listpack<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> bool {
    let mut count = 0;
    for (field, value) in pairs {
        count += 1;
        if field.len() > MAX_LISTPACK_BYTES || value.len() > MAX_LISTPACK_BYTES {
            return false;
        }
    }
    count <= MAX_LISTPACK_PAIRS
}

/// Replaces `out` by the serialized hash of `pairs`, whose fields are all different.
pub(super) fn serialize_hash<'a>(
    form: Form,
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) {
    out.clear();
    let version = match form {
        Form::Listpack => {
            append_listpack(pairs, out);
            LISTPACK_VERSION
        }
        Form::Plain => {
            out.push(TYPE_HASH);
            append_length(out, pairs.len());
            for (field, value) in pairs {
                append_string(out, field);
                append_string(out, value);
            }
            PLAIN_VERSION
        }
    };
    out.extend_from_slice(&version.to_le_bytes());
    let checksum = CHECKSUM.checksum(out);
    out.extend_from_slice(&checksum.to_le_bytes());
}

fn append_listpack<'a>(
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) {
    // The type, and the length of the string that follows in its longest form: it is known
    // only at the end, and then put in its place.
    out.extend_from_slice(&[TYPE_HASH_LISTPACK, 0x80, 0, 0, 0, 0]);
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    // Both fit: a listpack has few pairs, see `fits_listpack`.
    out.extend_from_slice(&(2 * pairs.len() as u16).to_le_bytes());
    for (field, value) in pairs {
        append_entry(out, field);
        append_entry(out, value);
    }
    out.push(0xff);
    let length = (out.len() - begin) as u32;
    if let Some(place) = out.get_mut(2..6) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    if let Some(place) = out.get_mut(begin..begin + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// An entry of a listpack: how long the string is, the string, and how long both are, for
/// those who walk backwards. Strings have at most [`MAX_LISTPACK_BYTES`] bytes.
fn append_entry(out: &mut Vec<u8>, string: &[u8]) {
    let begin = out.len();
    if string.len() < 64 {
        out.push(0x80 | string.len() as u8);
    } else {
        out.extend_from_slice(&[0xe0 | (string.len() >> 8) as u8, string.len() as u8]);
    }
    out.extend_from_slice(string);
    // Below 128, so one byte says it.
    out.push((out.len() - begin) as u8);
}

fn append_string(out: &mut Vec<u8>, string: &[u8]) {
    append_length(out, string.len());
    out.extend_from_slice(string);
}

fn append_length(out: &mut Vec<u8>, length: usize) {
    if length < 1 << 6 {
        out.push(length as u8);
    } else if length < 1 << 14 {
        out.extend_from_slice(&[0x40 | (length >> 8) as u8, length as u8]);
    } else {
        // A value of Redis is at most 512 MB.
        out.push(0x80);
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serialized(form: Form, pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        serialize_hash(form, pairs.iter().copied(), &mut out);
        out
    }

    #[test]
    fn a_plain_hash_is_laid_out_as_the_format_says() {
        let out = serialized(Form::Plain, &[(b"a", b"bc")]);

        assert_eq!(out[..9], [4, 1, 1, b'a', 2, b'b', b'c', 6, 0]);
        assert_eq!(out[9..], CHECKSUM.checksum(&out[..9]).to_le_bytes());
    }

    #[test]
    fn a_listpack_carries_its_lengths() {
        let long = [b'x'; 64];
        let out = serialized(Form::Listpack, &[(b"a", b""), (b"b", &long)]);

        let length = 6 + 3 + 2 + 3 + 67 + 1;
        assert_eq!(out[..6], [16, 0x80, 0, 0, 0, length]);
        assert_eq!(out[6..12], [length, 0, 0, 0, 4, 0]);
        assert_eq!(out[12..20], [0x81, b'a', 2, 0x80, 1, 0x81, b'b', 2]);
        assert_eq!(out[20..22], [0xe0, 64]);
        assert_eq!(out[86..88], [66, 0xff]);
        assert_eq!(out.len(), 6 + usize::from(length) + 10);
    }

    #[test]
    fn wide_and_long_ones_are_no_listpacks() {
        let long = [0; 65];
        let many = vec![(&b"f"[..], &b"v"[..]); 129];

        assert!(fits_listpack(many[..128].iter().copied()));
        assert!(!fits_listpack(many.iter().copied()));
        assert!(!fits_listpack([(&b"f"[..], &long[..])].into_iter()));
    }

    #[test]
    fn the_checksum_is_the_one_of_redis() {
        assert_eq!(CHECKSUM.checksum(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }
}
