//! Dates as text, by the patterns of Java's `SimpleDateFormat`, in UTC and English.
//!
//! Formatting knows every letter; parsing takes era, week and weekday letters as text to skip. As in Java, parsing is lenient: the
//! 32nd of a month is the first of the next, and what follows the parsed part is ignored.

use chrono::{DateTime, Datelike, Timelike};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MS_PER_DAY: i64 = 86_400_000;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateFormat {
    pattern: String,
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Text(String),
    /// A letter and how often it stands.
    Field(char, usize),
}

impl DateFormat {
    /// Compiles a pattern; the error is Java's message.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let mut items: Vec<Item> = Vec::new();
        let mut chars = pattern.chars().peekable();
        let text = |items: &mut Vec<Item>, c: char| match items.last_mut() {
            Some(Item::Text(text)) => text.push(c),
            _ => items.push(Item::Text(c.to_string())),
        };
        while let Some(c) = chars.next() {
            match c {
                '\'' => {
                    if chars.next_if_eq(&'\'').is_some() {
                        text(&mut items, '\'');
                        continue;
                    }
                    loop {
                        match chars.next() {
                            None => return Err("Unterminated quote".to_owned()),
                            Some('\'') if chars.next_if_eq(&'\'').is_none() => break,
                            Some(c) => text(&mut items, c),
                        }
                    }
                }
                _ if "GyMLwWDdFEuaHkKhmsSzZXY".contains(c) => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    if c == 'X' && count > 3 {
                        return Err("invalid ISO 8601 format: length=".to_owned() + &count.to_string());
                    }
                    items.push(Item::Field(c, count));
                }
                _ if c.is_ascii_alphabetic() => return Err(format!("Illegal pattern character '{c}'")),
                _ => text(&mut items, c),
            }
        }
        Ok(Self { pattern: pattern.to_owned(), items })
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Times in the same multiple of this many milliseconds have the same text.
    pub fn granularity_ms(&self) -> i64 {
        let of = |item: &Item| match item {
            Item::Field('S', _) => 1,
            Item::Field('s', _) => 1000,
            Item::Field('m', _) => 60_000,
            Item::Field('H' | 'k' | 'K' | 'h' | 'a', _) => 3_600_000,
            _ => MS_PER_DAY,
        };
        self.items.iter().map(of).min().unwrap_or(MS_PER_DAY)
    }

    /// The text of a time in milliseconds since the epoch.
    pub fn format(&self, ms: i64) -> String {
        let mut out = String::with_capacity(self.pattern.len() + 8);
        let time = DateTime::from_timestamp_millis(ms).unwrap_or(if ms < 0 {
            DateTime::<chrono::Utc>::MIN_UTC
        } else {
            DateTime::<chrono::Utc>::MAX_UTC
        });
        let number = |out: &mut String, value: i64, width: usize| {
            use std::fmt::Write;
            write!(out, "{value:0width$}").expect("writing to a string does not fail");
        };
        let named = |out: &mut String, name: &str, count: usize| {
            out.push_str(if count >= 4 { name } else { &name[..3] });
        };
        for item in &self.items {
            let (letter, count) = match item {
                Item::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Item::Field(letter, count) => (*letter, *count),
            };
            let year = |out: &mut String, year: i32| match count {
                2 => number(out, i64::from(year.rem_euclid(100)), 2),
                _ => number(out, i64::from(if year <= 0 { 1 - year } else { year }), count),
            };
            let weekday = time.weekday();
            // Java's English calendar: weeks begin on Sunday, and the first one is that of January 1st.
            let sunday = i64::from(weekday.num_days_from_sunday());
            match letter {
                'G' => out.push_str(if time.year() <= 0 { "BC" } else { "AD" }),
                'y' => year(&mut out, time.year()),
                'Y' => year(&mut out, week_of_year(time.year(), time.ordinal0(), sunday).0),
                'M' | 'L' if count >= 3 => named(&mut out, MONTHS[time.month0() as usize], count),
                'M' | 'L' => number(&mut out, time.month().into(), count),
                'w' => number(&mut out, week_of_year(time.year(), time.ordinal0(), sunday).1, count),
                'W' => number(
                    &mut out,
                    (i64::from(time.day0()) + (sunday - i64::from(time.day0())).rem_euclid(7)) / 7 + 1,
                    count,
                ),
                'D' => number(&mut out, time.ordinal().into(), count),
                'd' => number(&mut out, time.day().into(), count),
                'F' => number(&mut out, i64::from(time.day0() / 7 + 1), count),
                'E' => named(&mut out, DAYS[weekday.num_days_from_monday() as usize], count),
                'u' => number(&mut out, weekday.number_from_monday().into(), count),
                'a' => out.push_str(if time.hour() < 12 { "AM" } else { "PM" }),
                'H' => number(&mut out, time.hour().into(), count),
                'k' => number(&mut out, if time.hour() == 0 { 24 } else { time.hour().into() }, count),
                'K' => number(&mut out, (time.hour() % 12).into(), count),
                'h' => number(&mut out, time.hour12().1.into(), count),
                'm' => number(&mut out, time.minute().into(), count),
                's' => number(&mut out, time.second().into(), count),
                'S' => number(&mut out, ms.rem_euclid(1000), count),
                'z' => out.push_str(if count >= 4 { "Coordinated Universal Time" } else { "UTC" }),
                'Z' => out.push_str("+0000"),
                _ => out.push('Z'),
            }
        }
        out
    }

    /// Milliseconds since the epoch; `None` when the text does not match the pattern.
    pub fn parse(&self, text: &str) -> Option<i64> {
        let mut rest = text;
        let mut parts = Parts::default();
        for (i, item) in self.items.iter().enumerate() {
            let (letter, count) = match item {
                Item::Text(literal) => {
                    rest = rest.strip_prefix(literal.as_str())?;
                    continue;
                }
                Item::Field(letter, count) => (*letter, *count),
            };
            if is_name(letter, count) {
                rest = parts.name(letter, rest)?;
                continue;
            }
            // Digits that touch the next number are counted by the pattern.
            let next_is_number = matches!(self.items.get(i + 1), Some(Item::Field(next, n))
                if !is_name(*next, *n));
            let trimmed = rest.trim_start_matches([' ', '\t']);
            let limit = if next_is_number { count } else { usize::MAX };
            let sign = usize::from(trimmed.starts_with('-'));
            let digits = trimmed[sign..].bytes().take(limit).take_while(u8::is_ascii_digit).count();
            let value: i64 = trimmed[..sign + digits].parse().ok()?;
            rest = &trimmed[sign + digits..];
            parts.number(letter, value, count, digits);
        }
        parts.millis()
    }
}

/// Whether a letter stands for a name or a zone, not a number.
fn is_name(letter: char, count: usize) -> bool {
    match letter {
        'M' | 'L' => count >= 3,
        _ => matches!(letter, 'G' | 'E' | 'a' | 'z' | 'Z' | 'X'),
    }
}

/// Year and number of the week, where weeks begin on Sunday and the first is that of January 1st.
fn week_of_year(year: i32, ordinal0: u32, sunday: i64) -> (i32, i64) {
    let ordinal0 = i64::from(ordinal0);
    let days = if chrono::NaiveDate::from_ymd_opt(year, 2, 29).is_some() { 366 } else { 365 };
    // The week that reaches into the next year is its first.
    if ordinal0 - sunday + 6 >= days {
        return (year + 1, 1);
    }
    let first = (sunday - ordinal0).rem_euclid(7);
    (year, (ordinal0 + first) / 7 + 1)
}

/// What was read so far.
#[derive(Default)]
struct Parts {
    year: Option<i64>,
    month0: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    hour12: Option<i64>,
    afternoon: bool,
    minute: i64,
    second: i64,
    milli: i64,
    zone_ms: i64,
}

impl Parts {
    fn number(&mut self, letter: char, value: i64, count: usize, digits: usize) {
        match letter {
            'y' | 'Y' => {
                self.year = Some(if count <= 2 && digits == 2 { two_digit_year(value) } else { value });
            }
            'M' | 'L' => self.month0 = Some(value - 1),
            'd' => self.day = Some(value),
            'D' => self.day_of_year = Some(value),
            'H' => self.hour = value,
            'k' => self.hour = if value == 24 { 0 } else { value },
            'K' => self.hour12 = Some(value),
            'h' => self.hour12 = Some(if value == 12 { 0 } else { value }),
            'm' => self.minute = value,
            's' => self.second = value,
            'S' => self.milli = value,
            _ => {}
        }
    }

    /// Reads a name or a zone; what follows it.
    fn name<'t>(&mut self, letter: char, text: &'t str) -> Option<&'t str> {
        let text = if letter == 'X' || letter == 'Z' { text } else { text.trim_start_matches([' ', '\t']) };
        let strip = |name: &str| {
            text.get(..name.len()).filter(|start| start.eq_ignore_ascii_case(name)).map(|start| &text[start.len()..])
        };
        // The whole name before its abbreviation.
        let one_of = |names: &[&str]| {
            names.iter().enumerate().find_map(|(i, name)| Some((i, strip(name).or_else(|| strip(&name[..3]))?)))
        };
        match letter {
            'M' | 'L' => {
                let (month, rest) = one_of(&MONTHS)?;
                self.month0 = Some(month as i64);
                Some(rest)
            }
            'E' => Some(one_of(&DAYS)?.1),
            'G' => strip("AD").or_else(|| strip("BC")),
            'a' => match strip("AM") {
                Some(rest) => Some(rest),
                None => {
                    self.afternoon = true;
                    strip("PM")
                }
            },
            _ => {
                if let Some(rest) = text.strip_prefix('Z').filter(|_| letter == 'X') {
                    return Some(rest);
                }
                let named = ["UTC", "GMT"].iter().find_map(|name| strip(name));
                let offset = named.unwrap_or(text);
                let sign = match offset.chars().next() {
                    Some('+') => 1,
                    Some('-') => -1,
                    _ => return named,
                };
                let digits: String = offset[1..].chars().take_while(|c| c.is_ascii_digit() || *c == ':').collect();
                let plain: String = digits.chars().filter(|&c| c != ':').take(4).collect();
                let hours: i64 = plain.get(..2).and_then(|hours| hours.parse().ok())?;
                let minutes: i64 = plain.get(2..4).map_or(Some(0), |minutes| minutes.parse().ok())?;
                self.zone_ms = sign * (hours * 60 + minutes) * 60_000;
                Some(&offset[1 + digits.len()..])
            }
        }
    }

    fn millis(&self) -> Option<i64> {
        let year = self.year.unwrap_or(1970);
        let days = match (self.day_of_year, self.month0, self.day) {
            (Some(day), None, None) => days_from_civil(year, 0)? + day - 1,
            (_, month0, day) => days_from_civil(year, month0.unwrap_or(0))? + day.unwrap_or(1) - 1,
        };
        let hour = match self.hour12 {
            Some(hour) => hour + if self.afternoon { 12 } else { 0 },
            None => self.hour,
        };
        let ms = ((hour * 60 + self.minute) * 60 + self.second).checked_mul(1000)?.checked_add(self.milli)?;
        days.checked_mul(MS_PER_DAY)?.checked_add(ms)?.checked_sub(self.zone_ms)
    }
}

/// Java's window: 80 years back, 20 years ahead.
fn two_digit_year(value: i64) -> i64 {
    let start = i64::from(chrono::Utc::now().year()) - 80;
    let year = start - start.rem_euclid(100) + value;
    if year < start { year + 100 } else { year }
}

/// Days from the epoch to the first of a month; months beyond the year go on into the next ones.
fn days_from_civil(year: i64, month0: i64) -> Option<i64> {
    let year = i32::try_from(year + month0.div_euclid(12)).ok()?;
    let month = month0.rem_euclid(12) as u32 + 1;
    Some(i64::from(chrono::NaiveDate::from_ymd_opt(year, month, 1)?.to_epoch_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Printed by Java 17's SimpleDateFormat with time zone UTC and Locale.ENGLISH.
    #[test]
    fn formats_as_java_does() {
        let ms = 1_700_000_009_007; // Tuesday, 14 November 2023, 22:13:29.007
        for (pattern, text) in [
            ("yyyyMMdd", "20231114"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "2023-11-14T22:13:29.007Z"),
            ("yy/M/d h:mm a", "23/11/14 10:13 PM"),
            ("EEE, d MMM yyyy HH:mm:ss Z", "Tue, 14 Nov 2023 22:13:29 +0000"),
            ("EEEE MMMM G", "Tuesday November AD"),
            ("YYYY-'W'ww-u", "2023-W46-2"),
            ("DDD F W K k S z X XXX", "318 2 3 10 22 7 UTC Z Z"),
            ("'o''clock' y", "o'clock 2023"),
        ] {
            assert_eq!(DateFormat::new(pattern).unwrap().format(ms), text, "{pattern}");
        }
        assert_eq!(DateFormat::new("YYYY ww").unwrap().format(1_704_000_000_000), "2024 01"); // 31 December 2023
        assert_eq!(DateFormat::new("yyyy b").unwrap_err(), "Illegal pattern character 'b'");
        assert_eq!(DateFormat::new("yyyy '").unwrap_err(), "Unterminated quote");
    }

    #[test]
    fn parses_as_java_does() {
        for (pattern, text, ms) in [
            ("yyyyMMddHHmmss", "20231114221329", Some(1_700_000_009_000)),
            ("yyyy-MM-dd HH:mm:ss.SSS", "2023-11-14 22:13:29.007 and more", Some(1_700_000_009_007)),
            ("yyyy-MM-dd'T'HH:mm:ssX", "2023-11-14T23:13:29+01:00", Some(1_700_000_009_000)),
            ("yyyy-MM-dd'T'HH:mm:ssXXX", "2023-11-14T22:13:29Z", Some(1_700_000_009_000)),
            ("EEE, d MMM yyyy HH:mm:ss Z", "Tue, 14 Nov 2023 17:13:29 -0500", Some(1_700_000_009_000)),
            ("d MMMM yyyy h a", "14 november 2023 12 am", Some(1_699_920_000_000)),
            ("yyyy-MM-dd", "2023-13-32", Some(1_706_745_600_000)), // 1 February 2024
            ("dd/MM/yy", "14/11/23", Some(1_699_920_000_000)),
            ("yyyy-MM-dd", "2023/11/14", None),
            ("yyyy-MM-dd", "", None),
            ("HH:mm", "10:x", None),
        ] {
            assert_eq!(DateFormat::new(pattern).unwrap().parse(text), ms, "{pattern} {text}");
        }
    }
}
