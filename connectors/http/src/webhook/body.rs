//! Bodies into records.

use hyper::HeaderMap;
use hyper::header::HeaderName;
use serde::de::IgnoredAny;
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
}

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
                let items: Vec<&RawValue> =
                    serde_json::from_slice(body).map_err(|error| malformed(format!("the body is no JSON: {error}")))?;
                items.into_iter().map(|item| item.get().as_bytes()).collect()
            }
            Split::NdJson => {
                body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).collect()
            }
            _ => vec![body],
        };
        if parts.len() > self.most {
            return Err(Refused::TooMany);
        }
        parts.into_iter().map(|part| self.record(headers, part)).collect()
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
        assert_eq!(read(&reading(Split::None, Form::Json), "", "[1,2]"), json(&["[1,2]"]));
        for wrong in ["", "[1,", "{\"a\":}", "nope", "{} {}"] {
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
        reading.key_pointer = None;
        reading.key_header = Some(HeaderName::from_static("x-id"));
        assert!(matches!(read(&reading, "t", "{}"), Err(Refused::Malformed(_))));
    }
}
