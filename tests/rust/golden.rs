//! The golden bytes of stock Feast (`tests/golden/make_golden.py`): values, keys, field names
//! and columns, and properties that hold for any bytes.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use feastrs::hash::field_name;
use feastrs::key::{KeyEncoder, KeyValue, KeyVersion, decode_entity_key};
use feastrs::online::{FeatureVector, OnlineFeatures, Statuses};
use feastrs::server::render::to_json;
use feastrs::value::arrow::{encode_column, encode_values, export, to_column};
use feastrs::value::column::arrow_type;
use feastrs::value::wire::{ColumnDecoder, Decoded, Value};
use feastrs::value::{Column, Layout, ValueType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use serde_json::Value as Json;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn json(name: &str) -> Json {
    serde_json::from_reader(File::open(golden(name)).unwrap()).unwrap()
}

fn bytes(json: &Json) -> Vec<u8> {
    let text = json.as_str().unwrap().as_bytes();
    text.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn value_type(json: &Json) -> ValueType {
    let name = json.as_str().unwrap();
    *ValueType::ALL.iter().find(|value_type| value_type.name() == name).unwrap()
}

/// The value with the elements of sets and the entries of maps in order.
fn sorted(bytes: &[u8]) -> String {
    fn sort(value: Value<'_>) -> String {
        match value {
            Value::Items(kind, items) if kind.is_set() => {
                let mut items: Vec<String> = items.into_iter().map(sort).collect();
                items.sort();
                format!("{kind:?}{items:?}")
            }
            Value::Map(kind, entries) => format!("{kind:?}{:?}", entries_of(entries)),
            Value::Maps(kind, maps) => {
                format!("{kind:?}{:?}", maps.into_iter().map(entries_of).collect::<Vec<_>>())
            }
            Value::Nested(kind, items) => {
                format!("{kind:?}{:?}", items.into_iter().map(sort).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        }
    }
    fn entries_of(entries: feastrs::value::wire::Entries<'_>) -> Vec<(String, String)> {
        let mut entries: Vec<_> =
            entries.into_iter().map(|(key, value)| (key.into_owned(), sort(value))).collect();
        entries.sort();
        entries
    }
    sort(Value::parse(bytes).unwrap())
}

fn decode(value_type: ValueType, bytes: &[u8]) -> (Decoded, Column) {
    let mut decoder = ColumnDecoder::new(value_type, 1);
    let decoded = decoder.push(bytes).unwrap();
    (decoded, decoder.finish().unwrap())
}

#[test]
fn every_value_is_decoded_and_encoded_again() {
    let cases = json("values.json");
    for case in cases.as_array().unwrap() {
        let (value_type, stored) = (value_type(&case["type"]), bytes(&case["hex"]));
        let name = format!("{} ({})", case["name"], case["type"]);

        let (decoded, column) = decode(value_type, &stored);
        let again = encode_column(&column).unwrap();

        match decoded {
            Decoded::Null => assert!(column.is_null(0) && again.get(0).is_empty(), "{name}"),
            Decoded::Present => assert_eq!(sorted(again.get(0)), sorted(&stored), "{name}"),
        }
        if !case["type"].as_str().unwrap().contains("MAP") && decoded == Decoded::Present {
            assert_eq!(again.get(0).len(), stored.len(), "{name}");
        }
        let (field, array) = export(&column, "f").unwrap();
        assert_eq!(field.data_type(), array.data_type(), "{name}");
    }
}

#[test]
fn every_value_type_has_a_golden_value_in_its_layout() {
    let cases = json("values.json");
    for value_type in ValueType::ALL {
        if matches!(value_type, ValueType::Invalid | ValueType::Null) {
            continue;
        }
        let case = cases.as_array().unwrap().iter().find(|case| case["type"] == value_type.name());
        let case = case.unwrap_or_else(|| panic!("no golden value of {}", value_type.name()));

        let (_, column) = decode(*value_type, &bytes(&case["hex"]));

        let expected = if arrow_type(*value_type).is_some() { Layout::Typed } else { Layout::Wire };
        assert_eq!(column.layout, expected, "{}", value_type.name());
    }
}

#[test]
fn trees_give_back_the_same_bytes() {
    for case in json("values.json").as_array().unwrap() {
        let stored = bytes(&case["hex"]);

        let again = Value::parse(&stored).unwrap().to_bytes();

        assert_eq!(sorted(&again), sorted(&stored), "{}", case["name"]);
    }
}

fn key_column(kind: ValueType, value: &Json) -> ArrayRef {
    let text = value.as_str().unwrap();
    if kind == ValueType::Bytes {
        return Arc::new(arrow_array::BinaryArray::from(vec![bytes(value).as_slice()]));
    }
    to_column(&StringArray::from(vec![text]), kind, "key").unwrap().values
}

#[test]
fn entity_keys_are_those_of_feast() {
    for case in json("keys.json").as_array().unwrap() {
        let version = if case["version"] == 2 { KeyVersion::V2 } else { KeyVersion::V3 };
        let parts = case["join_keys"].as_array().unwrap();
        let join_keys: Vec<(String, ValueType)> = parts
            .iter()
            .map(|part| (part[0].as_str().unwrap().to_owned(), value_type(&part[1])))
            .collect();
        let columns: Vec<ArrayRef> =
            parts.iter().zip(&join_keys).map(|(part, key)| key_column(key.1, &part[2])).collect();

        let keys = KeyEncoder::new(version, &join_keys).unwrap().encode_rows(&columns, 1).unwrap();

        assert_eq!(keys.get(0), bytes(&case["hex"]), "{case}");
        if version == KeyVersion::V3 {
            check_decoded(keys.get(0), parts);
        }
    }
}

fn check_decoded(key: &[u8], parts: &[Json]) {
    let (pairs, rest) = decode_entity_key(key).unwrap();
    assert!(rest.is_empty());
    assert_eq!(pairs.len(), parts.len());
    for (name, value) in pairs {
        let part = parts.iter().find(|part| part[0] == name.as_str()).unwrap();
        let text = match value {
            KeyValue::String(text) => text,
            KeyValue::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            KeyValue::Int32(number) => number.to_string(),
            KeyValue::Int64(number) | KeyValue::UnixTimestamp(number) => number.to_string(),
        };
        assert_eq!(part[2], text.as_str());
    }
}

#[test]
fn field_names_are_those_of_feast() {
    for case in json("fields.json").as_array().unwrap() {
        let name = field_name(case["view"].as_str().unwrap(), case["feature"].as_str().unwrap());

        assert_eq!(name.as_slice(), bytes(&case["hex"]), "{case}");
    }
}

fn columns() -> RecordBatch {
    let file = File::open(golden("columns.parquet")).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.next().unwrap().unwrap()
}

#[test]
fn arrow_columns_become_what_feast_stores() {
    let batch = columns();
    for (name, case) in json("columns.json").as_object().unwrap() {
        let array = batch.column_by_name(name).unwrap();
        let value_type = value_type(&case["type"]);

        let values = encode_values(array, value_type, name).unwrap();

        for (row, expected) in case["hex"].as_array().unwrap().iter().enumerate() {
            let (ours, feasts) = (values.get(row), bytes(expected));
            assert_eq!(sorted(ours), sorted(&feasts), "{name}, row {row}");
            assert_eq!(ours.is_empty(), feasts.is_empty(), "{name}, row {row}");
        }
    }
}

#[test]
fn columns_are_the_same_by_either_way() {
    let batch = columns();
    for (name, case) in json("columns.json").as_object().unwrap() {
        let array = batch.column_by_name(name).unwrap();
        let value_type = value_type(&case["type"]);

        let column = to_column(array, value_type, name).unwrap();

        let values = encode_values(array, value_type, name).unwrap();
        for (row, value) in encode_column(&column).unwrap().iter().enumerate() {
            assert!(column.is_null(row) || value == values.get(row), "{name}, row {row}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_value_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        index in 0..ValueType::ALL.len(),
    ) {
        let mut decoder = ColumnDecoder::new(ValueType::ALL[index], 1);
        if decoder.push(&bytes).is_ok() {
            let column = decoder.finish().unwrap();
            if let Ok(value) = column.cell(0) {
                Value::parse(&value.to_bytes()).unwrap();
            }
        }
        let _ = decode_entity_key(&bytes);
    }

    #[test]
    fn integers_round_trip(numbers in proptest::collection::vec(any::<Option<i64>>(), 0..50)) {
        let array = arrow_array::Int64Array::from(numbers.clone());
        let values = encode_values(&array, ValueType::Int64, "n").unwrap();
        let mut decoder = ColumnDecoder::new(ValueType::Int64, numbers.len());
        for value in values.iter() {
            decoder.push(value).unwrap();
        }
        let column = decoder.finish().unwrap();
        prop_assert_eq!(column.values.as_ref(), &array as &dyn arrow_array::Array);
    }

    #[test]
    fn texts_round_trip(texts in proptest::collection::vec(any::<Option<String>>(), 0..20)) {
        let array = StringArray::from(texts.clone());
        let values = encode_values(&array, ValueType::String, "t").unwrap();
        let mut decoder = ColumnDecoder::new(ValueType::String, texts.len());
        for value in values.iter() {
            decoder.push(value).unwrap();
        }
        let column = decoder.finish().unwrap();
        prop_assert_eq!(column.values.as_ref(), &array as &dyn arrow_array::Array);
    }

    #[test]
    fn lists_round_trip(lists in proptest::collection::vec(
        any::<Option<Vec<i32>>>(), 0..20,
    )) {
        let rows = lists.iter().map(|list| list.as_ref().map(|list| list.iter().map(|n| Some(*n))));
        let array = arrow_array::ListArray::from_iter_primitive::<arrow_array::types::Int32Type, _, _>(rows);
        let values = encode_values(&array, ValueType::Int32List, "l").unwrap();
        let mut decoder = ColumnDecoder::new(ValueType::Int32List, lists.len());
        for value in values.iter() {
            decoder.push(value).unwrap();
        }
        let again = encode_column(&decoder.finish().unwrap()).unwrap();
        prop_assert_eq!(again, values);
    }
}

/// Where feastrs prints what Feast does not: maps with keys other than text (Feast: null), and a
/// time that is none (Feast: the smallest number there is).
fn is_printed_otherwise(case: &Json) -> bool {
    case["type"] == "SCALAR_MAP" || case["name"] == "NaT"
}

#[test]
fn every_value_is_served_as_feast_prints_it() {
    let cases = json("served.json");
    for case in cases.as_array().unwrap().iter().filter(|case| !is_printed_otherwise(case)) {
        let (_, column) = decode(value_type(&case["type"]), &bytes(&case["hex"]));
        let vector = FeatureVector {
            name: "f".into(),
            column,
            statuses: Statuses::all_present(1),
            event_timestamps: Arc::new(vec![0]),
        };
        let answer = OnlineFeatures { vectors: vec![vector], join_keys: 0, rows: 1 };

        let served = String::from_utf8(to_json(&answer.into(), &[]).unwrap()).unwrap();

        let values = served.strip_prefix("{\"results\":[{\"values\":[").unwrap();
        let (value, _) = values.split_once("],\"statuses\":").unwrap();
        assert_eq!(value, case["json"], "{} ({})", case["name"], case["type"]);
    }
}
