//! Entity-key bytes, as `feast/infra/key_encoding_utils.py::serialize_entity_key` makes them.
//!
//! Knows join keys and their columns; must not know projects, stores or requests.

use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampSecondType};
use arrow_array::{Array, ArrayRef};
use prost::Message;
use smallvec::SmallVec;

use crate::error::{Error, ErrorKind, Result};
use crate::value::column::arrow_type;
use crate::value::wire::Value;
use crate::value::{PackedBytes, ValueType};

/// Version of the entity-key serialization (`entity_key_serialization_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyVersion {
    /// Names without count and length: can't be taken apart again.
    V2,
    /// A count first, and a length before each name.
    #[default]
    V3,
}

/// Encodes the keys of one set of join keys.
#[derive(Clone, Debug)]
pub struct KeyEncoder {
    prefix: Vec<u8>,
    // In the order of the values in the key: the join keys sorted by name.
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    name: String,
    value_type: ValueType,
    // Where its column stands among those given to `encode`.
    column: usize,
}

impl KeyEncoder {
    /// For these join keys, in any order. No join keys at all is the key of a view without
    /// entities. An error where a type can't be a key's.
    pub fn new(version: KeyVersion, join_keys: &[(String, ValueType)]) -> Result<Self> {
        let mut parts = Vec::with_capacity(join_keys.len());
        for (column, (name, value_type)) in join_keys.iter().enumerate() {
            check_key_type(name, *value_type)?;
            parts.push(Part { name: name.clone(), value_type: *value_type, column });
        }
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let prefix = prefix(version, parts.iter().map(|part| part.name.as_str()));
        Ok(KeyEncoder { prefix, parts })
    }

    /// Encodes each row of `columns`, which stand in the order of `join_keys` as given to `new`
    /// and have the canonical Arrow type of their value type. Nulls are an error of kind
    /// `NullKey`. Without join keys there are no columns, and no rows: see
    /// [`KeyEncoder::encode_rows`].
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<PackedBytes> {
        self.encode_rows(columns, columns.first().map_or(0, |column| column.len()))
    }

    /// Like [`KeyEncoder::encode`] for a number of rows that is known from elsewhere, which a
    /// view without join keys needs.
    pub fn encode_rows(&self, columns: &[ArrayRef], rows: usize) -> Result<PackedBytes> {
        self.encode_behind(&self.prefix, columns, rows)
    }

    /// Like [`KeyEncoder::encode`], without the names that every key begins with: enough to
    /// tell keys of one encoder apart.
    pub fn encode_values(&self, columns: &[ArrayRef]) -> Result<PackedBytes> {
        self.encode_behind(&[], columns, columns.first().map_or(0, |column| column.len()))
    }

    /// Takes a key of [`KeyEncoder::encode`] apart, of whichever version: join keys in the order of
    /// the key, each with its value. An error of kind `StoreInvalid` where it is none.
    pub fn decode(&self, key: &[u8]) -> Result<NamedKeyValues> {
        let mut rest = key.strip_prefix(self.prefix.as_slice()).ok_or_else(no_key)?;
        let mut pairs = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let number = take_u32(&mut rest)?;
            pairs.push((part.name.clone(), key_value(number, take_sized(&mut rest)?)?));
        }
        if rest.is_empty() { Ok(pairs) } else { Err(no_key()) }
    }

    fn encode_behind(
        &self,
        prefix: &[u8],
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<PackedBytes> {
        let sources = self.sources(columns, rows)?;
        let row_bytes: usize = sources.iter().map(|source| source.bytes_per_row(rows)).sum();
        let mut keys = PackedBytes::with_capacity(rows, rows * (prefix.len() + row_bytes));
        for row in 0..rows {
            keys.push_with(|key| {
                key.extend_from_slice(prefix);
                for source in &sources {
                    source.write(row, key);
                }
            });
        }
        Ok(keys)
    }

    fn sources<'a>(
        &self,
        columns: &'a [ArrayRef],
        rows: usize,
    ) -> Result<SmallVec<[Source<'a>; 2]>> {
        if columns.len() != self.parts.len() {
            let message =
                format!("{} key columns for {} join keys", columns.len(), self.parts.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let part_source = |part: &Part| {
            let column = columns.get(part.column).ok_or_else(|| wrong_column(part, "missing"))?;
            if column.len() != rows {
                return Err(wrong_column(part, "of another length than the others"));
            }
            Source::new(part, column)
        };
        self.parts.iter().map(part_source).collect()
    }
}

fn check_key_type(name: &str, value_type: ValueType) -> Result<()> {
    if value_type.is_key() {
        return Ok(());
    }
    let message = format!(
        "join key '{name}' has type {}; a join key is STRING, BYTES, INT32, INT64 or UNIX_TIMESTAMP",
        value_type.name()
    );
    Err(Error::new(ErrorKind::InvalidArgument, message))
}

/// What keys begin with; `names` are sorted.
fn prefix<'a>(version: KeyVersion, names: impl ExactSizeIterator<Item = &'a str>) -> Vec<u8> {
    let mut prefix = Vec::new();
    if version == KeyVersion::V3 {
        put_u32(&mut prefix, names.len() as u32);
    }
    for name in names {
        put_u32(&mut prefix, ValueType::String as u32);
        if version == KeyVersion::V3 {
            put_u32(&mut prefix, name.len() as u32);
        }
        prefix.extend_from_slice(name.as_bytes());
    }
    prefix
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

#[cold]
fn wrong_column(part: &Part, what: impl fmt::Display) -> Error {
    let message = format!("the column of join key '{}' is {what}", part.name);
    Error::new(ErrorKind::Internal, message)
}

// A key column, its type looked at once.
enum Source<'a> {
    Int64(&'a [i64], [u8; 8]),
    Int32(&'a [i32], [u8; 8]),
    Text(&'a [i32], &'a [u8], [u8; 4]),
}

impl<'a> Source<'a> {
    fn new(part: &Part, column: &'a ArrayRef) -> Result<Self> {
        if let Some(nulls) = column.nulls()
            && let Some(row) = nulls.iter().position(|is_valid| !is_valid)
        {
            let message = format!("join key '{}' is null in row {row}", part.name);
            return Err(Error::new(ErrorKind::NullKey, message));
        }
        if arrow_type(part.value_type).as_ref() != Some(column.data_type()) {
            return Err(wrong_column(part, format_args!("of type {}", column.data_type())));
        }
        let number = (part.value_type as u32).to_le_bytes();
        Ok(match part.value_type {
            ValueType::Int32 => {
                Source::Int32(column.as_primitive::<Int32Type>().values(), header(number, 4))
            }
            ValueType::Int64 => {
                Source::Int64(column.as_primitive::<Int64Type>().values(), header(number, 8))
            }
            ValueType::UnixTimestamp => Source::Int64(
                column.as_primitive::<TimestampSecondType>().values(),
                header(number, 8),
            ),
            ValueType::String => {
                let text = column.as_string::<i32>();
                Source::Text(text.value_offsets(), text.value_data(), number)
            }
            _ => {
                let bytes = column.as_binary::<i32>();
                Source::Text(bytes.value_offsets(), bytes.value_data(), number)
            }
        })
    }

    fn bytes_per_row(&self, rows: usize) -> usize {
        match self {
            Source::Int64(..) => 16,
            Source::Int32(..) => 12,
            Source::Text(_, data, _) => 8 + data.len() / rows.max(1),
        }
    }

    #[inline]
    fn write(&self, row: usize, key: &mut Vec<u8>) {
        match self {
            Source::Int64(values, header) => {
                key.extend_from_slice(header);
                key.extend_from_slice(&values[row].to_le_bytes());
            }
            Source::Int32(values, header) => {
                key.extend_from_slice(header);
                key.extend_from_slice(&values[row].to_le_bytes());
            }
            Source::Text(offsets, data, number) => {
                let value = &data[offsets[row] as usize..offsets[row + 1] as usize];
                key.extend_from_slice(number);
                put_u32(key, value.len() as u32);
                key.extend_from_slice(value);
            }
        }
    }
}

fn header(number: [u8; 4], length: u8) -> [u8; 8] {
    let [a, b, c, d] = number;
    [a, b, c, d, length, 0, 0, 0]
}

/// A serialized `feast.types.EntityKey`.
#[derive(Clone, PartialEq, prost::Message)]
struct EntityKeyMessage {
    #[prost(string, repeated, tag = "1")]
    join_keys: Vec<String>,
    // Each a serialized `feast.types.Value`.
    #[prost(bytes = "vec", repeated, tag = "2")]
    values: Vec<Vec<u8>>,
}

/// Appends the entity key that `message`, a serialized `feast.types.EntityKey`, stands for. An
/// error of kind `InvalidArgument` where it is none, or a value is of a type that no key has.
pub fn encode_entity_key(version: KeyVersion, message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let refused = |what: &str| {
        Err(Error::new(ErrorKind::InvalidArgument, format!("an entity key can't be used: {what}")))
    };
    let Ok(key) = EntityKeyMessage::decode(message) else {
        return refused("it is no EntityKey message");
    };
    if key.join_keys.len() != key.values.len() {
        return refused("it has not as many values as join keys");
    }
    let mut pairs: Vec<(&str, &[u8])> = key
        .join_keys
        .iter()
        .map(String::as_str)
        .zip(key.values.iter().map(Vec::as_slice))
        .collect();
    pairs.sort();
    out.extend(prefix(version, pairs.iter().map(|(name, _)| *name)));
    for (name, value) in pairs {
        let value = Value::parse(value)?;
        let number = (value.value_type() as u32).to_le_bytes();
        let bytes: &[u8] = match &value {
            Value::Text(ValueType::String, text) => text.as_bytes(),
            Value::Bytes(bytes) => bytes,
            Value::Int32(number) => &number.to_le_bytes(),
            Value::Int64(number) | Value::UnixTimestamp(number) => &number.to_le_bytes(),
            Value::Null => return refused(&format!("join key '{name}' is null")),
            _ => return check_key_type(name, value.value_type()),
        };
        out.extend_from_slice(&number);
        put_u32(out, bytes.len() as u32);
        out.extend_from_slice(bytes);
    }
    Ok(())
}

/// What the entity keys of one set of join keys have in common, by which they are told from
/// others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyShape {
    prefix: Vec<u8>,
    values: usize,
}

impl KeyShape {
    /// Of keys with these join keys, given in any order.
    pub fn new<'a>(version: KeyVersion, join_keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = join_keys.into_iter().collect();
        names.sort_unstable();
        KeyShape { prefix: prefix(version, names.iter().copied()), values: names.len() }
    }

    /// What they all begin with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What follows the entity key that `key` begins with (in Redis the project's name); `None`
    /// if it does not begin with one of this shape.
    pub fn strip<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let mut rest = key.strip_prefix(self.prefix.as_slice())?;
        for _ in 0..self.values {
            let number = take_u32(&mut rest).ok()?;
            let value = take_sized(&mut rest).ok()?;
            key_value(number, value).ok()?;
        }
        Some(rest)
    }
}

/// A value of an entity key that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyValue {
    /// STRING.
    String(String),
    /// BYTES.
    Bytes(Vec<u8>),
    /// INT32.
    Int32(i32),
    /// INT64.
    Int64(i64),
    /// UNIX_TIMESTAMP, in seconds since the epoch.
    UnixTimestamp(i64),
}

/// Join keys in the order of the key, each with its value.
pub type NamedKeyValues = Vec<(String, KeyValue)>;

/// Takes an entity key of version 3 apart, into join keys and their values. `key` begins with
/// the entity key; what follows it (in Redis the project name) is given back. An error of
/// kind `StoreInvalid` where it is no entity key.
pub fn decode_entity_key(key: &[u8]) -> Result<(NamedKeyValues, &[u8])> {
    let mut rest = key;
    let count = take_u32(&mut rest)?;
    let mut names = Vec::new();
    for _ in 0..count {
        let number = take_u32(&mut rest)?;
        let name = take_sized(&mut rest)?;
        if number != ValueType::String as u32 {
            return Err(no_key());
        }
        names.push(text(name)?);
    }
    let mut pairs = Vec::with_capacity(names.len());
    for name in names {
        let number = take_u32(&mut rest)?;
        let bytes = take_sized(&mut rest)?;
        pairs.push((name, key_value(number, bytes)?));
    }
    Ok((pairs, rest))
}

fn key_value(number: u32, bytes: &[u8]) -> Result<KeyValue> {
    let long = || bytes.try_into().map(i64::from_le_bytes).map_err(|_| no_key());
    match i32::try_from(number).ok().and_then(ValueType::from_number) {
        Some(ValueType::String) => Ok(KeyValue::String(text(bytes)?)),
        Some(ValueType::Bytes) => Ok(KeyValue::Bytes(bytes.to_vec())),
        Some(ValueType::Int64) => Ok(KeyValue::Int64(long()?)),
        Some(ValueType::UnixTimestamp) => Ok(KeyValue::UnixTimestamp(long()?)),
        Some(ValueType::Int32) => {
            let value = bytes.try_into().map(i32::from_le_bytes).map_err(|_| no_key())?;
            Ok(KeyValue::Int32(value))
        }
        _ => Err(no_key()),
    }
}

fn take_u32(rest: &mut &[u8]) -> Result<u32> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(no_key)?;
    *rest = tail;
    Ok(u32::from_le_bytes(*head))
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_u32(rest)? as usize;
    let (head, tail) = rest.split_at_checked(length).ok_or_else(no_key)?;
    *rest = tail;
    Ok(head)
}

fn text(bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| no_key())
}

#[cold]
fn no_key() -> Error {
    Error::new(ErrorKind::StoreInvalid, "not an entity key of serialization version 3")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn encoder() -> KeyEncoder {
        let keys = [("z".to_owned(), ValueType::Int64), ("a".to_owned(), ValueType::String)];
        KeyEncoder::new(KeyVersion::V3, &keys).unwrap()
    }

    #[test]
    fn an_encoder_takes_its_keys_apart_in_both_versions() {
        let columns: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["é"]))];
        let names = [("z".to_owned(), ValueType::Int64), ("a".to_owned(), ValueType::String)];
        for version in [KeyVersion::V2, KeyVersion::V3] {
            let encoder = KeyEncoder::new(version, &names).unwrap();
            let keys = encoder.encode(&columns).unwrap();

            let pairs = encoder.decode(keys.get(0)).unwrap();

            assert_eq!(pairs[0], ("a".to_owned(), KeyValue::String("é".to_owned())));
            assert_eq!(pairs[1], ("z".to_owned(), KeyValue::Int64(7)));
            assert!(encoder.decode(&[keys.get(0), b"p"].concat()).is_err());
            assert!(encoder.decode(b"no key").is_err());
        }
    }

    #[test]
    fn a_key_comes_back_sorted_by_join_key() {
        let columns: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["é"]))];
        let mut key = encoder().encode(&columns).unwrap().get(0).to_vec();
        key.extend_from_slice(b"project");

        let (pairs, rest) = decode_entity_key(&key).unwrap();

        assert_eq!(rest, b"project");
        assert_eq!(
            pairs,
            [
                ("a".to_owned(), KeyValue::String("é".to_owned())),
                ("z".to_owned(), KeyValue::Int64(7)),
            ]
        );
    }

    #[test]
    fn a_null_names_key_and_row() {
        let columns: [ArrayRef; 2] = [
            Arc::new(Int64Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec!["x", "y"])),
        ];

        let error = encoder().encode(&columns).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::NullKey);
        assert_eq!(error.to_string(), "join key 'z' is null in row 1");
    }

    #[test]
    fn no_join_keys_still_make_a_key() {
        let keys = KeyEncoder::new(KeyVersion::V3, &[]).unwrap().encode_rows(&[], 2).unwrap();

        assert_eq!(keys.get(1), [0, 0, 0, 0]);
    }

    #[test]
    fn a_shape_knows_its_keys_and_no_others() {
        for version in [KeyVersion::V2, KeyVersion::V3] {
            let columns: [ArrayRef; 2] =
                [Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["*"]))];
            let types = [("z".to_owned(), ValueType::Int64), ("a".to_owned(), ValueType::String)];
            let encoder = KeyEncoder::new(version, &types).unwrap();
            let mut key = encoder.encode(&columns).unwrap().get(0).to_vec();
            key.extend_from_slice(b"prod_fraud");

            assert_eq!(KeyShape::new(version, ["z", "a"]).strip(&key), Some(&b"prod_fraud"[..]));
            assert_eq!(KeyShape::new(version, ["a"]).strip(&key), None);
            assert_eq!(KeyShape::new(version, ["a", "z"]).strip(&key[..20]), None);
        }
    }

    #[test]
    fn messages_make_the_keys_that_columns_make() {
        let columns: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![7])), Arc::new(StringArray::from(vec!["é"]))];
        let message = EntityKeyMessage {
            join_keys: vec!["z".to_owned(), "a".to_owned()],
            values: vec![
                Value::Int64(7).to_bytes(),
                Value::Text(ValueType::String, "é".into()).to_bytes(),
            ],
        };
        let mut key = Vec::new();

        encode_entity_key(KeyVersion::V3, &message.encode_to_vec(), &mut key).unwrap();

        assert_eq!(key, encoder().encode(&columns).unwrap().get(0));
        for refused in [Value::Null, Value::Double(1.5)] {
            let message =
                EntityKeyMessage { values: vec![refused.to_bytes(); 2], ..message.clone() };
            let error =
                encode_entity_key(KeyVersion::V3, &message.encode_to_vec(), &mut key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
        assert!(encode_entity_key(KeyVersion::V3, b"\xff", &mut key).is_err());
    }

    #[test]
    fn a_double_is_no_key() {
        let keys = [("d".to_owned(), ValueType::Double)];

        assert!(KeyEncoder::new(KeyVersion::V3, &keys).is_err());
        assert!(decode_entity_key(&[1, 0, 0, 0, 2]).is_err());
    }
}
