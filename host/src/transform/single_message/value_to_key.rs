//! `ValueToKey`: a key made of fields of the value.
//!
//! As in Kafka Connect, a null value is refused; in schemaless data a missing field becomes null.

use std::sync::Arc;

use arrow_schema::{DataType, Field};
use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key, Object};
use crate::transform::part::{Opened, Outcome, Part, Side, Target, require_map};
use crate::transform::structs::Struct;

const PURPOSE: &str = "copying fields from value to key";

/// See the module's documentation.
pub struct ValueToKey {
    fields: Vec<(String, Key<'static>)>,
    replace_nulls: bool,
}

impl ValueToKey {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let documentation = "The fields of the value that make the key.";
        ConfigDef::new()
            .define(
                ConfigKey::required("fields", Type::List, Importance::High, documentation)
                    .validator(Validator::NonEmpty),
            )
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(_target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        Ok(Box::new(Self {
            fields: settings.list("fields").into_iter().map(|name| (name.to_owned(), Key::new(name))).collect(),
            replace_nulls: settings.boolean("replace.null.with.default")?,
        }))
    }

    fn select(&self, structs: &Struct) -> std::result::Result<Struct, String> {
        let mut selected = Struct {
            field: Arc::new(Field::new("", DataType::Null, true)),
            fields: Vec::new(),
            columns: Vec::new(),
            nulls: None,
            rows: structs.rows,
        };
        for (name, _) in &self.fields {
            let at = structs.position(name).ok_or_else(|| format!("Field does not exist: {name}"))?;
            selected.fields.push(structs.fields[at].clone());
            selected.columns.push(structs.columns[at].clone());
        }
        Ok(selected)
    }
}

impl SingleMessage for ValueToKey {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(Target::Value) {
            let mut keys = Vec::with_capacity(part.rows.len());
            let mut refused = Vec::new();
            let Opened::Json(documents) = part.open(Target::Value) else { unreachable!("it is JSON") };
            for (i, document) in documents.iter_mut().enumerate() {
                match require_map(document, PURPOSE) {
                    Ok(object) => {
                        let field = |(_, key): &'a (String, Key<'static>)| {
                            (key.borrowed(), object.get(key).cloned().unwrap_or(Json::NULL))
                        };
                        keys.push(Some(Json::Object(self.fields.iter().map(field).collect::<Object<'a>>())));
                    }
                    Err(message) => {
                        keys.push(None);
                        refused.push((i, message));
                    }
                }
            }
            part.set(Target::Key, Side::Json(keys));
            let part = part.refuse(refused, outcome);
            return outcome.push(part);
        }
        let mut part = part.refuse_nulls(Target::Value, PURPOSE, outcome);
        let Opened::Column(column) = part.open(Target::Value) else { return outcome.push(part) };
        match Struct::open(column, PURPOSE, self.replace_nulls).and_then(|structs| self.select(&structs)) {
            Ok(key) => {
                part.set(Target::Key, Side::Column(key.rebuild()));
                outcome.push(part);
            }
            Err(message) => part.refuse_all(Target::Value, &message, outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/value_to_key.json"));
    }
}
