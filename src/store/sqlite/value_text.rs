//! The column `value_text`: what Python's `str()` makes of the value of a string, number or
//! bool, nothing for other types (`feast/infra/online_stores/helpers.py::extract_text_and_num`).

use std::fmt::Write;

use crate::value::wire::reader::{Payload, Reader};

/// Fields of `feast.types.Value`.
const STRING: u32 = 2;
const INT32: u32 = 3;
const INT64: u32 = 4;
const DOUBLE: u32 = 5;
const FLOAT: u32 = 6;
const BOOL: u32 = 7;

/// Python writes numbers from this decimal exponent on, and below the other, with an `e`.
const MAX_FIXED_EXPONENT: i32 = 16;
const MIN_FIXED_EXPONENT: i32 = -4;

/// Puts the text of a serialized `Value` into `text`; `false` when it has none. `Err` says
/// what is wrong with bytes that are no `Value`.
pub(super) fn write(value: &[u8], text: &mut String) -> Result<bool, &'static str> {
    const BROKEN: &str = "its bytes are no feast.types.Value";
    text.clear();
    let mut has_text = false;
    let mut reader = Reader::new(value);
    while let Some((field, content)) = reader.field().map_err(|_| BROKEN)? {
        // A later member of the oneof replaces an earlier one.
        text.clear();
        has_text = match (field, content) {
            (STRING, Payload::Bytes(bytes)) => {
                text.push_str(std::str::from_utf8(bytes).map_err(|_| "its text is no UTF-8")?);
                true
            }
            (INT32, Payload::Varint(number)) => write!(text, "{}", number as i32).is_ok(),
            (INT64, Payload::Varint(number)) => write!(text, "{}", number as i64).is_ok(),
            (BOOL, Payload::Varint(number)) => {
                text.push_str(if number == 0 { "False" } else { "True" });
                true
            }
            (DOUBLE, Payload::Fixed64(bits)) => write_float(f64::from_le_bytes(bits), text),
            (FLOAT, Payload::Fixed32(bits)) => write_float(f32::from_le_bytes(bits).into(), text),
            _ => false,
        };
    }
    Ok(has_text)
}

/// Python's `repr` of a float: the shortest digits that read back the same.
fn write_float(number: f64, text: &mut String) -> bool {
    if number.is_nan() {
        text.push_str("nan");
    } else if number.is_infinite() {
        text.push_str(if number < 0.0 { "-inf" } else { "inf" });
    } else {
        write_finite(number, text);
    }
    true
}

fn write_finite(number: f64, text: &mut String) {
    if number.is_sign_negative() {
        text.push('-');
    }
    let mut buffer = ryu::Buffer::new();
    let (digits, exponent) = decimal(buffer.format_finite(number.abs()));
    if !(MIN_FIXED_EXPONENT..MAX_FIXED_EXPONENT).contains(&exponent) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((&digits, ""));
        text.push_str(first);
        if !rest.is_empty() {
            text.push('.');
            text.push_str(rest);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a String can't fail.
        let _ = write!(text, "e{sign}{:02}", exponent.abs());
    } else if exponent < 0 {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', exponent.unsigned_abs() as usize - 1));
        text.push_str(&digits);
    } else {
        let whole = exponent.unsigned_abs() as usize + 1;
        let (before, after) = digits.split_at_checked(whole).unwrap_or((&digits, ""));
        text.push_str(before);
        text.extend(std::iter::repeat_n('0', whole - before.len()));
        text.push('.');
        text.push_str(if after.is_empty() { "0" } else { after });
    }
}

/// The significant digits of what ryu wrote, and the decimal exponent of the first of them.
fn decimal(written: &str) -> (String, i32) {
    let (mantissa, exponent) = written.split_once('e').unwrap_or((written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let leading = all.len() - all.trim_start_matches('0').len();
    let digits = all.trim_matches('0');
    if digits.is_empty() {
        return ("0".to_owned(), 0);
    }
    (digits.to_owned(), exponent + whole.len() as i32 - 1 - leading as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(number: f64) -> String {
        let mut text = String::new();
        write_float(number, &mut text);
        text
    }

    #[test]
    fn floats_as_python_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-123_456.0, "-123456.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e-4, "0.0001"),
            (1.5e-4, "0.00015"),
            (1e-5, "1e-05"),
            (1e100, "1e+100"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::from(0.2f32), "0.20000000298023224"),
        ] {
            assert_eq!(float(number), text);
        }
    }

    #[test]
    fn each_member_of_the_oneof() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"\x12\x04\xc3\xa9\x00x", Some("é\0x")),
            (b"\x12\x00", Some("")),
            (b"\x18\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01", Some("-3")),
            (b"\x20\x0b", Some("11")),
            (b"\x35\xcd\xcc\x4c\x3e", Some("0.20000000298023224")),
            (b"\x38\x01", Some("True")),
            (b"\x38\x00", Some("False")),
            (b"\x98\x01\x00", None),
            (b"\x0a\x01x", None),
            (b"\x40\x03", None),
            (b"\x20\x0b\x12\x01y", Some("y")),
        ] {
            let mut text = String::new();
            let has_text = write(bytes, &mut text).unwrap();
            assert_eq!(has_text.then_some(text.as_str()), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn broken_bytes_are_named_as_such() {
        for bytes in [&b"\x12\x05ab"[..], b"\x20", b"\x35\x00", b"\x0f", b"\x12\x01\xff"] {
            assert!(write(bytes, &mut String::new()).is_err());
        }
    }
}
