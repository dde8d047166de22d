//! JSON as a tree, for bodies that are looked at from more than one side. Must not know what
//! they are for.

use std::borrow::Cow;
use std::result::Result;

use ahash::AHashMap;

use super::tokens::{Fault, Number, Reader, Scalar};
use crate::value::text::python_float;

/// Past this many members, keys are looked for by their hash.
const FEW: usize = 16;

/// A key and its value.
pub(super) type Member<'a> = (Cow<'a, str>, Json<'a>);

/// A JSON value, as Python's `json.loads` has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number<'a>),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    /// Each key once, in the order in which they first came.
    Object(Vec<Member<'a>>),
}

impl<'a> Json<'a> {
    /// The value that `text` is.
    pub fn parse(text: &'a str) -> Result<Self, Fault> {
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
                Ok(Json::List(items))
            }
            Some(b'{') => {
                let mut members = Reading::default();
                reader.object(|reader, name| {
                    members.put(name, Self::read(reader)?);
                    Ok(())
                })?;
                Ok(Json::Object(members.list))
            }
            _ => Ok(match reader.scalar()? {
                Scalar::Null => Json::Null,
                Scalar::Bool(flag) => Json::Bool(flag),
                Scalar::Number(number) => Json::Number(number),
                Scalar::Text(text) => Json::Text(text),
            }),
        }
    }

    /// The value of a member of an object.
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        let Json::Object(members) = self else { return None };
        members.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The value as Feast's server repeats it: compact, numbers as Python prints them. What JSON
    /// has no number for is a text.
    pub fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Json::Number(Number::Integer(number)) => out.push_str(&number.to_string()),
            Json::Number(Number::Big(digits)) => out.push_str(digits),
            Json::Number(Number::Float(number)) => out.push_str(&match number {
                number if number.is_nan() => "\"NaN\"".to_owned(),
                number if number.is_finite() => python_float(*number),
                number if *number > 0.0 => "\"Infinity\"".to_owned(),
                _ => "\"-Infinity\"".to_owned(),
            }),
            Json::Text(text) => write_text(out, text),
            Json::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_text(out, key);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Appends `text` as a JSON string, in UTF-8.
pub(super) fn write_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

/// The members of an object while it is read: the last of equal keys counts.
#[derive(Default)]
struct Reading<'a> {
    list: Vec<Member<'a>>,
    places: AHashMap<Cow<'a, str>, usize>,
}

impl<'a> Reading<'a> {
    fn put(&mut self, key: Cow<'a, str>, value: Json<'a>) {
        if self.list.len() == FEW && self.places.is_empty() {
            let known = self.list.iter().enumerate();
            self.places = known.map(|(place, (key, _))| (key.clone(), place)).collect();
        }
        let place = match self.list.len() {
            ..FEW => self.list.iter().position(|(known, _)| *known == key),
            _ => self.places.get(&key).copied(),
        };
        if let Some((_, earlier)) = place.and_then(|place| self.list.get_mut(place)) {
            *earlier = value;
            return;
        }
        if self.list.len() >= FEW {
            self.places.insert(key.clone(), self.list.len());
        }
        self.list.push((key, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> String {
        let mut out = String::new();
        Json::parse(text).unwrap().write(&mut out);
        out
    }

    #[test]
    fn values_are_repeated_as_python_has_them() {
        let text =
            r#" {"a" : [1.50, 1e5, -0, 123456789012345678901234567890, NaN],"b":"é\u00e9\/"} "#;
        let expected = r#"{"a":[1.5,100000.0,0,123456789012345678901234567890,"NaN"],"b":"éé/"}"#;
        assert_eq!(again(text), expected);
        assert_eq!(
            again("[-Infinity,Infinity,true,false,null,[],{}]"),
            r#"["-Infinity","Infinity",true,false,null,[],{}]"#
        );
    }

    #[test]
    fn the_last_of_equal_keys_counts_at_the_place_of_the_first() {
        assert_eq!(again(r#"{"a":1,"b":2,"a":3}"#), r#"{"a":3,"b":2}"#);
        let many: Vec<String> = (0..100).map(|key| format!("\"{key}\":{key}")).collect();
        let twice = format!("{{{0},{0},\"40\":7}}", many.join(","));
        let tree = Json::parse(&twice).unwrap();
        let Json::Object(members) = &tree else { unreachable!("{tree:?}") };
        assert_eq!(members.len(), 100);
        assert_eq!(members[40].1, Json::Number(Number::Integer(7)));
        assert_eq!(tree.get("99"), Some(&Json::Number(Number::Integer(99))));
    }
}
