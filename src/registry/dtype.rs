//! How Feast prints the dtype of a field. Nested element types and struct schemas are not in
//! the value type: Feast keeps them in two tags of the field (`feast/field.py::from_proto`).

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};

use super::catalog::Tags;
use crate::error::{Error, ErrorKind, Result};
use crate::value::ValueType;

const STRUCT_SCHEMA_TAG: &str = "feast:struct_schema";
const NESTED_TYPE_TAG: &str = "feast:nested_inner_type";

/// The dtype of a field with `tags` as Feast prints it; the two tags are taken out of `tags`.
pub(super) fn take_dtype(value_type: ValueType, tags: &mut Tags) -> Result<String> {
    let schema = tags.remove(STRUCT_SCHEMA_TAG);
    let nested = tags.remove(NESTED_TYPE_TAG);
    match (value_type, schema, nested) {
        (ValueType::Struct, Some(schema), _) => print_struct(&schema),
        (ValueType::StructList, Some(schema), _) => {
            Ok(format!("Array({})", print_struct(&schema)?))
        }
        (ValueType::ValueList | ValueType::ValueSet, _, Some(nested)) => print_type(&nested),
        // Without the tag Feast puts a placeholder.
        (ValueType::Struct, None, _) => Ok("Struct({_value: String})".to_owned()),
        (ValueType::StructList, None, _) => Ok("Array(Struct({_value: String}))".to_owned()),
        (ValueType::ValueList, _, None) => Ok("Array(Array(String))".to_owned()),
        (ValueType::ValueSet, _, None) => Ok("Set(Array(String))".to_owned()),
        _ => Ok(value_type.dtype().to_owned()),
    }
}

/// A type as the tags spell it (`Array(INT64)`, `{"__struct__": {…}}`) as Feast prints it.
fn print_type(text: &str) -> Result<String> {
    for collection in ["Array", "Set"] {
        let inner = text.strip_prefix(collection).and_then(|rest| rest.strip_prefix('('));
        if let Some(inner) = inner.and_then(|rest| rest.strip_suffix(')')) {
            return Ok(format!("{collection}({})", print_type(inner)?));
        }
    }
    if text.starts_with('{') {
        let nested: Ordered<Ordered<String>> = parse(text)?;
        let schema = nested.0.into_iter().find(|(key, _)| key == "__struct__");
        return print_fields(schema.ok_or_else(|| unknown(text))?.1);
    }
    primitive(text).map(str::to_owned).ok_or_else(|| unknown(text))
}

fn print_struct(schema: &str) -> Result<String> {
    print_fields(parse(schema)?)
}

fn print_fields(fields: Ordered<String>) -> Result<String> {
    let fields = fields.0.iter().map(|(name, dtype)| Ok(format!("{name}: {}", print_type(dtype)?)));
    Ok(format!("Struct({{{}}})", fields.collect::<Result<Vec<_>>>()?.join(", ")))
}

/// Feast's names of primitive types in code, and printed.
fn primitive(name: &str) -> Option<&'static str> {
    Some(match name {
        "INVALID" => "Invalid",
        "STRING" => "String",
        "BYTES" => "Bytes",
        "PDF_BYTES" => "PdfBytes",
        "IMAGE_BYTES" => "ImageBytes",
        "BOOL" => "Bool",
        "INT32" => "Int32",
        "INT64" => "Int64",
        "FLOAT32" => "Float32",
        "FLOAT64" => "Float64",
        "UNIX_TIMESTAMP" => "UnixTimestamp",
        "MAP" => "Map",
        "JSON" => "Json",
        "UUID" => "Uuid",
        "TIME_UUID" => "TimeUuid",
        "DECIMAL" => "Decimal",
        "SCALAR_MAP" => "ScalarMap",
        "ZONED_TIMESTAMP" => "ZonedTimestamp",
        _ => return None,
    })
}

fn unknown(text: &str) -> Error {
    let message = format!("'{text}' is not a type that feastrs knows; a newer Feast wrote it?");
    Error::new(ErrorKind::RegistryInvalid, message)
}

fn parse<T: for<'de> serde::Deserialize<'de>>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| unknown(text).with_source(error))
}

/// A JSON object in the order in which it was written, which is the order Feast prints.
struct Ordered<T>(Vec<(String, T)>);

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(OrderedVisitor(std::marker::PhantomData))
    }
}

struct OrderedVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: serde::Deserialize<'de>> Visitor<'de> for OrderedVisitor<T> {
    type Value = Ordered<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Ordered<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Ordered(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtype(value_type: ValueType, tags: &[(&str, &str)]) -> Result<String> {
        let mut tags: Tags =
            tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let dtype = take_dtype(value_type, &mut tags)?;
        assert!(tags.keys().all(|key| !key.starts_with("feast:")), "a tag is left");
        Ok(dtype)
    }

    #[test]
    fn nested_types_come_from_the_tags() {
        let nested = dtype(ValueType::ValueList, &[(NESTED_TYPE_TAG, "Array(Set(INT64))")]);
        assert_eq!(nested.unwrap(), "Array(Set(Int64))");

        let schema = r#"{"z": "INT64", "a": "Array(STRING)", "s": "{\"__struct__\": {\"k\": \"FLOAT64\"}}"}"#;
        let printed = "Struct({z: Int64, a: Array(String), s: Struct({k: Float64})})";
        assert_eq!(dtype(ValueType::Struct, &[(STRUCT_SCHEMA_TAG, schema)]).unwrap(), printed);
        assert_eq!(
            dtype(ValueType::StructList, &[(STRUCT_SCHEMA_TAG, schema)]).unwrap(),
            format!("Array({printed})")
        );
    }

    #[test]
    fn without_tags_the_value_type_decides() {
        assert_eq!(dtype(ValueType::Int64List, &[("team", "x")]).unwrap(), "Array(Int64)");
        assert_eq!(dtype(ValueType::Struct, &[]).unwrap(), "Struct({_value: String})");
        assert_eq!(dtype(ValueType::ValueSet, &[]).unwrap(), "Set(Array(String))");
    }

    #[test]
    fn tags_that_make_no_sense_are_an_error() {
        for text in ["COMPLEX128", "Array(", "{\"a\": 1}", "{"] {
            let error = dtype(ValueType::ValueList, &[(NESTED_TYPE_TAG, text)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RegistryInvalid);
        }
    }
}
