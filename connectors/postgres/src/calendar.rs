//! Dates of the proleptic Gregorian calendar.

/// Year (0 is 1 BC), month and day of days since 1970.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    // Years that begin in March, in eras of 400 of them.
    let days = days.saturating_add(719_468);
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}
