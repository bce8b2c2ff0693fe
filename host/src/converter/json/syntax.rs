//! Checks JSON text and divides it into its parts, without building values.
//!
//! [`check`] is strict (RFC 8259). [`Members`] and [`Items`] are for text that was checked before: on other text they never
//! panic, and either report an error or divide it somehow.

use std::ops::Range;

/// How deeply arrays and objects may nest, as in Kafka Connect's JSON parser.
pub const MAX_DEPTH: usize = 1000;

/// Where and why text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyntaxError {
    /// Byte, from 0.
    pub at: usize,
    /// What was found.
    pub what: What,
}

/// What was found where it must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A byte that cannot stand here.
    Unexpected(u8),
    /// The end of the text.
    End,
    /// Nesting beyond [`MAX_DEPTH`].
    TooDeep,
}

impl std::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.what {
            What::Unexpected(byte) if byte.is_ascii_graphic() || byte == b' ' => {
                write!(f, "unexpected '{}' at byte {}", byte as char, self.at)
            }
            What::Unexpected(byte) => write!(f, "unexpected byte 0x{byte:02x} at byte {}", self.at),
            What::End => write!(f, "the text ends at byte {} before the value does", self.at),
            What::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} at byte {}", self.at),
        }
    }
}

type Parsed<T> = Result<T, SyntaxError>;

#[cold]
fn unexpected(text: &[u8], at: usize) -> SyntaxError {
    SyntaxError { at, what: text.get(at).map_or(What::End, |&byte| What::Unexpected(byte)) }
}

/// Checks that `text` is one JSON value with nothing but whitespace around it; answers with the value's range.
pub fn check(text: &[u8]) -> Parsed<Range<usize>> {
    let from = skip_space(text, 0);
    let to = check_value(text, from)?;
    let end = skip_space(text, to);
    if end < text.len() { Err(unexpected(text, end)) } else { Ok(from..to) }
}

/// Which containers are open: a bit each, set for objects.
struct Nesting {
    bits: [u64; MAX_DEPTH.div_ceil(64)],
    depth: usize,
}

impl Nesting {
    fn push(&mut self, object: bool, at: usize) -> Parsed<()> {
        if self.depth == MAX_DEPTH {
            return Err(SyntaxError { at, what: What::TooDeep });
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
        Ok(())
    }

    /// Closes a container; whether what is open now is an object, `None` when nothing is.
    fn pop(&mut self) -> Option<bool> {
        self.depth -= 1;
        let last = self.depth.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }
}

/// Checks the value that begins at `at`; answers with its end.
pub fn check_value(text: &[u8], mut at: usize) -> Parsed<usize> {
    let mut open = Nesting { bits: [0; MAX_DEPTH.div_ceil(64)], depth: 0 };
    'value: loop {
        let mut in_object;
        match text.get(at) {
            Some(b'{') => {
                open.push(true, at)?;
                at = skip_space(text, at + 1);
                if text.get(at) == Some(&b'}') {
                    at += 1;
                    match open.pop() {
                        None => return Ok(at),
                        Some(object) => in_object = object,
                    }
                } else {
                    at = check_key(text, at)?;
                    continue 'value;
                }
            }
            Some(b'[') => {
                open.push(false, at)?;
                at = skip_space(text, at + 1);
                if text.get(at) == Some(&b']') {
                    at += 1;
                    match open.pop() {
                        None => return Ok(at),
                        Some(object) => in_object = object,
                    }
                } else {
                    continue 'value;
                }
            }
            _ => {
                at = check_scalar(text, at)?;
                match open.depth {
                    0 => return Ok(at),
                    depth => in_object = open.bits[(depth - 1) / 64] >> ((depth - 1) % 64) & 1 == 1,
                }
            }
        }
        // After a value inside a container: a comma and the next value, or the end of one or more containers.
        loop {
            at = skip_space(text, at);
            match (text.get(at), in_object) {
                (Some(b','), true) => {
                    at = check_key(text, skip_space(text, at + 1))?;
                    continue 'value;
                }
                (Some(b','), false) => {
                    at = skip_space(text, at + 1);
                    continue 'value;
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    at += 1;
                    match open.pop() {
                        None => return Ok(at),
                        Some(object) => in_object = object,
                    }
                }
                _ => return Err(unexpected(text, at)),
            }
        }
    }
}

/// A key, its colon and the space behind; answers with where the value begins.
#[inline]
fn check_key(text: &[u8], at: usize) -> Parsed<usize> {
    if text.get(at) != Some(&b'"') {
        return Err(unexpected(text, at));
    }
    let colon = skip_space(text, check_string(text, at + 1)?);
    if text.get(colon) != Some(&b':') {
        return Err(unexpected(text, colon));
    }
    Ok(skip_space(text, colon + 1))
}

#[inline]
fn check_scalar(text: &[u8], at: usize) -> Parsed<usize> {
    let word = |word: &[u8]| {
        let end = at + word.len();
        match text.get(at..end) {
            Some(found) if found == word => Ok(end),
            _ => {
                let same = text[at..].iter().zip(word).take_while(|(a, b)| a == b).count();
                Err(unexpected(text, at + same))
            }
        }
    };
    match text.get(at) {
        Some(b'"') => check_string(text, at + 1),
        Some(b'-' | b'0'..=b'9') => check_number(text, at),
        Some(b't') => word(b"true"),
        Some(b'f') => word(b"false"),
        Some(b'n') => word(b"null"),
        _ => Err(unexpected(text, at)),
    }
}

#[inline]
fn digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

fn check_number(text: &[u8], from: usize) -> Parsed<usize> {
    let mut at = from + usize::from(text[from] == b'-');
    match text.get(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at = digits(text, at + 1),
        _ => return Err(unexpected(text, at)),
    }
    if text.get(at) == Some(&b'.') {
        let end = digits(text, at + 1);
        if end == at + 1 {
            return Err(unexpected(text, end));
        }
        at = end;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let end = digits(text, at + 1 + sign);
        if end == at + 1 + sign {
            return Err(unexpected(text, end));
        }
        at = end;
    }
    Ok(at)
}

/// Checks a string from behind its opening quote; answers with the place behind the closing one.
fn check_string(text: &[u8], mut at: usize) -> Parsed<usize> {
    loop {
        at = plain_end(text, at);
        match text.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match text.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at += 2,
                Some(b'u') => {
                    if let Some(wrong) = (at + 2..at + 6).find(|&i| !text.get(i).is_some_and(u8::is_ascii_hexdigit)) {
                        return Err(unexpected(text, wrong));
                    }
                    at += 6;
                }
                _ => return Err(unexpected(text, at + 1)),
            },
            _ => return Err(unexpected(text, at)),
        }
    }
}

/// The first quote, backslash or control character at or behind `at`, or the end. Eight bytes at a time.
#[inline]
pub fn plain_end(text: &[u8], mut at: usize) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const QUOTES: u64 = LOW * b'"' as u64;
    const BACKSLASHES: u64 = LOW * b'\\' as u64;
    while let Some(chunk) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        // A byte's high bit is set where it is zero; borrows make false hits only above a true one, and the lowest counts.
        let zero = |x: u64| x.wrapping_sub(LOW) & !x;
        let control = word.wrapping_sub(LOW * 0x20) & !word;
        let hits = (control | zero(word ^ QUOTES) | zero(word ^ BACKSLASHES)) & HIGH;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while text.get(at).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        at += 1;
    }
    at
}

/// The first byte at or behind `at` that is no whitespace.
#[inline]
pub fn skip_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// From behind a string's opening quote to behind its closing one; and whether there are escapes in it.
#[inline]
fn string_end(text: &[u8], mut at: usize) -> Parsed<(usize, bool)> {
    let mut escaped = false;
    loop {
        at = plain_end(text, at);
        match text.get(at) {
            Some(b'"') => return Ok((at + 1, escaped)),
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
            None => return Err(unexpected(text, at)),
        }
    }
}

/// The end of the value that begins at `at`.
fn value_end(text: &[u8], mut at: usize) -> Parsed<usize> {
    match text.get(at) {
        Some(b'"') => Ok(string_end(text, at + 1)?.0),
        Some(b'{' | b'[') => {
            let mut depth = 0usize;
            loop {
                match text.get(at) {
                    Some(b'"') => {
                        at = string_end(text, at + 1)?.0;
                        continue;
                    }
                    Some(b'{' | b'[') => depth += 1,
                    Some(b'}' | b']') => {
                        depth -= 1;
                        if depth == 0 {
                            return Ok(at + 1);
                        }
                    }
                    Some(_) => {}
                    None => return Err(unexpected(text, at)),
                }
                at += 1;
            }
        }
        _ => {
            let from = at;
            while let Some(byte) = text.get(at) {
                if matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') {
                    break;
                }
                at += 1;
            }
            if at == from { Err(unexpected(text, at)) } else { Ok(at) }
        }
    }
}

/// One member of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key between its quotes, as it stands in the text.
    pub key: &'a str,
    /// Whether the key has escapes.
    pub escaped: bool,
    /// The value's text, without whitespace around it.
    pub value: &'a str,
}

/// The members of an object, in order; keys may repeat. The text must have been checked.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Members<'a> {
    /// `None` when the text is not an object. No whitespace may stand before it.
    pub fn of(text: &'a str) -> Option<Self> {
        text.starts_with('{').then_some(Self { text, at: 1 })
    }

    fn advance(&mut self) -> Parsed<Option<Member<'a>>> {
        let bytes = self.text.as_bytes();
        let mut at = skip_space(bytes, self.at);
        match bytes.get(at) {
            Some(b'}') => return Ok(None),
            Some(b',') if self.at > 1 => at = skip_space(bytes, at + 1),
            _ => {}
        }
        if bytes.get(at) != Some(&b'"') {
            return Err(unexpected(bytes, at));
        }
        let (end, escaped) = string_end(bytes, at + 1)?;
        let key = &self.text[at + 1..end - 1];
        at = skip_space(bytes, end);
        if bytes.get(at) != Some(&b':') {
            return Err(unexpected(bytes, at));
        }
        at = skip_space(bytes, at + 1);
        self.at = value_end(bytes, at)?;
        Ok(Some(Member { key, escaped, value: self.text.get(at..self.at).ok_or_else(|| unexpected(bytes, at))? }))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Parsed<Member<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// The items of an array, in order. The text must have been checked.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Items<'a> {
    /// `None` when the text is not an array. No whitespace may stand before it.
    pub fn of(text: &'a str) -> Option<Self> {
        text.starts_with('[').then_some(Self { text, at: 1 })
    }

    fn advance(&mut self) -> Parsed<Option<&'a str>> {
        let bytes = self.text.as_bytes();
        let mut at = skip_space(bytes, self.at);
        match bytes.get(at) {
            Some(b']') => return Ok(None),
            Some(b',') if self.at > 1 => at = skip_space(bytes, at + 1),
            _ => {}
        }
        self.at = value_end(bytes, at)?;
        Ok(Some(self.text.get(at..self.at).ok_or_else(|| unexpected(bytes, at))?))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Parsed<&'a str>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// What kind of value a checked text is, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl Kind {
    /// Of a text without whitespace before it.
    pub fn of(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b'{') => Self::Object,
            Some(b'[') => Self::Array,
            Some(b'"') => Self::String,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'-' | b'0'..=b'9') => Self::Number,
            _ => Self::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_and_refuses_what_the_grammar_does() {
        for good in [
            "{}",
            "[]",
            " {\"a\" : [1, -0.5e+3, true, false, null, \"x\\u00e9\\n\"] , \"b\":{}}\n",
            "0",
            "-0",
            "\"\"",
            "null",
            "[[[]],{}]",
            "1e5",
            "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaé\\\\\"",
        ] {
            check(good.as_bytes()).unwrap_or_else(|e| panic!("{good}: {e}"));
            serde_json::from_str::<serde_json::Value>(good).unwrap();
        }
        for bad in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "-",
            "1e",
            "tru",
            "nulll",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "[1 2]",
            "{\"a\" 1}",
            "{\"a\":}",
            "[}",
            "1 2",
            "[,1]",
            "+1",
            "NaN",
            "'a'",
            "{\"a\":1]",
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
            assert!(serde_json::from_str::<serde_json::Value>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(check(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().what, What::TooDeep);
    }

    #[test]
    fn divides_objects_and_arrays() {
        let text = r#"{ "a" : {"x":"}"} , "b\"c":[1,2], "d":-1.5 }"#;
        let members: Vec<_> =
            Members::of(text).unwrap().map(Result::unwrap).map(|m| (m.key, m.escaped, m.value)).collect();
        assert_eq!(members, [("a", false, r#"{"x":"}"}"#), (r#"b\"c"#, true, "[1,2]"), ("d", false, "-1.5")]);
        let items: Vec<_> = Items::of(r#"[1, "a,]" ,[2,[3]],{}]"#).unwrap().map(Result::unwrap).collect();
        assert_eq!(items, ["1", "\"a,]\"", "[2,[3]]", "{}"]);
    }

    #[test]
    fn numbers_beyond_f64_are_judged_by_their_grammar_alone() {
        for good in ["1e310", "[-1e99999]", r#"{"a":1e310}"#, r#""\ud800""#] {
            assert_eq!(check(good.as_bytes()), Ok(0..good.len()), "{good}");
        }
        for bad in ["1e310]", "[1e310", "1e310 2", r#""\ud800"#] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}",:0-9a-e.\\ untrlsf-]{0,24}"#) {
            // Grammar only: a number beyond f64 and a lone surrogate are grammatical, so nothing may be made of the values.
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            proptest::prop_assert_eq!(check(text.as_bytes()).is_ok(), theirs.is_ok(), "{}", text);
        }

        #[test]
        fn dividing_never_panics(text in r#"[\[\]{}",:0-9é\\ ]{0,24}"#) {
            Members::of(&text).into_iter().flatten().take_while(Result::is_ok).for_each(drop);
            Items::of(&text).into_iter().flatten().take_while(Result::is_ok).for_each(drop);
        }
    }
}
