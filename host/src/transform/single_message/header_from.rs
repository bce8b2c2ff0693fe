//! `HeaderFrom`: moves or copies fields into headers. As in Kafka Connect, a null key or value is refused.

use arrow_array::{Array, ArrayRef};
use arrow_schema::FieldRef;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{Column, ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::converter::{HeaderText, of_json};
use crate::transform::config::Settings;
use crate::transform::headers::{Header, Headers, HeadersBuilder};
use crate::transform::json::{Json, Key};
use crate::transform::part::{Opened, Outcome, Part, Target, require_map};
use crate::transform::structs::Struct;

/// See the module's documentation.
pub struct HeaderFrom {
    target: Target,
    /// Field and header.
    pairs: Vec<(String, Key<'static>, String)>,
    moves: bool,
    replace_nulls: bool,
}

impl HeaderFrom {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let operations = vec!["move".to_owned(), "copy".to_owned()];
        let operation = "move: the fields are taken out of the key or value; copy: they stay.";
        ConfigDef::new()
            .define(
                ConfigKey::required("fields", Type::List, Importance::High, "The fields to move or copy.")
                    .validator(Validator::NonEmptyList),
            )
            .define(
                ConfigKey::required(
                    "headers",
                    Type::List,
                    Importance::High,
                    "The headers, in the order of the fields.",
                )
                .validator(Validator::NonEmptyList),
            )
            .define(
                ConfigKey::required("operation", Type::String, Importance::High, operation)
                    .validator(Validator::OneOf(operations)),
            )
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let (fields, headers) = (settings.list("fields"), settings.list("headers"));
        if fields.len() != headers.len() {
            let message = "'fields' config must have the same number of elements as 'headers' config.";
            return Err(Error::failed(message));
        }
        let pair = |(field, header): (&str, &str)| (field.to_owned(), Key::new(field), header.to_owned());
        Ok(Box::new(Self {
            target,
            pairs: fields.into_iter().zip(headers).map(pair).collect(),
            moves: settings.text("operation") == "move",
            replace_nulls: settings.boolean("replace.null.with.default")?,
        }))
    }

    fn purpose(&self) -> &'static str {
        if self.moves { "header move" } else { "header copy" }
    }

    fn apply_json<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let known = part.headers();
        let known = Headers::of(known.as_ref());
        let mut headers = HeadersBuilder::new(part.rows.len());
        let mut refused = Vec::new();
        let Opened::Json(documents) = part.open(self.target) else { return outcome.push(part) };
        for (row, document) in documents.iter_mut().enumerate() {
            known.row(row).for_each(|header| headers.push(header));
            match require_map(document, self.purpose()) {
                Ok(object) => {
                    for (_, key, header) in &self.pairs {
                        let value = if self.moves { object.remove(key) } else { object.get(key).cloned() };
                        push_json(&mut headers, header, value.as_ref());
                    }
                }
                Err(message) => refused.push((row, message)),
            }
            headers.end_row();
        }
        part.headers = Some(headers.finish());
        let part = part.refuse(refused, outcome);
        outcome.push(part);
    }

    fn read_struct(&self, part: &Part<'_>, structs: &mut Struct) -> std::result::Result<HeadersBuilder, String> {
        let mut sources: Vec<(&str, FieldRef, ArrayRef)> = Vec::new();
        for (name, _, header) in &self.pairs {
            let at = structs.position(name).ok_or_else(|| format!("Unknown field: {name}"))?;
            sources.push((header, structs.fields[at].clone(), structs.columns[at].clone()));
        }
        let mut writers = Vec::new();
        for (header, field, column) in &sources {
            writers.push((*header, column, HeaderText::new(field, column)?));
        }
        let known = part.headers();
        let known = Headers::of(known.as_ref());
        let mut headers = HeadersBuilder::new(structs.rows);
        let mut out = Vec::new();
        for row in 0..structs.rows {
            known.row(row).for_each(|header| headers.push(header));
            for (key, column, writer) in &writers {
                out.clear();
                let valid = column.is_valid(row);
                if valid {
                    writer.write(row, &mut out)?;
                }
                headers.push(Header { key, schema: Some(writer.schema()), value: valid.then_some(&out) });
            }
            headers.end_row();
        }
        if self.moves {
            for (name, ..) in &self.pairs {
                if let Some(at) = structs.position(name) {
                    structs.fields.remove(at);
                    structs.columns.remove(at);
                }
            }
        }
        Ok(headers)
    }
}

impl SingleMessage for HeaderFrom {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            return self.apply_json(part, outcome);
        }
        let mut part = part.refuse_nulls(self.target, self.purpose(), outcome);
        let Opened::Column(column) = part.open(self.target) else { return outcome.push(part) };
        let column = column.clone();
        let edited: std::result::Result<(HeadersBuilder, Column), String> =
            Struct::open(&column, self.purpose(), self.replace_nulls).and_then(|mut structs| {
                let headers = self.read_struct(&part, &mut structs)?;
                Ok((headers, if self.moves { structs.rebuild() } else { structs.close() }))
            });
        match edited {
            Ok((headers, column)) => {
                part.headers = Some(headers.finish());
                part.set(self.target, crate::transform::part::Side::Column(column));
                outcome.push(part);
            }
            Err(message) => part.refuse_all(self.target, &message, outcome),
        }
    }
}

/// A field's value as a header of the type that its JSON has.
fn push_json(headers: &mut HeadersBuilder, key: &str, value: Option<&Json<'_>>) {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return headers.push(Header { key, schema: None, value: None });
    };
    let (schema, text) = of_json(&value.to_string());
    headers.push(Header { key, schema: Some(schema), value: Some(text.as_bytes()) });
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/header_from.json"));
    }
}
