//! Envelopes: `{"schema": …, "payload": …}` around each value, with `schemas.enable=true`.
//!
//! Parsed schemas are kept by their text; when `schemas.cache.size` of them are known, all are forgotten.

use std::collections::HashMap;
use std::ops::Range;

use arrow_schema::FieldRef;

use super::schema::field_from_json;
use super::syntax::{Members, check_value, skip_space};

/// What Kafka Connect says of a value that is no envelope; users search for it.
pub const NOT_AN_ENVELOPE: &str = "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not contain additional fields. If you are trying to deserialize plain JSON data, set schemas.enable=false in your converter configuration.";

/// The parts of an envelope.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'t> {
    /// What stands before the payload, if the schema is in it.
    before: Option<&'t str>,
    /// The schema's text.
    pub schema: &'t str,
    /// The payload's text.
    pub payload: &'t str,
}

impl<'t> Envelope<'t> {
    /// Opens checked text that has its value in `value`.
    pub fn open(text: &'t str, value: Range<usize>) -> Result<Self, String> {
        let (mut schema, mut payload) = (None, None);
        for member in Members::of(&text[value]).ok_or(NOT_AN_ENVELOPE)? {
            let member = member.map_err(|_| NOT_AN_ENVELOPE)?;
            match member.key {
                "schema" => schema = Some(member.value),
                "payload" => payload = Some(member.value),
                _ => return Err(NOT_AN_ENVELOPE.to_owned()),
            }
        }
        let (schema, payload) = schema.zip(payload).ok_or(NOT_AN_ENVELOPE)?;
        let at = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
        let before = (at(schema) < at(payload)).then(|| &text[..at(payload)]);
        Ok(Self { before, schema, payload })
    }

    /// The payload of an envelope that begins exactly like this one, which most records of a topic do: then only the payload has to
    /// be checked. `None`: it has to be opened.
    pub fn payload_of<'u>(&self, text: &'u str) -> Option<&'u str> {
        let from = text.strip_prefix(self.before?)?;
        let bytes = from.as_bytes();
        let end = check_value(bytes, 0).ok()?;
        let brace = skip_space(bytes, end);
        let is_end = bytes.get(brace) == Some(&b'}') && skip_space(bytes, brace + 1) == bytes.len();
        is_end.then(|| &from[..end])
    }
}

/// A schema that was read but cannot be used.
pub fn unusable(message: &str) -> String {
    format!("unusable schema: {message}")
}

/// Parsed schemas by their text; `None` is the schema `null`: schemaless.
#[derive(Debug, Default)]
pub struct SchemaCache {
    known: HashMap<Box<str>, Result<Option<FieldRef>, String>>,
    bound: usize,
}

impl SchemaCache {
    /// Keeps at most `bound` schemas (at least one).
    pub fn new(bound: usize) -> Self {
        Self { known: HashMap::new(), bound: bound.max(1) }
    }

    /// The field that a schema's text describes.
    pub fn get(&mut self, text: &str) -> Result<Option<FieldRef>, String> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        let parsed = match text {
            "null" => Ok(None),
            _ => serde_json::from_str(text)
                .map_err(|error| format!("malformed schema: {error}"))
                .and_then(|schema| field_from_json(&schema).map(Some)),
        };
        if self.known.len() >= self.bound {
            self.known.clear();
        }
        self.known.insert(text.into(), parsed.clone());
        parsed
    }
}
