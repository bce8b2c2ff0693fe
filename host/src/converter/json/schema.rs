//! Between the schemas of JSON envelopes and Arrow fields.
//!
//! An Arrow field with the metadata keys of [`tributary_sdk::batch`] holds everything that a Connect schema says. Connect's
//! Date, Time and Timestamp are Arrow's own (days, milliseconds, milliseconds UTC); Decimal is `Binary` with its scale as a
//! parameter. An unusable schema is refused with the words that Kafka Connect uses.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use serde_json::Value;
use tributary_sdk::batch::{
    SCHEMA_DEFAULT, SCHEMA_DOC, SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_PARAMETERS, SCHEMA_VERSION,
};

use super::text;

/// Connect's logical type names.
pub mod logical {
    use arrow_schema::Field;
    use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_VERSION};

    /// Unscaled big-endian bytes, scale as parameter.
    pub const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
    /// Days since the epoch.
    pub const DATE: &str = "org.apache.kafka.connect.data.Date";
    /// Milliseconds since midnight.
    pub const TIME: &str = "org.apache.kafka.connect.data.Time";
    /// Milliseconds since the epoch.
    pub const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";

    /// The field with a logical type's name and version.
    pub fn named(field: Field, name: &str) -> Field {
        let facts = [(SCHEMA_NAME, name), (SCHEMA_VERSION, "1")];
        field.with_metadata(facts.map(|(key, value)| (key.to_owned(), value.to_owned())))
    }
}

/// Arrow's type of Connect's Timestamp.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The field of a whole key or value: always nullable, since a tombstone may stand among the values.
pub fn field_from_json(schema: &Value) -> Result<FieldRef, String> {
    let field = parse("", schema)?;
    let optional = field.is_nullable();
    let mut metadata = field.metadata().clone();
    metadata.insert(SCHEMA_OPTIONAL.to_owned(), optional.to_string());
    Ok(Arc::new(field.with_nullable(true).with_metadata(metadata)))
}

fn parse(name: &str, schema: &Value) -> Result<Field, String> {
    let Some(kind) = schema.get("type").and_then(Value::as_str) else {
        return Err("Schema must contain 'type' field".to_owned());
    };
    let logical = schema.get("name").and_then(Value::as_str);
    let part = |key: &str| schema.get(key).filter(|part| !part.is_null());
    let data_type = match (kind, logical) {
        ("boolean", _) => DataType::Boolean,
        ("int8", _) => DataType::Int8,
        ("int16", _) => DataType::Int16,
        ("int32", Some(logical::DATE)) => DataType::Date32,
        ("int32", Some(logical::TIME)) => DataType::Time32(TimeUnit::Millisecond),
        ("int32", _) => DataType::Int32,
        ("int64", Some(logical::TIMESTAMP)) => timestamp_type(),
        ("int64", _) => DataType::Int64,
        ("float", _) => DataType::Float32,
        ("double", _) => DataType::Float64,
        ("bytes", _) => DataType::Binary,
        ("string", _) => DataType::Utf8,
        ("array", _) => {
            let items = part("items").ok_or("Array schema did not specify the element type")?;
            DataType::List(Arc::new(parse("item", items)?))
        }
        ("map", _) => {
            let keys = part("keys").ok_or("Map schema did not specify the key type")?;
            let values = part("values").ok_or("Map schema did not specify the value type")?;
            // Arrow's map keys are never null.
            let entries = Fields::from(vec![parse("keys", keys)?.with_nullable(false), parse("values", values)?]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        ("struct", _) => {
            let fields = part("fields").and_then(Value::as_array);
            let fields = fields.ok_or("Struct schema's \"fields\" argument is not an array.")?;
            let parsed = fields.iter().map(|field| {
                let name = field.get("field").and_then(Value::as_str);
                parse(name.ok_or("Struct schema's field name not specified properly")?, field)
            });
            DataType::Struct(parsed.collect::<Result<Fields, String>>()?)
        }
        (other, _) => return Err(format!("Unknown schema type: {other}")),
    };
    let mut metadata = HashMap::new();
    let mut put = |key: &str, value: String| metadata.insert(key.to_owned(), value);
    if let Some(name) = logical {
        put(SCHEMA_NAME, name.to_owned());
    }
    if let Some(version) = schema.get("version").and_then(Value::as_i64) {
        put(SCHEMA_VERSION, version.to_string());
    }
    if let Some(doc) = schema.get("doc").and_then(Value::as_str) {
        put(SCHEMA_DOC, doc.to_owned());
    }
    if let Some(parameters) = schema.get("parameters").filter(|parameters| parameters.is_object()) {
        if parameters.as_object().is_some_and(|all| all.values().any(|value| !value.is_string())) {
            return Err("Schema parameters must have string values.".to_owned());
        }
        put(SCHEMA_PARAMETERS, parameters.to_string());
    }
    if let Some(default) = part("default") {
        put(SCHEMA_DEFAULT, default.to_string());
    }
    if logical == Some(logical::DECIMAL) && kind == "bytes" {
        let scale = schema.get("parameters").and_then(|all| all.get("scale")).and_then(Value::as_str);
        let scale = scale.ok_or("Invalid Decimal schema: scale parameter not found.")?;
        scale.parse::<i32>().map_err(|_| "Invalid scale parameter found in Decimal schema: ".to_owned())?;
    }
    let optional = schema.get("optional") == Some(&Value::Bool(true));
    Ok(Field::new(name, data_type, optional).with_metadata(metadata))
}

/// The schema of a whole key or value, as it stands in an envelope.
pub fn field_to_json(field: &Field) -> Result<String, String> {
    schema_to_json(field, field.metadata().get(SCHEMA_OPTIONAL).is_some_and(|optional| optional == "true"))
}

/// The schema of values of a field, optional or not.
pub fn schema_to_json(field: &Field, optional: bool) -> Result<String, String> {
    let mut out = String::new();
    write(&mut out, field, optional, None)?;
    Ok(out)
}

fn write(out: &mut String, field: &Field, optional: bool, field_name: Option<&str>) -> Result<(), String> {
    let (kind, implied) = connect_type(field.data_type())
        .ok_or_else(|| format!("Couldn't translate unsupported schema type {}.", field.data_type()))?;
    out.push_str("{\"type\":\"");
    out.push_str(kind);
    out.push('"');
    match field.data_type() {
        DataType::List(item) | DataType::LargeList(item) => {
            out.push_str(",\"items\":");
            write(out, item, item.is_nullable(), None)?;
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err("a map without entries".to_owned()) };
            out.push_str(",\"keys\":");
            write(out, &pair[0], pair[0].is_nullable(), None)?;
            out.push_str(",\"values\":");
            write(out, &pair[1], pair[1].is_nullable(), None)?;
        }
        DataType::Struct(fields) => {
            out.push_str(",\"fields\":[");
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(out, field, field.is_nullable(), Some(field.name()))?;
            }
            out.push(']');
        }
        _ => {}
    }
    out.push_str(if optional { ",\"optional\":true" } else { ",\"optional\":false" });
    let metadata = field.metadata();
    let name = metadata.get(SCHEMA_NAME).map(String::as_str);
    if let Some(name) = name.or(implied) {
        out.push_str(",\"name\":");
        text::write_string(out, name);
    }
    match metadata.get(SCHEMA_VERSION) {
        Some(version) => out.extend([",\"version\":", version]),
        // Connect's logical types are version 1 of their names.
        None if name.is_none() && implied.is_some() => out.push_str(",\"version\":1"),
        None => {}
    }
    if let Some(doc) = metadata.get(SCHEMA_DOC) {
        out.push_str(",\"doc\":");
        text::write_string(out, doc);
    }
    if let Some(parameters) = metadata.get(SCHEMA_PARAMETERS) {
        out.extend([",\"parameters\":", parameters]);
    }
    if let Some(default) = metadata.get(SCHEMA_DEFAULT) {
        out.extend([",\"default\":", default]);
    }
    if let Some(name) = field_name {
        out.push_str(",\"field\":");
        text::write_string(out, name);
    }
    out.push('}');
    Ok(())
}

/// The parameters of a field's schema.
pub fn parameters(field: &Field) -> serde_json::Map<String, Value> {
    field.metadata().get(SCHEMA_PARAMETERS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Connect's own name of an Arrow type (`INT8`), as its messages have it.
pub fn type_name(data_type: &DataType) -> String {
    match connect_type(data_type) {
        Some(("float", _)) => "FLOAT32".to_owned(),
        Some(("double", _)) => "FLOAT64".to_owned(),
        Some((name, _)) => name.to_ascii_uppercase(),
        None => data_type.to_string(),
    }
}

/// Connect's name of an Arrow type in JSON schemas, and the logical name that it implies.
pub fn connect_type(data_type: &DataType) -> Option<(&'static str, Option<&'static str>)> {
    Some(match data_type {
        DataType::Boolean => ("boolean", None),
        DataType::Int8 => ("int8", None),
        DataType::Int16 => ("int16", None),
        DataType::Int32 => ("int32", None),
        DataType::Int64 => ("int64", None),
        DataType::Float32 => ("float", None),
        DataType::Float64 => ("double", None),
        DataType::Utf8 => ("string", None),
        DataType::Binary => ("bytes", None),
        DataType::Date32 => ("int32", Some(logical::DATE)),
        DataType::Time32(TimeUnit::Millisecond) => ("int32", Some(logical::TIME)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => ("int64", Some(logical::TIMESTAMP)),
        DataType::List(_) => ("array", None),
        DataType::Map(..) => ("map", None),
        DataType::Struct(_) => ("struct", None),
        _ => return None,
    })
}
