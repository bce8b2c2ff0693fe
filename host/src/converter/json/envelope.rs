//! Envelopes: `{"schema": …, "payload": …}` around each value, with `schemas.enable=true`.
//!
//! Parsed schemas are kept by their text; when `schemas.cache.size` of them are known, all are forgotten.

use std::collections::HashMap;

use arrow_schema::FieldRef;

use super::schema::field_from_json;
use super::syntax::Members;

/// What Kafka Connect says of a value that is no envelope; users search for it.
pub const NOT_AN_ENVELOPE: &str = "JsonConverter with schemas.enable requires \"schema\" and \"payload\" fields and may not contain additional fields. If you are trying to deserialize plain JSON data, set schemas.enable=false in your converter configuration.";

/// The two parts of an envelope. The text was checked.
pub fn open(text: &str) -> Result<(&str, &str), String> {
    let (mut schema, mut payload) = (None, None);
    for member in Members::of(text).ok_or(NOT_AN_ENVELOPE)? {
        let member = member.map_err(|_| NOT_AN_ENVELOPE)?;
        match member.key {
            "schema" => schema = Some(member.value),
            "payload" => payload = Some(member.value),
            _ => return Err(NOT_AN_ENVELOPE.to_owned()),
        }
    }
    schema.zip(payload).ok_or_else(|| NOT_AN_ENVELOPE.to_owned())
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
