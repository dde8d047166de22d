//! What Feast's server says of a body that is no request for features: FastAPI's status, and
//! pydantic's list of mistakes (`feast/feature_server.py::GetOnlineFeaturesRequest`). Off the way
//! of good requests, so it reads the body into a tree.

use std::result::Result;

use super::Reply;
use super::ask::truth;
use super::print::{float, integer, string};
use super::tokens::{Fault, Number, Reader, Scalar};

const STATUS: u16 = 422;

/// The answer to a body that is no JSON, or not what was asked for.
pub fn refuse(text: &str, fault: &Fault) -> Reply {
    match fault {
        Fault::Malformed { at, what } => malformed(*at, what),
        Fault::TooMuch => unreadable(),
        Fault::Unexpected => match Tree::parse(text) {
            Ok(tree) => mistakes(&tree),
            Err(_) => unreadable(),
        },
    }
}

/// The answer to a body that is no UTF-8, nests too deep, or has a number of too many digits.
pub fn unreadable() -> Reply {
    Reply::detail(400, "There was an error parsing the body")
}

/// The answer where there is no body at all.
pub fn no_body() -> Reply {
    let mut mistakes = Mistakes::new();
    mistakes.add("missing", &[], "Field required", &Tree::Scalar(Scalar::Null));
    mistakes.reply()
}

/// The answer to a body that does not say that it is JSON: to FastAPI it is a string.
pub fn no_json(text: &str) -> Reply {
    mistakes(&Tree::Scalar(Scalar::Text(text.into())))
}

fn malformed(at: usize, what: &str) -> Reply {
    let mut body = format!(
        "{{\"detail\":[{{\"type\":\"json_invalid\",\"loc\":[\"body\",{at}],\
         \"msg\":\"JSON decode error\",\"input\":{{}},\"ctx\":{{\"error\":"
    )
    .into_bytes();
    string(&mut body, what);
    body.extend_from_slice(b"}}]}");
    Reply::json(STATUS, body)
}

/// What the members of a request have to be, in the order in which mistakes are told.
fn mistakes(body: &Tree<'_>) -> Reply {
    let mut found = Mistakes::new();
    let Tree::Object(members) = body else {
        let message = "Input should be a valid dictionary or object to extract fields from";
        found.add("model_attributes_type", &[], message, body);
        return found.reply();
    };
    let member = |name: &str| members.iter().find(|(known, _)| known == name).map(|(_, one)| one);
    match member("entities") {
        None => found.add("missing", &[Step::Name("entities")], "Field required", body),
        Some(Tree::Object(columns)) => {
            for (name, values) in columns.iter().filter(|(_, one)| !matches!(one, Tree::Array(_))) {
                let place = [Step::Name("entities"), Step::Name(name)];
                found.add("list_type", &place, "Input should be a valid list", values);
            }
        }
        Some(other) => {
            let message = "Input should be a valid dictionary";
            found.add("dict_type", &[Step::Name("entities")], message, other);
        }
    }
    match member("feature_service") {
        None | Some(Tree::Scalar(Scalar::Null | Scalar::Text(_))) => {}
        Some(other) => found.no_text(&[Step::Name("feature_service")], other),
    }
    match member("features") {
        None => {}
        Some(Tree::Array(references)) => {
            for (index, reference) in references.iter().enumerate() {
                if !matches!(reference, Tree::Scalar(Scalar::Text(_))) {
                    found.no_text(&[Step::Name("features"), Step::Index(index)], reference);
                }
            }
        }
        Some(other) => {
            let place = [Step::Name("features")];
            found.add("list_type", &place, "Input should be a valid list", other);
        }
    }
    for name in ["full_feature_names", "include_feature_view_version_metadata"] {
        if let Some(one) = member(name) {
            found.check_truth(name, one);
        }
    }
    found.reply()
}

enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// A list of mistakes in the making: the body of the answer.
struct Mistakes {
    body: Vec<u8>,
    count: usize,
}

impl Mistakes {
    fn new() -> Self {
        Mistakes { body: b"{\"detail\":[".to_vec(), count: 0 }
    }

    fn add(&mut self, kind: &str, place: &[Step<'_>], message: &str, input: &Tree<'_>) {
        let body = &mut self.body;
        if self.count > 0 {
            body.push(b',');
        }
        self.count += 1;
        body.extend_from_slice(b"{\"type\":");
        string(body, kind);
        body.extend_from_slice(b",\"loc\":[\"body\"");
        for step in place {
            body.push(b',');
            match step {
                Step::Name(name) => string(body, name),
                Step::Index(index) => integer(body, i64::try_from(*index).unwrap_or(i64::MAX)),
            }
        }
        body.extend_from_slice(b"],\"msg\":");
        string(body, message);
        body.extend_from_slice(b",\"input\":");
        input.write(body);
        body.push(b'}');
    }

    fn no_text(&mut self, place: &[Step<'_>], input: &Tree<'_>) {
        self.add("string_type", place, "Input should be a valid string", input);
    }

    fn check_truth(&mut self, name: &str, one: &Tree<'_>) {
        // Of 64 bits, as integers have to be.
        let is_whole = |number: f64| number.abs() < 9.3e18 && number.fract() == 0.0;
        let is_near = match one {
            Tree::Scalar(scalar) if truth(scalar).is_some() => return,
            Tree::Scalar(Scalar::Number(Number::Float(number))) => is_whole(*number),
            Tree::Scalar(Scalar::Null | Scalar::Number(Number::Big(_))) => false,
            Tree::Scalar(_) => true,
            _ => false,
        };
        let place = [Step::Name(name)];
        match is_near {
            true => {
                let message = "Input should be a valid boolean, unable to interpret input";
                self.add("bool_parsing", &place, message, one);
            }
            false => self.add("bool_type", &place, "Input should be a valid boolean", one),
        }
    }

    fn reply(mut self) -> Reply {
        if self.count == 0 {
            let message = "a key of the request is there twice, and one of its values is of \
                           another type than it should be";
            return Reply::message(STATUS, message);
        }
        self.body.extend_from_slice(b"]}");
        Reply::json(STATUS, self.body)
    }
}

/// JSON, as Python holds it: of members with one name the last, in the place of the first.
enum Tree<'a> {
    Scalar(Scalar<'a>),
    Array(Vec<Tree<'a>>),
    Object(Vec<(String, Tree<'a>)>),
}

impl<'a> Tree<'a> {
    fn parse(text: &'a str) -> Result<Self, Fault> {
        let mut reader = Reader::new(text);
        let tree = Self::read(&mut reader)?;
        reader.end()?;
        Ok(tree)
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        match reader.peek() {
            Some(b'[') => {
                let mut items = Vec::new();
                reader.array(|reader| {
                    items.push(Self::read(reader)?);
                    Ok(())
                })?;
                Ok(Tree::Array(items))
            }
            Some(b'{') => {
                let mut members: Vec<(String, Tree<'a>)> = Vec::new();
                let mut places = ahash::AHashMap::new();
                reader.object(|reader, name| {
                    let value = Self::read(reader)?;
                    let place = *places.entry(name.clone()).or_insert(members.len());
                    match members.get_mut(place) {
                        Some((_, earlier)) => *earlier = value,
                        None => members.push((name.into_owned(), value)),
                    }
                    Ok(())
                })?;
                Ok(Tree::Object(members))
            }
            _ => reader.scalar().map(Tree::Scalar),
        }
    }

    /// As Python prints what it read; numbers that JSON does not have by their names.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Tree::Scalar(Scalar::Null) => out.extend_from_slice(b"null"),
            Tree::Scalar(Scalar::Bool(flag)) => out.extend_from_slice(flag.to_string().as_bytes()),
            Tree::Scalar(Scalar::Number(Number::Integer(number))) => integer(out, *number),
            Tree::Scalar(Scalar::Number(Number::Big(digits))) => {
                out.extend_from_slice(digits.as_bytes());
            }
            Tree::Scalar(Scalar::Number(Number::Float(number))) => float(out, *number),
            Tree::Scalar(Scalar::Text(text)) => string(out, text),
            Tree::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Tree::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    string(out, name);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ask;

    fn refused(text: &str) -> (u16, String) {
        let fault = ask::parse(text).unwrap_err();
        let reply = refuse(text, &fault);
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
        assert_eq!(no_body().body, br#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#);
    }
}
