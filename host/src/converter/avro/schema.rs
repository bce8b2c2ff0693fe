//! Avro schemas, read from their JSON.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

/// Schemas with more parts, references resolved, are refused.
const MAX_PARTS: usize = 50_000;

/// A schema.
#[derive(Debug, Clone)]
pub struct Schema {
    /// Its type.
    pub kind: Kind,
    /// Full name, of named types.
    pub name: Option<String>,
    /// Its documentation.
    pub doc: Option<String>,
    /// Everything else that stands in its object.
    pub props: Map<String, Value>,
    parts: usize,
}

/// Avro's types.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Arc<Schema>),
    Map(Arc<Schema>),
    Union(Vec<Arc<Schema>>),
    Record(Vec<RecordField>),
}

/// A field of a record.
#[derive(Debug, Clone)]
pub struct RecordField {
    /// Its name.
    pub name: String,
    /// Its schema.
    pub schema: Arc<Schema>,
    /// Its default, in Avro's JSON.
    pub default: Option<Value>,
    /// Its documentation.
    pub doc: Option<String>,
}

impl Schema {
    /// Reads a schema. `dependencies` are the schemas that it refers to, in an order in which each comes after its own.
    pub fn parse(text: &str, dependencies: &[(String, String)]) -> Result<Arc<Self>, String> {
        let mut parser = Parser::default();
        for (name, text) in dependencies {
            parser.text(text).map_err(|error| format!("in {name}, to which it refers: {error}"))?;
        }
        parser.text(text)
    }

    /// `logicalType`.
    pub fn logical(&self) -> Option<&str> {
        self.props.get("logicalType")?.as_str()
    }

    /// A property that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.props.get(name)?.as_str()
    }

    /// What messages call it, and Confluent's mapping a member of a union of such: the type, or a named type's full name.
    pub fn type_name(&self) -> &str {
        match &self.kind {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Bytes => "bytes",
            Kind::String => "string",
            Kind::Array(_) => "array",
            Kind::Map(_) => "map",
            Kind::Union(_) => "union",
            Kind::Fixed(_) | Kind::Enum(_) | Kind::Record(_) => self.name.as_deref().unwrap_or("record"),
        }
    }

    /// Of a union of null and one other: the place of null, and the other.
    pub fn optional(&self) -> Option<(usize, &Arc<Schema>)> {
        let Kind::Union(members) = &self.kind else { return None };
        let null = members.iter().position(|member| matches!(member.kind, Kind::Null))?;
        (members.len() == 2).then(|| (null, &members[1 - null]))
    }
}

#[derive(Default)]
struct Parser {
    known: HashMap<String, Arc<Schema>>,
    open: HashSet<String>,
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<Arc<Schema>, String> {
        let value = match serde_json::from_str(text) {
            Ok(value) => value,
            // A bare name such as `string` is found in registries, too.
            Err(_) if text.trim().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_')) => {
                Value::String(text.trim().to_owned())
            }
            Err(error) => return Err(format!("the Avro schema is not JSON: {error}")),
        };
        self.schema(&value, None, 0)
    }

    fn schema(&mut self, value: &Value, namespace: Option<&str>, depth: usize) -> Result<Arc<Schema>, String> {
        if depth > 100 {
            return Err("the Avro schema is nested more than 100 deep".to_owned());
        }
        let schema = match value {
            Value::String(name) => match primitive(name) {
                Some(kind) => plain(kind, Map::new()),
                None => return self.reference(name, namespace),
            },
            Value::Array(members) => {
                let members: Vec<_> =
                    members.iter().map(|member| self.schema(member, namespace, depth + 1)).collect::<Result<_, _>>()?;
                if members.is_empty() {
                    return Err("a union has no members".to_owned());
                }
                let parts = members.iter().map(|member| member.parts).sum();
                Schema { parts, ..plain(Kind::Union(members), Map::new()) }
            }
            Value::Object(object) => return self.object(object, namespace, depth),
            _ => return Err(format!("{value} is not an Avro schema")),
        };
        Ok(Arc::new(checked(schema)?))
    }

    fn reference(&mut self, name: &str, namespace: Option<&str>) -> Result<Arc<Schema>, String> {
        let full = full_name(name, namespace);
        if let Some(known) = self.known.get(&full).or_else(|| self.known.get(name)) {
            return Ok(known.clone());
        }
        if self.open.contains(&full) {
            return Err(format!(
                "{full} contains itself; values of such a type have no columns and cannot be converted"
            ));
        }
        Err(format!("the Avro schema uses {full}, which it does not define, and no reference of it does"))
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        namespace: Option<&str>,
        depth: usize,
    ) -> Result<Arc<Schema>, String> {
        let kind = object.get("type").ok_or("an Avro schema has no type")?;
        let Value::String(kind) = kind else {
            // {"type": {…}}: the inner one, with the outer one's properties.
            let inner = self.schema(kind, namespace, depth + 1)?;
            let mut schema = inner.as_ref().clone();
            for (key, value) in object.iter().filter(|(key, _)| *key != "type") {
                schema.props.entry(key.clone()).or_insert_with(|| value.clone());
            }
            return Ok(Arc::new(schema));
        };
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let mut props = object.clone();
        for key in ["type", "name", "namespace", "doc", "aliases", "fields", "symbols", "items", "values", "size"] {
            props.shift_remove(key);
        }
        if let Some(kind) = primitive(kind) {
            return Ok(Arc::new(Schema { doc: text("doc").map(str::to_owned), ..plain(kind, props) }));
        }
        let part = |key: &str| object.get(key).ok_or_else(|| format!("an Avro {kind} has no {key}"));
        match kind.as_str() {
            "array" => {
                let items = self.schema(part("items")?, namespace, depth + 1)?;
                let parts = items.parts + 1;
                return Ok(Arc::new(checked(Schema { parts, ..plain(Kind::Array(items), props) })?));
            }
            "map" => {
                let values = self.schema(part("values")?, namespace, depth + 1)?;
                let parts = values.parts + 1;
                return Ok(Arc::new(checked(Schema { parts, ..plain(Kind::Map(values), props) })?));
            }
            "record" | "error" | "enum" | "fixed" => {}
            name => return self.reference(name, namespace),
        }
        let name = text("name").ok_or_else(|| format!("an Avro {kind} has no name"))?;
        let full = full_name(name, text("namespace").or(namespace));
        let inner = full.rsplit_once('.').map(|(namespace, _)| namespace.to_owned());
        let mut parts = 1;
        let parsed = match kind.as_str() {
            "enum" => {
                let symbols = part("symbols")?.as_array().ok_or("an Avro enum's symbols are no array")?;
                let symbol = |value: &Value| value.as_str().map(str::to_owned);
                Kind::Enum(symbols.iter().map(symbol).collect::<Option<_>>().ok_or("an Avro enum's symbol is no text")?)
            }
            "fixed" => Kind::Fixed(part("size")?.as_u64().ok_or("an Avro fixed's size is no number")? as usize),
            _ => {
                self.open.insert(full.clone());
                let mut fields = Vec::new();
                for field in part("fields")?.as_array().ok_or("an Avro record's fields are no array")? {
                    let name = field.get("name").and_then(Value::as_str);
                    let name = name.ok_or_else(|| format!("a field of {full} has no name"))?.to_owned();
                    let schema = field.get("type").ok_or_else(|| format!("field {name} of {full} has no type"))?;
                    let schema = self
                        .schema(schema, inner.as_deref(), depth + 1)
                        .map_err(|error| format!("{error}, in field {name} of {full}"))?;
                    parts += schema.parts;
                    let doc = field.get("doc").and_then(Value::as_str).map(str::to_owned);
                    fields.push(RecordField { name, schema, default: field.get("default").cloned(), doc });
                }
                self.open.remove(&full);
                Kind::Record(fields)
            }
        };
        let schema =
            Schema { kind: parsed, name: Some(full.clone()), doc: text("doc").map(str::to_owned), props, parts };
        let schema = Arc::new(checked(schema)?);
        self.known.insert(full, schema.clone());
        Ok(schema)
    }
}

fn checked(schema: Schema) -> Result<Schema, String> {
    if schema.parts > MAX_PARTS {
        return Err(format!("the Avro schema has more than {MAX_PARTS} parts"));
    }
    Ok(schema)
}

fn plain(kind: Kind, props: Map<String, Value>) -> Schema {
    Schema { kind, name: None, doc: None, props, parts: 1 }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: Option<&str>) -> String {
    match namespace.filter(|namespace| !namespace.is_empty() && !name.contains('.')) {
        Some(namespace) => format!("{namespace}.{name}"),
        None => name.to_owned(),
    }
}
