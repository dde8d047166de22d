//! The token in an `Authorization` header.

/// The token of a header `Bearer <token>`; `None` for anything else.
pub fn token(header: &[u8]) -> Option<&str> {
    let mut words = std::str::from_utf8(header).ok()?.split_ascii_whitespace();
    let (scheme, token) = (words.next()?, words.next()?);
    (scheme.eq_ignore_ascii_case("bearer") && words.next().is_none()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::token;

    #[test]
    fn a_bearer_token_is_one_word() {
        assert_eq!(token(b"Bearer a.b.c"), Some("a.b.c"));
        assert_eq!(token(b"bEARER  a.b.c "), Some("a.b.c"));
        for other in ["", "Bearer", "Bearer ", "Basic a", "a.b.c", "Bearer a b", "Bearera"] {
            assert_eq!(token(other.as_bytes()), None, "{other}");
        }
        assert_eq!(token(b"Bearer \xff"), None);
    }
}
