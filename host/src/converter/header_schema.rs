//! What a header of a batch says of its type: a name where that is all, and otherwise the schema as JSON.
//!
//! `int32`, `string`, `org.apache.kafka.connect.data.Date` are required values of these types; `array`, `map` and `struct` are JSON of no
//! known schema. What is optional, has a default or a name of its own, or has types inside, is told in the form that `JsonConverter`
//! has for schemas (`{"type":"array","items":{"type":"int8","optional":false},"optional":false}`). A Decimal's scale is that of its text.

use std::borrow::Cow;

use arrow_schema::Field;
use serde_json::Value;
use tributary_sdk::batch::SCHEMA_OPTIONAL;

use super::json::{decimal, logical, schema_to_json};

/// The schema of a field: a column's or a struct's. The error names a type that no header has.
pub fn of(field: &Field) -> Result<String, String> {
    let optional = field.metadata().get(SCHEMA_OPTIONAL).map_or(field.is_nullable(), |optional| optional == "true");
    let json = schema_to_json(field, optional)?;
    let name = type_name(&json);
    let scale = if name == logical::DECIMAL { decimal::scale(field)? } else { 0 };
    Ok(if of_name(name, scale) == json { name.to_owned() } else { json })
}

/// The type: `float64`, `array`, the name of a logical type.
pub fn type_name(schema: &str) -> &str {
    if !schema.starts_with('{') {
        return match schema {
            "float" => "float32",
            "double" => "float64",
            name => name,
        };
    }
    let parsed: Value = serde_json::from_str(schema).unwrap_or_default();
    let part = |key: &str| parsed.get(key).and_then(Value::as_str).unwrap_or_default();
    match (part("type"), part("name")) {
        ("bytes", logical::DECIMAL) => logical::DECIMAL,
        ("int32", logical::DATE) => logical::DATE,
        ("int32", logical::TIME) => logical::TIME,
        ("int64", logical::TIMESTAMP) => logical::TIMESTAMP,
        ("float", _) => "float32",
        ("double", _) => "float64",
        (kind, _) => KINDS.into_iter().find(|known| *known == kind).unwrap_or("string"),
    }
}

/// Whether the value is bytes; without a parse, mostly.
pub fn is_bytes(schema: &str) -> bool {
    schema == "bytes" || schema.contains("\"bytes\"") && type_name(schema) == "bytes"
}

const KINDS: [&str; 10] = ["boolean", "int8", "int16", "int32", "int64", "string", "bytes", "array", "map", "struct"];

/// The schema as JSON; `null` where none is known. A Decimal's scale is `scale`.
pub fn as_json(schema: &str, scale: i32) -> Cow<'_, str> {
    match schema.starts_with('{') {
        true => Cow::Borrowed(schema),
        false => Cow::Owned(of_name(type_name(schema), scale)),
    }
}

/// The schema of required values that a type's name means.
fn of_name(name: &str, scale: i32) -> String {
    let logical = |kind: &str, facts: &str| {
        format!("{{\"type\":\"{kind}\",\"optional\":false,\"name\":\"{name}\",\"version\":1{facts}}}")
    };
    match name {
        "array" | "map" | "struct" => "null".to_owned(),
        logical::DATE | logical::TIME => logical("int32", ""),
        logical::TIMESTAMP => logical("int64", ""),
        logical::DECIMAL => logical("bytes", &format!(",\"parameters\":{{\"scale\":\"{scale}\"}}")),
        "float32" => "{\"type\":\"float\",\"optional\":false}".to_owned(),
        "float64" => "{\"type\":\"double\",\"optional\":false}".to_owned(),
        name if KINDS.contains(&name) => format!("{{\"type\":\"{name}\",\"optional\":false}}"),
        // Names that this worker does not know: the value is text.
        _ => "{\"type\":\"string\",\"optional\":false}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::converter::json::field_from_json;

    #[test]
    fn a_name_says_all_or_the_schema_is_told() {
        let read = |schema: &str| of(&field_from_json(&serde_json::from_str(schema).unwrap()).unwrap()).unwrap();
        for name in ["int8", "float32", "float64", "string", "bytes", "boolean", logical::DATE, logical::TIMESTAMP] {
            assert_eq!(read(&as_json(name, 0)), name);
            assert_eq!(type_name(&as_json(name, 0)), name);
        }
        assert_eq!(read(&as_json(logical::DECIMAL, -3)), logical::DECIMAL);
        for (schema, name) in [
            (r#"{"type":"int8","optional":true}"#, "int8"),
            (r#"{"type":"double","optional":false,"name":"own"}"#, "float64"),
            (r#"{"type":"array","items":{"type":"int8","optional":false},"optional":false}"#, "array"),
            (
                r#"{"type":"int32","optional":true,"name":"org.apache.kafka.connect.data.Date","version":1}"#,
                logical::DATE,
            ),
        ] {
            assert_eq!((&*read(schema), type_name(schema)), (schema, name));
        }
        assert_eq!(as_json("array", 0), "null");
        assert_eq!(type_name("{oops"), "string");
    }
}
