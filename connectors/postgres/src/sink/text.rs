//! Values as the texts that PostgreSQL reads.

use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::datum::{Datum, Kind, Members, Values, nested_json, unquoted};
use super::number;
use crate::calendar::civil;

const DAY: i64 = 86_400_000_000;

/// What numbers of JSON can be for timestamps, in milliseconds, as Connect's JSON shows them. Those in micro- or nanoseconds are larger, but for the months around 1970.
const MILLIS: std::ops::Range<i64> = -8_520_336_000_000..10_445_241_600_000;
/// The end of the year 9999, as it is used for "never".
const LAST_DAYS: [i64; 3] = [253_402_214_400_000, 253_402_300_799_000, 253_402_300_799_999];
const NO_UNIT: &str =
    ": a JSON value does not tell its unit; use a text, a converter with schemas, or TimestampConverter";

/// What the text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A column of text: JSON texts are themselves, without quotes.
    Plain,
    /// The server makes a timestamp of it: numbers of JSON count in milliseconds.
    Moment,
    /// A date: numbers of JSON are days.
    Day,
    /// A time of day: numbers of JSON may be of any unit, and are refused.
    Clock,
    /// An array: lists of JSON are written as the server writes arrays.
    Array,
    /// `hstore`: maps are written as it does.
    Hstore,
    /// Bits: true is 1.
    Bit,
    /// As many as are needed: sources tell how many there may be, not how many there are.
    VarBit,
    /// JSON: texts are JSON themselves, or become JSON texts.
    Json,
}

/// Appends the value's text. Null is not asked for. The error says what is wrong, not the value.
pub(super) fn write(out: &mut String, datum: &Datum<'_>, purpose: Purpose) -> Result<(), String> {
    match (datum, purpose) {
        (Datum::Null, _) => out.push_str("null"),
        (Datum::Beyond, _) => return Err("is a time beyond all calendars".into()),
        (Datum::Json(raw), purpose) => json(out, raw, purpose)?,
        (Datum::Str(text), Purpose::Json) => json_text(out, text),
        (Datum::Document(text), Purpose::Hstore) => hstore(out, text)?,
        (Datum::Str(text) | Datum::Document(text), _) => out.push_str(text),
        (Datum::Bool(value), Purpose::Bit | Purpose::VarBit) => out.push(if *value { '1' } else { '0' }),
        (Datum::Bool(value), _) => out.push_str(if *value { "true" } else { "false" }),
        (Datum::Int(value), _) => _ = write!(out, "{value}"),
        (Datum::F32(value), Purpose::Json) if !value.is_finite() => out.push_str("null"),
        (Datum::F64(value), Purpose::Json) if !value.is_finite() => out.push_str("null"),
        (Datum::F32(value), _) => float(out, f64::from(*value), &value.to_string()),
        (Datum::F64(value), _) => float(out, *value, &value.to_string()),
        (Datum::Bytes(bytes), Purpose::Json) => {
            use base64::Engine;
            _ = write!(out, "\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        (Datum::Bytes(bytes), _) => {
            out.push_str("\\x");
            bytes.iter().for_each(|byte| _ = write!(out, "{byte:02x}"));
        }
        (Datum::Decimal(unscaled, scale), _) => {
            number::write(out, unscaled, *scale).ok_or("has more digits than numeric, the largest of numbers")?;
        }
        (
            Datum::Date(_)
            | Datum::Time(_)
            | Datum::Timestamp(_)
            | Datum::Duration(_)
            | Datum::Bits(..)
            | Datum::Point(..),
            Purpose::Json,
        ) => {
            out.push('"');
            write(out, datum, Purpose::Plain)?;
            out.push('"');
        }
        (Datum::Date(days), _) => date(out, *days),
        (Datum::Time(micros), _) => time(out, *micros),
        (Datum::Timestamp(i64::MAX), _) => out.push_str("infinity"),
        (Datum::Timestamp(i64::MIN), _) => out.push_str("-infinity"),
        (Datum::Timestamp(micros), _) => timestamp(out, *micros),
        (Datum::Duration(micros), _) => _ = write!(out, "{micros} microseconds"),
        (Datum::Bits(bytes, _), Purpose::VarBit) => bits(out, bytes, None),
        (Datum::Bits(bytes, length), _) => bits(out, bytes, *length),
        (Datum::Point(x, y), _) => _ = write!(out, "({x},{y})"),
        (Datum::List(items, range), Purpose::Array) => {
            out.push('{');
            for (at, row) in range.clone().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                array_item(out, &items.get(row), items.kind())?;
            }
            out.push('}');
        }
        (Datum::List(items, range), _) => {
            out.push('[');
            for (at, row) in range.clone().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_json_item(out, items, row)?;
            }
            out.push(']');
        }
        (Datum::Nested(array, field, row), Purpose::Hstore) => {
            let text = nested_json(array, field, *row)?;
            hstore(out, &text)?;
        }
        (Datum::Nested(array, field, row), _) => out.push_str(&nested_json(array, field, *row)?),
    }
    Ok(())
}

fn write_json_item(out: &mut String, items: &Values, row: usize) -> Result<(), String> {
    match items.get(row) {
        // Inside of a list a text is a text.
        Datum::Str(text) => out.push_str(&serde_json::Value::from(text).to_string()),
        Datum::Document(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() => {
            return Err("has an item that is no JSON".into());
        }
        datum => write(out, &datum, Purpose::Json)?,
    }
    Ok(())
}

fn array_item(out: &mut String, item: &Datum<'_>, kind: Kind) -> Result<(), String> {
    match item {
        Datum::Null => out.push_str("NULL"),
        Datum::List(..) => write(out, item, Purpose::Array)?,
        item => {
            let plain = matches!(kind, Kind::Int | Kind::Float | Kind::Bool | Kind::Decimal);
            if plain {
                return write(out, item, Purpose::Plain);
            }
            let mut text = String::new();
            write(&mut text, item, Purpose::Plain)?;
            quoted(out, &text);
        }
    }
    Ok(())
}

fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn hstore(out: &mut String, object: &str) -> Result<(), String> {
    let members: Members<'_> =
        serde_json::from_str(object).map_err(|_| "is no map of texts, which hstore is".to_owned())?;
    for (at, (key, value)) in members.0.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        quoted(out, key);
        out.push_str("=>");
        match value.get() {
            "null" => out.push_str("NULL"),
            raw if raw.starts_with('"') => quoted(out, &unquoted(raw).ok_or("is no valid JSON")?),
            raw => quoted(out, raw),
        }
    }
    Ok(())
}

/// A text for a column of JSON: an object or a list as it is, anything else as a JSON text.
fn json_text(out: &mut String, text: &str) {
    let document =
        text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if document {
        out.push_str(text);
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// A value of a JSON document.
fn json(out: &mut String, raw: &str, purpose: Purpose) -> Result<(), String> {
    let number = || raw.parse::<i64>().map_err(|_| "is a number that no date or time can be made of".to_owned());
    match (raw.as_bytes().first(), purpose) {
        (Some(b'"'), Purpose::Json) => json_text(out, &unquoted(raw).ok_or("is no valid JSON")?),
        (Some(b'"'), _) => out.push_str(&unquoted(raw).ok_or("is no valid JSON")?),
        (Some(b'['), Purpose::Array) => {
            array_of(out, raw)?;
        }
        (Some(b'{'), Purpose::Hstore) => hstore(out, raw)?,
        (Some(b'-' | b'0'..=b'9'), Purpose::Day) => date(out, number()?),
        (Some(b'-' | b'0'..=b'9'), Purpose::Clock) => return Err(format!("is a number{NO_UNIT}")),
        (Some(b'-' | b'0'..=b'9'), Purpose::Moment) => {
            let millis = number()?;
            if !MILLIS.contains(&millis) && !LAST_DAYS.contains(&millis) {
                return Err(format!("is a number outside of the years 1700 to 2300 in milliseconds{NO_UNIT}"));
            }
            timestamp(out, millis * 1000);
        }
        _ => out.push_str(raw),
    }
    Ok(())
}

/// Digits of numbers are kept as they stand there.
fn array_of(out: &mut String, raw: &str) -> Result<(), String> {
    let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| "is no valid JSON".to_owned())?;
    out.push('{');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        match item.get() {
            "null" => out.push_str("NULL"),
            raw if raw.starts_with('[') => array_of(out, raw)?,
            raw if raw.starts_with('"') => quoted(out, &unquoted(raw).ok_or("is no valid JSON")?),
            raw if raw.starts_with('{') => quoted(out, raw),
            raw => out.push_str(raw),
        }
    }
    out.push('}');
    Ok(())
}

fn float(out: &mut String, value: f64, text: &str) {
    match value {
        value if value.is_nan() => out.push_str("NaN"),
        f64::INFINITY => out.push_str("Infinity"),
        f64::NEG_INFINITY => out.push_str("-Infinity"),
        _ => out.push_str(text),
    }
}

fn date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    let (shown, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}{era}");
}

fn time(out: &mut String, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!("{:06}", fraction.abs());
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// With its zone, which columns without one do not look at.
fn timestamp(out: &mut String, micros: i64) {
    let (year, month, day) = civil(micros.div_euclid(DAY));
    let (shown, era) = if year <= 0 { (1 - year, " BC") } else { (year, "") };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02} ");
    time(out, micros.rem_euclid(DAY));
    out.push_str("+00");
    out.push_str(era);
}

fn bits(out: &mut String, bytes: &[u8], length: Option<usize>) {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    // Without a length: as many as are needed.
    let length = length.unwrap_or_else(|| (0..bytes.len() * 8).rev().find(|at| bit(*at)).map_or(1, |at| at + 1));
    (0..length).rev().for_each(|at| out.push(if bit(at) { '1' } else { '0' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(datum: Datum<'_>, purpose: Purpose) -> String {
        let mut out = String::new();
        write(&mut out, &datum, purpose).unwrap();
        out
    }

    #[test]
    fn values_as_the_server_reads_them() {
        assert_eq!(text(Datum::Date(0), Purpose::Plain), "1970-01-01");
        assert_eq!(text(Datum::Date(-719_163), Purpose::Plain), "0001-12-31 BC");
        assert_eq!(text(Datum::Timestamp(-1), Purpose::Plain), "1969-12-31 23:59:59.999999+00");
        assert_eq!(text(Datum::Time(3_723_500_000), Purpose::Plain), "01:02:03.5");
        assert_eq!(text(Datum::Bits(&[0b101], Some(5)), Purpose::Plain), "00101");
        assert_eq!(text(Datum::Bits(&[0b101, 0], None), Purpose::Plain), "101");
        assert_eq!(text(Datum::Bytes(&[0, 255]), Purpose::Plain), "\\x00ff");
        assert_eq!(text(Datum::F32(0.1), Purpose::Plain), "0.1");
        assert_eq!(text(Datum::F64(f64::NAN), Purpose::Plain), "NaN");
        assert_eq!(text(Datum::Str("x"), Purpose::Json), "\"x\"");
        assert_eq!(text(Datum::Str("[1]"), Purpose::Json), "[1]");
        assert_eq!(text(Datum::Json("\"a\\n\""), Purpose::Plain), "a\n");
        assert_eq!(text(Datum::Json("[1,null,\"a\\\"b\",[2]]"), Purpose::Array), "{1,NULL,\"a\\\"b\",{2}}");
        assert_eq!(text(Datum::Json("1500"), Purpose::Moment), "1970-01-01 00:00:01.5+00");
        for (number, purpose) in [
            ("1700000000000000", Purpose::Moment),
            // Microseconds of 1971, and of 1960.
            ("31536000000000", Purpose::Moment),
            ("-315619200000000", Purpose::Moment),
            ("1e12", Purpose::Moment),
            ("3600000", Purpose::Clock),
        ] {
            assert!(write(&mut String::new(), &Datum::Json(number), purpose).is_err(), "{number}");
        }
        assert_eq!(text(Datum::Json("253402214400000"), Purpose::Moment), "9999-12-31 00:00:00+00");
        assert_eq!(
            text(Datum::Json("[1.10,12345678901234567890123,[true]]"), Purpose::Array),
            "{1.10,12345678901234567890123,{true}}"
        );
        assert_eq!(text(Datum::Json("{\"a\":1.10,\"b\":\"x\"}"), Purpose::Hstore), "\"a\"=>\"1.10\",\"b\"=>\"x\"");
        assert_eq!(text(Datum::Str("42"), Purpose::Json), "\"42\"");
        assert_eq!(text(Datum::Document("42"), Purpose::Json), "42");
    }
}
