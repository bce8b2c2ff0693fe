//! COPY's text format.

use bytes::Bytes;

use crate::cdc::pgoutput::Value;

/// A line, in values. What has no backslash is not copied.
pub(crate) fn row(line: &Bytes, values: &mut Vec<Value>) {
    let end = line.len() - usize::from(line.last() == Some(&b'\n'));
    let line = line.slice(..end);
    values.clear();
    let escaped = memchr::memchr(b'\\', &line).is_some();
    let mut from = 0;
    for tab in memchr::memchr_iter(b'\t', &line).chain([line.len()]) {
        let field = line.slice(from..tab);
        from = tab + 1;
        values.push(match escaped.then(|| memchr::memchr(b'\\', &field)).flatten() {
            None => Value::Text(field),
            Some(_) if &*field == b"\\N" => Value::Null,
            Some(_) => Value::Text(unescape(&field)),
        });
    }
}

fn unescape(field: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => other,
                None => b'\\',
            },
            byte => byte,
        });
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let text = |text: &'static str| Value::Text(Bytes::from_static(text.as_bytes()));
        let mut values = Vec::new();
        row(&Bytes::from_static(b"1\t\\N\ta\\tb\\\\c\\n\t\n"), &mut values);
        assert_eq!(values, [text("1"), Value::Null, text("a\tb\\c\n"), text("")]);
    }
}
