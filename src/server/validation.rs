//! What Feast's server says of a body that is no request for features: which types the fields of
//! one have (`feast/feature_server.py::GetOnlineFeaturesRequest`). Off the way of good requests,
//! so it reads the body once more, into a tree.

use super::Reply;
use super::fields::{self, Fields};

/// The answer to a body that is no request for features. `is_json`: whether its content type says
/// that it is JSON.
pub fn refuse(body: &[u8], is_json: bool) -> Reply {
    let json = match fields::parse(body, is_json) {
        Ok(json) => json,
        Err(reply) => return reply,
    };
    let mut fields = Fields::new(json.as_ref());
    fields.begin_body();
    fields.lists("entities");
    fields.optional_text("feature_service");
    fields.texts_or_none("features");
    for name in ["full_feature_names", "include_feature_view_version_metadata"] {
        fields.flag_or(name, false);
    }
    match fields.check() {
        Err(reply) => reply,
        Ok(()) => Reply::message(
            422,
            "a key of the request is there twice, and one of its values is of another type than \
             it should be",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (u16, String) {
        let reply = refuse(text.as_bytes(), true);
        (reply.status, String::from_utf8(reply.body).unwrap())
    }

    // As Feast 0.67 answers them.
    #[test]
    fn mistakes_are_told_as_feast_tells_them() {
        let expected = [
            (
                "[1.50]",
                r#"{"type":"model_attributes_type","loc":["body"],"msg":"Input should be a valid dictionary or object to extract fields from","input":[1.5]}"#,
            ),
            (
                "{\"ü\":-0}",
                r#"{"type":"missing","loc":["body","entities"],"msg":"Field required","input":{"ü":0}}"#,
            ),
            (
                r#"{"entities":{"k":1e5},"features":["a",2],"full_feature_names":2,"feature_service":[]}"#,
                r#"{"type":"list_type","loc":["body","entities","k"],"msg":"Input should be a valid list","input":100000.0},{"type":"string_type","loc":["body","feature_service"],"msg":"Input should be a valid string","input":[]},{"type":"string_type","loc":["body","features",1],"msg":"Input should be a valid string","input":2},{"type":"bool_parsing","loc":["body","full_feature_names"],"msg":"Input should be a valid boolean, unable to interpret input","input":2}"#,
            ),
            (
                r#"{"entities":{},"full_feature_names":null}"#,
                r#"{"type":"bool_type","loc":["body","full_feature_names"],"msg":"Input should be a valid boolean","input":null}"#,
            ),
            (
                "{",
                r#"{"type":"json_invalid","loc":["body",1],"msg":"JSON decode error","input":{},"ctx":{"error":"Expecting property name enclosed in double quotes"}}"#,
            ),
        ];
        for (text, mistakes) in expected {
            assert_eq!(refused(text), (422, format!("{{\"detail\":[{mistakes}]}}")), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_a_bad_request() {
        let deep = "[".repeat(1000);
        assert_eq!(refused(&deep).0, 400);
        assert_eq!(refuse(b"\"\xff\"", true).status, 400);
        assert_eq!(refuse(b"", true).body, br#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#);
    }
}
