//! Writes JSON text: strings, floating-point numbers, base64; and reads strings back.

use std::borrow::Cow;
use std::fmt::Write;

use super::syntax::plain_end;

/// Appends `value` as a JSON string. Escapes what must be, as Kafka Connect's writer does (`\n`, `\u001F`).
pub fn write_string(out: &mut String, value: &str) {
    out.push('"');
    write_escaped(out, value);
    out.push('"');
}

/// As [`write_string`], without the quotes.
pub fn write_escaped(out: &mut String, value: &str) {
    let bytes = value.as_bytes();
    let mut from = 0;
    loop {
        let to = plain_end(bytes, from);
        out.push_str(&value[from..to]);
        let Some(&byte) = bytes.get(to) else { return };
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            other => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push_str("\\u00");
                out.push(HEX[usize::from(other >> 4)] as char);
                out.push(HEX[usize::from(other & 15)] as char);
            }
        }
        from = to + 1;
    }
}

/// Checked JSON text without the whitespace between its parts.
pub fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_string = false;
    let mut escaped = false;
    for c in text.chars() {
        if in_string || !c.is_ascii_whitespace() {
            out.push(c);
        }
        in_string = match c {
            '"' if !escaped => !in_string,
            _ => in_string,
        };
        escaped = in_string && c == '\\' && !escaped;
    }
    out
}

/// `value` as a JSON string.
pub fn string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    write_string(&mut out, value);
    out
}

/// What stands between the quotes of a checked JSON string, with its escapes resolved. A lone surrogate becomes U+FFFD.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.as_bytes().contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mut chars = rest[at + 1..].chars();
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let mut unit = code_unit(chars.as_str());
                let mut after = chars.as_str().get(4..).unwrap_or("");
                if (0xd800..0xdc00).contains(&unit) {
                    let low = after.strip_prefix("\\u").map_or(0, code_unit);
                    if (0xdc00..0xe000).contains(&low) {
                        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                        after = &after[6..];
                    }
                }
                out.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = after;
                continue;
            }
            Some(other) => out.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn code_unit(text: &str) -> u32 {
    text.get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0xfffd)
}

/// The value of a checked JSON string with its quotes.
pub fn string_value(text: &str) -> Cow<'_, str> {
    unescape(text.get(1..text.len().saturating_sub(1)).unwrap_or(""))
}

/// A double as Java writes it (`1.0`, `1.0E10`, `1.5E-7`); `NaN` and infinities by name, without quotes.
pub fn java_double(value: f64) -> String {
    let mut out = String::new();
    write_java_double(&mut out, value);
    out
}

/// A float as Java writes it.
pub fn java_single(value: f32) -> String {
    let mut out = String::new();
    write_java_single(&mut out, value);
    out
}

/// Appends what [`java_double`] makes.
pub fn write_java_double(out: &mut String, value: f64) {
    if is_plain(value.abs()) {
        write_plain(out, format_args!("{value}"));
    } else {
        out.push_str(&java_float(value, &format!("{value:e}")));
    }
}

/// Appends what [`java_single`] makes.
pub fn write_java_single(out: &mut String, value: f32) {
    if is_plain(f64::from(value.abs())) {
        write_plain(out, format_args!("{value}"));
    } else {
        out.push_str(&java_float(f64::from(value), &format!("{value:e}")));
    }
}

/// Where Java uses no exponent.
fn is_plain(magnitude: f64) -> bool {
    (1e-3..1e7).contains(&magnitude)
}

fn write_plain(out: &mut String, number: std::fmt::Arguments<'_>) {
    let from = out.len();
    out.write_fmt(number).expect("writing to a string does not fail");
    if !out.as_bytes()[from..].contains(&b'.') {
        out.push_str(".0");
    }
}

/// Appends a decimal integer.
pub fn write_integer(out: &mut String, value: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push('-');
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// `scientific` is Rust's shortest `d.ddde±n`.
fn java_float(value: f64, scientific: &str) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let mut digits: String = mantissa.chars().filter(|&c| c != '.').collect();
    if digits.len() == 1 && value != 0.0 {
        // Java writes two digits, the nearest to the value: among the smallest numbers that is another than the first digit and 0.
        let nearest = format!("{value:.1e}");
        if let Some(two) = nearest.split_once('e').filter(|(_, same)| same.parse() == Ok(exponent)) {
            let two: String = two.0.chars().filter(char::is_ascii_digit).collect();
            digits = two.strip_suffix('0').map_or_else(|| two.clone(), str::to_owned);
        } else if let Some((two, power)) = nearest.split_once('e') {
            // 5e-324 is nearer to 4.9e-324, and 1e-323 to 9.9e-324.
            let sign = if value < 0.0 { "-" } else { "" };
            return format!("{sign}{}E{power}", two.trim_start_matches('-'));
        }
    }
    let (whole, fraction) = match exponent {
        -3..=-1 => ("0".to_owned(), "0".repeat((-exponent - 1) as usize) + &digits),
        0..=6 => {
            let split = exponent as usize + 1;
            let padded = format!("{digits:0<split$}");
            (padded[..split].to_owned(), padded[split..].to_owned())
        }
        _ => (digits[..1].to_owned(), digits[1..].to_owned()),
    };
    let fraction = if fraction.is_empty() { "0" } else { &fraction };
    match exponent {
        -3..=6 => format!("{sign}{whole}.{fraction}"),
        _ => format!("{sign}{whole}.{fraction}E{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_round_trip() {
        for value in ["", "plain", "a\"b\\c\n\r\t\u{8}\u{c}\u{1f}é𝄞", "12345678\"12345678"] {
            let text = string(value);
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
            assert_eq!(string_value(&text), value);
        }
        assert_eq!(string("\u{1f}"), "\"\\u001F\"");
        assert_eq!(unescape(r"\u00e9\ud834\udd1e\ud834x\/"), "é𝄞\u{fffd}x/");
    }

    // The right-hand sides were printed by Java 17's Double.toString.
    #[test]
    fn doubles_are_written_as_java_does() {
        for (value, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1234567.0, "1234567.0"),
            (12345678.0, "1.2345678E7"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (1.5, "1.5"),
            (-2.25e-10, "-2.25E-10"),
            (1e10, "1.0E10"),
            (9999999.5, "9999999.5"),
            (123.456, "123.456"),
            (f64::MAX, "1.7976931348623157E308"),
            (5e-324, "4.9E-324"),
            (-5e-324, "-4.9E-324"),
            (1e-323, "9.9E-324"),
            (1.5e-323, "1.5E-323"),
            (2e-323, "2.0E-323"),
            (1e-5, "1.0E-5"),
            (9e22, "9.0E22"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(java_double(value), text);
        }
        let mut out = String::new();
        for n in [0, 7, -10, i64::MIN, i64::MAX] {
            write_integer(&mut out, n);
        }
        assert_eq!(out, "07-10-92233720368547758089223372036854775807");
        assert_eq!(java_single(0.1), "0.1");
        assert_eq!(java_single(f32::from_bits(1)), "1.4E-45");
        assert_eq!(java_single(f32::from_bits(3)), "4.2E-45");
        assert_eq!(java_single(16777216.0), "1.6777216E7");
    }
}
