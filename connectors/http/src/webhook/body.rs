//! Bodies into records.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserializer;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use tributary_sdk::Record;

/// What of a body is a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// All of it.
    None,
    /// The items of a JSON array; anything else is one record.
    JsonArray,
    /// Each line that is not blank.
    NdJson,
    /// By the Content-Type and the first character.
    Auto,
}

/// What records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Text,
    Bytes,
}

/// Makes records of bodies.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub split: Split,
    pub form: Form,
    /// JSON pointer into the record: its key.
    pub key_pointer: Option<String>,
    /// The header that holds the key.
    pub key_header: Option<HeaderName>,
    /// Headers that become headers of the records.
    pub headers: Vec<HeaderName>,
    /// The most records of one request.
    pub most: usize,
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    Malformed(String),
    TooMany,
    /// With what each record gets of the request's headers.
    TooLarge,
}

/// Most bytes of headers that the records of one request may get together.
const MOST_COPIED: usize = 64 << 20;

fn malformed(why: impl Into<String>) -> Refused {
    Refused::Malformed(why.into())
}

impl Reading {
    /// The records of a body, in their order; the first that is wrong refuses the whole.
    pub fn records(&self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Record>, Refused> {
        let kind = headers.get(hyper::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let split = match self.split {
            Split::Auto if kind.contains("ndjson") || kind.contains("jsonl") || kind.contains("json-seq") => {
                Split::NdJson
            }
            Split::Auto => Split::JsonArray,
            split => split,
        };
        let is_array = || body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let parts: Vec<&[u8]> = match split {
            Split::JsonArray if is_array() => {
                let items = first_items(body, self.most + 1);
                let items = items.map_err(|error| malformed(format!("the body is no JSON: {error}")))?;
                items.into_iter().map(|item| item.get().as_bytes()).collect()
            }
            Split::NdJson => {
                let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
                lines.filter(|line| !line.is_empty()).take(self.most + 1).collect()
            }
            _ => vec![body],
        };
        if parts.len() > self.most {
            return Err(Refused::TooMany);
        }
        if parts.len().saturating_mul(self.copied(headers)) > MOST_COPIED {
            return Err(Refused::TooLarge);
        }
        parts.into_iter().map(|part| self.record(headers, part)).collect()
    }

    /// Bytes of the request's headers that each record gets.
    pub fn copied(&self, headers: &HeaderMap) -> usize {
        let key = self.key_header.as_ref().filter(|_| self.key_pointer.is_none());
        let key = key.and_then(|name| headers.get(name)).map_or(0, HeaderValue::len);
        let forwarded =
            self.headers.iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
        key + forwarded.map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
    }

    fn record(&self, headers: &HeaderMap, part: &[u8]) -> Result<Record, Refused> {
        let text = || std::str::from_utf8(part).map_err(|_| malformed("the body is no UTF-8"));
        let not_json = |error: serde_json::Error| malformed(format!("a record is no JSON: {error}"));
        let mut record = match self.form {
            Form::Json => {
                let text = text()?.trim();
                serde_json::from_str::<IgnoredAny>(text).map_err(not_json)?;
                Record::raw_json(text)
            }
            Form::Text => Record::text(text()?),
            Form::Bytes => Record::bytes(part),
        };
        if let Some(pointer) = &self.key_pointer {
            let value: Value = serde_json::from_slice(part).map_err(not_json)?;
            record = match value.pointer(pointer) {
                None | Some(Value::Null) => return Err(malformed(format!("a record has no key at {pointer}"))),
                Some(Value::String(text)) => record.key(text),
                Some(other) => record.key(other.to_string()),
            };
        } else if let Some(name) = &self.key_header {
            let key = headers.get(name).and_then(|key| key.to_str().ok());
            record = record
                .key(key.ok_or_else(|| malformed(format!("the request has no header {name}, which is the key")))?);
        }
        for name in &self.headers {
            for value in headers.get_all(name) {
                record = match value.to_str() {
                    Ok(text) => record.header(name.as_str(), text),
                    Err(_) => record.header_bytes(name.as_str(), Some(value.as_bytes().to_vec())),
                };
            }
        }
        Ok(record)
    }
}

/// The first items of a JSON array, which has to be right to its end.
fn first_items(body: &[u8], most: usize) -> serde_json::Result<Vec<&RawValue>> {
    struct First(usize);

    impl<'de> Visitor<'de> for First {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut first = Vec::new();
            while let Some(item) = items.next_element()? {
                if first.len() < self.0 {
                    first.push(item);
                }
            }
            Ok(first)
        }
    }

    let mut json = serde_json::Deserializer::from_slice(body);
    let items = json.deserialize_seq(First(most))?;
    json.end()?;
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(split: Split, form: Form) -> Reading {
        Reading { split, form, key_pointer: None, key_header: None, headers: Vec::new(), most: 3 }
    }

    fn read(reading: &Reading, kind: &str, body: &str) -> Result<Vec<Record>, Refused> {
        let headers = HeaderMap::from_iter([(hyper::header::CONTENT_TYPE, kind.parse().unwrap())]);
        reading.records(&headers, body.as_bytes())
    }

    #[test]
    fn bodies_are_split_as_they_are_told() {
        let json = |texts: &[&str]| Ok(texts.iter().map(|text| Record::raw_json(*text)).collect::<Vec<_>>());
        let auto = reading(Split::Auto, Form::Json);
        assert_eq!(read(&auto, "application/json", " [{\"a\":1.10}, 2]"), json(&["{\"a\":1.10}", "2"]));
        assert_eq!(read(&auto, "application/json", "{\"a\":[1]}\n"), json(&["{\"a\":[1]}"]));
        assert_eq!(read(&auto, "application/x-ndjson", "{\"a\":1}\r\n\n[2]\n"), json(&["{\"a\":1}", "[2]"]));
        assert_eq!(read(&auto, "application/json", "[]"), json(&[]));
        assert_eq!(read(&auto, "application/json", "[1,2,3,4]"), Err(Refused::TooMany));
        assert_eq!(read(&auto, "application/x-ndjson", "1\n2\n3\n4\n5"), Err(Refused::TooMany));
        assert_eq!(read(&reading(Split::None, Form::Json), "", "[1,2]"), json(&["[1,2]"]));
        for wrong in ["", "[1,", "[1,2,3,4,5", "[1] 2", "{\"a\":}", "nope", "{} {}"] {
            assert!(matches!(read(&auto, "", wrong), Err(Refused::Malformed(_))), "{wrong}");
        }
        let text = reading(Split::NdJson, Form::Text);
        assert_eq!(read(&text, "", "a\nb"), Ok(vec![Record::text("a"), Record::text("b")]));
        assert_eq!(read(&reading(Split::None, Form::Bytes), "", "x\n"), Ok(vec![Record::bytes(b"x\n".to_vec())]));
    }

    #[test]
    fn keys_and_headers_come_along() {
        let mut reading = reading(Split::Auto, Form::Json);
        reading.key_pointer = Some("/user/id".into());
        reading.headers = vec![HeaderName::from_static("content-type")];
        let body = r#"[{"user":{"id":"a"}},{"user":{"id":7}}]"#;
        let expected = |text: &str, key: &str| Record::raw_json(text).key(key).header("content-type", "t");
        assert_eq!(
            read(&reading, "t", body),
            Ok(vec![expected(r#"{"user":{"id":"a"}}"#, "a"), expected(r#"{"user":{"id":7}}"#, "7")])
        );
        assert!(matches!(read(&reading, "t", r#"{"user":{}}"#), Err(Refused::Malformed(_))));
        // What would be copied again and again has a bound.
        reading.most = 100_000;
        let many = format!("[{}0]", "0,".repeat(99_999));
        reading.key_pointer = None;
        let long = "t".repeat(60_000);
        assert_eq!(read(&reading, &long, &many), Err(Refused::TooLarge));
        assert_eq!(read(&reading, "t", &many).unwrap().len(), 100_000);
        reading.most = 3;
        reading.key_header = Some(HeaderName::from_static("x-id"));
        assert!(matches!(read(&reading, "t", "{}"), Err(Refused::Malformed(_))));
    }
}
