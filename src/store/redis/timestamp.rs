//! `google.protobuf.Timestamp`, as Feast stores it under `_ts:<view>`, written by hand: two
//! varint fields, each left out when it is zero.

use crate::value::wire::writer::put_varint;

const SECONDS: u8 = 1 << 3;
const NANOS: u8 = 2 << 3;
/// Two tags, a varint of ten bytes and one of five.
pub(super) const MAX_LEN: usize = 17;

/// A moment, ordered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timestamp {
    seconds: i64,
    nanos: i32,
}

impl Timestamp {
    /// From microseconds since the epoch.
    pub(super) fn from_micros(micros: i64) -> Self {
        let nanos = (micros.rem_euclid(1_000_000) * 1_000) as i32;
        Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
    }

    /// Microseconds since the epoch, finer parts cut; `None` when they don't fit.
    pub(super) fn to_micros(self) -> Option<i64> {
        let micros = i128::from(self.nanos).div_euclid(1_000);
        // Seconds by themselves may be less than the least time that fits.
        i64::try_from(i128::from(self.seconds) * 1_000_000 + micros).ok()
    }

    /// Appends the serialized message.
    pub(super) fn encode(self, bytes: &mut Vec<u8>) {
        if self.seconds != 0 {
            bytes.push(SECONDS);
            put_varint(bytes, self.seconds as u64);
        }
        if self.nanos != 0 {
            bytes.push(NANOS);
            put_varint(bytes, i64::from(self.nanos) as u64);
        }
    }

    /// Reads a serialized message; `None` when it is none. Empty bytes are the epoch.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut timestamp = Timestamp { seconds: 0, nanos: 0 };
        while let Some((&tag, rest)) = bytes.split_first() {
            let (value, rest) = take_varint(rest)?;
            match tag {
                SECONDS => timestamp.seconds = value as i64,
                NANOS => timestamp.nanos = value as i32,
                _ => return None,
            }
            bytes = rest;
        }
        Some(timestamp)
    }
}

fn take_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_protobuf_serializes_it() {
        for (micros, bytes) in [
            (0, &[][..]),
            (1_704_067_200_000_000, &[8, 0x80, 0x81, 0xc8, 0xac, 6]),
            (5, &[16, 0x88, 0x27]),
            (
                -1,
                &[
                    8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 16, 0x98, 0x8c,
                    0xeb, 0xdc, 3,
                ],
            ),
        ] {
            let mut encoded = Vec::new();
            Timestamp::from_micros(micros).encode(&mut encoded);

            assert_eq!(encoded, bytes);
            assert!(encoded.len() <= MAX_LEN);
            assert_eq!(Timestamp::decode(bytes).unwrap().to_micros(), Some(micros));
        }
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for bytes in [
            &[8][..],
            &[8, 0x80],
            &[9, 1],
            &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(Timestamp::decode(bytes), None);
        }
        let far = [8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(Timestamp::decode(&far).unwrap().to_micros(), None);
    }
}
