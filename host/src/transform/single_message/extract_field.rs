//! `ExtractField`: puts one field in place of the whole key or value.
//!
//! Null stays null. In schemaless data a missing field becomes null; in structured data an unknown one refuses the records.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, FieldRef};
use tributary_sdk::batch::SCHEMA_DEFAULT;
use tributary_sdk::{Column, ConfigDef, ConfigKey, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::transform::config::Settings;
use crate::transform::field_path::{FieldPath, syntax_version};
use crate::transform::part::{Outcome, Part, Target};
use crate::transform::structs::{Struct, extract, fill_default};

const PURPOSE: &str = "field extraction";

/// See the module's documentation.
pub struct ExtractField {
    target: Target,
    path: FieldPath,
    text: String,
    replace_nulls: bool,
}

impl ExtractField {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        ConfigDef::new()
            .define(ConfigKey::required("field", Type::String, Importance::Medium, "The field to extract."))
            .define(replace_nulls())
            .define(syntax_version())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        Ok(Box::new(Self {
            target,
            path: FieldPath::of(settings, "field")?,
            text: settings.text("field").to_owned(),
            replace_nulls: settings.boolean("replace.null.with.default")?,
        }))
    }

    fn extract(&self, structs: Struct) -> std::result::Result<Column, String> {
        let mut nulls: Option<NullBuffer> = structs.nulls.clone();
        let (mut fields, mut columns) = (structs.fields, structs.columns);
        let last = self.path.names().len() - 1;
        for (step, name) in self.path.names().enumerate() {
            let Some(at) = fields.iter().position(|field| field.name() == name) else { break };
            let (field, mut column): (FieldRef, ArrayRef) = (fields[at].clone(), columns[at].clone());
            if self.replace_nulls && field.metadata().contains_key(SCHEMA_DEFAULT) && column.null_count() > 0 {
                column = fill_default(&field, &column)?;
            }
            if step == last {
                let (field, column) = extract(&field, &column, nulls.as_ref());
                return Ok(Column::new(field, column));
            }
            if !matches!(field.data_type(), DataType::Struct(_)) {
                return Err("Cannot look up fields on non-struct type".to_owned());
            }
            let inner = column.as_struct();
            nulls = NullBuffer::union(nulls.as_ref(), inner.nulls());
            (fields, columns) = (inner.fields().iter().cloned().collect(), inner.columns().to_vec());
        }
        Err(format!("Unknown field: {}", self.text))
    }
}

impl SingleMessage for ExtractField {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                if let Some(document) = json.take() {
                    *json = self.path.take(document, PURPOSE)?;
                }
                Ok(())
            });
            return outcome.push(part);
        }
        part.edit_struct(self.target, PURPOSE, false, outcome, |_, structs, _| self.extract(structs));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/extract_field.json"));
    }
}
