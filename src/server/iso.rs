//! Times as text, in ISO 8601: dates and date-times, extended and basic, with any fraction and
//! any offset; without one they are UTC. Must not know where they stand.

use std::result::Result;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone};
use chrono_tz::Tz;

use crate::offline::Moment;

/// The moment that `text` is, cut to nanoseconds.
pub(super) fn instant(text: &str) -> Result<Moment, String> {
    let (local, offset) = parse(text).ok_or_else(|| no_time(text))?;
    moment(local, i64::from(offset.unwrap_or(0))).ok_or_else(|| no_time(text))
}

/// Seconds since the epoch, and the zone as Feast stores it: its name behind the time in
/// brackets, or `UTC+02:00` for an offset; nothing where there is neither.
pub(super) fn zoned(text: &str) -> Result<(i64, String), String> {
    let seconds = |moment: Moment| moment.micros.div_euclid(1_000_000);
    if let Some((time, name)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        let zone: Tz = name.parse().map_err(|_| format!("there is no zone '{name}'"))?;
        let (local, offset) = parse(time).ok_or_else(|| no_time(text))?;
        let offset = match offset {
            Some(offset) => i64::from(offset),
            None => {
                let found = zone.offset_from_local_datetime(&local).earliest();
                i64::from(found.ok_or_else(|| no_time(text))?.fix().local_minus_utc())
            }
        };
        return Ok((seconds(moment(local, offset).ok_or_else(|| no_time(text))?), name.to_owned()));
    }
    let (_, offset) = parse(text).ok_or_else(|| no_time(text))?;
    let zone = match offset {
        None => String::new(),
        Some(0) => "UTC".to_owned(),
        Some(offset) => {
            let sign = if offset < 0 { '-' } else { '+' };
            let minutes = offset.abs() / 60;
            format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    };
    Ok((seconds(instant(text)?), zone))
}

#[cold]
fn no_time(text: &str) -> String {
    format!("{:?} is no time; write it as 2024-05-01T08:30:00Z", super::cells::shortened(text))
}

fn moment(local: NaiveDateTime, offset: i64) -> Option<Moment> {
    let utc = local.and_utc().timestamp_micros().checked_sub(offset * 1_000_000)?;
    let nanos = local.and_utc().timestamp_subsec_nanos() % 1_000;
    Some(Moment { micros: utc, nanos: u16::try_from(nanos).ok()? })
}

/// The time as its clock has it, and how many seconds that clock is ahead of UTC.
fn parse(text: &str) -> Option<(NaiveDateTime, Option<i32>)> {
    let text = text.trim();
    let (date, rest) = date(text)?;
    if rest.is_empty() {
        return Some((date.and_time(NaiveTime::MIN), None));
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = time(rest)?;
    Some((date.and_time(time), offset(rest.trim_start())?))
}

/// `2024-05-01`, `20240501`, `2024-05`, `2024`.
fn date(text: &str) -> Option<(NaiveDate, &str)> {
    let (year, rest) = number(text, 4)?;
    let year = i32::try_from(year).ok()?;
    let first = |month| NaiveDate::from_ymd_opt(year, month, 1);
    match rest.strip_prefix('-') {
        Some(rest) => {
            let (month, rest) = number(rest, 2)?;
            match rest.strip_prefix('-') {
                Some(rest) => {
                    let (day, rest) = number(rest, 2)?;
                    Some((NaiveDate::from_ymd_opt(year, month, day)?, rest))
                }
                None => Some((first(month)?, rest)),
            }
        }
        None => match number(rest, 2).and_then(|(month, rest)| Some((month, number(rest, 2)?))) {
            Some((month, (day, rest))) => Some((NaiveDate::from_ymd_opt(year, month, day)?, rest)),
            None => Some((first(1)?, rest)),
        },
    }
}

/// `08`, `08:30`, `08:30:00.5`, `083000`.
fn time(text: &str) -> Option<(NaiveTime, &str)> {
    let (hour, mut rest) = number(text, 2)?;
    let has_colons = rest.starts_with(':');
    let mut parts = [0, 0];
    for part in &mut parts {
        let digits = if has_colons { rest.strip_prefix(':') } else { Some(rest) };
        let Some((number, after)) = digits.and_then(|digits| number(digits, 2)) else { break };
        (*part, rest) = (number, after);
    }
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let kept = fraction.get(..digits.min(9)).filter(|digits| !digits.is_empty())?;
        nanos = format!("{kept:0<9}").parse().ok()?;
        rest = &fraction[digits..];
    }
    Some((NaiveTime::from_hms_nano_opt(hour, parts[0], parts[1], nanos)?, rest))
}

/// Nothing, `Z`, `UTC`, `+02`, `+0200`, `+02:00`, `+02:00:00`.
fn offset(text: &str) -> Option<Option<i32>> {
    if text.is_empty() {
        return Some(None);
    }
    if matches!(text, "Z" | "z" | "UTC" | "utc") {
        return Some(Some(0));
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (time, rest) = time(text.strip_prefix(['+', '-'])?)?;
    let seconds = time.signed_duration_since(NaiveTime::MIN).num_seconds();
    rest.is_empty().then(|| i32::try_from(seconds).ok().map(|seconds| sign * seconds))
}

/// So many digits, and what follows.
fn number(text: &str, digits: usize) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_the_same_moment() {
        let expected = instant("2026-02-01T00:00:00Z").unwrap().micros;
        assert_eq!(expected, 1_769_904_000_000_000);
        for text in [
            "2026-02-01",
            "20260201",
            "2026-02",
            "2026-02-01 00:00",
            "2026-02-01T02:00:00+02:00",
            "20260131T160000-0800",
            "2026-02-01T00:00:00.000 +00",
            " 2026-02-01T00 ",
            "2026-02-01 00:00:00 UTC",
        ] {
            assert_eq!(instant(text).map(|at| at.micros), Ok(expected), "{text}");
        }
        let cut = instant("2026-02-01T00:00:00.1234567899Z").unwrap();
        assert_eq!((cut.micros - expected, cut.nanos), (123_456, 789));
    }

    #[test]
    fn what_is_no_time_says_so() {
        for text in ["", "x", "02/03/2026", "now", "2026-13-01", "2026-02-01T25:00", "2026-02-01x"]
        {
            assert!(instant(text).unwrap_err().contains("is no time"), "{text}");
        }
    }

    #[test]
    fn zones_keep_their_names() {
        let noon = 1_769_943_600;
        assert_eq!(zoned("2026-02-01T12:00:00+01:00"), Ok((noon, "UTC+01:00".to_owned())));
        assert_eq!(
            zoned("2026-02-01T12:00:00[Europe/Berlin]"),
            Ok((noon, "Europe/Berlin".to_owned()))
        );
        assert_eq!(zoned("2026-02-01T11:00:00Z"), Ok((noon, "UTC".to_owned())));
        assert!(zoned("2026-02-01T11:00:00[Nowhere/Land]").is_err());
    }
}
