//! Values as the text that Python makes of them: `str()` of floats, decimals, times and bytes.
//! Feast stores such text where a column is declared STRING or DECIMAL.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    Float32Type, Float64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use chrono::{DateTime, SecondsFormat};

/// Python's `repr()` of a float: the shortest digits that read back the same.
///
/// ```
/// use feastrs::value::text::python_float;
///
/// assert_eq!(python_float(1e22), "1e+22");
/// assert_eq!(python_float(123456.0), "123456.0");
/// ```
pub fn python_float(number: f64) -> String {
    python_digits(&format!("{number:e}"))
}

// From Rust's shortest scientific form, which has the same digits.
fn python_digits(scientific: &str) -> String {
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific.to_ascii_lowercase();
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    if !(-4..16).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{exponent_sign}{:02}", exponent.abs());
    }
    let digits = mantissa.replace('.', "");
    let point = exponent + 1;
    let body = if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if digits.len() <= point as usize {
        format!("{digits}{}.0", "0".repeat(point as usize - digits.len()))
    } else {
        let (whole, fraction) = digits.split_at(point as usize);
        format!("{whole}.{fraction}")
    };
    format!("{sign}{body}")
}

/// Python's `repr()` of bytes.
pub(super) fn python_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut text = format!("b{quote}");
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            _ if char::from(byte) == quote => {
                text.push('\\');
                text.push(quote);
            }
            0x20..0x7f => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text.push(quote);
    text
}

/// Sixteen bytes as the text of a UUID.
pub(super) fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Appends Python's `str()` of a float; false where the array holds none.
pub(super) fn write_float(text: &mut String, array: &ArrayRef, row: usize) -> bool {
    let scientific = match array.data_type() {
        DataType::Float64 => format!("{:e}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => format!("{:e}", array.as_primitive::<Float32Type>().value(row)),
        _ => return false,
    };
    text.push_str(&python_digits(&scientific));
    true
}

/// Appends Python's `str()` of a decimal; false where the array holds none.
pub(super) fn write_decimal(text: &mut String, array: &ArrayRef, row: usize) -> bool {
    let (unscaled, scale) = match array.data_type() {
        DataType::Decimal32(_, scale) => {
            (array.as_primitive::<Decimal32Type>().value(row).to_string(), *scale)
        }
        DataType::Decimal64(_, scale) => {
            (array.as_primitive::<Decimal64Type>().value(row).to_string(), *scale)
        }
        DataType::Decimal128(_, scale) => {
            (array.as_primitive::<Decimal128Type>().value(row).to_string(), *scale)
        }
        DataType::Decimal256(_, scale) => {
            (array.as_primitive::<Decimal256Type>().value(row).to_string(), *scale)
        }
        _ => return false,
    };
    text.push_str(&python_decimal(&unscaled, -i32::from(scale)));
    true
}

/// Python's `str()` of the decimal `unscaled` times ten to the `exponent`.
fn python_decimal(unscaled: &str, exponent: i32) -> String {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", unscaled),
    };
    let adjusted = exponent + digits.len() as i32 - 1;
    if exponent > 0 || adjusted < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        return format!("{sign}{first}{point}{rest}E{adjusted:+}");
    }
    let fraction = exponent.unsigned_abs() as usize;
    if fraction == 0 {
        return unscaled.to_owned();
    }
    let padded = format!("{digits:0>width$}", width = fraction + 1);
    let (whole, fraction) = padded.split_at(padded.len() - fraction);
    format!("{sign}{whole}.{fraction}")
}

/// Appends NumPy's `str()` of a time or date; false where it is out of range.
pub(super) fn write_time(text: &mut String, array: &ArrayRef, row: usize) -> bool {
    let (nanos_per_tick, digits, ticks) = match array.data_type() {
        DataType::Date32 => {
            let day = array.as_primitive::<Date32Type>().value_as_date(row);
            return day.is_some_and(|day| write!(text, "{day}").is_ok());
        }
        DataType::Date64 => (1_000_000, 3, array.as_primitive::<Date64Type>().value(row)),
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => {
                (1_000_000_000, 0, array.as_primitive::<TimestampSecondType>().value(row))
            }
            TimeUnit::Millisecond => {
                (1_000_000, 3, array.as_primitive::<TimestampMillisecondType>().value(row))
            }
            TimeUnit::Microsecond => {
                (1_000, 6, array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            TimeUnit::Nanosecond => {
                (1, 9, array.as_primitive::<TimestampNanosecondType>().value(row))
            }
        },
        _ => return false,
    };
    let per_second = 1_000_000_000 / nanos_per_tick;
    let nanos = ticks.rem_euclid(per_second) * nanos_per_tick;
    let time = DateTime::from_timestamp(ticks.div_euclid(per_second), nanos as u32);
    let Some(time) = time.map(|time| time.naive_utc()) else { return false };
    let format = match digits {
        0 => "%Y-%m-%dT%H:%M:%S",
        3 => "%Y-%m-%dT%H:%M:%S%.3f",
        6 => "%Y-%m-%dT%H:%M:%S%.6f",
        _ => "%Y-%m-%dT%H:%M:%S%.9f",
    };
    write!(text, "{}", time.format(format)).is_ok()
}

/// The seconds east of UTC that a fixed offset says: "-07:00", "+0530", "UTC-07:00",
/// "GMT+01:00". `None` for any other text.
pub fn offset_seconds(name: &str) -> Option<i32> {
    let offset = name.strip_prefix("UTC").or_else(|| name.strip_prefix("GMT")).unwrap_or(name);
    let (sign, digits) = match offset.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits = digits.replacen(':', "", 1);
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = digits.split_at_checked(2)?;
    Some(sign * (hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60))
}

/// Seconds since the epoch as ISO-8601 in UTC; the number where it is out of range.
pub(super) fn iso_time(seconds: i64) -> String {
    match DateTime::from_timestamp(seconds, 0) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        None => seconds.to_string(),
    }
}

/// Whether Python's `json.loads` would take the text: JSON, and the bare words NaN, Infinity
/// and -Infinity.
pub(super) fn check_json(text: &str) -> Result<(), String> {
    let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ());
    is_json(text).or_else(|why| {
        let has_words = text.contains("NaN") || text.contains("Infinity");
        match has_words && is_json(&without_words(text)).is_ok() {
            true => Ok(()),
            false => Err(format!("not JSON ({why})")),
        }
    })
}

/// The text with Python's words for numbers that JSON does not have put as zeros.
fn without_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(next) = rest.chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| rest.starts_with(word));
        let taken = match (in_string, next, word) {
            (false, _, Some(word)) => {
                out.push('0');
                word.len()
            }
            (true, '\\', _) => {
                let end = rest.char_indices().nth(2).map_or(rest.len(), |(index, _)| index);
                out.push_str(&rest[..end]);
                end
            }
            _ => {
                in_string ^= next == '"';
                out.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_in_feasts_forms() {
        assert_eq!(offset_seconds("UTC-07:00"), Some(-25_200));
        assert_eq!(offset_seconds("+0530"), Some(19_800));
        assert_eq!(offset_seconds("Mars/Olympus"), None);
    }

    #[test]
    fn floats_are_written_as_python_does() {
        let cases = [
            (1.5, "1.5"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.25e-7, "-1.25e-07"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "nan"),
        ];
        for (number, expected) in cases {
            assert_eq!(python_float(number), expected);
        }
    }

    #[test]
    fn decimals_are_written_as_python_does() {
        assert_eq!(python_decimal("150", -2), "1.50");
        assert_eq!(python_decimal("0", -10), "0E-10");
        assert_eq!(python_decimal("-5", -3), "-0.005");
        assert_eq!(python_decimal("15", 2), "1.5E+3");
        assert_eq!(python_decimal("7", 0), "7");
    }

    #[test]
    fn bytes_are_written_as_python_does() {
        assert_eq!(python_bytes(b"'\xff"), "b\"'\\xff\"");
    }

    #[test]
    fn pythons_words_are_json_outside_of_strings() {
        assert!(check_json(r#"{"a": NaN, "b": [-Infinity, "\"NaN"]}"#).is_ok());
        assert!(check_json("{NaN}").is_err());
        assert!(check_json("not json").is_err());
    }
}
