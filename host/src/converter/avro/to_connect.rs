//! From Avro schemas to Connect's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use serde_json::{Map, Value};
use tributary_sdk::batch::{
    SCHEMA_DEFAULT, SCHEMA_DOC, SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_PARAMETERS, SCHEMA_VERSION,
};

use super::defaults;
use super::names::*;
use super::options::Options;
use super::schema::{Kind, Schema};
use crate::converter::json::{logical, timestamp_type};

/// The field of a whole key or value.
pub fn root_field(schema: &Schema, options: Options) -> Result<FieldRef, String> {
    let field = field("", schema, None, options)?;
    let mut metadata = field.metadata().clone();
    metadata.insert(SCHEMA_OPTIONAL.to_owned(), field.is_nullable().to_string());
    Ok(Arc::new(field.with_nullable(true).with_metadata(metadata)))
}

/// Whether an array's items are the entries of a map.
pub fn is_map_entry(items: &Schema) -> bool {
    let Kind::Record(fields) = &items.kind else { return false };
    let named = items.name.as_deref() == Some("io.confluent.connect.avro.MapEntry");
    fields.len() == 2 && (named || items.text(INTERNAL_TYPE) == Some(MAP_ENTRY))
}

/// The members of a union in Connect's struct: of each branch, its field's name; null has none.
pub fn union_names(members: &[Arc<Schema>], options: Options) -> Vec<Option<String>> {
    let mut number = 0;
    let name = |member: &Arc<Schema>| {
        if matches!(member.kind, Kind::Null) {
            return None;
        }
        number += 1;
        Some(if options.generalized {
            format!("{GENERAL_UNION_FIELD}{}", number - 1)
        } else {
            let name = member.type_name();
            match member.name {
                Some(_) if !options.enhanced => name.rsplit('.').next().unwrap_or(name).to_owned(),
                _ => name.to_owned(),
            }
        })
    };
    members.iter().map(name).collect()
}

fn field(name: &str, schema: &Schema, default: Option<&Value>, options: Options) -> Result<Field, String> {
    if let Some((_, inner)) = schema.optional() {
        return Ok(field(name, inner, default.filter(|default| !default.is_null()), options)?.with_nullable(true));
    }
    if let Kind::Union(members) = &schema.kind
        && let [only] = &members[..]
    {
        return field(name, only, default, options);
    }
    let mut facts = HashMap::new();
    let mut parameters = Map::new();
    let mut implied_name = schema.name.clone().filter(|_| matches!(schema.kind, Kind::Record(_) | Kind::Enum(_)));
    let mut nullable = false;
    let logical_type = schema.logical();
    let data_type = match &schema.kind {
        Kind::Null => return Err("a field of type null alone cannot be converted".to_owned()),
        Kind::Boolean => DataType::Boolean,
        Kind::Float => DataType::Float32,
        Kind::Double => DataType::Float64,
        Kind::String => DataType::Utf8,
        Kind::Int => match (schema.text(CONNECT_TYPE), logical_type) {
            (Some("int8"), _) => DataType::Int8,
            (Some("int16"), _) => DataType::Int16,
            (_, Some("date")) => {
                implied_name = Some(logical::DATE.to_owned());
                DataType::Date32
            }
            (_, Some("time-millis")) => {
                implied_name = Some(logical::TIME.to_owned());
                DataType::Time32(TimeUnit::Millisecond)
            }
            _ => DataType::Int32,
        },
        Kind::Long if logical_type == Some("timestamp-millis") => {
            implied_name = Some(logical::TIMESTAMP.to_owned());
            timestamp_type()
        }
        Kind::Long => DataType::Int64,
        Kind::Bytes | Kind::Fixed(_) => {
            if logical_type == Some("decimal") {
                let number = |key: &str| schema.props.get(key).and_then(Value::as_i64);
                implied_name = Some(logical::DECIMAL.to_owned());
                parameters.insert("scale".to_owned(), number("scale").unwrap_or(0).to_string().into());
                if let Some(precision) = number("precision").filter(|&p| p != DEFAULT_PRECISION as i64) {
                    parameters.insert(PRECISION.to_owned(), precision.to_string().into());
                }
            }
            if let Kind::Fixed(size) = schema.kind {
                parameters.insert(FIXED_SIZE.to_owned(), size.to_string().into());
                if implied_name.is_none() {
                    implied_name = schema.name.clone();
                }
            }
            DataType::Binary
        }
        Kind::Enum(symbols) => {
            let parameter = if options.generalized { GENERAL_ENUM } else { ENUM };
            parameters.insert(parameter.to_owned(), schema.name.clone().unwrap_or_default().into());
            for (place, symbol) in symbols.iter().enumerate() {
                let value = if options.generalized { place.to_string() } else { symbol.clone() };
                parameters.insert(format!("{parameter}.{symbol}"), value.into());
            }
            DataType::Utf8
        }
        Kind::Array(items) if is_map_entry(items) => {
            let Kind::Record(pair) = &items.kind else { return Err("a map without entries".to_owned()) };
            if items.name.as_deref() != Some("io.confluent.connect.avro.MapEntry") {
                implied_name = items.name.clone();
            }
            map(field("keys", &pair[0].schema, None, options)?, field("values", &pair[1].schema, None, options)?)
        }
        Kind::Array(items) => DataType::List(Arc::new(field("item", items, None, options)?)),
        Kind::Map(values) => map(Field::new("keys", DataType::Utf8, false), field("values", values, None, options)?),
        Kind::Record(fields) => {
            let member = |member: &super::schema::RecordField| {
                let made = field(&member.name, &member.schema, member.default.as_ref(), options)?;
                Ok(match &member.doc {
                    Some(doc) if options.connect_meta_data => {
                        let mut metadata = made.metadata().clone();
                        metadata.insert(SCHEMA_DOC.to_owned(), doc.clone());
                        made.with_metadata(metadata)
                    }
                    _ => made,
                })
            };
            DataType::Struct(fields.iter().map(member).collect::<Result<Fields, String>>()?)
        }
        Kind::Union(members) => {
            let names = union_names(members, options);
            let mut fields = Vec::with_capacity(members.len());
            for (member, name) in members.iter().zip(names) {
                match name {
                    Some(name) => fields.push(field(&name, member, None, options)?.with_nullable(true)),
                    None => nullable = true,
                }
            }
            implied_name = Some(UNION.to_owned());
            if options.generalized {
                implied_name = None;
                parameters.insert(GENERAL_UNION.to_owned(), "connect_union".into());
            }
            DataType::Struct(fields.into())
        }
    };
    let mut put = |key: &str, value: String| facts.insert(key.to_owned(), value);
    if let Some(stated) = schema.text(CONNECT_NAME).map(str::to_owned).or(implied_name)
        && stated != format!("{NAMESPACE}.{DEFAULT_RECORD}")
    {
        let is_logical = [logical::DECIMAL, logical::DATE, logical::TIME, logical::TIMESTAMP].contains(&&*stated);
        put(SCHEMA_NAME, stated);
        if is_logical {
            put(SCHEMA_VERSION, "1".to_owned());
        }
    }
    if options.connect_meta_data {
        if let Some(version) = schema.props.get(CONNECT_VERSION).and_then(Value::as_i64) {
            put(SCHEMA_VERSION, version.to_string());
        }
        if let Some(doc) = schema.doc.as_deref().or(schema.text(CONNECT_DOC)) {
            put(SCHEMA_DOC, doc.to_owned());
        }
        if let Some(Value::Object(stated)) = schema.props.get(CONNECT_PARAMETERS) {
            for (key, value) in stated.iter().filter(|(_, value)| value.is_string()) {
                parameters.insert(key.clone(), value.clone());
            }
        }
    }
    if !parameters.is_empty() {
        put(SCHEMA_PARAMETERS, Value::Object(parameters).to_string());
    }
    let stated = schema.props.get(CONNECT_DEFAULT).filter(|_| options.connect_meta_data);
    if let Some(default) = default.or(stated).filter(|default| !default.is_null()) {
        put(SCHEMA_DEFAULT, defaults::to_connect(default, schema).to_string());
    }
    Ok(Field::new(name, data_type, nullable).with_metadata(facts))
}

fn map(keys: Field, values: Field) -> DataType {
    let entries = Fields::from(vec![keys.with_nullable(false), values]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}
