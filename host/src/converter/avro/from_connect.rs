//! From Connect's schemas to Avro's.

use arrow_schema::{DataType, Field, TimeUnit};
use serde_json::{Map, Value, json};
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_DOC, SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_VERSION};

use super::defaults;
use super::names::*;
use super::options::Options;
use crate::converter::json::{logical, parameters};
use crate::converter::within;

/// The Avro schema of a whole key or value, and its full name if it is a record.
pub fn root_schema(field: &Field, options: Options) -> Result<(String, Option<String>), String> {
    let mut writer = Writer { options, defined: Vec::new(), unnamed: 0 };
    let optional = field.metadata().get(SCHEMA_OPTIONAL).is_some_and(|optional| optional == "true");
    let schema = writer.schema(field)?;
    let record = match (&schema, field.data_type()) {
        (Value::Object(object), DataType::Struct(_)) => full_name(object),
        _ => None,
    };
    let schema = if optional { in_union(schema, false) } else { schema };
    Ok((schema.to_string(), record))
}

/// A name that Avro allows, if names are mended.
pub fn scrubbed(name: &str, options: Options) -> String {
    if !options.scrub_names {
        return name.to_owned();
    }
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let mut mended: String = name.chars().map(allowed).collect();
    if mended.starts_with(|c: char| c.is_ascii_digit()) {
        mended.insert(0, '_');
    }
    mended
}

fn full_name(object: &Map<String, Value>) -> Option<String> {
    let name = object.get("name")?.as_str()?;
    match object.get("namespace").and_then(Value::as_str) {
        Some(namespace) => Some(format!("{namespace}.{name}")),
        None => Some(name.to_owned()),
    }
}

/// A union with null; the first member is the default's.
fn in_union(schema: Value, value_first: bool) -> Value {
    match schema {
        Value::Array(mut members) => {
            let null = json!("null");
            members.retain(|member| *member != null);
            members.insert(if value_first { members.len() } else { 0 }, null);
            Value::Array(members)
        }
        schema if value_first => json!([schema, "null"]),
        schema => json!(["null", schema]),
    }
}

struct Writer {
    options: Options,
    /// Named types that stand in the schema already: their full names and definitions.
    defined: Vec<(String, Value)>,
    /// How many records without a name there are.
    unnamed: usize,
}

impl Writer {
    /// The schema of a field's values, without null.
    fn schema(&mut self, field: &Field) -> Result<Value, String> {
        let metadata = field.metadata();
        let name = metadata.get(SCHEMA_NAME).map(String::as_str);
        let parameters = parameters(field);
        let parameter = |key: &str| parameters.get(key).and_then(Value::as_str);
        let mut schema = Map::new();
        let mut put = |key: &str, value: Value| schema.insert(key.to_owned(), value);
        let mut implied = None;
        let mut logical_type = None;
        match field.data_type() {
            DataType::Boolean => drop(put("type", "boolean".into())),
            DataType::Int8 | DataType::Int16 => {
                put("type", "int".into());
                put(CONNECT_TYPE, if *field.data_type() == DataType::Int8 { "int8" } else { "int16" }.into());
            }
            DataType::Int32 => drop(put("type", "int".into())),
            DataType::Int64 => drop(put("type", "long".into())),
            DataType::Float32 => drop(put("type", "float".into())),
            DataType::Float64 => drop(put("type", "double".into())),
            DataType::Date32 => {
                put("type", "int".into());
                (implied, logical_type) = (Some(logical::DATE), Some("date"));
            }
            DataType::Time32(TimeUnit::Millisecond) => {
                put("type", "int".into());
                (implied, logical_type) = (Some(logical::TIME), Some("time-millis"));
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                put("type", "long".into());
                (implied, logical_type) = (Some(logical::TIMESTAMP), Some("timestamp-millis"));
            }
            DataType::Utf8 => {
                let kept = [(self.options.enhanced, ENUM), (self.options.generalized, GENERAL_ENUM)];
                match kept.into_iter().find(|(kept, key)| *kept && parameter(key).is_some()) {
                    Some((_, key)) => {
                        self.put_name(&mut schema, "enum", parameter(key).filter(|name| !name.is_empty()));
                        let symbols = parameters.keys().filter_map(|name| name.strip_prefix(key)?.strip_prefix('.'));
                        schema.insert("symbols".to_owned(), symbols.collect());
                    }
                    None => drop(put("type", "string".into())),
                }
            }
            DataType::Binary => {
                let size = parameter(FIXED_SIZE).and_then(|size| size.parse::<u64>().ok());
                match size {
                    Some(size) => {
                        let own = name.filter(|name| *name != logical::DECIMAL);
                        self.put_name(&mut schema, "fixed", own.or(Some("io.confluent.connect.avro.ConnectFixed")));
                        schema.insert("size".to_owned(), size.into());
                    }
                    None => drop(put("type", "bytes".into())),
                }
                if name == Some(logical::DECIMAL) {
                    let scale = parameter("scale").and_then(|scale| scale.parse::<i64>().ok());
                    let scale = scale.ok_or("Invalid Decimal schema: scale parameter not found.")?;
                    let precision = parameter(PRECISION).and_then(|precision| precision.parse().ok());
                    schema.insert("scale".to_owned(), scale.into());
                    schema.insert("precision".to_owned(), precision.unwrap_or(DEFAULT_PRECISION).into());
                    logical_type = Some("decimal");
                }
            }
            DataType::List(item) => {
                put("type", "array".into());
                let items = self.optional(item)?;
                schema.insert("items".to_owned(), items);
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let values = self.optional(&pair[1])?;
                if *pair[0].data_type() == DataType::Utf8 && !pair[0].is_nullable() {
                    put("type", "map".into());
                    put("values", values);
                } else {
                    let keys = self.optional(&pair[0])?;
                    let mut entry = Map::new();
                    self.put_name(&mut entry, "record", Some(name.unwrap_or("io.confluent.connect.avro.MapEntry")));
                    let fields = json!([{"name": "key", "type": keys}, {"name": "value", "type": values}]);
                    entry.insert("fields".to_owned(), fields);
                    if name.is_some() {
                        entry.insert(INTERNAL_TYPE.to_owned(), MAP_ENTRY.into());
                    }
                    put("type", "array".into());
                    let entry = self.defined(entry)?;
                    schema.insert("items".to_owned(), entry);
                }
            }
            DataType::Struct(fields) => {
                if name == Some(UNION) || parameter(GENERAL_UNION).is_some() {
                    let members = fields.iter().map(|field| self.schema(field)).collect::<Result<Vec<_>, _>>()?;
                    return Ok(Value::Array(members));
                }
                self.put_name(&mut schema, "record", name);
                let mut members = Vec::with_capacity(fields.len());
                for field in fields {
                    members.push(self.member(field).map_err(|error| within(field.name(), error))?);
                }
                schema.insert("fields".to_owned(), Value::Array(members));
            }
            other => return Err(format!("Couldn't translate unsupported schema type {other}.")),
        }
        if self.options.connect_meta_data {
            let mut put = |key: &str, value: Value| schema.insert(key.to_owned(), value);
            if let Some(doc) = metadata.get(SCHEMA_DOC) {
                put(CONNECT_DOC, doc.clone().into());
            }
            let version = metadata.get(SCHEMA_VERSION).and_then(|version| version.parse::<i64>().ok());
            if let Some(version) = version.or(implied.filter(|_| name.is_none()).map(|_| 1)) {
                put(CONNECT_VERSION, version.into());
            }
            if !parameters.is_empty() {
                put(CONNECT_PARAMETERS, Value::Object(parameters.clone()));
            }
            if let Some(default) = default_of(field) {
                put(CONNECT_DEFAULT, default);
            }
            if let Some(name) = name.or(implied) {
                put(CONNECT_NAME, name.into());
            }
        }
        if let Some(logical_type) = logical_type {
            schema.insert("logicalType".to_owned(), logical_type.into());
        }
        self.defined(schema)
    }

    /// The schema of values that may be null.
    fn optional(&mut self, field: &Field) -> Result<Value, String> {
        let schema = self.schema(field)?;
        Ok(if field.is_nullable() { in_union(schema, default_of(field).is_some()) } else { schema })
    }

    /// A field of a record.
    fn member(&mut self, field: &Field) -> Result<Value, String> {
        let mut member = Map::new();
        member.insert("name".to_owned(), scrubbed(field.name(), self.options).into());
        member.insert("type".to_owned(), self.optional(field)?);
        if let Some(doc) = field.metadata().get(SCHEMA_DOC) {
            member.insert("doc".to_owned(), doc.clone().into());
        }
        match default_of(field) {
            Some(default) => drop(member.insert("default".to_owned(), default)),
            None if field.is_nullable() => drop(member.insert("default".to_owned(), Value::Null)),
            None => {}
        }
        Ok(Value::Object(member))
    }

    /// Type, name and namespace of a named type; one without a name gets one.
    fn put_name(&mut self, schema: &mut Map<String, Value>, kind: &str, name: Option<&str>) {
        let made;
        let name = match name {
            Some(name) => name,
            None => {
                self.unnamed += 1;
                let number = if self.unnamed == 1 { String::new() } else { self.unnamed.to_string() };
                made = format!("{NAMESPACE}.{DEFAULT_RECORD}{number}");
                &made
            }
        };
        schema.insert("type".to_owned(), kind.into());
        let (namespace, simple) = match name.rsplit_once('.') {
            Some((namespace, simple)) => (Some(namespace), simple),
            None => (None, name),
        };
        schema.insert("name".to_owned(), scrubbed(simple, self.options).into());
        if let Some(namespace) = namespace {
            let parts: Vec<_> = namespace.split('.').map(|part| scrubbed(part, self.options)).collect();
            schema.insert("namespace".to_owned(), parts.join(".").into());
        }
    }

    /// A definition the first time, afterwards its name; a type without anything beside it, that type alone.
    fn defined(&mut self, schema: Map<String, Value>) -> Result<Value, String> {
        if schema.len() == 1 {
            return Ok(schema["type"].clone());
        }
        if !schema.contains_key("name") {
            return Ok(Value::Object(schema));
        }
        let name = full_name(&schema).unwrap_or_default();
        let schema = Value::Object(schema);
        match self.defined.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known == schema => Ok(name.into()),
            Some(_) => Err(format!(
                "there are two different schemas with the name {name}, which Avro does not allow; rename one"
            )),
            None => {
                self.defined.push((name, schema.clone()));
                Ok(schema)
            }
        }
    }
}

/// The default, in Avro's JSON.
fn default_of(field: &Field) -> Option<Value> {
    let default: Value = serde_json::from_str(field.metadata().get(SCHEMA_DEFAULT)?).ok()?;
    (!default.is_null()).then(|| defaults::to_avro(&default, field))
}
