//! What a handler gives back: status, headers and body, whole. Must not know the protocol that
//! carries it.

/// The content type of nearly every answer, as Feast's server has it: without a charset.
const JSON: &str = "application/json";

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status code.
    pub status: u16,
    /// The media type of `body`; empty: the header is left out.
    pub content_type: &'static str,
    /// Headers beside content type, content length and date, with lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent; may be empty.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer whose `body` is JSON already.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply { status, content_type: JSON, headers: Vec::new(), body: body.into() }
    }

    /// An answer without a body and its content type.
    pub fn empty(status: u16) -> Self {
        Reply { status, ..Reply::default() }
    }

    /// `text` as a JSON string: how Feast's server tells of an error.
    pub fn message(status: u16, text: &str) -> Self {
        Reply::json(status, serde_json::Value::from(text).to_string())
    }

    /// `{"detail": text}`: how the framework of Feast's server tells of an error.
    pub fn detail(status: u16, text: &str) -> Self {
        Reply::json(status, serde_json::json!({ "detail": text }).to_string())
    }

    /// The same answer with one more header. `value` is visible ASCII.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_compact_json() {
        assert_eq!(Reply::message(500, "no \"x\"").body, br#""no \"x\"""#);
        assert_eq!(Reply::detail(404, "Not Found").body, br#"{"detail":"Not Found"}"#);
        assert_eq!(Reply::empty(200).content_type, "");
    }
}
