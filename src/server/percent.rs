//! Percent-encoding, as URLs have it.

/// `text` without percent-encoding, which need not be UTF-8 then. What is no encoding stays.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%').and_then(|hex| str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn what_is_no_encoding_stays() {
        for (text, bytes) in
            [("a%20b%2Fc", &b"a b/c"[..]), ("100%", b"100%"), ("%zz%4", b"%zz%4"), ("%ff", b"\xff")]
        {
            assert_eq!(decoded(text), bytes, "{text}");
        }
    }
}
