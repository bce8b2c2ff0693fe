//! Defaults: between Avro's JSON, where bytes are text with a character a byte, and Connect's, where they are base64.

use arrow_schema::{DataType, Field};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::schema::{Kind, Schema};

/// From Avro's form.
pub fn to_connect(default: &Value, schema: &Schema) -> Value {
    match (default, &schema.kind) {
        (Value::String(text), Kind::Bytes | Kind::Fixed(_)) => STANDARD.encode(latin1(text)).into(),
        (Value::Array(items), Kind::Array(schema)) => items.iter().map(|item| to_connect(item, schema)).collect(),
        (Value::Object(members), Kind::Map(schema)) => {
            Value::Object(members.iter().map(|(key, value)| (key.clone(), to_connect(value, schema))).collect())
        }
        (Value::Object(members), Kind::Record(fields)) => {
            let member = |(key, value): (&String, &Value)| {
                let field = fields.iter().find(|field| field.name == *key);
                (key.clone(), field.map_or_else(|| value.clone(), |field| to_connect(value, &field.schema)))
            };
            Value::Object(members.iter().map(member).collect())
        }
        (value, Kind::Union(members)) => match members.iter().find(|member| !matches!(member.kind, Kind::Null)) {
            Some(first) if members.len() <= 2 => to_connect(value, first),
            _ => value.clone(),
        },
        (value, _) => value.clone(),
    }
}

/// From Connect's form.
pub fn to_avro(default: &Value, field: &Field) -> Value {
    match (default, field.data_type()) {
        (Value::String(text), DataType::Binary) => match STANDARD.decode(text) {
            Ok(bytes) => bytes.into_iter().map(char::from).collect::<String>().into(),
            Err(_) => default.clone(),
        },
        (Value::Array(items), DataType::List(item)) => items.iter().map(|value| to_avro(value, item)).collect(),
        (Value::Object(members), DataType::Struct(fields)) => {
            let member = |(key, value): (&String, &Value)| {
                let field = fields.iter().find(|field| field.name() == key);
                (key.clone(), field.map_or_else(|| value.clone(), |field| to_avro(value, field)))
            };
            Value::Object(members.iter().map(member).collect())
        }
        (value, _) => value.clone(),
    }
}

/// A byte a character.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}
