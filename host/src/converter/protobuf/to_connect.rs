//! From messages to Connect's schemas, and the plan by which values are read into them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, FieldRef, Fields, TimeUnit};
use serde_json::{Map, Value};
use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_PARAMETERS, SCHEMA_VERSION};

use super::descriptor::{Field, Kind, Message};
use super::names::*;
use super::options::Options;
use crate::converter::json::{logical, timestamp_type};

/// A message that is more than its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `google.type.Date`
    Date,
    /// `google.type.TimeOfDay`
    Time,
    /// `confluent.type.Decimal`
    Decimal,
}

/// What a message is, if more than its fields.
pub fn special(message: &Message) -> Option<Special> {
    Some(match message.full_name.as_str() {
        "google.protobuf.Timestamp" => Special::Timestamp,
        "google.type.Date" => Special::Date,
        "google.type.TimeOfDay" => Special::Time,
        "confluent.type.Decimal" => Special::Decimal,
        _ => return None,
    })
}

/// The field inside a wrapper such as `google.protobuf.StringValue`.
pub fn wrapped(message: &Message) -> Option<&Field> {
    let simple = message.full_name.strip_prefix("google.protobuf.")?;
    let known = simple.ends_with("Value") && message.fields.len() == 1 && message.fields[0].name == "value";
    known.then(|| &message.fields[0])
}

/// A member of a struct: a field, or the fields of a oneof.
pub enum Member<'m> {
    /// A field.
    Field(&'m Field),
    /// A oneof: the name of its struct's field, its own name, and its fields.
    Oneof(String, &'m str, Vec<&'m Field>),
}

/// The members of a message's struct. A oneof stands where the first of its fields does.
pub fn members(message: &Message, options: Options) -> Vec<Member<'_>> {
    let mut members = Vec::with_capacity(message.fields.len());
    let mut seen = Vec::new();
    for field in &message.fields {
        match field.oneof {
            None => members.push(Member::Field(field)),
            Some(_) if options.flatten_unions => members.push(Member::Field(field)),
            Some(place) if !seen.contains(&place) => {
                seen.push(place);
                let name = &message.oneofs[place];
                let member = if options.index_for_unions { format!("{name}_{place}") } else { name.clone() };
                let fields = message.fields.iter().filter(|field| field.oneof == Some(place)).collect();
                members.push(Member::Oneof(member, name, fields));
            }
            Some(_) => {}
        }
    }
    members
}

/// The field of a whole key or value.
pub fn root_field(message: &Message, options: Options) -> Result<FieldRef, String> {
    if let Some(inner) = wrapped(message).filter(|_| options.wrapper_for_raw) {
        let metadata = HashMap::from([(SCHEMA_OPTIONAL.to_owned(), "true".to_owned())]);
        return Ok(Arc::new(ArrowField::new("", primitive(&inner.kind, options)?, true).with_metadata(metadata)));
    }
    let (data_type, mut metadata) = message_type(message, &[], options)?;
    metadata.insert(SCHEMA_OPTIONAL.to_owned(), "false".to_owned());
    Ok(Arc::new(ArrowField::new("", data_type, true).with_metadata(metadata)))
}

fn message_type(
    message: &Message,
    params: &[(String, String)],
    options: Options,
) -> Result<(DataType, HashMap<String, String>), String> {
    let named = |name: &str| {
        HashMap::from([(SCHEMA_NAME, name), (SCHEMA_VERSION, "1")].map(|(k, v)| (k.to_owned(), v.to_owned())))
    };
    Ok(match special(message) {
        Some(Special::Timestamp) => (timestamp_type(), named(logical::TIMESTAMP)),
        Some(Special::Date) => (DataType::Date32, named(logical::DATE)),
        Some(Special::Time) => (DataType::Time32(TimeUnit::Millisecond), named(logical::TIME)),
        Some(Special::Decimal) => {
            let scale = params.iter().find(|(key, _)| key == "scale").map_or("0", |(_, scale)| scale);
            let mut facts = named(logical::DECIMAL);
            let mut parameters = Map::new();
            parameters.insert("scale".to_owned(), scale.into());
            if let Some((_, precision)) = params.iter().find(|(key, _)| key == "precision") {
                parameters.insert("connect.decimal.precision".to_owned(), precision.clone().into());
            }
            facts.insert(SCHEMA_PARAMETERS.to_owned(), Value::Object(parameters).to_string());
            (DataType::Binary, facts)
        }
        None => {
            let mut fields = Vec::with_capacity(message.fields.len());
            for member in members(message, options) {
                fields.push(match member {
                    Member::Field(field) => made(field, options)?,
                    Member::Oneof(name, own, members) => {
                        let inner = members.into_iter().map(|field| Ok(made(field, options)?.with_nullable(true)));
                        let inner = inner.collect::<Result<Fields, String>>()?;
                        let facts = HashMap::from([(SCHEMA_NAME.to_owned(), format!("{UNION}{own}"))]);
                        ArrowField::new(name, DataType::Struct(inner), true).with_metadata(facts)
                    }
                });
            }
            let name = if options.enhanced { &message.full_name } else { &message.name };
            (DataType::Struct(fields.into()), HashMap::from([(SCHEMA_NAME.to_owned(), name.clone())]))
        }
    })
}

fn made(field: &Field, options: Options) -> Result<ArrowField, String> {
    let (value_type, mut metadata) = value_type(field, options)?;
    let data_type = if let Some(key) = &field.map_key {
        let keys = ArrowField::new("keys", primitive(key, options)?, false);
        let values = ArrowField::new("values", value_type, false).with_metadata(std::mem::take(&mut metadata));
        let entries = Fields::from(vec![keys, values]);
        DataType::Map(Arc::new(ArrowField::new("entries", DataType::Struct(entries), false)), false)
    } else if field.repeated {
        let item = ArrowField::new("item", value_type, false).with_metadata(std::mem::take(&mut metadata));
        DataType::List(Arc::new(item))
    } else {
        value_type
    };
    let mut parameters: Map<String, Value> =
        metadata.get(SCHEMA_PARAMETERS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    parameters.insert(TAG.to_owned(), field.number.to_string().into());
    metadata.insert(SCHEMA_PARAMETERS.to_owned(), Value::Object(parameters).to_string());
    let is_message = matches!(field.kind, Kind::Message(_));
    let by_word = options.optional_for_nullables || options.wrapper_for_nullables;
    let nullable = !by_word || field.optional || field.oneof.is_some() || (is_message && !field.repeated);
    Ok(ArrowField::new(&field.name, data_type, nullable).with_metadata(metadata))
}

fn value_type(field: &Field, options: Options) -> Result<(DataType, HashMap<String, String>), String> {
    match &field.kind {
        Kind::Message(message) => match wrapped(message).filter(|_| options.wrapper_for_nullables) {
            Some(inner) => Ok((primitive(&inner.kind, options)?, HashMap::new())),
            None => message_type(message, &field.params, options),
        },
        Kind::Enum(found) if !options.int_for_enums => {
            let mut parameters = Map::new();
            parameters.insert(ENUM.to_owned(), found.name.clone().into());
            for (name, number) in &found.values {
                parameters.insert(format!("{ENUM}.{name}"), number.to_string().into());
            }
            let facts = HashMap::from([(SCHEMA_PARAMETERS.to_owned(), Value::Object(parameters).to_string())]);
            Ok((DataType::Utf8, facts))
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            let stated = field.params.iter().find(|(key, _)| key == TYPE).map(|(_, value)| value.as_str());
            Ok((
                match stated {
                    Some("int8") => DataType::Int8,
                    Some("int16") => DataType::Int16,
                    _ => DataType::Int32,
                },
                HashMap::new(),
            ))
        }
        kind => Ok((primitive(kind, options)?, HashMap::new())),
    }
}

fn primitive(kind: &Kind, _options: Options) -> Result<DataType, String> {
    Ok(match kind {
        Kind::Double => DataType::Float64,
        Kind::Float => DataType::Float32,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => DataType::Int32,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 | Kind::Uint32 | Kind::Fixed32 => {
            DataType::Int64
        }
        Kind::Bool => DataType::Boolean,
        Kind::Text => DataType::Utf8,
        Kind::Bytes => DataType::Binary,
        Kind::Message(message) => return Err(format!("{} is no primitive type", message.full_name)),
    })
}
