//! Columns as they are given out through Arrow.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StringArray};
use arrow_schema::{DataType, Field};

use crate::error::Result;
use crate::value::wire::Value;
use crate::value::{Column, Layout, json};

/// The Arrow field and array that a column is given out as: a typed column as it is, a column
/// in wire layout as JSON text with the extension type `arrow.json`.
pub fn export(column: &Column, name: &str) -> Result<(Field, ArrayRef)> {
    if column.layout == Layout::Typed {
        let field = Field::new(name, column.values.data_type().clone(), true);
        return Ok((field, Arc::clone(&column.values)));
    }
    let mut texts = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let text = match column.cell(row)? {
            Value::Null => None,
            value => Some(json::to_text(&value)),
        };
        texts.push(text);
    }
    let names = [("ARROW:extension:name", "arrow.json"), ("ARROW:extension:metadata", "")];
    let metadata: HashMap<String, String> =
        names.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let field = Field::new(name, DataType::Utf8, true).with_metadata(metadata);
    Ok((field, Arc::new(StringArray::from_iter(texts))))
}
