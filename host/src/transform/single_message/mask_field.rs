//! `MaskField`: puts an empty value of the same type, or a replacement, in place of fields.
//!
//! As in Kafka Connect, a null key or value is refused, and a missing field of schemaless data becomes null.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray};
use arrow_schema::{DataType, Field};
use tributary_sdk::batch::SCHEMA_NAME;
use tributary_sdk::config_def::Validator;
use tributary_sdk::{ConfigDef, ConfigKey, Importance, Result, Type};

use super::{SingleMessage, replace_nulls};
use crate::converter::json::syntax::Kind;
use crate::converter::json::{decimal, logical, text};
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key};
use crate::transform::part::{Outcome, Part, Target, require_map};
use crate::transform::structs::java_class;

const PURPOSE: &str = "mask fields";

/// See the module's documentation.
pub struct MaskField {
    target: Target,
    fields: Vec<(String, Key<'static>)>,
    replacement: Option<Replacement>,
    replace_nulls: bool,
}

/// The replacement in each type.
struct Replacement {
    text: String,
    json_text: Json<'static>,
    integer: std::result::Result<(i64, Json<'static>), String>,
    double: std::result::Result<(f64, Json<'static>), String>,
}

impl Replacement {
    fn new(text: &str) -> Self {
        let no_number = || format!("Unable to convert {text} (class java.lang.String) to a number");
        // As Java's BigDecimal: the whole part counts for integers.
        let double = text.parse::<f64>().ok().filter(|value| value.is_finite() && !text.contains(['i', 'n', 'I', 'N']));
        let whole = decimal::whole_part(text);
        Self {
            text: text.to_owned(),
            json_text: Json::string(text),
            integer: whole.map(|value| (value, Json::integer(value))).ok_or_else(no_number),
            double: double.map(|value| (value, Json::Text(text::java_double(value).into()))).ok_or_else(no_number),
        }
    }
}

impl MaskField {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let replacement = "A value for all of the fields: a number, or text that is not empty.";
        ConfigDef::new()
            .define(
                ConfigKey::required("fields", Type::List, Importance::High, "The fields to mask.")
                    .validator(Validator::NonEmpty),
            )
            .define(
                ConfigKey::nullable("replacement", Type::String, Importance::Low, replacement)
                    .validator(Validator::NonEmpty),
            )
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        Ok(Box::new(Self {
            target,
            fields: settings.list("fields").into_iter().map(|name| (name.to_owned(), Key::new(name))).collect(),
            replacement: settings.string("replacement").map(Replacement::new),
            replace_nulls: settings.boolean("replace.null.with.default")?,
        }))
    }

    fn mask_json<'a>(&'a self, value: &Json<'a>) -> std::result::Result<Json<'a>, String> {
        let fixed = |text: &'static str| Ok(Json::text(text));
        match (value.kind(), &self.replacement) {
            (Kind::Null, _) => Ok(Json::NULL),
            (Kind::String, Some(replacement)) => Ok(replacement.json_text.borrowed()),
            (Kind::Number, Some(replacement)) => match value.java_class() {
                "java.lang.Long" => replacement.integer.as_ref().map(|(_, json)| json.borrowed()).map_err(Clone::clone),
                _ => replacement.double.as_ref().map(|(_, json)| json.borrowed()).map_err(Clone::clone),
            },
            (_, Some(_)) => Err(unmaskable_with_replacement(value.java_class())),
            (Kind::Boolean, None) => fixed("false"),
            (Kind::Number, None) => fixed(if value.java_class() == "java.lang.Long" { "0" } else { "0.0" }),
            (Kind::String, None) => fixed("\"\""),
            (Kind::Array, None) => fixed("[]"),
            (Kind::Object, None) => fixed("{}"),
        }
    }

    fn mask_column(&self, field: &Field, column: &ArrayRef) -> std::result::Result<ArrayRef, String> {
        let integer =
            || self.replacement.as_ref().map_or(Ok(0), |r| r.integer.as_ref().map(|(n, _)| *n).map_err(Clone::clone));
        let double =
            || self.replacement.as_ref().map_or(Ok(0.0), |r| r.double.as_ref().map(|(x, _)| *x).map_err(Clone::clone));
        let class = java_class(field);
        let is_decimal = field.metadata().get(SCHEMA_NAME).is_some_and(|name| name == logical::DECIMAL);
        let plain = self.replacement.is_none();
        Ok(match field.data_type() {
            // Java's narrowing: the low bits.
            DataType::Int8 => constant::<Int8Type>(column, integer()? as i8),
            DataType::Int16 => constant::<Int16Type>(column, integer()? as i16),
            DataType::Int32 => constant::<Int32Type>(column, integer()? as i32),
            DataType::Int64 => constant::<Int64Type>(column, integer()?),
            DataType::Float32 => constant::<Float32Type>(column, double()? as f32),
            DataType::Float64 => constant::<Float64Type>(column, double()?),
            DataType::Utf8 => {
                let text = self.replacement.as_ref().map_or("", |replacement| &replacement.text);
                let mut builder = StringBuilder::with_capacity(column.len(), column.len() * text.len());
                (0..column.len()).for_each(|row| builder.append_option(column.is_valid(row).then_some(text)));
                Arc::new(builder.finish())
            }
            DataType::Binary if is_decimal => {
                let scale = decimal::scale(field)?;
                let text = self.replacement.as_ref().map_or("0", |replacement| &replacement.text);
                let bytes = decimal::from_text(text, scale)?;
                let mut builder = BinaryBuilder::new();
                (0..column.len()).for_each(|row| builder.append_option(column.is_valid(row).then_some(&bytes)));
                Arc::new(builder.finish())
            }
            DataType::Boolean if plain => {
                (Arc::new((0..column.len()).map(|row| column.is_valid(row).then_some(false)).collect::<BooleanArray>()))
                    as _
            }
            DataType::Date32 | DataType::Time32(_) if plain => zeros(field, column, 4)?,
            DataType::Timestamp(..) if plain => zeros(field, column, 8)?,
            DataType::List(_) | DataType::Map(..) if plain => emptied(field, column)?,
            _ if plain => return Err(format!("Cannot mask value of type: class {class}")),
            _ => return Err(unmaskable_with_replacement(class)),
        })
    }
}

impl SingleMessage for MaskField {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                let object = require_map(json, PURPOSE)?;
                for (_, key) in &self.fields {
                    match object.get_mut(key) {
                        Some(value) => *value = self.mask_json(value)?,
                        None => object.set(key.borrowed(), Json::NULL),
                    }
                }
                Ok(())
            });
            return outcome.push(part);
        }
        let part = part.refuse_nulls(self.target, PURPOSE, outcome);
        part.edit_struct(self.target, PURPOSE, self.replace_nulls, outcome, |_, mut structs, refused| {
            for (name, _) in &self.fields {
                let Some(at) = structs.position(name) else { continue };
                let column = structs.columns[at].clone();
                match self.mask_column(&structs.fields[at], &column) {
                    Ok(masked) => structs.columns[at] = masked,
                    // A null needs no mask, whatever its type.
                    Err(message) => refused.extend(
                        (0..column.len()).filter(|&row| column.is_valid(row)).map(|row| (row, message.clone())),
                    ),
                }
            }
            Ok(structs.close())
        });
    }
}

fn unmaskable_with_replacement(class: &str) -> String {
    format!("Cannot mask value of type class {class} with custom replacement.")
}

/// One value wherever there is one.
fn constant<T: ArrowPrimitiveType>(column: &ArrayRef, value: T::Native) -> ArrayRef {
    let values = std::iter::repeat_n(value, column.len());
    Arc::new(PrimitiveArray::<T>::new(values.collect(), column.nulls().cloned()))
}

/// Zero wherever there is a value, of a type that is so many bytes wide.
fn zeros(field: &Field, column: &ArrayRef, width: usize) -> std::result::Result<ArrayRef, String> {
    let data = arrow_data::ArrayData::builder(field.data_type().clone())
        .len(column.len())
        .add_buffer(arrow_buffer::Buffer::from(vec![0u8; column.len() * width]))
        .nulls(column.nulls().cloned());
    data.build().map(arrow_array::make_array).map_err(|error| error.to_string())
}

/// An empty list or map wherever there is one.
fn emptied(field: &Field, column: &ArrayRef) -> std::result::Result<ArrayRef, String> {
    let data = column.to_data();
    let child = data.child_data()[0].slice(0, 0);
    let data = arrow_data::ArrayData::builder(field.data_type().clone())
        .len(column.len())
        .add_buffer(arrow_buffer::Buffer::from(vec![0u8; (column.len() + 1) * 4]))
        .add_child_data(child)
        .nulls(column.nulls().cloned());
    data.build().map(arrow_array::make_array).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/mask_field.json"));
    }
}
