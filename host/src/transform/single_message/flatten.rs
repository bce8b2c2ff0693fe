//! `Flatten`: nested objects and structs become fields of the whole value, their names joined. Arrays stay as they are.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, FieldRef};
use tributary_sdk::batch::SCHEMA_DEFAULT;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::SingleMessage;
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key, Object};
use crate::transform::part::{Outcome, Part, Target, not_json, require_map};
use crate::transform::structs::{Struct, fill_default, mask};

const PURPOSE: &str = "flattening";

/// See the module's documentation.
pub struct Flatten {
    target: Target,
    delimiter: String,
    /// The delimiter as it stands in JSON text.
    escaped: Key<'static>,
}

impl Flatten {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let documentation = "What stands between the names of the outer and the inner field.";
        ConfigDef::new().define(ConfigKey::optional("delimiter", Type::String, ".", Importance::Medium, documentation))
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let delimiter = settings.text("delimiter").to_owned();
        Ok(Box::new(Self { target, escaped: Key::new(&delimiter), delimiter }))
    }

    fn flatten_json<'a>(
        &self,
        object: &mut Object<'a>,
        prefix: Option<&Key<'a>>,
        flat: &mut Object<'a>,
    ) -> std::result::Result<(), String> {
        for (key, mut value) in object.members_mut().drain(..) {
            let name = match prefix {
                None => key,
                Some(prefix) => prefix.joined(&self.escaped, &key),
            };
            match value.object().map_err(not_json)? {
                Some(inner) => self.flatten_json(inner, Some(&name), flat)?,
                None => flat.set(name, value),
            }
        }
        Ok(())
    }

    fn flatten_struct(
        &self,
        members: (&[FieldRef], &[ArrayRef]),
        outer: &Outer<'_>,
        flat: &mut Struct,
    ) -> std::result::Result<(), String> {
        for (field, column) in members.0.iter().zip(members.1) {
            let name = match outer.name {
                "" => field.name().clone(),
                name => format!("{name}{}{}", self.delimiter, field.name()),
            };
            let optional = outer.optional || field.is_nullable();
            let mut column = column.clone();
            if field.metadata().contains_key(SCHEMA_DEFAULT) && column.null_count() > 0 {
                column = fill_default(field, &column)?;
            }
            let default = match (field.metadata().get(SCHEMA_DEFAULT), outer.default) {
                (Some(text), _) => serde_json::from_str(text).ok(),
                (None, Some(outer)) => outer.get(field.name()).filter(|default| !default.is_null()).cloned(),
                _ => None,
            };
            match field.data_type() {
                DataType::Struct(_) => {
                    let inner = column.as_struct();
                    let nulls = NullBuffer::union(outer.nulls, inner.nulls());
                    let fields: Vec<FieldRef> = inner.fields().iter().cloned().collect();
                    let outer = Outer { name: &name, optional, default: default.as_ref(), nulls: nulls.as_ref() };
                    self.flatten_struct((&fields, inner.columns()), &outer, flat)?;
                }
                DataType::Map(..) => {
                    return Err(format!(
                        "Flatten transformation does not support MAP for record with schemas (for field {name})."
                    ));
                }
                _ => {
                    let mut metadata = field.metadata().clone();
                    if let Some(default) = default {
                        metadata.insert(SCHEMA_DEFAULT.to_owned(), default.to_string());
                    }
                    let column = if optional { mask(&column, outer.nulls) } else { column };
                    let field = Field::new(name, field.data_type().clone(), optional).with_metadata(metadata);
                    flat.fields.push(Arc::new(field));
                    flat.columns.push(column);
                }
            }
        }
        Ok(())
    }
}

/// What surrounds nested members.
struct Outer<'o> {
    name: &'o str,
    optional: bool,
    default: Option<&'o serde_json::Value>,
    nulls: Option<&'o NullBuffer>,
}

impl SingleMessage for Flatten {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                if json.is_none() {
                    return Ok(());
                }
                let mut flat = Object::default();
                self.flatten_json(require_map(json, PURPOSE)?, None, &mut flat)?;
                *json = Some(Json::Object(flat));
                Ok(())
            });
            return outcome.push(part);
        }
        part.edit_struct(self.target, PURPOSE, false, outcome, |_, mut structs, _| {
            let fields = std::mem::take(&mut structs.fields);
            let columns = std::mem::take(&mut structs.columns);
            let optional = crate::transform::structs::is_optional(&structs.field);
            let outer = Outer { name: "", optional, default: None, nulls: None };
            self.flatten_struct((&fields, &columns), &outer, &mut structs)?;
            Ok(structs.rebuild())
        });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/flatten.json"));
    }
}
