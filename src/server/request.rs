//! A request, as handlers take it: its body whole, its head reduced to what they look at.

use std::time::Instant;

use bytes::Bytes;

use super::auth::Principal;

/// A request whose body has arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// What follows the question mark, still percent-encoded; empty where there is none.
    pub query: String,
    /// Who makes it.
    pub principal: Principal,
    /// Whether the body is said to be JSON; otherwise Feast's server takes it for a text.
    pub is_json: bool,
    /// The body, at most as long as the limit.
    pub body: Bytes,
    /// When the answer must be there. The transport gives up then by itself, so that it only
    /// concerns what goes on elsewhere, such as on other threads. `None`: no limit.
    pub deadline: Option<Instant>,
}

/// Whether a content type is JSON: `application/json` or `application/*+json`, in whatever
/// letters, with whatever parameters.
pub fn is_json(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    let media_type = media_type.trim_ascii();
    let Some((prefix, subtype)) = media_type.split_at_checked(b"application/".len()) else {
        return false;
    };
    let ends_in_json = || {
        let at = subtype.len().checked_sub(b"+json".len());
        at.is_some_and(|at| subtype[at..].eq_ignore_ascii_case(b"+json"))
    };
    prefix.eq_ignore_ascii_case(b"application/")
        && (subtype.eq_ignore_ascii_case(b"json") || ends_in_json())
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn json_has_many_names() {
        for name in ["application/json", "Application/JSON ; charset=x", "application/ld+json"] {
            assert!(is_json(name.as_bytes()), "{name}");
        }
        for name in ["", "text/json", "application/xml", "application/jsonp", "json"] {
            assert!(!is_json(name.as_bytes()), "{name}");
        }
    }
}
