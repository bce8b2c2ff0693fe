//! Java's `.properties` format, as `java.util.Properties.load` reads it (with UTF-8 where Java once had Latin-1).
//!
//! Escapes `\t \n \r \f \uXXXX`, comments with `#` and `!`, continuation with a trailing backslash, and keys ended by `=`,
//! `:` or white space. The last of repeated keys counts.

use std::iter::Peekable;
use std::str::Chars;

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// The keys and values of `text`, in order.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, Malformed> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (line, logical) in logical_lines(text) {
        let (key, value) = split(&logical);
        let unescaped = |part| unescape(part).map_err(|message| Malformed { line, message });
        let (key, value) = (unescaped(key)?, unescaped(value)?);
        pairs.retain(|(earlier, _)| *earlier != key);
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// Lines with continuations joined and comments left out, each with the number of its first natural line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate() {
        let stripped = natural.trim_start_matches(is_blank);
        let (number, mut line) = match open.take() {
            Some(open) => open,
            None if stripped.is_empty() || stripped.starts_with(['#', '!']) => continue,
            None => (index + 1, String::new()),
        };
        line.push_str(stripped);
        let backslashes = stripped.chars().rev().take_while(|&c| c == '\\').count();
        if backslashes % 2 == 1 {
            line.pop();
            open = Some((number, line));
        } else {
            lines.push((number, line));
        }
    }
    lines.extend(open);
    lines
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Key and value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|&(_, c)| {
            let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
            escaped = c == '\\' && !escaped;
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            result.push(c);
            continue;
        }
        match chars.next() {
            None => {}
            Some('t') => result.push('\t'),
            Some('n') => result.push('\n'),
            Some('r') => result.push('\r'),
            Some('f') => result.push('\x0c'),
            Some('u') => result.push(unicode(&mut chars)?),
            Some(other) => result.push(other),
        }
    }
    Ok(result)
}

/// The character of `\uXXXX`, or of two of them that are a surrogate pair.
fn unicode(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    let mut units = vec![hex4(chars)?];
    if (0xd800..0xdc00).contains(&units[0]) && chars.next_if_eq(&'\\').is_some() && chars.next_if_eq(&'u').is_some() {
        units.push(hex4(chars)?);
    }
    match String::from_utf16(&units) {
        Ok(text) => Ok(text.chars().next().unwrap_or_default()),
        Err(_) => Err(format!("\\u{:04x} is half a character", units[0])),
    }
}

fn hex4(chars: &mut Peekable<Chars<'_>>) -> Result<u16, String> {
    let digits: String = chars.by_ref().take(4).collect();
    u16::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 4)
        .ok_or_else(|| format!("malformed \\u{digits}: four hexadecimal digits have to follow \\u"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn pair(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), value.to_owned())]
    }

    /// The examples of `java.util.Properties`' documentation and some corners; checked against Java 17.
    #[test]
    fn reads_what_java_reads() {
        for (text, key, value) in [
            ("Truth = Beauty", "Truth", "Beauty"),
            (" Truth:Beauty", "Truth", "Beauty"),
            ("Truth                    :Beauty", "Truth", "Beauty"),
            ("fruits apple, banana, \\\n    pear, \\\r\n  mango", "fruits", "apple, banana, pear, mango"),
            ("cheeses", "cheeses", ""),
            ("a=b = c", "a", "b = c"),
            ("a==b", "a", "=b"),
            ("a\\=b\\:c\\ d=e", "a=b:c d", "e"),
            ("a=trailing blank ", "a", "trailing blank "),
            ("a=c:\\\\dir\\q", "a", "c:\\dirq"),
            ("a=\\u00fc\\t\\uD83D\\uDE00|", "a", "ü\t😀|"),
            ("a=x\\\\", "a", "x\\"),
            ("a=x\\", "a", "x"),
            ("a=1\na=2", "a", "2"),
            ("# no\n! no\n\n  \t\n=v", "", "v"),
            ("a=x\\\n#not a comment", "a", "x#not a comment"),
            ("k=naïve ☃", "k", "naïve ☃"),
        ] {
            assert_eq!(parsed(text), pair(key, value), "{text:?}");
        }
    }

    #[test]
    fn malformed_escapes_name_their_line() {
        let error = parse("a=1\n\nb=\\u12g4").unwrap_err();
        assert_eq!(error.line, 3);
        assert!(error.message.contains("12g4"), "{error:?}");
        assert!(parse("a=\\ud83d").is_err());
        assert!(parse("a=\\ud83d\\u0041").is_err());
    }
}
