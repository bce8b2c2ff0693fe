//! `interval` texts, as the server writes them with `IntervalStyle=postgres`: `1 year 2 mons -3 days +04:05:06.789`.

/// An interval's parts. Signs may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Interval {
    years: i64,
    months: i64,
    days: i64,
    micros: i64,
}

/// Microseconds of a month, which has 30.4375 days: a twelfth of 365.25.
const MONTH: f64 = 30.4375 * DAY as f64;
const DAY: i64 = 86_400_000_000;

impl Interval {
    pub fn parse(text: &str) -> Option<Self> {
        let mut this = Self::default();
        let mut words = text.split(' ');
        while let Some(word) = words.next() {
            if word.contains(':') {
                this.micros = clock(word)?;
                continue;
            }
            let number: i64 = word.strip_prefix('+').unwrap_or(word).parse().ok()?;
            match words.next()? {
                "year" | "years" => this.years = number,
                "mon" | "mons" => this.months = number,
                "day" | "days" => this.days = number,
                _ => return None,
            }
        }
        Some(this)
    }

    pub fn micros(self) -> i64 {
        let months = (self.years * 12 + self.months) as f64 * MONTH;
        (months as i64).saturating_add(self.days.saturating_mul(DAY)).saturating_add(self.micros)
    }

    /// As ISO 8601, as Debezium writes it: all parts, and seconds without needless zeros.
    pub fn iso(self) -> String {
        let sign = if self.micros < 0 { "-" } else { "" };
        let micros = self.micros.unsigned_abs();
        let part = |value: u64| if value == 0 { "0".to_owned() } else { format!("{sign}{value}") };
        let (hours, minutes, seconds) = (micros / 3_600_000_000, micros / 60_000_000 % 60, micros / 1_000_000 % 60);
        let fraction = micros % 1_000_000;
        let seconds = match fraction {
            0 => part(seconds),
            fraction => format!("{sign}{seconds}.{}", format!("{fraction:06}").trim_end_matches('0')),
        };
        let Self { years, months, days, .. } = self;
        format!("P{years}Y{months}M{days}DT{}H{}M{seconds}S", part(hours), part(minutes))
    }
}

/// `-04:05:06.789` in microseconds.
fn clock(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.splitn(3, ':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let whole = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60 + seconds.parse::<i64>().ok()?;
    let micros = whole * 1_000_000 + super::time::fraction(fraction.as_bytes())?;
    Some(if negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_own_signs() {
        let interval = Interval::parse("1 year -2 mons +3 days -04:05:06.789").unwrap();
        assert_eq!(interval, Interval { years: 1, months: -2, days: 3, micros: -14_706_789_000 });
        assert_eq!(interval.iso(), "P1Y-2M3DT-4H-5M-6.789S");
        assert_eq!(Interval::parse("00:00:00").unwrap().micros(), 0);
        assert_eq!(Interval::parse("1 mon").unwrap().micros(), 2_629_800_000_000);
        assert!(Interval::parse("soon").is_none());
    }
}
