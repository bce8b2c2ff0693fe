//! `ParseJson`: text that is JSON becomes schemaless data, of the whole key or value or of one field. Not one of Kafka Connect's.
//!
//! Null stays null. Text that is not JSON refuses its record, and so does a field of structured data, which has no place for
//! schemaless data: take the whole value, or `ExtractField` first.

use std::borrow::Cow;

use arrow_array::Array;
use tributary_sdk::{Column, ConfigDef, ConfigKey, Form, Importance, Result, Type};

use super::SingleMessage;
use crate::converter::json::syntax;
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key};
use crate::transform::part::{Opened, Outcome, Part, Side, Target, require_map};
use crate::transform::structs::java_class;

const PURPOSE: &str = "parsing JSON";

/// See the module's documentation.
pub struct ParseJson {
    target: Target,
    /// `None`: the whole key or value.
    field: Option<Key<'static>>,
}

impl ParseJson {
    /// The config definition.
    pub fn config_def() -> ConfigDef {
        let documentation = "The field whose text is JSON; empty: the whole key or value.";
        ConfigDef::new().define(ConfigKey::optional("field", Type::String, "", Importance::High, documentation))
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let field = Some(settings.text("field")).filter(|name| !name.is_empty()).map(Key::new);
        Ok(Box::new(Self { target, field }))
    }

    /// A column of text or bytes as documents, which borrow from `shared` (the base's column, if this is it). The error is of the column.
    fn parse_column<'a>(
        part: &Part<'a>,
        column: &Column,
        shared: Option<&'a Column>,
        refused: &mut Vec<(usize, String)>,
    ) -> std::result::Result<Vec<Option<Json<'a>>>, String> {
        let shared = shared.and_then(Column::as_text);
        let mut documents = Vec::with_capacity(part.rows.len());
        for (i, &row) in part.rows.iter().enumerate() {
            if column.array().is_null(i) {
                documents.push(None);
                continue;
            }
            let parsed = match (shared, column.as_text(), column.as_bytes()) {
                (Some(texts), ..) => parse(Cow::Borrowed(texts.value(row as usize))),
                (_, Some(texts), _) => parse(Cow::Owned(texts.value(i).to_owned())),
                (_, _, Some(bytes)) => match std::str::from_utf8(bytes.value(i)) {
                    Ok(text) => parse(Cow::Owned(text.to_owned())),
                    Err(_) => Err("the value is not JSON: invalid UTF-8".to_owned()),
                },
                _ => return Err(format!("only text can be parsed as JSON, found: {}", java_class(column.field()))),
            };
            documents.push(parsed.unwrap_or_else(|message| {
                refused.push((i, message));
                None
            }));
        }
        Ok(documents)
    }
}

impl SingleMessage for ParseJson {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let shared = part.untouched(self.target);
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                match (&self.field, &mut *json) {
                    (_, None) => {}
                    (None, Some(document)) => *json = parse_string(document)?,
                    (Some(key), Some(_)) => {
                        if let Some(value) = require_map(json, PURPOSE)?.get_mut(key) {
                            *value = parse_string(value)?.unwrap_or(Json::NULL);
                        }
                    }
                }
                Ok(())
            });
            return outcome.push(part);
        }
        let Opened::Column(column) = part.open(self.target) else { return outcome.push(part) };
        let column = column.clone();
        let mut refused = Vec::new();
        let parsed = match self.field {
            Some(_) => {
                Err("a field of structured data cannot hold JSON; take the whole value, or ExtractField first"
                    .to_owned())
            }
            None if matches!(column.form(), Form::Text | Form::Bytes) => {
                Self::parse_column(&part, &column, shared, &mut refused)
            }
            None => Err(format!("only text can be parsed as JSON, found: {}", java_class(column.field()))),
        };
        match parsed {
            Ok(documents) => {
                part.set(self.target, Side::Json(documents));
                let part = part.refuse(refused, outcome);
                outcome.push(part);
            }
            Err(message) => part.refuse_all(self.target, &message, outcome),
        }
    }
}

/// A JSON string's content as JSON; other values stay as they are.
fn parse_string<'a>(value: &Json<'a>) -> std::result::Result<Option<Json<'a>>, String> {
    match value.as_str() {
        Some(text) => parse(Cow::Owned(text.into_owned())),
        None => Ok(Some(value.clone())),
    }
}

fn parse(text: Cow<'_, str>) -> std::result::Result<Option<Json<'_>>, String> {
    let range = syntax::check(text.as_bytes()).map_err(|error| format!("the value is not JSON: {error}"))?;
    let json = Json::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
        Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
    });
    Ok(Some(json).filter(|json| !json.is_null()))
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;
    use tributary_sdk::Column;

    use crate::transform::tests::{chain, json_batch, values};

    #[test]
    fn text_becomes_documents() {
        let mut batch = json_batch(&[None; 4]);
        batch.value = Column::text(StringArray::from(vec![Some(" {\"a\":1} "), None, Some("null"), Some("{a}")]));
        let mut parse = chain(&[
            ("transforms", "p,i"),
            ("transforms.p.type", "ParseJson$Value"),
            ("transforms.i.type", "InsertField$Value"),
            ("transforms.i.static.field", "s"),
            ("transforms.i.static.value", "v"),
        ]);
        let applied = parse.apply(batch).unwrap();
        assert_eq!(values(&applied), [Some("{\"a\":1,\"s\":\"v\"}".to_owned()), None, None]);
        assert_eq!(applied.failures[0].message, "the value is not JSON: unexpected 'a' at byte 1");
    }

    #[test]
    fn text_in_fields_becomes_values() {
        let rows =
            [Some(r#"{"f":"{\"a\":[1]}","g":1}"#), Some(r#"{"f":2}"#), Some(r#"{"f":"null"}"#), Some(r#"{"f":"x"}"#)];
        let mut parse =
            chain(&[("transforms", "p"), ("transforms.p.type", "ParseJson$Value"), ("transforms.p.field", "f")]);
        let applied = parse.apply(json_batch(&rows)).unwrap();
        let expected = [r#"{"f":{"a":[1]},"g":1}"#, r#"{"f":2}"#, r#"{"f":null}"#].map(|text| Some(text.to_owned()));
        assert_eq!(values(&applied), expected);
        assert_eq!(applied.failures[0].row, 3);
    }
}
