//! `InsertField`: adds the topic, partition, offset or timestamp of the record, or a fixed text, as fields.
//!
//! A null key or value goes on unchanged. One that is no object or struct is refused, as is `offset.field` in a source.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow_schema::Field;
use tributary_sdk::{ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::converter::json::logical;
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key};
use crate::transform::part::{Origin, Outcome, Part, Place, Target, require_map};
use crate::transform::structs::{Struct, duplicate};

const PURPOSE: &str = "field insertion";

/// See the module's documentation.
pub struct InsertField {
    target: Target,
    insertions: Vec<Insertion>,
    replace_nulls: bool,
}

struct Insertion {
    name: String,
    key: Key<'static>,
    optional: bool,
    what: What,
}

enum What {
    Topic,
    Partition,
    Offset,
    Timestamp,
    /// The text, and the same as JSON.
    Static(String, Json<'static>),
}

impl InsertField {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let field = |name: &str, what: &str| {
            let documentation = format!(
                "Name of the field for {what}. A trailing ! makes it a required field, a trailing ? an optional one (the default)."
            );
            ConfigKey::nullable(name, Type::String, Importance::Medium, &documentation)
        };
        ConfigDef::new()
            .define(field("topic.field", "the topic"))
            .define(field("partition.field", "the partition"))
            .define(field("offset.field", "the offset (sink connectors only)"))
            .define(field("timestamp.field", "the record's timestamp"))
            .define(field("static.field", "static.value"))
            .define(ConfigKey::nullable(
                "static.value",
                Type::String,
                Importance::Medium,
                "The text that static.field gets.",
            ))
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let mut insertions = Vec::new();
        let mut add = |key: &str, what: What| {
            if let Some(spec) = settings.string(key) {
                let (name, optional) = match (spec.strip_suffix('?'), spec.strip_suffix('!')) {
                    (Some(name), _) => (name, true),
                    (_, Some(name)) => (name, false),
                    _ => (spec, true),
                };
                insertions.push(Insertion { name: name.to_owned(), key: Key::new(name), optional, what });
            }
        };
        add("topic.field", What::Topic);
        add("partition.field", What::Partition);
        add("offset.field", What::Offset);
        add("timestamp.field", What::Timestamp);
        match (settings.string("static.field"), settings.string("static.value")) {
            (Some(_), Some(value)) => add("static.field", What::Static(value.to_owned(), Json::string(value))),
            (Some(field), None) => {
                return Err(Error::failed(format!(
                    "Invalid value null for configuration static.value: No value specified for static field: {field}"
                )));
            }
            _ => {}
        }
        if insertions.is_empty() {
            return Err(Error::failed("No field insertion configured"));
        }
        let replace_nulls = settings.boolean("replace.null.with.default")?;
        Ok(Box::new(Self { target, insertions, replace_nulls }))
    }

    /// What a source record lacks.
    fn unusable(&self, part: &Part<'_>) -> Option<String> {
        let offset = self.insertions.iter().any(|insertion| matches!(insertion.what, What::Offset));
        (offset && !part.is_sink()).then(|| {
            format!("Only SinkRecord supported for [{PURPOSE}], found: org.apache.kafka.connect.source.SourceRecord")
        })
    }

    fn insert_json<'a>(
        &'a self,
        origin: &Origin<'_>,
        topic: &Json<'a>,
        place: Place,
        json: &mut Option<Json<'a>>,
    ) -> Result<(), String> {
        if json.is_none() {
            return Ok(());
        }
        let object = require_map(json, PURPOSE)?;
        for Insertion { key, what, .. } in &self.insertions {
            let value = match what {
                What::Topic => Some(topic.clone()),
                What::Partition => origin.partition(place).map(|partition| Json::integer(partition.into())),
                What::Offset => Some(origin.offset(place).map_or(Json::NULL, Json::integer)),
                What::Timestamp => origin.timestamp(place).map(Json::integer),
                What::Static(_, json) => Some(json.borrowed()),
            };
            if let Some(value) = value {
                object.set(key.borrowed(), value);
            }
        }
        Ok(())
    }

    fn insert_columns(
        &self,
        part: &Part<'_>,
        structs: &mut Struct,
        refused: &mut Vec<(usize, String)>,
    ) -> std::result::Result<(), String> {
        let origin = part.origin();
        for Insertion { name, optional, what, .. } in &self.insertions {
            if structs.position(name).is_some() {
                return Err(duplicate(name));
            }
            let array: ArrayRef = match what {
                What::Topic => Arc::new(repeated(&part.topic, part.rows.len())),
                What::Partition => Arc::new(part.places().map(|place| origin.partition(place)).collect::<Int32Array>()),
                What::Offset => Arc::new(part.places().map(|place| origin.offset(place)).collect::<Int64Array>()),
                What::Timestamp => {
                    let stamps: TimestampMillisecondArray =
                        part.places().map(|place| origin.timestamp(place)).collect();
                    Arc::new(stamps.with_timezone("UTC"))
                }
                What::Static(text, _) => Arc::new(repeated(text, part.rows.len())),
            };
            let mut field = Field::new(name, array.data_type().clone(), *optional);
            if matches!(what, What::Timestamp) {
                field = logical::named(field, logical::TIMESTAMP);
            }
            let array = if *optional { array } else { require(&field, array, structs, refused) };
            structs.set(field, array);
        }
        Ok(())
    }
}

impl SingleMessage for InsertField {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if let Some(message) = self.unusable(&part) {
            return part.refuse_all(self.target, &message, outcome);
        }
        if part.is_json(self.target) {
            let (origin, topic) = (part.origin(), Json::string(&part.topic));
            let part =
                part.edit_json(self.target, outcome, |place, json| self.insert_json(&origin, &topic, place, json));
            return outcome.push(part);
        }
        part.edit_struct(self.target, PURPOSE, self.replace_nulls, outcome, |part, mut structs, refused| {
            self.insert_columns(part, &mut structs, refused)?;
            Ok(structs.rebuild())
        });
    }
}

/// A column without nulls; rows that have one are refused.
fn require(field: &Field, array: ArrayRef, structs: &Struct, refused: &mut Vec<(usize, String)>) -> ArrayRef {
    if array.null_count() == 0 {
        return array;
    }
    let dead = |row: usize| structs.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    for row in (0..array.len()).filter(|&row| array.is_null(row) && !dead(row)) {
        refused.push((row, format!("Invalid value: null used for required field: \"{}\"", field.name())));
    }
    let data = array.to_data().into_builder().nulls(None);
    arrow_array::make_array(data.build().expect("the same data without nulls"))
}

fn repeated(text: &str, rows: usize) -> StringArray {
    std::iter::repeat_n(Some(text), rows).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/insert_field.json"));
    }
}
