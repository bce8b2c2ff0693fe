//! Decimal digits, two at a time.

const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Appends `number` with at least `width` digits, of which there are at most 20.
pub(super) fn padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// Appends `number`.
pub(super) fn signed(out: &mut Vec<u8>, number: i64) {
    if number < 0 {
        out.push(b'-');
    }
    padded(out, number.unsigned_abs(), 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        let mut numbers: Vec<u64> = (0..=1200).chain((0..64).map(|bit| 1 << bit)).collect();
        numbers.extend((0..20).map(|zeros| 10u64.pow(zeros)));
        numbers.push(u64::MAX);
        for number in numbers {
            for width in [1, 2, 6, 10] {
                let mut out = Vec::new();
                padded(&mut out, number, width);
                assert_eq!(String::from_utf8(out).unwrap(), format!("{number:0width$}"));
            }
            let mut out = Vec::new();
            signed(&mut out, number as i64);
            assert_eq!(String::from_utf8(out).unwrap(), (number as i64).to_string());
        }
    }
}
