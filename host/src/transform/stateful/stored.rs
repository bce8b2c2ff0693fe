//! Values as bytes of state: equal values are equal bytes.
//!
//! A byte for the type, then: integers and times 8 bytes big-endian; doubles their bits; text and bytes as they are; lists and maps
//! their items, each with its length (LEB128). A double that is a whole number is an integer here, since 1 and 1.0 are one key.

use crate::expression::Answer;

/// Doubles beyond have no fraction and are not all integers.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// Appends a value. `optional.none()` counts as null.
pub fn write(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        Answer::Null | Answer::Missing => out.push(0),
        Answer::Boolean(answer) => out.push(1 + u8::from(*answer)),
        Answer::Integer(number) => write_integer(*number, out),
        Answer::Double(number) if number.fract() == 0.0 && number.abs() < WHOLE => write_integer(*number as i64, out),
        Answer::Double(number) => {
            out.push(4);
            // All NaNs are one.
            let bits = if number.is_nan() { f64::NAN.to_bits() } else { number.to_bits() };
            out.extend_from_slice(&bits.to_be_bytes());
        }
        Answer::Text(text) => {
            out.push(5);
            out.extend_from_slice(text.as_bytes());
        }
        Answer::Bytes(bytes) => {
            out.push(6);
            out.extend_from_slice(bytes);
        }
        Answer::Timestamp(ms) => fixed(7, *ms, out),
        Answer::Duration(ms) => fixed(8, *ms, out),
        Answer::Unsigned(number) => match i64::try_from(*number) {
            Ok(number) => write_integer(number, out),
            Err(_) => fixed(9, *number as i64, out),
        },
        Answer::List(items) => {
            out.push(10);
            items.iter().for_each(|item| nested(item, out));
        }
        Answer::Map(entries) => {
            out.push(11);
            for (name, value) in entries {
                length(name.len(), out);
                out.extend_from_slice(name.as_bytes());
                nested(value, out);
            }
        }
    }
}

fn write_integer(number: i64, out: &mut Vec<u8>) {
    fixed(3, number, out);
}

fn fixed(tag: u8, number: i64, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&number.to_be_bytes());
}

fn nested(value: &Answer, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    write(value, &mut bytes);
    length(bytes.len(), out);
    out.extend_from_slice(&bytes);
}

/// Appends a length.
pub fn length(mut length: usize, out: &mut Vec<u8>) {
    while length > 127 {
        out.push(length as u8 | 128);
        length >>= 7;
    }
    out.push(length as u8);
}

/// The value that [`write`] wrote; `None` for other bytes.
pub fn read(bytes: &[u8]) -> Option<Answer> {
    let (tag, mut rest) = bytes.split_first()?;
    let number = || rest.try_into().ok().map(i64::from_be_bytes);
    Some(match tag {
        0 if rest.is_empty() => Answer::Null,
        1 | 2 if rest.is_empty() => Answer::Boolean(*tag == 2),
        3 => Answer::Integer(number()?),
        4 => Answer::Double(f64::from_bits(number()? as u64)),
        5 => Answer::Text(std::str::from_utf8(rest).ok()?.to_owned()),
        6 => Answer::Bytes(rest.to_vec()),
        7 => Answer::Timestamp(number()?),
        8 => Answer::Duration(number()?),
        9 => Answer::Unsigned(number()? as u64),
        10 => {
            let mut items = Vec::new();
            while !rest.is_empty() {
                items.push(read(take(&mut rest)?)?);
            }
            Answer::List(items)
        }
        11 => {
            let mut entries = Vec::new();
            while !rest.is_empty() {
                let name = std::str::from_utf8(take(&mut rest)?).ok()?.to_owned();
                entries.push((name, read(take(&mut rest)?)?));
            }
            Answer::Map(entries)
        }
        _ => return None,
    })
}

/// Takes bytes with their length off.
pub fn take<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let (byte, after) = rest.split_first().filter(|_| shift < 35)?;
        length |= ((byte & 127) as usize) << shift;
        shift += 7;
        *rest = after;
        if byte & 128 == 0 {
            break;
        }
    }
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

/// Orders values: numbers by size, whatever their types; text, bytes and times among themselves; types as they are numbered here.
pub fn compare(a: &Answer, b: &Answer) -> std::cmp::Ordering {
    use Answer::{Boolean, Bytes, Double, Duration, Integer, List, Map, Missing, Null, Text, Timestamp, Unsigned};
    let class = |answer: &Answer| match answer {
        Null | Missing => 0,
        Boolean(_) => 1,
        Integer(_) | Unsigned(_) | Double(_) => 2,
        Text(_) => 3,
        Bytes(_) => 4,
        Timestamp(_) => 5,
        Duration(_) => 6,
        List(_) => 7,
        Map(_) => 8,
    };
    let double = |answer: &Answer| match answer {
        Integer(number) => *number as f64,
        Unsigned(number) => *number as f64,
        Double(number) => *number,
        _ => 0.0,
    };
    match (a, b) {
        (Integer(a), Integer(b)) | (Timestamp(a), Timestamp(b)) | (Duration(a), Duration(b)) => a.cmp(b),
        (Unsigned(a), Unsigned(b)) => a.cmp(b),
        (Boolean(a), Boolean(b)) => a.cmp(b),
        (Text(a), Text(b)) => a.cmp(b),
        (Bytes(a), Bytes(b)) => a.cmp(b),
        (List(_), List(_)) | (Map(_), Map(_)) => {
            let bytes = |answer| {
                let mut bytes = Vec::new();
                write(answer, &mut bytes);
                bytes
            };
            bytes(a).cmp(&bytes(b))
        }
        _ if class(a) == 2 && class(b) == 2 => double(a).total_cmp(&double(b)),
        _ => class(a).cmp(&class(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer() -> impl Strategy<Value = Answer> {
        let leaf = prop_oneof![
            Just(Answer::Null),
            any::<bool>().prop_map(Answer::Boolean),
            any::<i64>().prop_map(Answer::Integer),
            (1_u64 << 63..).prop_map(Answer::Unsigned),
            any::<f64>().prop_filter("not whole", |d| d.fract() != 0.0 && !d.is_nan()).prop_map(Answer::Double),
            ".{0,9}".prop_map(Answer::Text),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Answer::Bytes),
            any::<i64>().prop_map(Answer::Timestamp),
            any::<i64>().prop_map(Answer::Duration),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Answer::List),
                prop::collection::vec((".{0,4}", inner), 0..4).prop_map(Answer::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(answer in answer()) {
            let mut bytes = Vec::new();
            write(&answer, &mut bytes);
            prop_assert_eq!(read(&bytes), Some(answer));
        }

        #[test]
        fn other_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let _ = read(&bytes);
        }

        #[test]
        fn the_order_is_one(a in answer(), b in answer(), c in answer()) {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }

    #[test]
    fn one_key_has_one_form() {
        let bytes = |answer: Answer| {
            let mut bytes = Vec::new();
            write(&answer, &mut bytes);
            bytes
        };
        assert_eq!(bytes(Answer::Double(1.0)), bytes(Answer::Integer(1)));
        assert_eq!(bytes(Answer::Double(-0.0)), bytes(Answer::Integer(0)));
        assert_ne!(bytes(Answer::Text("1".into())), bytes(Answer::Integer(1)));
        assert_ne!(bytes(Answer::Double(1e300)), bytes(Answer::Double(1e301)));
    }
}
