//! Redis field names: murmur3, 32 bits, seed 0, little endian. Knows names, nothing else.

/// The Redis field of a feature: murmur3-32 of `<view>:<feature>`, little endian
/// (`feast/infra/online_stores/helpers.py::_mmh3`).
///
/// ```
/// assert_eq!(feastrs::hash::field_name("driver_stats", "conv_rate").len(), 4);
/// ```
pub fn field_name(view: &str, feature: &str) -> [u8; 4] {
    let parts = [view.as_bytes(), b":", feature.as_bytes()];
    murmur3(parts.iter().flat_map(|part| part.iter().copied())).to_le_bytes()
}

// Takes bytes one by one, so that the name need not be put together first: it is computed
// once for each feature of a plan, never in a loop over rows.
fn murmur3(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut hash = 0u32;
    let mut block = 0u32;
    let mut length = 0u32;
    for byte in bytes {
        block |= u32::from(byte) << (8 * (length % 4));
        length = length.wrapping_add(1);
        if length.is_multiple_of(4) {
            hash =
                (hash ^ scramble(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
            block = 0;
        }
    }
    hash ^= scramble(block);
    finish(hash ^ length)
}

fn scramble(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn finish(mut hash: u32) -> u32 {
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_vectors() {
        let of = |text: &str| murmur3(text.bytes());

        assert_eq!(of(""), 0);
        assert_eq!(of("test"), 0xba6b_d213);
        assert_eq!(of("Hello, world!"), 0xc036_3e43);
    }

    #[test]
    fn a_name_is_hashed_as_one_text() {
        assert_eq!(field_name("a", "b"), murmur3("a:b".bytes()).to_le_bytes());
    }
}
