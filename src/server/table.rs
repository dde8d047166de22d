//! The `df` of a request as one Arrow batch, of the types that its values have by themselves: what
//! is added to a batch source, whose own types it takes there. Must not know sources.

use std::result::Result;
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, NullArray, RecordBatch,
    StringArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::Field;

use super::rows::Rows;
use super::tokens::Number;
use super::tree::Json;

impl Rows<'_, '_> {
    /// All columns; `None` where a column has values of several kinds, or objects: those are
    /// Python's to judge.
    pub(super) fn table(&self) -> Option<RecordBatch> {
        let columns = self.columns().map(|(name, values)| Some((name, array(&values)?)));
        RecordBatch::try_from_iter(columns.collect::<Option<Vec<_>>>()?).ok()
    }
}

fn array(values: &[&Json<'_>]) -> Option<ArrayRef> {
    let present = || values.iter().filter(|value| !matches!(value, Json::Null));
    Some(match present().next() {
        None => Arc::new(NullArray::new(values.len())),
        Some(Json::Text(_)) => Arc::new(StringArray::from(each(values, |value| match value {
            Json::Text(text) => Ok(&**text),
            _ => Err(()),
        })?)),
        Some(Json::Bool(_)) => Arc::new(BooleanArray::from(each(values, |value| match value {
            Json::Bool(flag) => Ok(*flag),
            _ => Err(()),
        })?)),
        Some(Json::Number(_)) => {
            let is_whole = |value: &&&Json<'_>| matches!(value, Json::Number(Number::Integer(_)));
            match present().all(|value| is_whole(&value)) {
                true => Arc::new(Int64Array::from(each(values, |value| match value {
                    Json::Number(Number::Integer(number)) => Ok(*number),
                    _ => Err(()),
                })?)),
                false => Arc::new(Float64Array::from(each(values, |value| match value {
                    Json::Number(Number::Integer(number)) => Ok(*number as f64),
                    Json::Number(Number::Float(number)) => Ok(*number),
                    _ => Err(()),
                })?)),
            }
        }
        Some(Json::List(_)) => lists(values)?,
        Some(Json::Object(_)) => return None,
        // Filtered out above.
        Some(Json::Null) => return None,
    })
}

fn lists(values: &[&Json<'_>]) -> Option<ArrayRef> {
    let lists = each(values, |value| match value {
        Json::List(items) => Ok(items.as_slice()),
        _ => Err(()),
    })?;
    let items: Vec<&Json<'_>> = lists.iter().flatten().copied().flatten().collect();
    let items = array(&items)?;
    let nulls: NullBuffer = lists.iter().map(Option::is_some).collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, <[_]>::len)));
    let field = Field::new_list_field(items.data_type().clone(), true);
    let array = ListArray::try_new(Arc::new(field), offsets, items, Some(nulls));
    array.ok().map(|array| Arc::new(array) as ArrayRef)
}

/// The values of one kind, nulls apart; `None` where another is among them.
fn each<'j, 'a, T>(
    values: &[&'j Json<'a>],
    take: impl Fn(&'j Json<'a>) -> Result<T, ()>,
) -> Option<Vec<Option<T>>> {
    let taken = values.iter().map(|&value| match value {
        Json::Null => Ok(None),
        value => take(value).map(Some),
    });
    taken.collect::<Result<_, ()>>().ok()
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType;

    use super::*;

    fn table(text: &str) -> Option<RecordBatch> {
        let tree = Json::parse(text).unwrap();
        let Json::Object(df) = &tree else { unreachable!("{text}") };
        Rows::new(df).unwrap().table()
    }

    #[test]
    fn columns_have_the_types_of_their_values() {
        let text = r#"{"i":[1,null],"f":[1,2.5],"t":["a",null],"b":[true,false],"n":[null,null],
                       "l":[[1],null],"one":"x"}"#;
        let batch = table(text).unwrap();

        let types: Vec<_> =
            batch.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let list = DataType::new_list(DataType::Int64, true);
        let expected = [
            DataType::Int64,
            DataType::Float64,
            DataType::Utf8,
            DataType::Boolean,
            DataType::Null,
            list,
            DataType::Utf8,
        ];
        assert_eq!(types, expected);
        assert_eq!((batch.num_rows(), batch.column(0).null_count()), (2, 1));
    }

    #[test]
    fn mixed_columns_are_left_to_others() {
        for column in [r#"[1,"a"]"#, r#"[[1],["a"]]"#, r#"[{"a":1},1]"#, "[true,1]"] {
            assert!(table(&format!("{{\"c\":{column}}}")).is_none(), "{column}");
        }
    }
}
