//! `numeric` texts into two's complement numbers of any size, as Java's `BigInteger` writes them.

/// The unscaled value at this scale, big-endian; `None` for NaN, infinity, and what needs more digits behind the point.
pub(super) fn at_scale(text: &str, scale: usize) -> Option<Vec<u8>> {
    let (negative, digits, own) = split(text)?;
    if own > scale {
        return None;
    }
    Some(number(negative, digits.bytes().filter(|byte| *byte != b'.').chain(std::iter::repeat_n(b'0', scale - own))))
}

/// What [`at_scale`] gives, for numbers of at most 18 digits and without an allocation: bytes, and the first of them that counts. `None`
/// says nothing of larger ones.
pub(super) fn small_at_scale(text: &[u8], scale: usize) -> Option<([u8; 8], usize)> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let own = memchr::memchr(b'.', digits).map_or(0, |point| digits.len() - point - 1);
    if digits.is_empty() || own > scale || digits.len() + (scale - own) > 18 {
        return None;
    }
    let (mut size, mut points) = (0i64, 0);
    for digit in digits {
        match digit {
            b'0'..=b'9' => size = size * 10 + i64::from(digit - b'0'),
            b'.' if points == 0 => points += 1,
            _ => return None,
        }
    }
    size *= 10i64.pow((scale - own) as u32);
    let bytes = (if negative { -size } else { size }).to_be_bytes();
    Some((bytes, insignificant(&bytes)))
}

/// The value with the least scale that it needs.
pub(super) fn with_scale(text: &str) -> Option<(i32, Vec<u8>)> {
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    let (negative, digits, scale) = split(text)?;
    Some((scale as i32, number(negative, digits.bytes().filter(|byte| *byte != b'.'))))
}

/// Sign, digits with their point, and how many stand behind it.
fn split(text: &str) -> Option<(bool, &str, usize)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    let scale = digits.find('.').map_or(0, |point| digits.len() - point - 1);
    Some((negative, digits, scale))
}

fn number(negative: bool, digits: impl Iterator<Item = u8>) -> Vec<u8> {
    // Most fit into 128 bits.
    let digits: Vec<u8> = digits.skip_while(|digit| *digit == b'0').collect();
    if digits.len() <= 38 {
        let size = digits.iter().fold(0i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        let bytes = (if negative { -size } else { size }).to_be_bytes();
        return shortened(&bytes);
    }
    // Limbs of 32 bits, the least first.
    let mut limbs: Vec<u32> = Vec::new();
    for part in digits.chunks(9) {
        let mut carry = part.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let factor = 10u64.pow(part.len() as u32);
        for limb in &mut limbs {
            let product = u64::from(*limb) * factor + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            limbs.push(carry as u32);
        }
    }
    // One more, for the sign.
    let mut bytes: Vec<u8> = std::iter::once(0).chain(limbs.iter().rev().copied()).flat_map(u32::to_be_bytes).collect();
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            let (inverted, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (inverted, over);
        }
    }
    shortened(&bytes)
}

/// Without the leading bytes that say no more than the sign.
fn shortened(bytes: &[u8]) -> Vec<u8> {
    bytes[insignificant(bytes)..].to_vec()
}

/// How many leading bytes say no more than the sign.
fn insignificant(bytes: &[u8]) -> usize {
    let mut from = 0;
    while from + 1 < bytes.len() {
        let sign = if bytes[from + 1] & 0x80 == 0 { 0 } else { 0xff };
        if bytes[from] != sign {
            break;
        }
        from += 1;
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_java() {
        assert_eq!(at_scale("0", 2), Some(vec![0]));
        assert_eq!(at_scale("1.27", 2), Some(vec![127]));
        assert_eq!(at_scale("1.28", 2), Some(vec![0, 128]));
        assert_eq!(at_scale("-1.28", 2), Some(vec![128]));
        assert_eq!(at_scale("-1.29", 2), Some(vec![0xff, 0x7f]));
        assert_eq!(at_scale("-1", 2), Some(vec![0x9c]));
        assert_eq!(at_scale("1.234", 2), None);
        assert_eq!(at_scale("NaN", 2), None);
        assert_eq!(with_scale("12.50"), Some((1, vec![125])));
        assert_eq!(with_scale("100"), Some((0, vec![100])));
        assert_eq!(with_scale("0.00"), Some((0, vec![0])));
        assert_eq!(with_scale("-3"), Some((0, vec![0xfd])));
    }

    #[test]
    fn small_numbers_are_the_same_on_both_ways() {
        for text in ["0", "1.27", "1.28", "-1.28", "-1.29", "-1", "0.00", "-0.01", "99999999999999.99", "-32768", "12."]
        {
            let small = small_at_scale(text.as_bytes(), 2).map(|(bytes, from)| bytes[from..].to_vec());
            assert_eq!(small, at_scale(text, 2), "{text}");
        }
        for text in ["", "-", "NaN", "1.234", "1e5", "1.2.3", "-Infinity", "9999999999999999.99"] {
            assert_eq!(small_at_scale(text.as_bytes(), 2), None, "{text}");
        }
    }

    #[test]
    fn large_numbers_lose_nothing() {
        // 2^160, and its negative.
        let text = "1461501637330902918203684832716283019655932542976";
        let mut expected = vec![0; 21];
        expected[0] = 1;
        assert_eq!(with_scale(text), Some((0, expected)));
        let mut expected = vec![0; 21];
        expected[0] = 0xff;
        assert_eq!(with_scale(&format!("-{text}")), Some((0, expected)));
        // 2^127 takes a byte for the sign.
        let mut expected = vec![0; 17];
        expected[1] = 0x80;
        assert_eq!(with_scale("170141183460469231731687303715884105728"), Some((0, expected)));
    }
}
