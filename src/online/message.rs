//! An answer as `feast.serving.GetOnlineFeaturesResponse`, the message that Feast's own servers
//! and clients exchange, and back. Knows field numbers; not who sends it.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::value::ValueType;
use crate::value::arrow::encode_column;
use crate::value::wire::reader::{Payload, Reader, malformed, text};
use crate::value::wire::writer::{
    FIXED64, SIZED, VARINT, put_message, put_sized, put_tag, put_varint, varint_len,
};
use crate::value::wire::{ColumnDecoder, PlainValues};

use super::answer::{FeatureVector, OnlineFeatures, Status, Statuses};
use super::found::{Answer, AnswerColumn, Values};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// `feast.serving.FeatureViewMetadata`: which version of a view an answer came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewVersion {
    /// The view's name in the request: its own, or a service's alias.
    pub view: String,
    /// Its version; 0 for a view that never changed.
    pub version: i32,
}

/// The answer as the message's bytes. `view_versions` are empty unless they were asked for.
pub fn encode(answer: &OnlineFeatures, view_versions: &[ViewVersion]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let names = answer.vectors.iter().map(|vector| Ok(&*vector.name));
    put_message(&mut out, 1, |out| put_metadata(out, names, view_versions))?;
    let mut times: Option<(&Arc<Vec<i64>>, Vec<u8>)> = None;
    for vector in &answer.vectors {
        // The features of a view share their times: they are written once and copied.
        let known = times.take().filter(|(known, _)| Arc::ptr_eq(known, &vector.event_timestamps));
        let (key, written) = known
            .unwrap_or_else(|| (&vector.event_timestamps, encode_times(&vector.event_timestamps)));
        put_message(&mut out, 2, |out| put_vector(out, vector, &written))?;
        times = Some((key, written));
    }
    Ok(out)
}

/// Appends the same for an answer as it lies in memory, for which no column is made; column by
/// column, so that whoever writes it can do other things in between.
pub struct AnswerWriter<'a> {
    answer: &'a Answer,
    // The next column.
    next: usize,
    // Those of columns without times.
    no_times: Vec<u8>,
    // The times that were written last: the features of a view share theirs.
    times: Option<(&'a Arc<Vec<i64>>, Vec<u8>)>,
}

impl<'a> AnswerWriter<'a> {
    /// Writes `answer`.
    pub fn new(answer: &'a Answer) -> Self {
        AnswerWriter { answer, next: 0, no_times: [0x1a, 0].repeat(answer.rows()), times: None }
    }

    /// What comes before the columns. `view_versions` are empty unless they were asked for.
    pub fn put_metadata(&self, out: &mut Vec<u8>, view_versions: &[ViewVersion]) -> Result<()> {
        let names = (0..self.answer.width()).map(|index| Ok(self.answer.column(index)?.name));
        put_message(out, 1, |out| put_metadata(out, names, view_versions))
    }

    /// The next column; whether there was one.
    pub fn put_column(&mut self, out: &mut Vec<u8>) -> Result<bool> {
        if self.next == self.answer.width() {
            return Ok(false);
        }
        let column = self.answer.column(self.next)?;
        self.next += 1;
        let times = match column.event_timestamps {
            None => &self.no_times,
            Some(moments) => {
                let known = self.times.take().filter(|(known, _)| Arc::ptr_eq(known, moments));
                &self.times.insert(known.unwrap_or_else(|| (moments, encode_times(moments)))).1
            }
        };
        put_message(out, 2, |out| put_column(out, &column, self.answer.rows(), times))?;
        Ok(true)
    }
}

fn put_column(
    out: &mut Vec<u8>,
    column: &AnswerColumn<'_>,
    rows: usize,
    times: &[u8],
) -> Result<()> {
    match &column.values {
        Values::Plain(values) => put_plain(out, *values),
        Values::Column(column) => {
            encode_column(column)?.iter().for_each(|value| put_sized(out, 1, value));
        }
    }
    put_tag(out, 2, SIZED);
    put_varint(out, rows as u64);
    match column.statuses.filter(|statuses| !statuses.are_all_present()) {
        None => out.resize(out.len() + rows, Status::Present as u8),
        Some(statuses) => out.extend(statuses.iter().map(|status| status as u8)),
    }
    out.extend_from_slice(times);
    Ok(())
}

/// Each value as a field of the vector, which holds one field of the value.
fn put_plain(out: &mut Vec<u8>, values: PlainValues<'_>) {
    let varints = |out: &mut Vec<u8>, values: &[i64], field: ValueType| {
        for &number in values {
            put_tag(out, 1, SIZED);
            put_varint(out, 1 + varint_len(number as u64) as u64);
            put_tag(out, field as u32, VARINT);
            put_varint(out, number as u64);
        }
    };
    match values {
        PlainValues::Doubles(values) => {
            for number in values {
                put_tag(out, 1, SIZED);
                put_varint(out, 9);
                put_tag(out, ValueType::Double as u32, FIXED64);
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        PlainValues::Integers(values) => varints(out, values, ValueType::Int64),
        PlainValues::Times(values) => varints(out, values, ValueType::UnixTimestamp),
    }
}

fn put_metadata<'a>(
    out: &mut Vec<u8>,
    mut names: impl Iterator<Item = Result<&'a str>>,
    view_versions: &[ViewVersion],
) -> Result<()> {
    put_message(out, 1, |out| {
        names.try_for_each(|name| {
            put_sized(out, 1, name?.as_bytes());
            Ok::<(), Error>(())
        })
    })?;
    for one in view_versions {
        put_message(out, 2, |out| {
            put_sized(out, 1, one.view.as_bytes());
            if one.version != 0 {
                put_tag(out, 2, VARINT);
                put_varint(out, i64::from(one.version) as u64);
            }
            Ok::<(), Error>(())
        })?;
    }
    Ok(())
}

fn put_vector(out: &mut Vec<u8>, vector: &FeatureVector, times: &[u8]) -> Result<()> {
    let values = encode_column(&vector.column)?;
    values.iter().for_each(|value| put_sized(out, 1, value));
    put_tag(out, 2, SIZED);
    put_varint(out, vector.statuses.len() as u64);
    out.extend(vector.statuses.iter().map(|status| status as u8));
    out.extend_from_slice(times);
    Ok(())
}

fn encode_times(moments: &[i64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(moments.len() * 10);
    for &micros in moments {
        let mut time = Vec::with_capacity(16);
        let parts = [
            (1, micros.div_euclid(MICROS_PER_SECOND)),
            (2, micros.rem_euclid(MICROS_PER_SECOND) * 1_000),
        ];
        for (field, part) in parts.into_iter().filter(|(_, part)| *part != 0) {
            put_tag(&mut time, field, VARINT);
            put_varint(&mut time, part as u64);
        }
        put_sized(&mut out, 3, &time);
    }
    out
}

/// What [`encode`] wrote. `value_types` are the declared types of the columns, the first
/// `join_keys` of which are join keys.
pub fn decode(
    bytes: &[u8],
    value_types: &[ValueType],
    join_keys: usize,
) -> Result<(OnlineFeatures, Vec<ViewVersion>)> {
    decode_as(bytes, join_keys, |column| value_types.get(column).copied())
}

/// The same where types are not known, as of an answer that Feast gave: columns are in wire
/// layout, and count as no join keys.
pub fn decode_any(bytes: &[u8]) -> Result<(OnlineFeatures, Vec<ViewVersion>)> {
    decode_as(bytes, 0, |_| Some(ValueType::Invalid))
}

fn decode_as(
    bytes: &[u8],
    join_keys: usize,
    value_type: impl Fn(usize) -> Option<ValueType>,
) -> Result<(OnlineFeatures, Vec<ViewVersion>)> {
    let (mut names, mut view_versions, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(metadata)) => {
                (names, view_versions) = take_metadata(metadata)?;
            }
            (2, Payload::Bytes(vector)) => {
                let value_type = value_type(vectors.len()).ok_or_else(unequal)?;
                vectors.push(take_vector(vector, value_type)?);
            }
            _ => {}
        }
    }
    let rows = vectors.first().map_or(0, |vector| vector.statuses.len());
    let is_whole = names.len() == vectors.len()
        && vectors.iter().all(|vector| {
            [vector.column.len(), vector.statuses.len(), vector.event_timestamps.len()]
                .iter()
                .all(|length| *length == rows)
        });
    if !is_whole {
        return Err(unequal());
    }
    for (vector, name) in vectors.iter_mut().zip(names) {
        vector.name = name.into();
    }
    Ok((OnlineFeatures { vectors, join_keys, rows }, view_versions))
}

fn take_metadata(bytes: &[u8]) -> Result<(Vec<String>, Vec<ViewVersion>)> {
    let (mut names, mut view_versions) = (Vec::new(), Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(list)) => {
                let mut list = Reader::new(list);
                while let Some((_, payload)) = list.field()? {
                    let Payload::Bytes(name) = payload else { return Err(malformed("a name")) };
                    names.push(text(name)?.to_owned());
                }
            }
            (2, Payload::Bytes(one)) => view_versions.push(take_view_version(one)?),
            _ => {}
        }
    }
    Ok((names, view_versions))
}

fn take_view_version(bytes: &[u8]) -> Result<ViewVersion> {
    let mut one = ViewVersion { view: String::new(), version: 0 };
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(view)) => text(view)?.clone_into(&mut one.view),
            (2, Payload::Varint(version)) => one.version = version as i32,
            _ => {}
        }
    }
    Ok(one)
}

fn take_vector(bytes: &[u8], value_type: ValueType) -> Result<FeatureVector> {
    let mut decoder = ColumnDecoder::new(value_type, 0);
    let (mut statuses, mut times) = (Statuses::all_present(0), Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Bytes(value)) => {
                decoder.push(value)?;
            }
            (2, Payload::Bytes(packed)) => {
                for &number in packed {
                    statuses
                        .push(Status::from_number(number).ok_or_else(|| malformed("a status"))?);
                }
            }
            (3, Payload::Bytes(time)) => times.push(take_time(time)?),
            _ => {}
        }
    }
    Ok(FeatureVector {
        name: Arc::default(),
        column: decoder.finish()?,
        statuses,
        event_timestamps: Arc::new(times),
    })
}

pub(super) fn take_time(bytes: &[u8]) -> Result<i64> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut reader = Reader::new(bytes);
    while let Some(field) = reader.field()? {
        match field {
            (1, Payload::Varint(number)) => seconds = number as i64,
            (2, Payload::Varint(number)) => nanos = number as i64,
            _ => {}
        }
    }
    Ok(seconds.saturating_mul(MICROS_PER_SECOND).saturating_add(nanos / 1_000))
}

#[cold]
fn unequal() -> Error {
    Error::new(
        ErrorKind::StoreInvalid,
        "not an answer of an online read: its columns differ in length or number",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::wire::Value;

    fn vector(name: &str, value_type: ValueType, values: &[&[u8]]) -> FeatureVector {
        let mut decoder = ColumnDecoder::new(value_type, values.len());
        values.iter().for_each(|value| {
            decoder.push(value).unwrap();
        });
        FeatureVector {
            name: name.into(),
            column: decoder.finish().unwrap(),
            statuses: [Status::Present, Status::NotFound].into_iter().collect(),
            event_timestamps: Arc::new(vec![-1, 1_700_000_000_000_001]),
        }
    }

    #[test]
    fn an_answer_comes_back() {
        let vectors = vec![
            vector("key", ValueType::Int64, &[&[0x20, 1], &[0x20, 2]]),
            // Of another type than declared.
            vector("x", ValueType::Double, &[&[0x12, 1, b'a'], &[]]),
        ];
        let answer = OnlineFeatures { vectors, join_keys: 1, rows: 2 };
        let versions = [ViewVersion { view: "v".to_owned(), version: 3 }];

        let bytes = encode(&answer, &versions).unwrap();
        let (again, same_versions) =
            decode(&bytes, &[ValueType::Int64, ValueType::Double], 1).unwrap();

        assert_eq!(format!("{again:?}"), format!("{answer:?}"));
        assert_eq!(same_versions, versions);
    }

    #[test]
    fn an_answer_of_unknown_types_comes_back() {
        let vectors = vec![vector("x", ValueType::Double, &[&[0x12, 1, b'a'], &[]])];
        let answer = OnlineFeatures { vectors, join_keys: 0, rows: 2 };

        let (again, _) = decode_any(&encode(&answer, &[]).unwrap()).unwrap();

        let column = &again.vectors[0].column;
        assert_eq!(column.cell(0).unwrap().value_type(), ValueType::String);
        assert!(column.is_null(1));
    }

    #[test]
    fn an_answer_is_the_same_from_memory() {
        let vectors = vec![
            vector("key", ValueType::Int64, &[&[0x20, 1], &[0x20, 2]]),
            vector("x", ValueType::Double, &[&[0x12, 1, b'a'], &[]]),
        ];
        let answer = OnlineFeatures { vectors, join_keys: 1, rows: 2 };
        let versions = [ViewVersion { view: "v".to_owned(), version: 3 }];
        let mut bytes = Vec::new();

        let as_read = Answer::from(answer.clone());
        let mut writer = AnswerWriter::new(&as_read);
        writer.put_metadata(&mut bytes, &versions).unwrap();
        while writer.put_column(&mut bytes).unwrap() {}

        assert_eq!(bytes, encode(&answer, &versions).unwrap());
    }

    #[test]
    fn plain_values_are_values() {
        let mut bytes = Vec::new();
        put_plain(&mut bytes, PlainValues::Integers(&[-1, 300]));
        put_plain(&mut bytes, PlainValues::Doubles(&[0.5]));
        put_plain(&mut bytes, PlainValues::Times(&[7]));

        let mut expected = Vec::new();
        for value in [Value::Int64(-1), Value::Int64(300), Value::Double(0.5)] {
            put_sized(&mut expected, 1, &value.to_bytes());
        }
        put_sized(&mut expected, 1, &Value::UnixTimestamp(7).to_bytes());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let answer = OnlineFeatures {
            vectors: vec![vector("x", ValueType::Int64, &[&[], &[]])],
            join_keys: 0,
            rows: 2,
        };
        let bytes = encode(&answer, &[]).unwrap();

        assert!(decode(&bytes, &[], 0).is_err());
        assert!(decode(&bytes[..bytes.len() - 1], &[ValueType::Int64], 0).is_err());
        assert!(decode(&[0x0a, 4, 0x0a, 2, 0x0a, 0], &[], 0).is_err());
    }
}
