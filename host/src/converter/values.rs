//! Typed values in text, as `SimpleHeaderConverter` and `InsertHeader` read and write them.
//!
//! The type is that of the narrowest number, a boolean, a date or time in ISO 8601, a list or a map in JSON's form, and otherwise
//! a string. Nothing is lost on the way, as it is in Kafka Connect: `123:abc` is a string (there `123`), `0.30000000000000004` a
//! float64 (there the float32 `0.3`), and `2024-13-45` no date. What stands in quotes is text.

use std::borrow::Cow;

use super::header_schema;
use super::json::syntax::{Items, Kind, Members};
use super::json::{decimal, logical, syntax, text};

/// A value in text: its Connect type name (the logical name where it has one), and the text that Kafka Connect writes for it.
/// `None` is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed<'t> {
    /// `int8`, `string`, `org.apache.kafka.connect.data.Date`…, or a list's or map's schema as JSON, see [`super::header_schema`].
    pub schema: Cow<'t, str>,
    /// The value.
    pub text: Cow<'t, str>,
}

/// What a text means.
pub fn parse(value: &str) -> Option<Typed<'_>> {
    let trimmed = value.trim();
    let typed = |schema, text: Cow<'static, str>| Some(Typed { schema, text });
    let as_it_is = |schema: &'static str| Some(Typed { schema: schema.into(), text: Cow::Borrowed(trimmed) });
    match trimmed.as_bytes().first() {
        _ if trimmed == "null" => return None,
        _ if trimmed == "true" || trimmed == "false" => return as_it_is("boolean"),
        Some(b'[' | b'{') if syntax::check(trimmed.as_bytes()).is_ok() => {
            return typed(nested(trimmed).into(), text::compact(trimmed).into());
        }
        Some(b'0'..=b'9') => match date_or_time(trimmed) {
            Some(schema) => return as_it_is(schema),
            None => {
                if let Some(number) = number(trimmed) {
                    return typed(number.0.into(), number.1.into());
                }
            }
        },
        Some(b'+' | b'-') => {
            if let Some(number) = number(trimmed) {
                return typed(number.0.into(), number.1.into());
            }
        }
        _ => {}
    }
    Some(Typed { schema: "string".into(), text: Cow::Borrowed(value) })
}

/// The narrowest type of a number, and its text.
fn number(value: &str) -> Option<(&'static str, String)> {
    let unsigned = value.strip_prefix(['+', '-']).unwrap_or(value);
    let is_number =
        unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'))
            && unsigned.bytes().any(|byte| byte.is_ascii_digit());
    let double: f64 = value.parse().ok().filter(|_| is_number)?;
    // Whole numbers in any notation, `1.0` and `1e3` too.
    let plain = value.strip_prefix('+').unwrap_or(value);
    let whole = decimal::from_text(plain, 0).map(|unscaled| decimal::to_text(&unscaled, 0));
    if let Some(whole) = whole.ok().and_then(|text| text.parse::<i64>().ok()) {
        let schema = match whole {
            -128..=127 => "int8",
            -32_768..=32_767 => "int16",
            -2_147_483_648..=2_147_483_647 => "int32",
            _ => "int64",
        };
        return Some((schema, whole.to_string()));
    }
    if !unsigned.contains(['.', 'e', 'E']) {
        return Some((logical::DECIMAL, decimal::in_java_notation(plain)?));
    }
    let (single, double_text) = (text::java_single(double as f32), text::java_double(double));
    if (double as f32).is_finite() && single == double_text {
        Some(("float32", single))
    } else if double.is_finite() {
        Some(("float64", double_text))
    } else {
        Some((logical::DECIMAL, decimal::in_java_notation(plain)?))
    }
}

/// The schema of a list or map whose values have a type in common, `array` or `map` otherwise. The text was checked.
fn nested(text: &str) -> String {
    let items = |values: Vec<&str>| {
        let mut common = None;
        let mut optional = false;
        for value in values {
            let schema = match Kind::of(value) {
                Kind::Null => {
                    optional = true;
                    continue;
                }
                Kind::Array | Kind::Object => nested(value),
                Kind::Boolean => "boolean".to_owned(),
                Kind::Number => number(value)?.0.to_owned(),
                Kind::String => "string".to_owned(),
            };
            common = Some(match common {
                None => schema,
                Some(known) => wider(known, schema)?,
            });
        }
        let common = common.filter(|schema| !matches!(&**schema, "array" | "map" | logical::DECIMAL))?;
        let json = header_schema::as_json(&common, 0).into_owned();
        // Only the outermost part of the schema says `optional` last.
        Some(if optional { json.strip_suffix("false}").map(|json| format!("{json}true}}"))? } else { json })
    };
    if text.starts_with('[') {
        let values = Items::of(text).into_iter().flatten().map_while(Result::ok).collect();
        return items(values).map_or_else(
            || "array".to_owned(),
            |items| format!("{{\"type\":\"array\",\"items\":{items},\"optional\":false}}"),
        );
    }
    let members = Members::of(text).into_iter().flatten().map_while(Result::ok);
    items(members.map(|member| member.value).collect()).map_or_else(
        || "map".to_owned(),
        |values| {
            format!(
                "{{\"type\":\"map\",\"keys\":{{\"type\":\"string\",\"optional\":false}},\"values\":{values},\"optional\":false}}"
            )
        },
    )
}

/// A type for values of both: the wider one of two numbers.
fn wider(a: String, b: String) -> Option<String> {
    const NUMBERS: [&str; 6] = ["int8", "int16", "int32", "int64", "float32", "float64"];
    if a == b {
        return Some(a);
    }
    let rank = |schema: &str| NUMBERS.iter().position(|number| *number == schema);
    let (first, second) = (rank(&a)?, rank(&b)?);
    Some(if first > second { a } else { b })
}

/// `2024-05-06`, `12:13:14.567Z` or `2024-05-06T12:13:14.567Z`.
fn date_or_time(value: &str) -> Option<&'static str> {
    let within = |range: std::ops::Range<usize>, most: u32| {
        value.get(range).and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n <= most)
    };
    let is_date = || within(5..7, 12) && within(8..10, 31);
    let shaped = |pattern: &str| {
        value.len() == pattern.len()
            && value.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                wanted => byte == wanted,
            })
    };
    if shaped("0000-00-00") && is_date() {
        Some(logical::DATE)
    } else if shaped("00:00:00.000Z") {
        Some(logical::TIME)
    } else if shaped("0000-00-00T00:00:00.000Z") && is_date() {
        Some(logical::TIMESTAMP)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Types and texts from Kafka 4.3.1's Values.parseString and Values.convertToString, except as the module says.
    #[test]
    fn types_are_kafka_connects() {
        for (value, schema, text) in [
            ("", "string", ""),
            (" ", "string", " "),
            ("true", "boolean", "true"),
            (" false ", "boolean", "false"),
            ("12", "int8", "12"),
            ("-129", "int16", "-129"),
            ("+70000", "int32", "70000"),
            ("3000000000", "int64", "3000000000"),
            ("1.0", "int8", "1"),
            ("1e3", "int16", "1000"),
            ("1.5", "float32", "1.5"),
            ("0.1", "float32", "0.1"),
            ("1e300", "float64", "1.0E300"),
            ("2024-05-06", logical::DATE, "2024-05-06"),
            ("12:13:14.567Z", logical::TIME, "12:13:14.567Z"),
            ("2024-05-06T12:13:14.567Z", logical::TIMESTAMP, "2024-05-06T12:13:14.567Z"),
            ("[ 1, \" \\\" \" ]", "array", "[1,\" \\\" \"]"),
            ("[]", "array", "[]"),
            ("[1, 300]", r#"{"type":"array","items":{"type":"int16","optional":false},"optional":false}"#, "[1,300]"),
            ("[1,null]", r#"{"type":"array","items":{"type":"int8","optional":true},"optional":false}"#, "[1,null]"),
            ("[[1],[2.5]]", "array", "[[1],[2.5]]"),
            ("1e400", logical::DECIMAL, "1E+400"),
            ("007", "int8", "7"),
            (".5", "string", ".5"),
            ("0x10", "string", "0x10"),
            ("12:13:14Z", "string", "12:13:14Z"),
            ("2024-13-45", "string", "2024-13-45"),
            ("0.30000000000000004", "float64", "0.30000000000000004"),
            (
                "{\"a\":1,\"b\":2.5}",
                r#"{"type":"map","keys":{"type":"string","optional":false},"values":{"type":"float","optional":false},"optional":false}"#,
                "{\"a\":1,\"b\":2.5}",
            ),
            ("[1,", "string", "[1,"),
            ("text", "string", "text"),
            ("- x", "string", "- x"),
        ] {
            assert_eq!(parse(value), Some(Typed { schema: schema.into(), text: text.into() }), "{value:?}");
        }
        assert_eq!(parse("null"), None);
    }
}
