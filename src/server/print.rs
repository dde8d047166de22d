//! Values as Feast's server prints them in JSON (`feast/proto_json.py`): floats of both widths as
//! Python's `repr` of a double, times as whole seconds, bytes in base64, what JSON has no number
//! for as text. Writes into one buffer; must not know answers.

use std::ops::Range;
use std::str::FromStr;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampSecondType};
use arrow_array::{Array, ArrayRef};
use chrono::{DateTime, Datelike, FixedOffset, Offset, TimeZone, Timelike, Utc};

use crate::error::Result;
use crate::value::json::base64;
use crate::value::text::{offset_seconds, python_float};
use crate::value::wire::{Entries, NOT_A_TIME, PlainValues, Value};
use crate::value::{Column, Layout, ValueType};

const NULL: &[u8] = b"null";
const MICROS_PER_SECOND: i64 = 1_000_000;

/// Some rows of numbers that are all there, with commas between them.
pub(super) fn plain(out: &mut Vec<u8>, values: PlainValues<'_>, rows: Range<usize>) {
    match values {
        PlainValues::Doubles(values) => {
            let values = values.get(rows).unwrap_or_default();
            list(out, values, |out, value| float(out, *value));
        }
        PlainValues::Integers(values) | PlainValues::Times(values) => {
            let values = values.get(rows).unwrap_or_default();
            list(out, values, |out, value| integer(out, *value));
        }
    }
}

/// Some rows of a column, with commas between their values.
pub(super) fn column(out: &mut Vec<u8>, column: &Column, rows: Range<usize>) -> Result<()> {
    let values = &column.values;
    if column.layout == Layout::Typed {
        if let Some(element) = column.value_type.element() {
            lists(out, values, element, rows);
            return Ok(());
        }
        if scalars(out, values, column.value_type, rows.clone(), NULL) {
            return Ok(());
        }
    }
    for row in rows.clone() {
        comma(out, row - rows.start);
        value(out, &column.cell(row)?);
    }
    Ok(())
}

fn lists(out: &mut Vec<u8>, values: &ArrayRef, element: ValueType, rows: Range<usize>) {
    let lists = values.as_list::<i32>();
    let bounds = lists.offsets().windows(2).enumerate();
    for (row, ends) in bounds.skip(rows.start).take(rows.len()) {
        comma(out, row - rows.start);
        if lists.is_null(row) {
            out.extend_from_slice(NULL);
            continue;
        }
        out.push(b'[');
        let items = ends[0] as usize..ends[1] as usize;
        scalars(out, lists.values(), element, items, filler(element));
        out.push(b']');
    }
}

/// What Feast stores, and prints, for a null among the elements of a list.
fn filler(element: ValueType) -> &'static [u8] {
    match element {
        ValueType::Bytes | ValueType::String => b"\"\"",
        ValueType::Json => b"\"null\"",
        ValueType::Double | ValueType::Float => b"\"NaN\"",
        ValueType::Bool => b"false",
        _ => NULL,
    }
}

/// Some rows of an array of scalars; false, and nothing written, for types that have no loop of
/// their own.
fn scalars(
    out: &mut Vec<u8>,
    values: &ArrayRef,
    value_type: ValueType,
    rows: Range<usize>,
    missing: &[u8],
) -> bool {
    let start = rows.start;
    let mut each = |put: &dyn Fn(&mut Vec<u8>, usize)| {
        for row in rows.clone() {
            comma(out, row - start);
            match values.is_null(row) {
                true => out.extend_from_slice(missing),
                false => put(out, row),
            }
        }
    };
    match value_type {
        ValueType::Double => {
            let numbers = values.as_primitive::<Float64Type>();
            each(&|out, row| float(out, numbers.value(row)));
        }
        ValueType::Float => {
            let numbers = values.as_primitive::<Float32Type>();
            each(&|out, row| float(out, f64::from(numbers.value(row))));
        }
        ValueType::Int64 => {
            let numbers = values.as_primitive::<Int64Type>();
            each(&|out, row| integer(out, numbers.value(row)));
        }
        ValueType::Int32 => {
            let numbers = values.as_primitive::<Int32Type>();
            each(&|out, row| integer(out, i64::from(numbers.value(row))));
        }
        ValueType::UnixTimestamp => {
            let seconds = values.as_primitive::<TimestampSecondType>();
            each(&|out, row| integer(out, seconds.value(row)));
        }
        ValueType::Bool => {
            let flags = values.as_boolean();
            each(&|out, row| bool(out, flags.value(row)));
        }
        ValueType::Bytes => {
            let bytes = values.as_binary::<i32>();
            each(&|out, row| string(out, &base64(bytes.value(row))));
        }
        ValueType::String
        | ValueType::Json
        | ValueType::Uuid
        | ValueType::TimeUuid
        | ValueType::Decimal => {
            let texts = values.as_string::<i32>();
            each(&|out, row| string(out, texts.value(row)));
        }
        _ => return false,
    }
    true
}

fn value(out: &mut Vec<u8>, one: &Value<'_>) {
    match one {
        Value::Null | Value::UnixTimestamp(NOT_A_TIME) => out.extend_from_slice(NULL),
        Value::Bool(flag) => bool(out, *flag),
        Value::Int32(number) => integer(out, i64::from(*number)),
        Value::Int64(number) | Value::UnixTimestamp(number) => integer(out, *number),
        Value::Double(number) => float(out, *number),
        Value::Float(number) => float(out, f64::from(*number)),
        Value::Text(_, text) => string(out, text),
        Value::Bytes(bytes) => string(out, &base64(bytes)),
        Value::ZonedTimestamp(seconds, zone) => zoned(out, *seconds, zone),
        Value::Items(_, items) | Value::Nested(_, items) => {
            out.push(b'[');
            list(out, items, value);
            out.push(b']');
        }
        Value::Map(_, entries) => object(out, entries),
        Value::Maps(_, maps) => {
            out.push(b'[');
            list(out, maps, object);
            out.push(b']');
        }
        Value::ScalarMap(entries) => scalar_map(out, entries),
    }
}

// Sorted: in Feast they come in any order.
fn object(out: &mut Vec<u8>, entries: &Entries<'_>) {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    out.push(b'{');
    list(out, &entries, |out, (key, one)| {
        string(out, key);
        out.push(b':');
        value(out, one);
    });
    out.push(b'}');
}

fn scalar_map(out: &mut Vec<u8>, entries: &[(Value<'_>, Value<'_>)]) {
    out.push(b'{');
    list(out, entries, |out, (key, one)| {
        let start = out.len();
        value(out, key);
        if out.get(start) != Some(&b'"') {
            out.insert(start, b'"');
            out.push(b'"');
        }
        out.push(b':');
        value(out, one);
    });
    out.push(b'}');
}

fn list<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    for (index, item) in items.iter().enumerate() {
        comma(out, index);
        put(out, item);
    }
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn bool(out: &mut Vec<u8>, flag: bool) {
    out.extend_from_slice(if flag { b"true" } else { b"false" });
}

/// The number in decimal digits.
pub(super) fn integer(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Python's `repr` of the number, and its name where JSON has no number.
pub(super) fn float(out: &mut Vec<u8>, number: f64) {
    // Between these, the shortest digits stand as Python lays them out.
    if (1e-4..1e16).contains(&number.abs()) || number == 0.0 {
        out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
    } else {
        out.extend_from_slice(uncommon_float(number).as_bytes());
    }
}

#[cold]
fn uncommon_float(number: f64) -> String {
    match (number.is_finite(), number.is_nan(), number > 0.0) {
        (true, ..) => python_float(number),
        (_, true, _) => "\"NaN\"".to_owned(),
        (.., true) => "\"Infinity\"".to_owned(),
        _ => "\"-Infinity\"".to_owned(),
    }
}

/// `text` as a JSON string; only what must be escaped is.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0x08 => out.extend_from_slice(b"\\b"),
        0x0c => out.extend_from_slice(b"\\f"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Microseconds since the epoch as a JSON string of RFC 3339, with as many digits behind the
/// point as protobuf prints: none, three or six.
pub(super) fn time(out: &mut Vec<u8>, micros: i64) {
    let (seconds, rest) =
        (micros.div_euclid(MICROS_PER_SECOND), micros.rem_euclid(MICROS_PER_SECOND));
    let Some(time) = DateTime::from_timestamp(seconds, 0) else {
        return out.extend_from_slice(NULL);
    };
    out.push(b'"');
    date_and_time(out, &time);
    match (rest, rest % 1000) {
        (0, _) => {}
        (_, 0) => fraction(out, rest / 1000, 100),
        _ => fraction(out, rest, 100_000),
    }
    out.extend_from_slice(b"Z\"");
}

fn date_and_time<Z: TimeZone>(out: &mut Vec<u8>, time: &DateTime<Z>) {
    let year = time.year().unsigned_abs();
    two_digits(out, year / 100 % 100);
    two_digits(out, year % 100);
    let parts = [
        (b'-', time.month()),
        (b'-', time.day()),
        (b'T', time.hour()),
        (b':', time.minute()),
        (b':', time.second()),
    ];
    for (before, part) in parts {
        out.push(before);
        two_digits(out, part);
    }
}

fn two_digits(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]);
}

fn fraction(out: &mut Vec<u8>, number: i64, mut unit: i64) {
    out.push(b'.');
    while unit > 0 {
        out.push(b'0' + (number / unit % 10) as u8);
        unit /= 10;
    }
}

/// ISO 8601 in its zone, with the zone's offset (`feast/feature_server_utils.py`,
/// `_zoned_timestamp_to_str`); null where there is no such time.
pub(super) fn zoned(out: &mut Vec<u8>, seconds: i64, zone: &str) {
    let Some(time) = DateTime::from_timestamp(seconds, 0).filter(|_| seconds != NOT_A_TIME) else {
        return out.extend_from_slice(NULL);
    };
    let offset = offset_at(time, zone);
    let time = time.with_timezone(&offset);
    out.push(b'"');
    date_and_time(out, &time);
    let seconds = offset.local_minus_utc();
    out.push(if seconds < 0 { b'-' } else { b'+' });
    let minutes = seconds.unsigned_abs() / 60;
    two_digits(out, minutes / 60);
    out.push(b':');
    two_digits(out, minutes % 60);
    if !seconds.unsigned_abs().is_multiple_of(60) {
        out.push(b':');
        two_digits(out, seconds.unsigned_abs() % 60);
    }
    out.push(b'"');
}

// A zone of the IANA database or a fixed offset; UTC where it is neither, as in Feast.
fn offset_at(time: DateTime<Utc>, zone: &str) -> FixedOffset {
    if let Ok(known) = chrono_tz::Tz::from_str(zone) {
        return known.offset_from_utc_datetime(&time.naive_utc()).fix();
    }
    offset_seconds(zone.trim()).and_then(FixedOffset::east_opt).unwrap_or_else(|| Utc.fix())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_pythons() {
        let expected = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (100.0, "100.0"),
            (1e15, "1000000000000000.0"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.234_567_890_123_456_8e17, "1.2345678901234568e+17"),
            (1e22, "1e+22"),
            (0.0001, "0.0001"),
            (0.000_123_45, "0.00012345"),
            (0.000_099_99, "9.999e-05"),
            (1e-5, "1e-05"),
            (-1.5e-7, "-1.5e-07"),
            (5e-324, "5e-324"),
            (1.5e300, "1.5e+300"),
            (f64::from(0.1_f32), "0.10000000149011612"),
            (f64::from(1e-45_f32), "1.401298464324817e-45"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ];
        for (number, text) in expected {
            assert_eq!(printed(|out| float(out, number)), text);
        }
    }

    #[test]
    fn times_have_the_digits_that_they_need() {
        let expected = [
            (0, "\"1970-01-01T00:00:00Z\""),
            (1_700_000_000_000_005, "\"2023-11-14T22:13:20.000005Z\""),
            (1_700_000_000_100_000, "\"2023-11-14T22:13:20.100Z\""),
            (-1_000_000, "\"1969-12-31T23:59:59Z\""),
            (-62_135_596_800_000_000, "\"0001-01-01T00:00:00Z\""),
        ];
        for (micros, text) in expected {
            assert_eq!(printed(|out| time(out, micros)), text);
        }
    }

    #[test]
    fn text_is_escaped_where_it_must_be() {
        let text = "\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}ü\u{2028}😀";

        let shown = printed(|out| string(out, text));

        assert_eq!(shown, "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}ü\u{2028}😀\"");
    }

    #[test]
    fn zoned_times_bear_their_offset() {
        let expected = [
            ("Europe/Berlin", "\"2023-11-14T23:13:20+01:00\""),
            ("", "\"2023-11-14T22:13:20+00:00\""),
            ("UTC+05:30", "\"2023-11-15T03:43:20+05:30\""),
            ("-08:00", "\"2023-11-14T14:13:20-08:00\""),
            ("Mars/Olympus", "\"2023-11-14T22:13:20+00:00\""),
        ];
        for (zone, text) in expected {
            assert_eq!(printed(|out| zoned(out, 1_700_000_000, zone)), text);
        }
    }

    #[test]
    fn trees_are_printed_with_sorted_members() {
        let map = Value::Map(
            ValueType::Map,
            vec![("b".into(), Value::Null), ("a".into(), Value::Bytes(b"a"[..].into()))],
        );
        let keyed = Value::ScalarMap(vec![(Value::Int64(1), Value::Bool(true))]);
        let nested = Value::Nested(ValueType::ValueList, vec![map, keyed, Value::Null]);

        assert_eq!(
            printed(|out| value(out, &nested)),
            r#"[{"a":"YQ==","b":null},{"1":true},null]"#
        );
    }
}
