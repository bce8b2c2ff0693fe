//! `SetSchemaMetadata`: another name or version for the schema of the key or value. Schemaless data is refused, null goes on.

use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_VERSION};
use tributary_sdk::{Column, ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::transform::config::{Settings, invalid};
use crate::transform::part::{Opened, Outcome, Part, Side, Target};

/// See the module's documentation.
pub struct SetSchemaMetadata {
    target: Target,
    name: Option<String>,
    version: Option<i32>,
}

impl SetSchemaMetadata {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        ConfigDef::new()
            .define(ConfigKey::nullable("schema.name", Type::String, Importance::High, "The schema's new name."))
            .define(ConfigKey::nullable("schema.version", Type::Int, Importance::High, "The schema's new version."))
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let version = match settings.string("schema.version") {
            None => None,
            Some(text) => {
                let number = text.trim().parse::<i32>();
                Some(number.map_err(|_| invalid("schema.version", text, "Not a number of type INT"))?)
            }
        };
        let name = settings.string("schema.name").map(str::to_owned);
        if name.is_none() && version.is_none() {
            return Err(Error::failed("Neither schema name nor version configured"));
        }
        Ok(Box::new(Self { target, name, version }))
    }
}

impl SingleMessage for SetSchemaMetadata {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        match part.open(self.target) {
            Opened::Json(_) => part.refuse_all(self.target, "Schema required for [updating schema metadata]", outcome),
            Opened::Column(column) => {
                let mut metadata = column.field().metadata().clone();
                if let Some(name) = &self.name {
                    metadata.insert(SCHEMA_NAME.to_owned(), name.clone());
                }
                if let Some(version) = self.version {
                    metadata.insert(SCHEMA_VERSION.to_owned(), version.to_string());
                }
                let field = column.field().as_ref().clone().with_metadata(metadata);
                let column = Column::new(field, column.array().clone());
                part.set(self.target, Side::Column(column));
                outcome.push(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/set_schema_metadata.json"));
    }
}
