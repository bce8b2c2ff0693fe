//! Schemas as the registry holds them.

use serde_json::{Map, Value, json};

/// A schema that another one uses: its name there, and where the registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The name by which it is used: a full name in Avro, an import's path in Protobuf, a URL in JSON Schema.
    pub name: String,
    /// Its subject.
    pub subject: String,
    /// Its version in the subject.
    pub version: i64,
}

/// A schema's text and what it refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaText {
    /// `AVRO`, `PROTOBUF` or `JSON`.
    pub kind: String,
    /// The text.
    pub text: String,
    /// In the order of the registry.
    pub references: Vec<Reference>,
}

impl SchemaText {
    /// A schema without references.
    pub fn plain(kind: &str, text: String) -> Self {
        Self { kind: kind.to_owned(), text, references: Vec::new() }
    }

    /// Of the registry's answer.
    pub fn from_json(answer: &Value) -> Option<Self> {
        let text = answer.get("schema")?.as_str()?.to_owned();
        let kind = answer.get("schemaType").and_then(Value::as_str).unwrap_or("AVRO").to_owned();
        let reference = |value: &Value| {
            let text = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
            let version = value.get("version").and_then(Value::as_i64)?;
            Some(Reference { name: text("name")?, subject: text("subject")?, version })
        };
        let references = answer.get("references").and_then(Value::as_array);
        let references = references.map_or_else(|| Some(Vec::new()), |all| all.iter().map(reference).collect())?;
        Some(Self { kind, text, references })
    }

    /// As a request has it.
    pub fn to_json(&self) -> String {
        let mut request = Map::new();
        request.insert("schema".to_owned(), self.text.clone().into());
        // Registries before 5.5 know Avro only, and refuse the key.
        if self.kind != "AVRO" {
            request.insert("schemaType".to_owned(), self.kind.clone().into());
        }
        if !self.references.is_empty() {
            let reference = |reference: &Reference| json!({"name": reference.name, "subject": reference.subject, "version": reference.version});
            request.insert("references".to_owned(), self.references.iter().map(reference).collect());
        }
        Value::Object(request).to_string()
    }
}

/// A schema with everything it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Its id, the same in all subjects.
    pub id: u32,
    /// The schema.
    pub schema: SchemaText,
    /// The schemas it refers to, each after those that it refers to itself: name and text.
    pub dependencies: Vec<(String, String)>,
}
