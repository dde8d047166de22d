//! An answer -> the JSON of Feast's server (`feast/feature_server.py::OnlineFeaturesResponse`),
//! written once into one buffer. What columns have in common, which is nearly always all but
//! their values, is written for the first of them and copied for the others.
//!
//! A large answer is written in slices, so that whoever writes it can do other things in between.

use std::ops::Range;
use std::sync::Arc;

use super::print::{column, integer, plain, string, time};
use crate::error::Result;
use crate::online::{Answer, AnswerColumn, Status, Statuses, Values, ViewVersion};

/// Bytes for each value and what goes with it, as a first guess.
const BYTES_PER_VALUE: usize = 64;
/// Bytes for each column.
const BYTES_PER_COLUMN: usize = 96;

/// Values of one slice: what takes a fraction of a millisecond.
const SLICE: usize = 2048;

/// The answer as JSON. `view_versions` are empty unless they were asked for.
pub fn to_json(answer: &Answer, view_versions: &[ViewVersion]) -> Result<Vec<u8>> {
    let mut rendering = Rendering::new(answer);
    while !rendering.write_slice()? {}
    rendering.finish(view_versions)
}

/// JSON of an answer in the making.
pub struct Rendering<'a> {
    answer: &'a Answer,
    rows: usize,
    width: usize,
    out: Vec<u8>,
    // Where to go on.
    column: usize,
    row: usize,
    // Where the last column whose values were all PRESENT has its statuses and times, and which
    // times these are.
    tail: Option<(Times<'a>, Range<usize>)>,
}

/// The times of a column's rows; `None`: they have none.
type Times<'a> = Option<&'a Arc<Vec<i64>>>;

impl<'a> Rendering<'a> {
    /// Begins, with nothing written.
    pub fn new(answer: &'a Answer) -> Self {
        let (rows, width) = (answer.rows(), answer.width());
        let size = 128 + width * (BYTES_PER_COLUMN + rows * BYTES_PER_VALUE);
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(b"{\"results\":[");
        Rendering { answer, rows, width, out, column: 0, row: 0, tail: None }
    }

    /// Writes the next values, so many that it does not take long; whether those were the last.
    pub fn write_slice(&mut self) -> Result<bool> {
        let mut left = SLICE;
        while self.column < self.width && left > 0 {
            let column = self.answer.column(self.column)?;
            let rows = self.row..self.rows.min(self.row + left);
            left -= rows.len();
            self.values(&column.values, rows.clone())?;
            self.row = rows.end;
            if self.row == self.rows {
                self.tail(&column);
                (self.column, self.row) = (self.column + 1, 0);
            }
        }
        Ok(self.column == self.width)
    }

    /// The whole, once all values are written.
    pub fn finish(self, view_versions: &[ViewVersion]) -> Result<Vec<u8>> {
        let mut out = self.out;
        out.extend_from_slice(b"],\"metadata\":{\"feature_names\":[");
        for index in 0..self.width {
            if index > 0 {
                out.push(b',');
            }
            string(&mut out, self.answer.column(index)?.name);
        }
        out.push(b']');
        put_versions(&mut out, view_versions);
        out.extend_from_slice(b"}}");
        Ok(out)
    }

    fn values(&mut self, values: &Values<'_>, rows: Range<usize>) -> Result<()> {
        let before: &[u8] = match (self.column, rows.start) {
            (0, 0) => b"{\"values\":[",
            (_, 0) => b",{\"values\":[",
            _ => b",",
        };
        self.out.extend_from_slice(before);
        match values {
            Values::Plain(values) => plain(&mut self.out, *values, rows),
            Values::Column(values) => column(&mut self.out, values, rows)?,
        }
        Ok(())
    }

    /// What comes after the values of a column.
    fn tail(&mut self, one: &AnswerColumn<'a>) {
        let statuses = one.statuses.filter(|statuses| !statuses.are_all_present());
        match &self.tail {
            Some((times, tail)) if statuses.is_none() && are_same(*times, one.event_timestamps) => {
                self.out.extend_from_within(tail.clone());
            }
            _ => {
                let start = self.out.len();
                self.put_statuses(statuses);
                self.put_times(one.event_timestamps);
                if statuses.is_none() {
                    self.tail = Some((one.event_timestamps, start..self.out.len()));
                }
            }
        }
    }

    fn put_statuses(&mut self, statuses: Option<&Statuses>) {
        self.out.extend_from_slice(b"],\"statuses\":[");
        for row in 0..self.rows {
            let status = statuses.map_or(Status::Present, |statuses| statuses.get(row));
            self.out.extend_from_slice(if row > 0 { b",\"" } else { b"\"" });
            self.out.extend_from_slice(status.name().as_bytes());
            self.out.push(b'"');
        }
    }

    fn put_times(&mut self, times: Times<'_>) {
        self.out.extend_from_slice(b"],\"event_timestamps\":[");
        for row in 0..self.rows {
            if row > 0 {
                self.out.push(b',');
            }
            time(&mut self.out, times.and_then(|times| times.get(row)).copied().unwrap_or(0));
        }
        self.out.extend_from_slice(b"]}");
    }
}

fn put_versions(out: &mut Vec<u8>, view_versions: &[ViewVersion]) {
    if view_versions.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"feature_view_metadata\":[");
    for (index, one) in view_versions.iter().enumerate() {
        out.extend_from_slice(if index > 0 { b",{\"name\":" } else { b"{\"name\":" });
        string(out, &one.view);
        if one.version != 0 {
            out.extend_from_slice(b",\"version\":");
            integer(out, i64::from(one.version));
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn are_same(one: Times<'_>, other: Times<'_>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::{FeatureVector, OnlineFeatures};
    use crate::value::ValueType;
    use crate::value::wire::{ColumnDecoder, Value};

    fn vector(
        name: &str,
        value_type: ValueType,
        values: [&[u8]; 2],
        times: &Arc<Vec<i64>>,
    ) -> FeatureVector {
        let mut decoder = ColumnDecoder::new(value_type, 2);
        let mut statuses = Statuses::all_present(0);
        for value in values {
            decoder.push(value).unwrap();
            let is_null = value.is_empty();
            statuses.push(if is_null { Status::NullValue } else { Status::Present });
        }
        let (name, column) = (name.into(), decoder.finish().unwrap());
        FeatureVector { name, column, statuses, event_timestamps: times.clone() }
    }

    #[test]
    fn an_answer_is_printed_as_feast_prints_it() {
        let (no_time, times) = (Arc::new(vec![0, 0]), Arc::new(vec![1_700_000_000_000_001, 0]));
        let vectors = vec![
            vector("k", ValueType::Int64, [&[0x20, 1], &[0x20, 2]], &no_time),
            vector("a", ValueType::Int64, [&[0x20, 7], &[0x20, 8]], &times),
            vector("b", ValueType::String, [&[0x12, 1, b'x'], &[]], &times),
            vector("c", ValueType::Bool, [&[0x38, 1], &[0x38, 0]], &times),
        ];
        let answer = Answer::from(OnlineFeatures { vectors, join_keys: 1, rows: 2 });
        let versions = [("v", 0), ("w", 2)]
            .map(|(view, version)| ViewVersion { view: view.to_owned(), version });

        let json = String::from_utf8(to_json(&answer, &versions).unwrap()).unwrap();

        let present = r#""statuses":["PRESENT","PRESENT"],"event_timestamps":"#;
        let times = r#"["2023-11-14T22:13:20.000001Z","1970-01-01T00:00:00Z"]"#;
        let expected = format!(
            r#"{{"results":[{{"values":[1,2],{present}["1970-01-01T00:00:00Z","1970-01-01T00:00:00Z"]}},{{"values":[7,8],{present}{times}}},{{"values":["x",null],"statuses":["PRESENT","NULL_VALUE"],"event_timestamps":{times}}},{{"values":[true,false],{present}{times}}}],"metadata":{{"feature_names":["k","a","b","c"],"feature_view_metadata":[{{"name":"v"}},{{"name":"w","version":2}}]}}}}"#
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn a_large_answer_is_written_in_slices() {
        const ROWS: usize = 3 * SLICE / 2;
        let times = Arc::new(vec![0; ROWS]);
        let vector = |name: &str, value_type, value: &dyn Fn(usize) -> Value<'static>| {
            let mut decoder = ColumnDecoder::new(value_type, ROWS);
            for row in 0..ROWS {
                decoder.push(&value(row).to_bytes()).unwrap();
            }
            let (name, column) = (name.into(), decoder.finish().unwrap());
            let statuses = Statuses::all_present(ROWS);
            FeatureVector { name, column, statuses, event_timestamps: times.clone() }
        };
        let number = |row| Value::Int64(row as i64);
        let vectors = vec![
            vector("n", ValueType::Int64, &number),
            vector("l", ValueType::Int64List, &|row| {
                Value::Items(ValueType::Int64List, vec![number(row), number(1)])
            }),
        ];
        let answer = Answer::from(OnlineFeatures { vectors, join_keys: 0, rows: ROWS });

        let (mut rendering, mut slices) = (Rendering::new(&answer), 1);
        while !rendering.write_slice().unwrap() {
            slices += 1;
        }
        let json = String::from_utf8(rendering.finish(&[]).unwrap()).unwrap();

        let joined =
            |put: &dyn Fn(usize) -> String| (0..ROWS).map(put).collect::<Vec<_>>().join(",");
        let tail = format!(
            r#"],"statuses":[{}],"event_timestamps":[{}]}}"#,
            joined(&|_| "\"PRESENT\"".to_owned()),
            joined(&|_| "\"1970-01-01T00:00:00Z\"".to_owned()),
        );
        let (numbers, lists) =
            (joined(&|row| row.to_string()), joined(&|row| format!("[{row},1]")));
        let expected = format!(
            r#"{{"results":[{{"values":[{numbers}{tail},{{"values":[{lists}{tail}],"metadata":{{"feature_names":["n","l"]}}}}"#
        );
        assert!(json == expected);
        assert_eq!(slices, 3);
    }
}
