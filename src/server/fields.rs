//! Bodies and queries taken apart as FastAPI takes those of Feast's server apart: which types
//! are accepted for a field, and the answer that lists everything that is wrong, in the order of
//! the fields. Must not know what the fields mean.

use std::fmt::Write;
use std::result::Result;

use super::percent;
use super::reply::Reply;
use super::tokens::{Fault, Number};
use super::tree::{Json, Member, write_text};

/// The body as JSON, or the answer that it is none. A body that is not said to be JSON is a text;
/// an empty one is no body.
pub(super) fn parse(body: &[u8], is_json: bool) -> Result<Option<Json<'_>>, Reply> {
    if body.is_empty() {
        return Ok(None);
    }
    if !is_json {
        let text = String::from_utf8_lossy(body).into_owned();
        return Ok(Some(Json::Text(text.into())));
    }
    let text = str::from_utf8(body).map_err(|_| unreadable())?;
    Json::parse(text).map(Some).map_err(|fault| match fault {
        Fault::Malformed { at, what } => malformed(at, what),
        Fault::TooMuch | Fault::Unexpected => unreadable(),
    })
}

fn malformed(at: usize, what: &str) -> Reply {
    let mut detail = format!("{{\"detail\":[{{\"type\":\"json_invalid\",\"loc\":[\"body\",{at}]");
    detail.push_str(",\"msg\":\"JSON decode error\",\"input\":{},\"ctx\":{\"error\":");
    write_text(&mut detail, what);
    detail.push_str("}}]}");
    Reply::json(422, detail)
}

fn unreadable() -> Reply {
    Reply::detail(400, "There was an error parsing the body")
}

/// The fields of a request, asked for one by one in the order in which Feast declares them:
/// those of the query first. What is asked for in vain is noted.
pub(super) struct Fields<'a> {
    body: Option<&'a Json<'a>>,
    wrong: Vec<String>,
}

const MISSING: (&str, &str) = ("missing", "Field required");
const NO_TEXT: (&str, &str) = ("string_type", "Input should be a valid string");
const NO_LIST: (&str, &str) = ("list_type", "Input should be a valid list");
const NO_OBJECT: (&str, &str) = ("dict_type", "Input should be a valid dictionary");
const NO_BODY: (&str, &str) = (
    "model_attributes_type",
    "Input should be a valid dictionary or object to extract fields from",
);
const NO_BOOL: (&str, &str) = ("bool_type", "Input should be a valid boolean");
const UNCLEAR_BOOL: (&str, &str) =
    ("bool_parsing", "Input should be a valid boolean, unable to interpret input");

impl<'a> Fields<'a> {
    /// Those of `body`; `None`: there is none.
    pub fn new(body: Option<&'a Json<'a>>) -> Self {
        Fields { body, wrong: Vec::new() }
    }

    /// A flag of the query, which is `name=value` with `&` between.
    pub fn query_flag(&mut self, query: &str, name: &str) -> bool {
        let mut values = query.split('&').filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescaped(key) == name).then(|| unescaped(value))
        });
        let Some(value) = values.next_back() else { return false };
        flag_of_text(&value).unwrap_or_else(|| {
            self.note(&["query", name], UNCLEAR_BOOL, &Json::Text(value.into()));
            false
        })
    }

    /// What follows is of the body, which has to be an object.
    pub fn begin_body(&mut self) {
        match self.body {
            None => self.note(&["body"], MISSING, &Json::Null),
            Some(Json::Object(_)) => {}
            Some(other) => self.note(&["body"], NO_BODY, other),
        }
    }

    /// A text that has to be there.
    pub fn text(&mut self, name: &str) -> &'a str {
        match self.required(name) {
            Some(Json::Text(text)) => text,
            other => self.in_vain(name, other, NO_TEXT),
        }
    }

    /// A text with a default.
    pub fn text_or(&mut self, name: &str, default: &'a str) -> &'a str {
        match self.member(name) {
            None => default,
            Some(Json::Text(text)) => text,
            other => self.in_vain(name, other, NO_TEXT),
        }
    }

    /// A text that may be left out, or null.
    pub fn optional_text(&mut self, name: &str) -> Option<&'a str> {
        match self.member(name) {
            None | Some(Json::Null) => None,
            Some(Json::Text(text)) => Some(text),
            other => self.in_vain(name, other, NO_TEXT),
        }
    }

    /// A list of texts that may be left out, or null.
    pub fn optional_texts(&mut self, name: &str) -> Option<Vec<String>> {
        match self.member(name) {
            None | Some(Json::Null) => None,
            Some(_) => Some(self.texts_or_none(name)),
        }
    }

    /// A list of texts, which is empty where it is left out.
    pub fn texts_or_none(&mut self, name: &str) -> Vec<String> {
        let items = match self.member(name) {
            None => return Vec::new(),
            Some(Json::List(items)) => items,
            other => return self.in_vain(name, other, NO_LIST),
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item {
                Json::Text(text) => texts.push(text.to_string()),
                other => {
                    let place = format!("\"body\",\"{name}\",{index}");
                    self.note_at(&place, NO_TEXT, other);
                }
            }
        }
        texts
    }

    /// An object of lists that has to be there.
    pub fn lists(&mut self, name: &str) {
        for (key, value) in self.object(name) {
            if !matches!(value, Json::List(_)) {
                self.note(&["body", name, key], NO_LIST, value);
            }
        }
    }

    /// An object that has to be there.
    pub fn object(&mut self, name: &str) -> &'a [Member<'a>] {
        match self.required(name) {
            Some(Json::Object(members)) => members,
            other => self.in_vain(name, other, NO_OBJECT),
        }
    }

    /// A flag with a default.
    pub fn flag_or(&mut self, name: &str, default: bool) -> bool {
        const MAX: f64 = i64::MAX as f64;
        let Some(value) = self.member(name) else { return default };
        let flag = match value {
            Json::Bool(flag) => Ok(*flag),
            Json::Number(Number::Integer(0)) => Ok(false),
            Json::Number(Number::Integer(1)) => Ok(true),
            Json::Number(Number::Float(0.0)) => Ok(false),
            Json::Number(Number::Float(1.0)) => Ok(true),
            Json::Number(Number::Integer(_)) => Err(UNCLEAR_BOOL),
            // Of 64 bits, as integers have to be.
            Json::Number(Number::Float(number)) if number.fract() == 0.0 && number.abs() < MAX => {
                Err(UNCLEAR_BOOL)
            }
            Json::Text(text) => flag_of_text(text).ok_or(UNCLEAR_BOOL),
            _ => Err(NO_BOOL),
        };
        flag.unwrap_or_else(|what| {
            self.note(&["body", name], what, value);
            default
        })
    }

    /// The answer that lists what is wrong, if anything is.
    pub fn check(self) -> Result<(), Reply> {
        match self.wrong.is_empty() {
            true => Ok(()),
            false => Err(Reply::json(422, format!("{{\"detail\":[{}]}}", self.wrong.join(",")))),
        }
    }

    fn member(&self, name: &str) -> Option<&'a Json<'a>> {
        self.body?.get(name)
    }

    /// Notes where it is missing; not where the whole body is.
    fn required(&mut self, name: &str) -> Option<&'a Json<'a>> {
        let body = self.body.filter(|body| matches!(body, Json::Object(_)))?;
        let member = body.get(name);
        if member.is_none() {
            self.note(&["body", name], MISSING, body);
        }
        member
    }

    /// Notes that `value` is no such thing, and stands in for it.
    fn in_vain<T: Default>(
        &mut self,
        name: &str,
        value: Option<&'a Json<'a>>,
        what: (&str, &str),
    ) -> T {
        if let Some(value) = value {
            self.note(&["body", name], what, value);
        }
        T::default()
    }

    fn note(&mut self, place: &[&str], what: (&str, &str), input: &Json<'_>) {
        let mut path = String::new();
        for part in place {
            if !path.is_empty() {
                path.push(',');
            }
            write_text(&mut path, part);
        }
        self.note_at(&path, what, input);
    }

    fn note_at(&mut self, place: &str, (kind, message): (&str, &str), input: &Json<'_>) {
        let mut item = String::new();
        // Writing to a String does not fail.
        let _ = write!(
            item,
            "{{\"type\":\"{kind}\",\"loc\":[{place}],\"msg\":\"{message}\",\"input\":"
        );
        input.write(&mut item);
        item.push('}');
        self.wrong.push(item);
    }
}

fn flag_of_text(text: &str) -> Option<bool> {
    const WORDS: [(&str, bool); 12] = [
        ("true", true),
        ("t", true),
        ("yes", true),
        ("y", true),
        ("on", true),
        ("1", true),
        ("false", false),
        ("f", false),
        ("no", false),
        ("n", false),
        ("off", false),
        ("0", false),
    ];
    WORDS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map(|(_, flag)| *flag)
}

/// A part of a query without percent-encoding.
fn unescaped(text: &str) -> String {
    let bytes = percent::decoded(&text.replace('+', " "));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(body: &str, query: &str) -> String {
        let json = parse(body.as_bytes(), true).unwrap();
        let mut fields = Fields::new(json.as_ref());
        fields.query_flag(query, "async");
        fields.begin_body();
        fields.text("name");
        fields.object("df");
        fields.flag_or("flag", true);
        fields.optional_texts("views");
        match fields.check() {
            Ok(()) => String::new(),
            Err(reply) => String::from_utf8(reply.body).unwrap(),
        }
    }

    #[test]
    fn all_that_is_wrong_is_listed_in_order() {
        assert_eq!(detail(r#"{"name":"a","df":{},"flag":"Off","views":null}"#, "async=Yes"), "");
        let body = r#"{"df":1,"flag":2,"views":["a",1.50]}"#;
        assert_eq!(
            detail(body, "x=1&async=%20"),
            concat!(
                r#"{"detail":[{"type":"bool_parsing","loc":["query","async"],"msg":"Input should be a valid boolean, unable to interpret input","input":" "},"#,
                r#"{"type":"missing","loc":["body","name"],"msg":"Field required","input":{"df":1,"flag":2,"views":["a",1.5]}},"#,
                r#"{"type":"dict_type","loc":["body","df"],"msg":"Input should be a valid dictionary","input":1},"#,
                r#"{"type":"bool_parsing","loc":["body","flag"],"msg":"Input should be a valid boolean, unable to interpret input","input":2},"#,
                r#"{"type":"string_type","loc":["body","views",1],"msg":"Input should be a valid string","input":1.5}]}"#
            )
        );
        assert!(detail("[]", "").contains("model_attributes_type"));
        assert!(detail("", "").contains(r#""loc":["body"],"msg":"Field required","input":null"#));
    }

    #[test]
    fn a_body_that_is_not_said_to_be_json_is_a_text() {
        let body = parse(b"{}", false).unwrap();
        assert_eq!(body, Some(Json::Text("{}".into())));
        assert_eq!(parse(b"{", true).unwrap_err().status, 422);
        assert_eq!(parse(b"\"\xff\"", true).unwrap_err().status, 400);
    }
}
