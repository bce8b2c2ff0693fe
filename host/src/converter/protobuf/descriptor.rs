//! Messages with the types of their fields found: across nesting, packages, imports, and the well-known files.

use std::collections::HashMap;
use std::sync::Arc;

use super::parse::{self, Enum, Field as Parsed, File, Label, Message as ParsedMessage};

/// A message.
#[derive(Debug)]
pub struct Message {
    /// With its package, and the messages around it.
    pub full_name: String,
    /// Simple name.
    pub name: String,
    /// In the order of the text.
    pub fields: Vec<Field>,
    /// Names of the oneofs.
    pub oneofs: Vec<String>,
}

/// Each use of a message is columns of its own: two uses within two uses, and so on, must not become millions.
const MAX_PARTS: usize = 20_000;

/// What is being opened.
#[derive(Default)]
struct Open {
    /// The messages around, outermost first.
    names: Vec<String>,
    /// How many fields there have been.
    parts: usize,
}

/// A field.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: u32,
    /// The type of its values; of a map, of the map's values.
    pub kind: Kind,
    /// Of a map, the type of its keys.
    pub map_key: Option<Kind>,
    /// It may occur several times.
    pub repeated: bool,
    /// A value that is not there can be told from a default one.
    pub presence: bool,
    /// It has the word optional.
    pub optional: bool,
    /// Its file is of proto2.
    pub proto2: bool,
    /// Its oneof.
    pub oneof: Option<usize>,
    /// What it is where it is not there.
    pub default: Option<String>,
    /// `params` of `(confluent.field_meta)`.
    pub params: Vec<(String, String)>,
}

/// Protobuf's types.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    Text,
    Bytes,
    Enum(Arc<EnumType>),
    Message(Arc<Message>),
}

/// An enum.
#[derive(Debug)]
pub struct EnumType {
    /// Simple name.
    pub name: String,
    /// Names and numbers.
    pub values: Vec<(String, i32)>,
}

/// What a schema may import without having it as a reference.
const WELL_KNOWN: &[(&str, &str)] = &[
    (
        "google/protobuf/timestamp.proto",
        "syntax = \"proto3\"; package google.protobuf; message Timestamp { int64 seconds = 1; int32 nanos = 2; }",
    ),
    (
        "google/protobuf/duration.proto",
        "syntax = \"proto3\"; package google.protobuf; message Duration { int64 seconds = 1; int32 nanos = 2; }",
    ),
    ("google/protobuf/empty.proto", "syntax = \"proto3\"; package google.protobuf; message Empty {}"),
    (
        "google/protobuf/any.proto",
        "syntax = \"proto3\"; package google.protobuf; message Any { string type_url = 1; bytes value = 2; }",
    ),
    (
        "google/protobuf/field_mask.proto",
        "syntax = \"proto3\"; package google.protobuf; message FieldMask { repeated string paths = 1; }",
    ),
    (
        "google/protobuf/wrappers.proto",
        "syntax = \"proto3\"; package google.protobuf; message DoubleValue { double value = 1; } message FloatValue { float value = 1; } \
      message Int64Value { int64 value = 1; } message UInt64Value { uint64 value = 1; } message Int32Value { int32 value = 1; } message UInt32Value { uint32 value = 1; } \
      message BoolValue { bool value = 1; } message StringValue { string value = 1; } message BytesValue { bytes value = 1; }",
    ),
    (
        "google/type/date.proto",
        "syntax = \"proto3\"; package google.type; message Date { int32 year = 1; int32 month = 2; int32 day = 3; }",
    ),
    (
        "google/type/timeofday.proto",
        "syntax = \"proto3\"; package google.type; message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }",
    ),
    (
        "confluent/type/decimal.proto",
        "syntax = \"proto3\"; package confluent.type; message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }",
    ),
    ("confluent/meta.proto", "syntax = \"proto3\"; package confluent;"),
    ("google/protobuf/descriptor.proto", "syntax = \"proto2\"; package google.protobuf;"),
];

/// The text of a file that needs no reference.
pub fn well_known(path: &str) -> Option<&'static str> {
    WELL_KNOWN.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}

/// Messages of a schema, by their place: what a value's index list counts through.
pub struct Schema {
    files: HashMap<String, Type>,
    root: File,
}

/// A definition that a name may mean.
enum Type {
    Message(Arc<(ParsedMessage, bool)>),
    Enum(Arc<EnumType>),
}

impl Schema {
    /// Reads a schema with its imports.
    pub fn parse(text: &str, dependencies: &[(String, String)]) -> Result<Self, String> {
        let mut known = HashMap::new();
        let mut root = parse::parse(text)?;
        let mut wanted = root.imports.clone();
        let mut seen: Vec<String> = Vec::new();
        let mut files = Vec::new();
        while let Some(path) = wanted.pop() {
            if seen.contains(&path) {
                continue;
            }
            let own = dependencies.iter().find(|(name, _)| *name == path).map(|(_, text)| text.as_str());
            let text = own.or_else(|| WELL_KNOWN.iter().find(|(name, _)| *name == path).map(|(_, text)| *text));
            let text = text.ok_or_else(|| format!("the import {path} is not among the schema's references"))?;
            let file = parse::parse(text).map_err(|error| format!("in {path}, which it imports: {error}"))?;
            wanted.extend(file.imports.iter().cloned());
            seen.push(path);
            files.push(file);
        }
        for file in files {
            let File { proto2, package, messages, enums, .. } = file;
            collect(&package, messages, enums, proto2, &mut known);
        }
        let (messages, enums) = (std::mem::take(&mut root.messages), std::mem::take(&mut root.enums));
        let order = messages.iter().map(names_of).collect::<Vec<_>>();
        collect(&root.package, messages, enums, root.proto2, &mut known);
        // The messages' names alone are kept, for index lists.
        root.messages = order;
        Ok(Self { files: known, root })
    }

    /// The message at a place: its index among the file's, then among the messages inside it, and so on.
    pub fn message_at(&self, indexes: &[usize]) -> Result<Arc<Message>, String> {
        let mut messages = &self.root.messages;
        let mut name = self.root.package.clone();
        for index in indexes {
            let message =
                messages.get(*index).ok_or_else(|| format!("the schema has no message with the index {indexes:?}"))?;
            name = joined(&name, &message.name);
            messages = &message.messages;
        }
        self.message(&name, &mut Open::default())
    }

    /// The place of the message that a record with this name is: the only one, or the one with its simple name.
    pub fn place_of(&self, name: &str) -> Result<Vec<usize>, String> {
        let simple = name.rsplit('.').next().unwrap_or(name);
        let found = self.root.messages.iter().position(|message| message.name == simple);
        match (found, self.root.messages.len()) {
            (Some(at), _) => Ok(vec![at]),
            (None, 1) => Ok(vec![0]),
            (None, count) => Err(format!("the schema has {count} messages, and none with the name {simple}")),
        }
    }

    fn message(&self, full_name: &str, open: &mut Open) -> Result<Arc<Message>, String> {
        let Some(Type::Message(parsed)) = self.files.get(full_name) else {
            return Err(format!("there is no message {full_name}"));
        };
        if open.names.iter().any(|name| name == full_name) {
            return Err(format!(
                "{full_name} contains itself; values of such a type have no columns and cannot be converted"
            ));
        }
        if open.names.len() > 60 {
            return Err("messages are nested more than 60 deep".to_owned());
        }
        let (message, proto2) = parsed.as_ref();
        open.parts += 1 + message.fields.len();
        if open.parts > MAX_PARTS {
            return Err(format!("the message has more than {MAX_PARTS} fields, with those inside of its fields"));
        }
        open.names.push(full_name.to_owned());
        let field = |field: &Parsed| {
            self.field(field, full_name, *proto2, open)
                .map_err(|error| format!("{error}, in field {} of {full_name}", field.name))
        };
        let fields = message.fields.iter().map(field).collect::<Result<_, _>>()?;
        open.names.pop();
        Ok(Arc::new(Message {
            full_name: full_name.to_owned(),
            name: message.name.clone(),
            fields,
            oneofs: message.oneofs.clone(),
        }))
    }

    fn field(&self, field: &Parsed, scope: &str, proto2: bool, open: &mut Open) -> Result<Field, String> {
        let kind = self.kind(&field.kind, scope, open)?;
        let map_key = field.map_key.as_ref().map(|key| self.kind(key, scope, open)).transpose()?;
        let repeated = field.label == Some(Label::Repeated) || map_key.is_some();
        let optional = field.label == Some(Label::Optional);
        let presence = !repeated && (optional || proto2 || field.oneof.is_some() || matches!(kind, Kind::Message(_)));
        Ok(Field {
            name: field.name.clone(),
            number: field.number,
            kind,
            map_key,
            repeated,
            presence,
            optional,
            proto2,
            oneof: field.oneof,
            default: field.default.clone(),
            params: field.params.clone(),
        })
    }

    fn kind(&self, name: &str, scope: &str, open: &mut Open) -> Result<Kind, String> {
        Ok(match name {
            "double" => Kind::Double,
            "float" => Kind::Float,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "uint32" => Kind::Uint32,
            "uint64" => Kind::Uint64,
            "sint32" => Kind::Sint32,
            "sint64" => Kind::Sint64,
            "fixed32" => Kind::Fixed32,
            "fixed64" => Kind::Fixed64,
            "sfixed32" => Kind::Sfixed32,
            "sfixed64" => Kind::Sfixed64,
            "bool" => Kind::Bool,
            "string" => Kind::Text,
            "bytes" => Kind::Bytes,
            name => {
                let full = self.find(name, scope).ok_or_else(|| format!("there is no type {name}"))?;
                match &self.files[&full] {
                    Type::Enum(found) => Kind::Enum(found.clone()),
                    Type::Message(_) => Kind::Message(self.message(&full, open)?),
                }
            }
        })
    }

    /// A name is looked for in the innermost scope first.
    fn find(&self, name: &str, scope: &str) -> Option<String> {
        if let Some(absolute) = name.strip_prefix('.') {
            return self.files.contains_key(absolute).then(|| absolute.to_owned());
        }
        let mut scope = scope;
        loop {
            let full = joined(scope, name);
            if self.files.contains_key(&full) {
                return Some(full);
            }
            if scope.is_empty() {
                return None;
            }
            scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
    }
}

fn names_of(message: &ParsedMessage) -> ParsedMessage {
    ParsedMessage {
        name: message.name.clone(),
        messages: message.messages.iter().map(names_of).collect(),
        ..ParsedMessage::default()
    }
}

fn joined(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn collect(
    scope: &str,
    messages: Vec<ParsedMessage>,
    enums: Vec<Enum>,
    proto2: bool,
    known: &mut HashMap<String, Type>,
) {
    for found in enums {
        let made = EnumType { name: found.name.clone(), values: found.values };
        known.insert(joined(scope, &found.name), Type::Enum(Arc::new(made)));
    }
    for mut message in messages {
        let name = joined(scope, &message.name);
        collect(&name, std::mem::take(&mut message.messages), std::mem::take(&mut message.enums), proto2, known);
        known.insert(name, Type::Message(Arc::new((message, proto2))));
    }
}
