//! Keys to hash slots, as the cluster specification has it. Pure.

use crc::{CRC_16_XMODEM, Crc, Table};

/// How many hash slots every cluster has.
pub(in super::super) const SLOTS: u16 = 16_384;

static CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_XMODEM);

/// The slot of the key that consists of these two parts. Keys are bytes, and any of them may
/// be a brace: the rule of hash tags holds for them as for text.
pub(in super::super) fn slot_of(first: &[u8], second: &[u8]) -> u16 {
    if first.contains(&b'{') || second.contains(&b'{') {
        let key = [first, second].concat();
        return CRC.checksum(hash_tag(&key)) % SLOTS;
    }
    let mut digest = CRC.digest();
    digest.update(first);
    digest.update(second);
    digest.finalize() % SLOTS
}

/// The part of a key that decides: what stands between the first `{` and the first `}` after
/// it, or the whole key if that is nothing.
fn hash_tag(key: &[u8]) -> &[u8] {
    let find = |from: usize, brace: u8| {
        let rest = key.get(from..).unwrap_or_default();
        rest.iter().position(|byte| *byte == brace).map(|at| from + at)
    };
    let tag = find(0, b'{')
        .and_then(|open| find(open + 1, b'}').and_then(|close| key.get(open + 1..close)));
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_as_redis_computes_them() {
        // CLUSTER KEYSLOT of Redis 7.0; the first is the specification's own example.
        for (key, slot) in [
            (&b"123456789"[..], 12_739),
            (b"", 0),
            (b"foo", 12_182),
            (b"foo{bar}zap", 5061),
            (b"bar", 5061),
            (b"foo{}bar", 14_292),
            (b"foo{{bar}}zap", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"foo}{bar", 7624),
            (b"{", 4092),
        ] {
            for cut in 0..=key.len() {
                let (first, second) = key.split_at(cut);
                assert_eq!(slot_of(first, second), slot, "{} at {cut}", key.escape_ascii());
            }
        }
    }

    #[test]
    fn tags_as_the_specification_has_them() {
        for (key, tag) in [
            (&b"{user1000}.following"[..], &b"user1000"[..]),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"no}tag{here", b"no}tag{here"),
            (b"\x00{\xff\x00}\x01", b"\xff\x00"),
        ] {
            assert_eq!(hash_tag(key), tag, "{}", key.escape_ascii());
        }
    }
}
