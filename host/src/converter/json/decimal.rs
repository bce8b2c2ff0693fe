//! Connect's Decimal: big-endian two's complement bytes of the unscaled value, and a scale.

use arrow_schema::Field;
use tributary_sdk::batch::SCHEMA_PARAMETERS;

/// The scale that a Decimal field states.
pub fn scale(field: &Field) -> Result<i32, String> {
    let parameters = field.metadata().get(SCHEMA_PARAMETERS).map(String::as_str).unwrap_or("{}");
    let parameters: serde_json::Value = serde_json::from_str(parameters).unwrap_or_default();
    let scale = parameters.get("scale").and_then(serde_json::Value::as_str);
    let scale = scale.ok_or("Invalid Decimal schema: scale parameter not found.")?;
    scale.parse().map_err(|_| format!("Invalid scale parameter found in Decimal schema: {scale}"))
}

/// Text of the value as Java's `BigDecimal.toString` writes it: with an exponent where the scale is negative or the value very small.
pub fn to_java_text(unscaled: &[u8], scale: i32) -> String {
    let digits = to_text(unscaled, 0);
    let (sign, digits) = digits.strip_prefix('-').map_or(("", &*digits), |digits| ("-", digits));
    java_notation(sign, digits, scale.into())
}

/// Digits without leading zeros, and how many of them stand behind the point.
fn java_notation(sign: &str, digits: &str, scale: i64) -> String {
    let adjusted = digits.len() as i64 - 1 - scale;
    if scale < 0 || adjusted < -6 {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent = if adjusted == 0 { String::new() } else { format!("E{adjusted:+}") };
        return format!("{sign}{first}{point}{rest}{exponent}");
    }
    let scale = scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// The text of a number as Java's `BigDecimal` would write it after reading it; `None` when it is no number.
pub fn in_java_notation(text: &str) -> Option<String> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let scale = scale_of_text(unsigned)?;
    let digits: String =
        unsigned.chars().take_while(|c| !matches!(c, 'e' | 'E')).filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0');
    match digits {
        "" => Some(java_notation("", "0", scale.into())),
        digits => Some(java_notation(sign, digits, scale.into())),
    }
}

/// The scale that Java's `BigDecimal` has after reading the text; `None` when it is no number.
pub fn scale_of_text(text: &str) -> Option<i32> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    i32::try_from(fraction.len()).ok().filter(|_| is_number)?.checked_sub(exponent)
}

/// Decimal text of the value without an exponent.
pub fn to_text(unscaled: &[u8], scale: i32) -> String {
    let negative = unscaled.first().is_some_and(|&byte| byte & 0x80 != 0);
    let mut magnitude = unscaled.to_vec();
    if negative {
        // Two's complement: invert and add one.
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
            *byte = sum;
            carry = overflow;
        }
    }
    let mut digits = decimal_digits(magnitude);
    if scale <= 0 {
        if digits != "0" {
            digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
        }
    } else {
        let scale = scale as usize;
        if digits.len() <= scale {
            digits = "0".repeat(scale + 1 - digits.len()) + &digits;
        }
        digits.insert(digits.len() - scale, '.');
    }
    if negative { format!("-{digits}") } else { digits }
}

/// Base 256 to base 10, in steps of nine digits.
fn decimal_digits(mut magnitude: Vec<u8>) -> String {
    let mut groups = Vec::new();
    let mut from = 0;
    loop {
        while magnitude.get(from) == Some(&0) {
            from += 1;
        }
        if from >= magnitude.len() {
            break;
        }
        let mut rest = 0u64;
        for byte in &mut magnitude[from..] {
            let value = rest << 8 | u64::from(*byte);
            *byte = (value / 1_000_000_000) as u8;
            rest = value % 1_000_000_000;
        }
        groups.push(rest);
    }
    let mut out = groups.pop().map_or_else(|| "0".to_owned(), |first| first.to_string());
    for group in groups.iter().rev() {
        out.push_str(&format!("{group:09}"));
    }
    out
}

/// Unscaled bytes of decimal text (with or without exponent) at `scale`, the shortest form. Digits beyond the scale are refused:
/// dropping them would change the value.
pub fn from_text(text: &str, scale: i32) -> Result<Vec<u8>, String> {
    let bad = || format!("{text} is not a decimal number");
    let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_| bad())?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let shift = exponent - fraction.len() as i64 + i64::from(scale);
    if digits.bytes().all(|byte| byte == b'0') {
        return Ok(vec![0]);
    }
    if shift > 10_000 {
        return Err(format!("{text} is too large for a decimal"));
    }
    if shift >= 0 {
        digits.extend(std::iter::repeat_n('0', shift as usize));
    } else {
        let cut = digits.len().saturating_sub(shift.unsigned_abs() as usize);
        if digits[cut..].bytes().any(|byte| byte != b'0') {
            return Err(format!("{text} has more than {scale} digits behind the point"));
        }
        digits.truncate(cut);
    }
    // Base 10 to base 256, least byte first.
    let mut bytes: Vec<u8> = Vec::new();
    for digit in digits.bytes() {
        let mut carry = u32::from(digit - b'0');
        for byte in &mut bytes {
            let value = u32::from(*byte) * 10 + carry;
            *byte = value as u8;
            carry = value >> 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    if bytes.last().is_none_or(|&byte| byte & 0x80 != 0) {
        bytes.push(0);
    }
    if negative {
        let mut carry = true;
        for byte in &mut bytes {
            let (sum, overflow) = (!*byte).overflowing_add(u8::from(carry));
            *byte = sum;
            carry = overflow;
        }
        // 0xff before a set sign bit says nothing: Java writes the shortest form.
        while bytes.len() > 1 && bytes[bytes.len() - 1] == 0xff && bytes[bytes.len() - 2] & 0x80 != 0 {
            bytes.pop();
        }
    }
    bytes.reverse();
    Ok(bytes)
}

/// The whole part of decimal text; `None` when it is no number or does not fit.
pub fn whole_part(text: &str) -> Option<i64> {
    if let Ok(whole) = text.parse() {
        return Some(whole);
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    // Enough digits for every fraction that a user writes.
    let unscaled = from_text(plain, 40).ok()?;
    let text = to_text(&unscaled, 40);
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Unscaled bytes from Java: new BigDecimal(text).unscaledValue().toByteArray().
    #[test]
    fn text_and_bytes() {
        for (text, scale, bytes) in [
            ("0", 0, &[0u8][..]),
            ("1.50", 2, &[0x00, 0x96]),
            ("-1.50", 2, &[0xff, 0x6a]),
            ("-1.28", 2, &[0x80]),
            ("1.28", 2, &[0x00, 0x80]),
            ("0.05", 2, &[5]),
            ("123456789012345678901234567890", 0, &[1, 142, 233, 15, 246, 195, 115, 224, 238, 78, 63, 10, 210]),
        ] {
            assert_eq!(from_text(text, scale).unwrap(), bytes, "{text}");
            assert_eq!(to_text(bytes, scale), text);
        }
        // From Java's BigDecimal.toString.
        for (bytes, scale, text) in [
            (&[4u8, 0xd2][..], -2, "1.234E+5"),
            (&[4, 0xd2], 2, "12.34"),
            (&[0xfb, 0x2e], 4, "-0.1234"),
            (&[1], 12, "1E-12"),
            (&[1], 6, "0.000001"),
            (&[1], 7, "1E-7"),
            (&[0], 2, "0.00"),
            (&[0], -2, "0E+2"),
            (&[5], -2, "5E+2"),
        ] {
            assert_eq!(to_java_text(bytes, scale), text);
            assert_eq!(in_java_notation(text).unwrap(), text);
            assert_eq!(scale_of_text(text), Some(scale));
        }
        assert_eq!(in_java_notation("+1.7976931348623157e309").unwrap(), "1.7976931348623157E+309");
        assert_eq!(in_java_notation("007.50").unwrap(), "7.50");
        assert_eq!([scale_of_text("1e"), scale_of_text("."), scale_of_text("x")], [None; 3]);
        assert_eq!(from_text("1.5e3", 1).unwrap(), from_text("1500.0", 1).unwrap());
        assert_eq!(to_text(&[5], -2), "500");
        assert!(from_text("1.234", 2).unwrap_err().contains("digits behind the point"));
    }
}
