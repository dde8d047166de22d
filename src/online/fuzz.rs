//! The target `values`: what a store gives for two features, decoded in every way there is.
//! Compares the ways; knows no protobuf of its own.
#![allow(clippy::panic, clippy::unwrap_used, reason = "what does not hold stops the fuzzer")]

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, TimestampSecondArray};

use super::Status;
use super::assemble::FeastStatuses;
use super::columns::{Row, ViewColumns};
use super::found::Values;
use crate::error::{Error, ErrorKind};
use crate::value::column::arrow_type;
use crate::value::wire::{ColumnDecoder, Decoded, NOT_A_TIME, PlainDecoder, PlainValues, Value};
use crate::value::{Column, Layout, ValueType, arrow};

/// A value as the store gives it; `None` is one that is not there.
type Stored<'a> = Option<&'a [u8]>;

/// How statuses are given, and whether every second row is too old to be shown.
#[derive(Clone, Copy)]
struct Rules {
    feast: Option<FeastStatuses>,
    has_old_rows: bool,
}

impl Rules {
    fn is_too_old(self, row: usize) -> bool {
        self.has_old_rows && row % 2 == 1
    }
}

/// The types of two features (and, in what is left of these bytes, the rules), then the values
/// of their rows in turn, each with a byte before it: its length, or 255 for a value that is not
/// there and 254 for all that is left.
pub fn values(input: &[u8]) {
    let Some((types, rest)) = input.split_first_chunk::<2>() else { return };
    let rules = Rules {
        feast: match usize::from(types[0]) / ValueType::ALL.len() {
            1 => Some(FeastStatuses::Redis),
            2 => Some(FeastStatuses::Sqlite),
            _ => None,
        },
        has_old_rows: usize::from(types[1]) / ValueType::ALL.len() == 1,
    };
    let types = types.map(|byte| ValueType::ALL[usize::from(byte) % ValueType::ALL.len()]);
    let values = split(rest);
    values.iter().flatten().for_each(|bytes| value(bytes));
    let columns: Vec<_> = (0..2)
        .map(|place| {
            let stored = values.iter().copied().skip(place).step_by(2).enumerate();
            let shown = stored.map(|(row, value)| value.filter(|_| !rules.is_too_old(row)));
            column(types[place], shown)
        })
        .collect();
    view(types, rules, &values, &columns);
}

fn split(mut rest: &[u8]) -> Vec<Stored<'_>> {
    let mut values = Vec::new();
    while let Some((&length, after)) = rest.split_first() {
        if length == 255 {
            values.push(None);
            rest = after;
            continue;
        }
        let length = if length == 254 { after.len() } else { usize::from(length) };
        let (value, after) = after.split_at(length.min(after.len()));
        values.push(Some(value));
        rest = after;
    }
    values
}

/// One value as a tree: what is encoded again is the same value, and plain numbers are those
/// of the tree.
fn value(bytes: &[u8]) {
    let parsed = Value::parse(bytes);
    for value_type in [ValueType::Double, ValueType::Int64, ValueType::UnixTimestamp] {
        let plain = PlainDecoder::new(value_type).unwrap().decode(bytes);
        let Ok(value) = &parsed else {
            assert_eq!(plain, None, "a plain {} is no value", value_type.name());
            continue;
        };
        match (plain, eight_bytes(value, value_type)) {
            (Some(plain), tree) => assert_eq!(Some(plain), tree, "plain {}", value_type.name()),
            (None, Some(_)) => assert!(!is_canonical(value, bytes), "a plain value is refused"),
            (None, None) => {}
        }
    }
    match parsed {
        Ok(value) => {
            let encoded = value.to_bytes();
            let again = Value::parse(&encoded).unwrap();
            assert_eq!(again.value_type(), value.value_type());
            assert_eq!(again.to_bytes(), encoded, "encoding is not stable");
        }
        Err(error) => assert_invalid(&error),
    }
}

fn eight_bytes(value: &Value<'_>, value_type: ValueType) -> Option<u64> {
    match *value {
        Value::Double(number) if value_type == ValueType::Double => Some(number.to_bits()),
        Value::Int64(number) if value_type == ValueType::Int64 => Some(number as u64),
        Value::UnixTimestamp(number) if value_type == ValueType::UnixTimestamp => {
            (number != NOT_A_TIME).then_some(number as u64)
        }
        _ => None,
    }
}

fn is_canonical(value: &Value<'_>, bytes: &[u8]) -> bool {
    value.to_bytes() == bytes
}

fn assert_invalid(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::StoreInvalid, "{error}");
}

/// A column that was decoded by itself.
struct Alone {
    column: Column,
    // For each row; `None` for a value that is not there.
    decoded: Vec<Option<Decoded>>,
}

/// A column of the values by itself; `None` where one of them is no value.
fn column<'a>(
    value_type: ValueType,
    values: impl Iterator<Item = Stored<'a>> + Clone,
) -> Option<Alone> {
    let mut decoder = ColumnDecoder::new(value_type, 1);
    let mut decoded = Vec::new();
    for stored in values.clone() {
        let Some(bytes) = stored else {
            decoder.push_missing();
            decoded.push(None);
            continue;
        };
        match (decoder.push(bytes), Value::parse(bytes)) {
            (Ok(got), Ok(value)) => {
                assert_eq!(got == Decoded::Null, is_null(&value), "null or not: {value:?}");
                decoded.push(Some(got));
            }
            (Err(error), Err(_)) => {
                assert_invalid(&error);
                return None;
            }
            (got, value) => {
                panic!("{got:?} in a column of {}, alone {value:?}", value_type.name())
            }
        }
    }
    let column = decoder.finish().unwrap();
    same_values(&column, values);
    Some(Alone { column, decoded })
}

fn is_null(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::UnixTimestamp(seconds) | Value::ZonedTimestamp(seconds, _) => *seconds == NOT_A_TIME,
        _ => false,
    }
}

/// The column holds what the trees say.
fn same_values<'a>(column: &Column, values: impl Iterator<Item = Stored<'a>> + Clone) {
    let trees: Vec<Value<'a>> =
        values.map(|value| Value::parse(value.unwrap_or_default()).unwrap()).collect();
    assert_eq!(column.len(), trees.len());
    let is_own = |tree: &Value<'_>| is_null(tree) || tree.value_type() == column.value_type;
    let is_typed = trees.iter().all(is_own) && arrow_type(column.value_type).is_some();
    assert_eq!(column.layout == Layout::Typed, is_typed);
    let encoded = arrow::encode_column(column).unwrap();
    for (row, (tree, bytes)) in trees.iter().zip(encoded.iter()).enumerate() {
        assert_eq!(column.is_null(row), is_null(tree), "row {row}");
        if !is_null(tree) {
            assert_eq!(Value::parse(bytes).unwrap().to_bytes(), tree.to_bytes(), "row {row}");
        }
    }
}

/// The same values as the rows of a view: columns as by themselves, whether or not they began
/// plain, and the statuses that belong to them.
fn view(types: [ValueType; 2], rules: Rules, values: &[Stored<'_>], expected: &[Option<Alone>]) {
    let rows = values.chunks_exact(2);
    let mut columns = ViewColumns::new(&Arc::new(types.into_iter().collect()), rows.len());
    let count = rows.len();
    for (row, values) in rows.enumerate() {
        let is_too_old = rules.is_too_old(row);
        let row = Row { event_timestamp: Some(1), values, is_too_old, feast: rules.feast };
        if let Err((error, place)) = columns.push(&row) {
            assert_invalid(&error);
            assert!(expected[place].is_none(), "only the view refuses feature {place}");
            return;
        }
    }
    // A value without its pair is in a column, but in no row.
    let found = columns.finish().unwrap();
    assert_eq!(found.event_timestamps().len(), count);
    for (place, expected) in expected.iter().enumerate() {
        let Some(Alone { column: alone, decoded }) = expected else { continue };
        let (column, statuses) = found.column(place).unwrap();
        assert_shown(&found.values(place).unwrap(), &column);
        if alone.len() == count {
            assert_eq!((column.layout, column.value_type), (alone.layout, alone.value_type));
            assert_eq!(&column.values, &alone.values);
        }
        let stored = values.iter().skip(place).step_by(2);
        let expected: Vec<Status> = (stored.zip(decoded).take(count).enumerate())
            .map(|(row, (stored, decoded))| match (stored, decoded) {
                (Some(_), _) if rules.is_too_old(row) => Status::OutsideMaxAge,
                (_, Some(Decoded::Present)) => Status::Present,
                (_, Some(Decoded::Null)) if rules.feast.is_none() => Status::NullValue,
                (_, Some(Decoded::Null)) => Status::Present,
                (_, None) if matches!(rules.feast, Some(FeastStatuses::Redis)) => Status::Present,
                (_, None) => Status::NotFound,
            })
            .collect();
        assert_eq!(statuses.iter().collect::<Vec<_>>(), expected);
    }
}

/// Values as they lie in memory are those of the column.
fn assert_shown(values: &Values<'_>, column: &Column) {
    let shown: ArrayRef = match *values {
        Values::Plain(PlainValues::Doubles(values)) => {
            Arc::new(Float64Array::from(values.to_vec()))
        }
        Values::Plain(PlainValues::Integers(values)) => Arc::new(Int64Array::from(values.to_vec())),
        Values::Plain(PlainValues::Times(values)) => {
            Arc::new(TimestampSecondArray::from(values.to_vec()).with_timezone("UTC"))
        }
        Values::Column(column) => column.values.clone(),
    };
    assert_eq!(&shown, &column.values);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use std::borrow::Cow;

    fn text() -> impl Strategy<Value = Cow<'static, str>> {
        "[ -~é☃]{0,6}".prop_map(Cow::Owned)
    }

    fn seconds() -> impl Strategy<Value = i64> {
        prop_oneof![9 => any::<i64>(), 1 => Just(NOT_A_TIME)]
    }

    fn scalar(value_type: ValueType) -> BoxedStrategy<Value<'static>> {
        match value_type {
            ValueType::Bytes => vec(any::<u8>(), 0..9).prop_map(|b| Value::Bytes(b.into())).boxed(),
            ValueType::Int32 => any::<i32>().prop_map(Value::Int32).boxed(),
            ValueType::Int64 => any::<i64>().prop_map(Value::Int64).boxed(),
            ValueType::Double => {
                any::<u64>().prop_map(|n| Value::Double(f64::from_bits(n))).boxed()
            }
            ValueType::Float => any::<u32>().prop_map(|n| Value::Float(f32::from_bits(n))).boxed(),
            ValueType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
            ValueType::UnixTimestamp => seconds().prop_map(Value::UnixTimestamp).boxed(),
            ValueType::ZonedTimestamp => {
                (seconds(), text()).prop_map(|(s, zone)| Value::ZonedTimestamp(s, zone)).boxed()
            }
            ValueType::Invalid | ValueType::Null => Just(Value::Null).boxed(),
            _ => text().prop_map(move |text| Value::Text(value_type, text)).boxed(),
        }
    }

    fn tree(value_type: ValueType, depth: u32) -> BoxedStrategy<Value<'static>> {
        if let Some(element) = value_type.element() {
            return vec(scalar(element), 0..5)
                .prop_map(move |items| Value::Items(value_type, items))
                .boxed();
        }
        let inner = move || any_tree(depth.saturating_sub(1));
        let entries = move || vec((text(), inner()), 0..4);
        match value_type {
            ValueType::Map | ValueType::Struct => {
                entries().prop_map(move |entries| Value::Map(value_type, entries)).boxed()
            }
            ValueType::MapList | ValueType::StructList => {
                vec(entries(), 0..3).prop_map(move |maps| Value::Maps(value_type, maps)).boxed()
            }
            ValueType::ValueList | ValueType::ValueSet => {
                vec(inner(), 0..4).prop_map(move |values| Value::Nested(value_type, values)).boxed()
            }
            ValueType::ScalarMap => {
                vec((scalar(ValueType::Int64), inner()), 0..4).prop_map(Value::ScalarMap).boxed()
            }
            _ => scalar(value_type),
        }
    }

    fn any_tree(depth: u32) -> BoxedStrategy<Value<'static>> {
        let types: Vec<ValueType> = ValueType::ALL
            .iter()
            .copied()
            .filter(|t| depth > 0 || t.element().is_some() || arrow_type(*t).is_some())
            .collect();
        select(types).prop_flat_map(move |value_type| tree(value_type, depth)).boxed()
    }

    /// A value of one of the two types, most often; else a null, nothing, or any other value.
    fn stored(types: [ValueType; 2]) -> impl Strategy<Value = Option<Vec<u8>>> {
        let encoded = |value: Value<'_>| Some(value.to_bytes());
        prop_oneof![
            8 => tree(types[0], 2).prop_map(encoded),
            8 => tree(types[1], 2).prop_map(encoded),
            1 => any_tree(2).prop_map(encoded),
            1 => Just(Some(Vec::new())),
            1 => Just(None),
        ]
    }

    /// The types of two features, the rules, and the values.
    type Rows = ([ValueType; 2], [u8; 2], Vec<Option<Vec<u8>>>);

    fn rows() -> impl Strategy<Value = Rows> {
        let rules = [0..3_u8, 0..2_u8];
        ([select(ValueType::ALL), select(ValueType::ALL)], rules)
            .prop_flat_map(|(types, rules)| (Just(types), Just(rules), vec(stored(types), 0..9)))
    }

    /// The input of [`values`]; what is too long for a row is cut.
    fn input((types, rules, rows): &Rows) -> Vec<u8> {
        let place_of =
            |value_type| ValueType::ALL.iter().position(|t| *t == value_type).unwrap() as u8;
        let byte =
            |place: usize| place_of(types[place]) + rules[place] * ValueType::ALL.len() as u8;
        let mut input = vec![byte(0), byte(1)];
        for row in rows {
            match row {
                None => input.push(255),
                Some(bytes) => {
                    let bytes = &bytes[..bytes.len().min(253)];
                    input.push(bytes.len() as u8);
                    input.extend_from_slice(bytes);
                }
            }
        }
        input
    }

    proptest! {
        #[test]
        fn every_way_of_decoding_gives_the_same(rows in rows()) {
            values(&input(&rows));
        }

        #[test]
        fn values_cut_or_changed_anywhere_are_the_same_in_every_way(
            rows in rows(),
            cut in any::<Index>(),
            (at, byte) in any::<(Index, u8)>(),
        ) {
            let mut input = input(&rows);
            let at = at.index(input.len());
            input[at] = byte;
            input.truncate(cut.index(input.len() + 1));
            values(&input);
        }

        #[test]
        fn trees_come_back_as_they_were_encoded(tree in any_tree(3)) {
            let bytes = tree.to_bytes();
            prop_assert_eq!(Value::parse(&bytes).unwrap().to_bytes(), bytes);
        }
    }
}
