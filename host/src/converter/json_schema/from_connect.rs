//! From Connect's schemas to JSON schemas.

use arrow_schema::{DataType, Field};
use serde_json::{Map, Value, json};
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_DOC, SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_VERSION};

use super::names::*;
use super::options::Options;
use crate::converter::json::{connect_type, is_union, logical, parameters};
use crate::converter::within;

/// The JSON schema of a whole key or value, and its name if it is a struct.
pub fn root_schema(field: &Field, options: &Options) -> Result<(String, Option<String>), String> {
    let optional = field.metadata().get(SCHEMA_OPTIONAL).is_some_and(|optional| optional == "true");
    let name = field.metadata().get(SCHEMA_NAME).filter(|_| matches!(field.data_type(), DataType::Struct(_)));
    Ok((schema(field, optional, None, options)?.to_string(), name.cloned()))
}

fn schema(field: &Field, optional: bool, index: Option<usize>, options: &Options) -> Result<Value, String> {
    let metadata = field.metadata();
    let (kind, implied) = connect_type(field.data_type())
        .ok_or_else(|| format!("Couldn't translate unsupported schema type {}.", field.data_type()))?;
    let name = metadata.get(SCHEMA_NAME).map(String::as_str).or(implied);
    let parameters = parameters(field);
    let mut out = Map::new();
    if let DataType::Struct(fields) = field.data_type()
        && is_union(field)
    {
        let mut members = if optional { vec![json!({"type": "null"})] } else { Vec::new() };
        for (index, field) in fields.iter().enumerate() {
            members.push(schema(field, false, Some(index), options)?);
        }
        out.insert("oneOf".to_owned(), Value::Array(members));
        if let Some(index) = index {
            out.insert(INDEX.to_owned(), index.into());
        }
        return Ok(Value::Object(out));
    }
    let mut put = |key: &str, value: Value| out.insert(key.to_owned(), value);
    match field.data_type() {
        DataType::List(item) => {
            put("type", "array".into());
            put("items", schema(item, item.is_nullable(), None, options)?);
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err("a map without entries".to_owned()) };
            let values = schema(&pair[1], pair[1].is_nullable(), None, options)?;
            if *pair[0].data_type() == DataType::Utf8 {
                put("type", "object".into());
                put("additionalProperties", values);
            } else {
                let keys = schema(&pair[0], pair[0].is_nullable(), None, options)?;
                put("type", "array".into());
                put("items", json!({"type": "object", "properties": {"key": keys, "value": values}}));
            }
            put(TYPE, "map".into());
        }
        DataType::Struct(fields) => {
            put("type", "object".into());
            let mut properties = Map::new();
            for (index, field) in fields.iter().enumerate() {
                let member = schema(field, field.is_nullable(), Some(index), options)
                    .map_err(|error| within(field.name(), error))?;
                properties.insert(field.name().clone(), member);
            }
            put("properties", Value::Object(properties));
            if !options.additional_properties {
                put("additionalProperties", false.into());
            }
        }
        DataType::Utf8 => {
            put("type", "string".into());
            let key = if options.generalized { GENERAL_ENUM } else { ENUM };
            if parameters.contains_key(key) {
                let symbols = parameters.keys().filter_map(|name| name.strip_prefix(key)?.strip_prefix('.'));
                put("enum", symbols.collect());
            }
        }
        DataType::Boolean => drop(put("type", "boolean".into())),
        DataType::Binary => {
            // Decimals are numbers where they are written as such.
            let number = name == Some(logical::DECIMAL) && options.json.numeric_decimals;
            put("type", if number { "number" } else { "string" }.into());
            put(TYPE, "bytes".into());
        }
        DataType::Float32 | DataType::Float64 => {
            put("type", "number".into());
            put(TYPE, if kind == "float" { "float32" } else { "float64" }.into());
        }
        _ => {
            put("type", "integer".into());
            put(TYPE, kind.into());
        }
    }
    if let Some(name) = name {
        put("title", name.into());
    }
    let version = metadata.get(SCHEMA_VERSION).and_then(|version| version.parse::<i64>().ok());
    if let Some(version) = version.or(implied.filter(|_| !metadata.contains_key(SCHEMA_NAME)).map(|_| 1)) {
        put(VERSION, version.into());
    }
    if let Some(doc) = metadata.get(SCHEMA_DOC) {
        put("description", doc.clone().into());
    }
    if !parameters.is_empty() {
        put(PARAMETERS, Value::Object(parameters));
    }
    if let Some(default) = metadata.get(SCHEMA_DEFAULT).and_then(|text| serde_json::from_str(text).ok()) {
        put("default", default);
    }
    if optional {
        let mut union = Map::new();
        union.insert("oneOf".to_owned(), json!([{"type": "null"}, Value::Object(out)]));
        out = union;
    }
    if let Some(index) = index {
        out.insert(INDEX.to_owned(), index.into());
    }
    Ok(Value::Object(out))
}
