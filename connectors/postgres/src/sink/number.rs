//! Decimals: two's complement of any size and a scale, as text and as the server's `numeric`.

/// Sign and decimal digits, without leading zeros; `0` for zero.
fn digits(unscaled: &[u8]) -> (bool, String) {
    let negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
    if unscaled.len() <= 16 {
        let value = small(unscaled);
        return (value < 0, value.unsigned_abs().to_string());
    }
    let mut magnitude = unscaled.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    // Groups of nine digits, the least first; four bytes at a time.
    let mut groups: Vec<u32> = vec![0];
    let (first, rest) = magnitude.split_at(magnitude.len() % 4);
    for bytes in std::iter::once(first).chain(rest.chunks(4)) {
        let mut carry = bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        for group in &mut groups {
            let value = (u64::from(*group) << (8 * bytes.len())) + carry;
            *group = (value % 1_000_000_000) as u32;
            carry = value / 1_000_000_000;
        }
        while carry > 0 {
            groups.push((carry % 1_000_000_000) as u32);
            carry /= 1_000_000_000;
        }
    }
    let mut text: String = groups.iter().rev().map(|group| format!("{group:09}")).collect();
    let zeros = text.len() - text.trim_start_matches('0').len();
    text.drain(..zeros.min(text.len() - 1));
    (negative, text)
}

/// Of at most 16 bytes.
fn small(unscaled: &[u8]) -> i128 {
    let Some(first) = unscaled.first() else { return 0 };
    let mut wide = if first & 0x80 == 0 { [0u8; 16] } else { [0xff; 16] };
    wide[16 - unscaled.len()..].copy_from_slice(unscaled);
    i128::from_be_bytes(wide)
}

/// The most digits in front of the point and behind it that the server's type has.
const DIGITS: (u32, u32) = (131_072, 16_383);
/// The most bytes of so many digits.
const BYTES: usize = 61_300;

/// Whether the server's type may hold the number. What it cannot is not to be looked at any closer, which may take for ever.
fn holds(unscaled: &[u8], scale: i32) -> bool {
    let most = if scale < 0 { DIGITS.0 } else { DIGITS.1 };
    unscaled.len() <= BYTES && scale.unsigned_abs() <= most
}

/// Appends the number's text. `None`: it is larger than the server's type.
pub(super) fn write(out: &mut String, unscaled: &[u8], scale: i32) -> Option<()> {
    if !holds(unscaled, scale) {
        return None;
    }
    let (negative, digits) = digits(unscaled);
    if negative {
        out.push('-');
    }
    match usize::try_from(scale) {
        Ok(0) => out.push_str(&digits),
        Ok(scale) if digits.len() > scale => {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        Ok(scale) => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', scale - digits.len()));
            out.push_str(&digits);
        }
        Err(_) => {
            out.push_str(&digits);
            if digits != "0" {
                out.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
            }
        }
    }
    Some(())
}

/// Appends the number as the server sends and receives `numeric`. `None`: it is larger than the server's type.
pub(super) fn encode(out: &mut Vec<u8>, unscaled: &[u8], scale: i32) -> Option<()> {
    if !holds(unscaled, scale) {
        return None;
    }
    // Digits to the base of 10,000, the least first, aligned at the point.
    let mut groups: Vec<u16> = Vec::with_capacity(12);
    let (negative, mut behind) = (unscaled.first().is_some_and(|byte| byte & 0x80 != 0), 0);
    let shown = scale.max(0) as u16;
    let aligned = (unscaled.len() <= 16 && scale >= 0).then(|| {
        let pad = (4 - scale % 4) % 4;
        behind = (scale + pad) / 4;
        small(unscaled).unsigned_abs().checked_mul(10u128.pow(pad as u32))
    });
    match aligned.flatten() {
        Some(mut value) => {
            while value > u128::from(u64::MAX) {
                groups.push((value % 10_000) as u16);
                value /= 10_000;
            }
            let mut value = value as u64;
            while value > 0 {
                groups.push((value % 10_000) as u16);
                value /= 10_000;
            }
        }
        None => {
            let (_, mut text) = digits(unscaled);
            let zeros = if scale < 0 { scale.unsigned_abs() as usize } else { (4 - scale as usize % 4) % 4 };
            text.extend(std::iter::repeat_n('0', zeros));
            behind = if scale < 0 { 0 } else { (scale + zeros as i32) / 4 };
            let bytes = text.as_bytes();
            let group = |part: &[u8]| part.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
            groups.extend(bytes.rchunks(4).map(group));
        }
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let weight = groups.len() as i32 - 1 - behind;
    let least = groups.iter().position(|group| *group != 0).unwrap_or(groups.len());
    let count = i16::try_from(groups.len() - least).ok()?;
    let weight = if count == 0 { 0 } else { i16::try_from(weight).ok()? };
    out.extend(count.to_be_bytes());
    out.extend(weight.to_be_bytes());
    out.extend((if negative && count > 0 { 0x4000u16 } else { 0 }).to_be_bytes());
    out.extend(shown.to_be_bytes());
    groups[least..].iter().rev().for_each(|group| out.extend(group.to_be_bytes()));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(unscaled: &[u8], scale: i32) -> String {
        let mut out = String::new();
        write(&mut out, unscaled, scale).unwrap();
        out
    }

    /// Reads what `encode` wrote.
    fn decoded(unscaled: &[u8], scale: i32) -> String {
        let mut bytes = Vec::new();
        encode(&mut bytes, unscaled, scale).unwrap();
        let words: Vec<i16> = bytes.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect();
        let (count, weight, shown) = (words[0], words[1], words[3]);
        assert_eq!(words.len(), 4 + count as usize);
        let digit = |at: i16| {
            words
                .get(4 + usize::try_from(weight - at).unwrap_or(usize::MAX - 4))
                .filter(|_| at <= weight)
                .copied()
                .unwrap_or(0)
        };
        let whole: String = (0..=weight.max(0)).rev().map(|at| format!("{:04}", digit(at))).collect();
        let fraction: String = (1..=(shown + 3) / 4).map(|at| format!("{:04}", digit(-at))).collect();
        let whole = whole.trim_start_matches('0');
        let sign = if words[2] == 0x4000 { "-" } else { "" };
        let point = if shown > 0 { "." } else { "" };
        format!("{sign}{}{point}{}", if whole.is_empty() { "0" } else { whole }, &fraction[..shown as usize])
    }

    #[test]
    fn what_no_column_holds_is_not_written_out() {
        let begun = std::time::Instant::now();
        for (unscaled, scale) in [
            (vec![1], i32::MAX),
            (vec![1], i32::MIN),
            (vec![0], i32::MIN),
            (vec![1; 1 << 20], 0),
            (vec![1; 1 << 20], 5),
        ] {
            assert!(write(&mut String::new(), &unscaled, scale).is_none());
            assert!(encode(&mut Vec::new(), &unscaled, scale).is_none());
        }
        assert!(begun.elapsed().as_secs() < 5);
        assert!(write(&mut String::new(), &[1; 50_000], 100).is_some());
    }

    #[test]
    fn numbers_of_all_sizes() {
        let mut large = vec![0x7f; 40];
        large[0] = 1;
        for number in [
            vec![],
            vec![0],
            vec![1],
            vec![0xff],
            vec![0x7f, 0xff, 0xff, 0xff],
            vec![0x80, 0, 0, 0, 0, 0, 0, 0],
            large.clone(),
            large.iter().map(|byte| !byte).collect(),
            i128::MIN.to_be_bytes().to_vec(),
            i128::MAX.to_be_bytes().to_vec(),
        ] {
            for scale in [0, 1, 2, 3, 4, 5, 9, 30, 60, -1, -3] {
                assert_eq!(decoded(&number, scale), text(&number, scale), "{number:?} {scale}");
            }
        }
        for length in 17..30 {
            let power = [&[1][..], &vec![0; length]].concat();
            assert_eq!(decoded(&power, 0), text(&power, 0));
        }
        assert_eq!(text(&[&[1][..], &[0; 17]].concat(), 0), "87112285931760246646623899502532662132736");
        assert_eq!(text(&[0xff, 0x85], 2), "-1.23");
        assert_eq!(text(&i128::MIN.to_be_bytes(), 0), i128::MIN.to_string());
    }
}
