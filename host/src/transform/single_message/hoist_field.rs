//! `HoistField`: wraps the whole key or value into one field of a new object or struct.

use std::sync::Arc;

use arrow_array::Array;
use arrow_schema::{DataType, Field};
use tributary_sdk::{Column, ConfigDef, ConfigKey, Importance, Result, Type};

use super::SingleMessage;
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key, Object};
use crate::transform::part::{Opened, Outcome, Part, Side, Target};
use crate::transform::structs::{Struct, as_member, is_optional};

/// See the module's documentation.
pub struct HoistField {
    target: Target,
    name: String,
    key: Key<'static>,
}

impl HoistField {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let documentation = "Name of the one field of the new struct or map.";
        ConfigDef::new().define(ConfigKey::required("field", Type::String, Importance::Medium, documentation))
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let name = settings.text("field").to_owned();
        Ok(Box::new(Self { target, key: Key::new(&name), name }))
    }

    fn hoist(&self, column: &Column) -> Column {
        let member = as_member(&self.name, column);
        let hoisted = Struct {
            field: Arc::new(Field::new("", DataType::Null, true)),
            fields: vec![Arc::new(member)],
            columns: vec![column.array().clone()],
            nulls: None,
            rows: column.len(),
        };
        hoisted.rebuild()
    }
}

impl SingleMessage for HoistField {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        let wrap = |json: &mut Option<Json<'a>>| {
            let inner = json.take().unwrap_or(Json::NULL);
            *json = Some(Json::Object(Object::from_iter([(self.key.borrowed(), inner)])));
        };
        if let Opened::Column(column) = part.open(self.target)
            && !is_optional(column.field())
            && column.array().null_count() > 0
        {
            // A tombstone has no schema: it becomes an object of its own.
            let nulls = part.is_null(self.target);
            let (dead, alive) = part.divide(&nulls);
            if let Some(mut dead) = dead {
                let mut documents = vec![None; dead.rows.len()];
                documents.iter_mut().for_each(wrap);
                dead.set(self.target, Side::Json(documents));
                outcome.push(dead);
            }
            let Some(rest) = alive else { return };
            part = rest;
        }
        match part.open(self.target) {
            Opened::Json(documents) => documents.iter_mut().for_each(wrap),
            Opened::Column(column) => {
                let hoisted = self.hoist(column);
                part.set(self.target, Side::Column(hoisted));
            }
        }
        outcome.push(part);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/hoist_field.json"));
    }
}
