//! Texts of bytes, arrays and `hstore`.

/// `\x0aff`.
pub(super) fn bytea(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"\\x")?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Lower-case digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(DIGITS[usize::from(half)])).collect()
}

/// The items of an array's text, in order. Those of inner arrays stand in the same list: the server's own type has no depth either.
/// `None`: it is no array.
pub(super) fn array(text: &[u8], delimiter: u8) -> Option<Vec<Option<Vec<u8>>>> {
    // Bounds that are not the usual ones stand before it: [0:1]={…}
    let begin = if text.first() == Some(&b'[') { memchr::memchr(b'=', text)? + 1 } else { 0 };
    let text = &text[begin..];
    let (mut items, mut depth, mut at) = (Vec::new(), 0usize, 0);
    while at < text.len() {
        match text[at] {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            byte if byte == delimiter => {}
            b'"' => {
                let mut item = Vec::new();
                at += 1;
                while *text.get(at)? != b'"' {
                    if text[at] == b'\\' {
                        at += 1;
                    }
                    item.push(*text.get(at)?);
                    at += 1;
                }
                items.push(Some(item));
            }
            _ => {
                let end = text[at..].iter().position(|byte| *byte == delimiter || *byte == b'}')? + at;
                let item = &text[at..end];
                items.push((!item.eq_ignore_ascii_case(b"NULL")).then(|| item.to_vec()));
                at = end;
                continue;
            }
        }
        at += 1;
    }
    (depth == 0).then_some(items)
}

/// The pairs of `"a"=>"1", "b"=>NULL`.
pub(super) fn hstore(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        rest = after.strip_prefix("=>")?;
        let value = match rest.strip_prefix("NULL") {
            Some(after) => {
                rest = after;
                None
            }
            None => {
                let (value, after) = quoted(rest)?;
                rest = after;
                Some(value)
            }
        };
        pairs.push((key, value));
        rest = rest.strip_prefix(", ").unwrap_or(rest);
    }
    Some(pairs)
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_taken_apart() {
        let items = |text: &str| {
            array(text.as_bytes(), b',').map(|items| {
                let text = |item: Option<Vec<u8>>| item.map(|item| String::from_utf8(item).unwrap());
                items.into_iter().map(text).collect::<Vec<_>>()
            })
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(items("{}"), Some(vec![]));
        assert_eq!(items("{1,NULL,3}"), Some(vec![some("1"), None, some("3")]));
        assert_eq!(
            items(r#"{"a,b","c\"d\\",NULL,"NULL",""}"#),
            Some(vec![some("a,b"), some("c\"d\\"), None, some("NULL"), some("")])
        );
        assert_eq!(items("[0:1]={7,8}"), Some(vec![some("7"), some("8")]));
        assert_eq!(items("{{1,2},{3,4}}").unwrap().len(), 4);
        assert_eq!(items("{1"), None);
    }

    #[test]
    fn pairs_are_taken_apart() {
        let pairs = hstore(r#""a"=>"1", "b\"c"=>NULL"#).unwrap();
        assert_eq!(pairs, [("a".into(), Some("1".into())), ("b\"c".into(), None)]);
        assert_eq!(hstore(""), Some(vec![]));
        assert_eq!(hstore("a"), None);
    }

    #[test]
    fn bytes_are_read_from_hex() {
        assert_eq!(bytea(b"\\x00ff0a"), Some(vec![0, 255, 10]));
        assert_eq!(bytea(b"\\x0"), None);
        assert_eq!(hex(&[0, 255, 10]), "00ff0a");
    }
}
