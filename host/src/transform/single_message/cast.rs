//! `Cast`: fields, or the whole key or value, as another type.
//!
//! A text that is no number of the wanted type refuses its record. Numbers that are too large are cut as Java cuts them: the low
//! bits of integers, the nearest value of floating-point ones. As in Kafka Connect, a missing field of schemaless data becomes null.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    StringArray,
};
use arrow_schema::{DataType, Field};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_PARAMETERS, SCHEMA_VERSION};
use tributary_sdk::{Column, ConfigDef, ConfigKey, Error, Importance, Result, Type};

use super::scalar::{Scalar, Wanted};
use super::{SingleMessage, replace_nulls};
use crate::converter::json::{decimal, logical};
use crate::transform::config::Settings;
use crate::transform::json::{Json, Key};
use crate::transform::part::{Opened, Outcome, Part, Side, Target, require_map};
use crate::transform::structs::{Struct, java_class};

const PURPOSE: &str = "cast types";

/// See the module's documentation.
pub struct Cast {
    target: Target,
    what: What,
    replace_nulls: bool,
}

enum What {
    Whole(Wanted),
    Fields(Vec<(String, Key<'static>, Wanted)>),
}

impl Cast {
    /// The config definition, as in Kafka Connect.
    pub fn config_def() -> ConfigDef {
        let documentation = "Fields and their types, as field1:type,field2:type; or one type for the whole key or value. Types: int8, \
                             int16, int32, int64, float32, float64, boolean, string. Bytes can only become string (base64).";
        ConfigDef::new()
            .define(ConfigKey::required("spec", Type::List, Importance::High, documentation))
            .define(replace_nulls())
    }

    /// Takes its config.
    pub fn build(target: Target, settings: &Settings<'_>) -> Result<Box<dyn SingleMessage>> {
        let specs = settings.list("spec");
        if specs.is_empty() {
            return Err(Error::failed("Must specify at least one field to cast."));
        }
        let mut fields = Vec::new();
        let mut whole = None;
        for spec in &specs {
            match spec.split(':').collect::<Vec<_>>()[..] {
                [kind] => whole = Some(Wanted::parse(kind.trim()).map_err(Error::failed)?),
                [name, kind] => {
                    let wanted = Wanted::parse(kind.trim()).map_err(Error::failed)?;
                    fields.push((name.trim().to_owned(), Key::new(name.trim()), wanted));
                }
                _ => {
                    let message = format!("Invalid rename mapping: {spec}");
                    return Err(crate::transform::config::invalid("spec", &format!("[{}]", specs.join(", ")), message));
                }
            }
        }
        let what = match whole {
            Some(_) if specs.len() > 1 => {
                let message = "Cast transformations that specify a type to cast the entire value to may only specify a single cast \
                               in their spec";
                return Err(Error::failed(message));
            }
            Some(wanted) => What::Whole(wanted),
            None => What::Fields(fields),
        };
        Ok(Box::new(Self { target, what, replace_nulls: settings.boolean("replace.null.with.default")? }))
    }
}

impl SingleMessage for Cast {
    fn apply<'a>(&'a self, mut part: Part<'a>, outcome: &mut Outcome<'a>) {
        if part.is_json(self.target) {
            let part = part.edit_json(self.target, outcome, |_, json| {
                let Some(document) = json else { return Ok(()) };
                match &self.what {
                    What::Whole(wanted) => *document = cast_json(document, *wanted)?,
                    What::Fields(fields) => {
                        let object = require_map(json, PURPOSE)?;
                        for (_, key, wanted) in fields {
                            match object.get_mut(key) {
                                Some(value) => *value = cast_json(value, *wanted)?,
                                None => object.set(key.borrowed(), Json::NULL),
                            }
                        }
                    }
                }
                Ok(())
            });
            return outcome.push(part);
        }
        match &self.what {
            What::Whole(wanted) => {
                let Opened::Column(column) = part.open(self.target) else { return outcome.push(part) };
                let field = column.field().clone();
                let mut refused = Vec::new();
                match cast_column(&field, column.array(), *wanted, &mut refused) {
                    Ok(array) => {
                        let field = Field::new("", array.data_type().clone(), true)
                            .with_metadata(whole_metadata(&field, *wanted));
                        part.set(self.target, Side::Column(Column::new(field, array)));
                        let part = part.refuse(refused, outcome);
                        outcome.push(part);
                    }
                    Err(message) => part.refuse_all(self.target, &message, outcome),
                }
            }
            What::Fields(fields) => {
                part.edit_struct(self.target, PURPOSE, self.replace_nulls, outcome, |_, mut structs, refused| {
                    for (name, _, wanted) in fields {
                        let Some(at) = structs.position(name) else { continue };
                        let field = structs.fields[at].clone();
                        let array = cast_column(&field, &structs.columns[at], *wanted, refused)?;
                        let metadata: HashMap<_, _> = cast_default(&field, *wanted).into_iter().collect();
                        let cast =
                            Field::new(name, array.data_type().clone(), field.is_nullable()).with_metadata(metadata);
                        structs.set(cast, array);
                    }
                    let optional = crate::transform::structs::is_optional(&structs.field);
                    Ok(keep_optional(structs, optional))
                });
            }
        }
    }
}

/// Unlike other transforms, this one keeps the whole struct optional.
pub(super) fn keep_optional(structs: Struct, optional: bool) -> Column {
    let column = structs.rebuild();
    if !optional {
        return column;
    }
    let mut metadata = column.field().metadata().clone();
    metadata.insert(SCHEMA_OPTIONAL.to_owned(), "true".to_owned());
    let field = column.field().as_ref().clone().with_metadata(metadata);
    Column::new(field, column.array().clone())
}

/// What a whole key or value keeps: a name that is not a logical type's, documentation, parameters, whether it is optional.
fn whole_metadata(field: &Field, wanted: Wanted) -> HashMap<String, String> {
    let is_logical =
        field.metadata().get(SCHEMA_NAME).is_some_and(|name| name.starts_with("org.apache.kafka.connect.data."));
    let kept = field.metadata().iter().filter(|(key, _)| match key.as_str() {
        SCHEMA_NAME | SCHEMA_VERSION | SCHEMA_PARAMETERS => !is_logical,
        key => key != SCHEMA_DEFAULT,
    });
    kept.map(|(key, value)| (key.clone(), value.clone())).chain(cast_default(field, wanted)).collect()
}

/// The default of a field, cast as well.
fn cast_default(field: &Field, wanted: Wanted) -> Vec<(String, String)> {
    let default = field.metadata().get(SCHEMA_DEFAULT);
    let cast = default.and_then(|text| cast_json(&Json::text(text), wanted).ok());
    cast.map(|json| (SCHEMA_DEFAULT.to_owned(), json.to_string())).into_iter().collect()
}

fn cast_json(value: &Json<'_>, wanted: Wanted) -> std::result::Result<Json<'static>, String> {
    if value.is_null() {
        return Ok(Json::NULL);
    }
    Scalar::of_json(value)?.cast_json(wanted)
}

/// A column of the wanted type; rows whose text is no number of it are refused.
fn cast_column(
    field: &Field,
    column: &ArrayRef,
    wanted: Wanted,
    refused: &mut Vec<(usize, String)>,
) -> std::result::Result<ArrayRef, String> {
    let rows = column.len();
    let scalars = Scalars::new(field, column, wanted)?;
    macro_rules! numbers {
        ($array:ident, $zero:expr, $cast:ident) => {{
            let array: $array = (0..rows)
                .map(|row| {
                    if column.is_null(row) {
                        return None;
                    }
                    match scalars.get(row).and_then(|scalar| scalar.$cast()) {
                        Ok(value) => Some(value),
                        Err(message) => {
                            refused.push((row, message));
                            Some($zero)
                        }
                    }
                })
                .collect();
            Arc::new(array) as ArrayRef
        }};
    }
    Ok(match wanted {
        Wanted::Int8 => numbers!(Int8Array, 0, int8),
        Wanted::Int16 => numbers!(Int16Array, 0, int16),
        Wanted::Int32 => numbers!(Int32Array, 0, int32),
        Wanted::Int64 => numbers!(Int64Array, 0, int64),
        Wanted::Float32 => numbers!(Float32Array, 0.0, float32),
        Wanted::Float64 => numbers!(Float64Array, 0.0, float64),
        Wanted::Boolean => numbers!(BooleanArray, false, boolean),
        Wanted::Text => numbers!(StringArray, String::new(), text),
    })
}

/// Reads rows of a column as scalars.
enum Scalars<'c> {
    Boolean(&'c BooleanArray),
    Integer(Box<dyn Fn(usize) -> i64 + 'c>),
    Single(&'c Float32Array),
    Double(&'c Float64Array),
    Text(&'c StringArray),
    Bytes(&'c arrow_array::BinaryArray),
    Decimal(&'c arrow_array::BinaryArray, i32),
    /// Milliseconds, to be written as Kafka Connect writes dates.
    Time(Box<dyn Fn(usize) -> i64 + 'c>),
    /// Of a type without a cast: each value is refused with this message, a null stays null.
    Unreadable(String),
}

impl<'c> Scalars<'c> {
    fn new(field: &Field, column: &'c ArrayRef, wanted: Wanted) -> std::result::Result<Self, String> {
        let named = field.metadata().get(SCHEMA_NAME).map(String::as_str);
        let text = wanted == Wanted::Text;
        macro_rules! integer {
            ($kind:ty) => {{
                let values = column.as_primitive::<$kind>().values();
                Self::Integer(Box::new(move |row| values[row].into()))
            }};
        }
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(column.as_boolean()),
            DataType::Int8 => integer!(Int8Type),
            DataType::Int16 => integer!(Int16Type),
            DataType::Int32 => integer!(Int32Type),
            DataType::Int64 => integer!(Int64Type),
            DataType::Date32 if text => {
                let values = column.as_primitive::<Date32Type>().values();
                Self::Time(Box::new(move |row| i64::from(values[row]) * 86_400_000))
            }
            DataType::Time32(_) if text => {
                let values = column.as_primitive::<Time32MillisecondType>().values();
                Self::Time(Box::new(move |row| values[row].into()))
            }
            DataType::Timestamp(..) if text => {
                let values = column.as_primitive::<TimestampMillisecondType>().values();
                Self::Time(Box::new(move |row| values[row]))
            }
            DataType::Date32 => integer!(Date32Type),
            DataType::Time32(_) => integer!(Time32MillisecondType),
            DataType::Timestamp(..) => integer!(TimestampMillisecondType),
            DataType::Float32 => Self::Single(column.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Double(column.as_primitive::<Float64Type>()),
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::Binary if named == Some(logical::DECIMAL) => {
                Self::Decimal(column.as_binary(), decimal::scale(field)?)
            }
            DataType::Binary if text => Self::Bytes(column.as_binary()),
            DataType::Binary => {
                Self::Unreadable(format!("Unexpected type in Cast transformation: class {}", java_class(field)))
            }
            DataType::List(_) => return Err(unsupported("ARRAY")),
            DataType::Map(..) => return Err(unsupported("MAP")),
            DataType::Struct(_) => return Err(unsupported("STRUCT")),
            other => return Err(unsupported(&other.to_string())),
        })
    }

    fn get(&self, row: usize) -> std::result::Result<Scalar<'_>, String> {
        Ok(match self {
            Self::Boolean(array) => Scalar::Boolean(array.value(row)),
            Self::Integer(value) => Scalar::Integer(value(row)),
            Self::Single(array) => Scalar::Single(array.value(row)),
            Self::Double(array) => Scalar::Double(array.value(row)),
            Self::Text(array) => Scalar::Text(array.value(row).into()),
            Self::Bytes(array) => Scalar::Text(STANDARD.encode(array.value(row)).into()),
            Self::Decimal(array, scale) => Scalar::Decimal(decimal::to_java_text(array.value(row), *scale)),
            Self::Time(ms) => Scalar::Text(super::scalar::time_text(ms(row)).into()),
            Self::Unreadable(message) => return Err(message.clone()),
        })
    }
}

/// What Kafka Connect says of a type that it does not cast.
pub(super) fn unsupported(kind: &str) -> String {
    format!(
        "Cast transformation does not support casting from {kind}; supported types are [INT8, INT16, INT32, INT64, FLOAT32, FLOAT64, BOOLEAN, STRING, BYTES]"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_in_kafka_connect() {
        super::super::cases::check(include_str!("cases/cast.json"));
    }
}
