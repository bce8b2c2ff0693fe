//! Dates and times, from ISO texts with `TimeZone=UTC`.

use crate::calendar::civil;

/// Days from 1970 of a date in the Gregorian calendar, carried on into the past.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March, so that the odd day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

fn number(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || bytes.len() > 9 {
        return None;
    }
    bytes.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Microseconds of the digits behind a point.
pub(super) fn fraction(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return Some(0);
    }
    if digits.len() > 6 {
        return None;
    }
    Some(number(digits)? * 10i64.pow(6 - digits.len() as u32))
}

/// Infinity, as the server writes it, and where it lies for a reader of numbers.
pub(super) fn infinity(text: &[u8]) -> Option<bool> {
    match text {
        b"infinity" => Some(true),
        b"-infinity" => Some(false),
        _ => None,
    }
}

/// Without ` BC`, and the year before which it counts.
fn era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |text| (text, true))
}

/// `2026-01-31` in days from 1970.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    let (text, before) = era(text);
    date_of(text, before)
}

fn date_of(text: &[u8], before: bool) -> Option<i64> {
    let mut parts = text.splitn(3, |byte| *byte == b'-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    // There is no year 0: the one before 1 is 1 BC.
    Some(days(if before { 1 - year } else { year }, month, day))
}

/// `04:05:06.789` in microseconds; 24:00:00 is the day's end.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    if text.len() < 8 || text[2] != b':' || text[5] != b':' {
        return None;
    }
    let whole = number(&text[..2])? * 3600 + number(&text[3..5])? * 60 + number(&text[6..8])?;
    let rest = match &text[8..] {
        [] => 0,
        [b'.', digits @ ..] => fraction(digits)?,
        _ => return None,
    };
    Some(whole * 1_000_000 + rest)
}

/// `2026-01-31 04:05:06.789`, perhaps with `+00` behind it, in microseconds from 1970.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    let (text, before) = era(text);
    let text = text.strip_suffix(b"+00").unwrap_or(text);
    let space = memchr::memchr(b' ', text)?;
    let (date, time_of_day) = (date_of(&text[..space], before)?, time(&text[space + 1..])?);
    date.checked_mul(86_400_000_000)?.checked_add(time_of_day)
}

/// Appends a number with so many digits, or more where it has more. (Formatting by the standard library took longer than all else that is done with a
/// value.)
pub(crate) fn write_number(out: &mut String, mut number: u64, digits: usize) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while number > 0 {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let text = &text[at.min(text.len() - digits.min(text.len()))..];
    out.push_str(std::str::from_utf8(text).unwrap_or_default());
}

pub(super) fn write_date(out: &mut String, days: i64) {
    let (year, month, day) = civil(days);
    match year {
        10_000.. => out.push('+'),
        ..0 => out.push('-'),
        _ => {}
    }
    write_number(out, year.unsigned_abs(), 4);
    out.push('-');
    write_number(out, month as u64, 2);
    out.push('-');
    write_number(out, day as u64, 2);
}

fn write_seconds(out: &mut String, seconds: i64) {
    write_number(out, (seconds / 3600) as u64, 2);
    out.push(':');
    write_number(out, (seconds / 60 % 60) as u64, 2);
    out.push(':');
    write_number(out, (seconds % 60) as u64, 2);
}

/// Hours, minutes, seconds, and the fraction where there is one: Java writes nine, six, three digits or none for instants, and as many as are needed
/// for what Debezium formats, which is what is wanted here. The time is that of a day: not negative.
pub(super) fn write_time(out: &mut String, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    write_seconds(out, seconds);
    if fraction != 0 {
        out.push('.');
        write_number(out, fraction as u64, 6);
        let digits = out.trim_end_matches('0').len();
        out.truncate(digits);
    }
}

/// `2026-01-31T04:05:06.789Z`.
pub(super) fn write_timestamp(out: &mut String, micros: i64) {
    write_date(out, micros.div_euclid(86_400_000_000));
    out.push('T');
    write_time(out, micros.rem_euclid(86_400_000_000));
    out.push('Z');
}

/// The same with so many digits behind the point, at most six: what Debezium writes depends on the column, not on the value.
pub(super) fn write_timestamp_digits(out: &mut String, micros: i64, digits: u8) {
    let (days, of_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    write_date(out, days);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    out.push('T');
    write_seconds(out, seconds);
    let digits = usize::from(digits.min(6));
    if digits > 0 {
        out.push('.');
        write_number(out, (fraction / 10i64.pow(6 - digits as u32)) as u64, digits);
    }
    out.push('Z');
}

/// `04:05:06.789+02:30` moved to UTC: `01:35:06.789Z`.
pub(super) fn time_tz(text: &[u8]) -> Option<String> {
    let at = text.iter().rposition(|byte| matches!(byte, b'+' | b'-'))?;
    let micros = time(&text[..at])?;
    let mut parts = text[at + 1..].split(|byte| *byte == b':').map(number);
    let hours = parts.next()??;
    let (minutes, seconds) = (parts.next().unwrap_or(Some(0))?, parts.next().unwrap_or(Some(0))?);
    let offset = (hours * 3600 + minutes * 60 + seconds) * 1_000_000;
    let utc = if text[at] == b'-' { micros + offset } else { micros - offset };
    let mut out = String::with_capacity(16);
    write_time(&mut out, utc.rem_euclid(86_400_000_000));
    out.push('Z');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"2000-03-01"), Some(11_017));
        assert_eq!(date(b"1969-12-31"), Some(-1));
        assert_eq!(date(b"0001-01-01 BC"), Some(-719_528));
        assert_eq!(date(b"soon"), None);
        for day in [-1_000_000, -719_528, -1, 0, 11_016, 11_017, 20_454, 2_932_896, 4_000_000] {
            let (year, month, dom) = civil(day);
            assert_eq!(days(year, month, dom), day);
        }
    }

    #[test]
    fn times_keep_microseconds() {
        assert_eq!(time(b"00:00:01.5"), Some(1_500_000));
        assert_eq!(time(b"24:00:00"), Some(86_400_000_000));
        assert_eq!(timestamp(b"1970-01-02 00:00:00.000001+00"), Some(86_400_000_001));
        assert_eq!(time_tz(b"13:51:30.123456+02"), Some("11:51:30.123456Z".into()));
        assert_eq!(time_tz(b"00:30:00-05:30"), Some("06:00:00Z".into()));
        let mut out = String::new();
        write_timestamp(&mut out, timestamp(b"2026-11-30 10:00:00.120000+00").unwrap());
        assert_eq!(out, "2026-11-30T10:00:00.12Z");
        let mut out = String::new();
        write_timestamp(&mut out, timestamp(b"0044-03-15 12:00:00 BC").unwrap());
        assert_eq!(out, "-0043-03-15T12:00:00Z");
    }
}
