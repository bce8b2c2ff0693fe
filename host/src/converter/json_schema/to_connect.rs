//! From JSON schemas to Connect's.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use serde_json::{Map, Value, json};
use tributary_sdk::batch::{
    SCHEMA_DEFAULT, SCHEMA_DOC, SCHEMA_NAME, SCHEMA_OPTIONAL, SCHEMA_PARAMETERS, SCHEMA_VERSION,
};

use super::names::*;
use super::options::Options;
use crate::converter::json::{GENERAL_UNION, ONE_OF, logical, timestamp_type};
use crate::converter::within;

/// A schema with more parts, references resolved, is refused.
const MAX_PARTS: usize = 50_000;
/// So is one that is nested deeper.
const MAX_DEPTH: usize = 100;

/// The field of a whole key or value.
pub fn root_field(text: &str, dependencies: &[(String, String)], options: &Options) -> Result<FieldRef, String> {
    let parse = |text: &str| serde_json::from_str(text).map_err(|error| format!("the schema is not JSON: {error}"));
    let root: Value = parse(text)?;
    let mut documents = HashMap::new();
    for (name, text) in dependencies {
        documents.insert(name.clone(), parse(text)?);
    }
    let mut reader = Reader { documents: &documents, options, open: Vec::new(), parts: 0, depth: 0, unions: 0 };
    let field = reader.field("", &root, &root, false)?;
    let mut metadata = field.metadata().clone();
    metadata.insert(SCHEMA_OPTIONAL.to_owned(), field.is_nullable().to_string());
    Ok(Arc::new(field.with_nullable(true).with_metadata(metadata)))
}

struct Reader<'s> {
    /// The schemas that the registry has as references, by name.
    documents: &'s HashMap<String, Value>,
    options: &'s Options,
    /// References that are being followed.
    open: Vec<String>,
    parts: usize,
    /// How many schemas are around.
    depth: usize,
    /// How many unions there were.
    unions: usize,
}

impl<'s> Reader<'s> {
    /// `document` is what a reference that begins with `#` points into.
    fn field(&mut self, name: &str, schema: &'s Value, document: &'s Value, optional: bool) -> Result<Field, String> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(format!("the JSON schema has more than {MAX_PARTS} parts"));
        }
        if self.depth >= MAX_DEPTH {
            return Err(format!("the JSON schema is nested more than {MAX_DEPTH} deep"));
        }
        self.depth += 1;
        let field = self.kind_of_field(name, schema, document, optional);
        self.depth -= 1;
        field.map_err(|error| if name.is_empty() { error } else { within(name, error) })
    }

    fn kind_of_field(
        &mut self,
        name: &str,
        schema: &'s Value,
        document: &'s Value,
        optional: bool,
    ) -> Result<Field, String> {
        let Value::Object(object) = schema else {
            return Err(format!("the schema {schema} says nothing about its values, so that they have no columns"));
        };
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            return self.reference(name, reference, document, optional);
        }
        let alternatives = ["oneOf", "anyOf"].into_iter().find_map(|key| object.get(key)?.as_array());
        if object.contains_key("allOf") || alternatives.is_some() {
            let mut properties = Properties::default();
            self.collect(schema, document, &mut properties)?;
            if !properties.members.is_empty() {
                if let Some(place) = properties.visited.iter().find(|place| self.open.contains(place)) {
                    return Err(contains_itself(place));
                }
                let before = self.open.len();
                self.open.extend(properties.visited.iter().cloned());
                let members = self.collected(properties);
                self.open.truncate(before);
                let members = members?;
                return Ok(Field::new(name, members, optional).with_metadata(facts(object)));
            }
        }
        if let Some(members) = alternatives {
            return self.union(name, object, members, document, optional);
        }
        if let Some(members) = object.get("allOf").and_then(Value::as_array) {
            return self.field("", most_telling(members)?, document, optional).map(|field| field.with_name(name));
        }
        self.typed(name, object, None, document, optional)
    }

    fn reference(&mut self, name: &str, reference: &str, document: &'s Value, optional: bool) -> Result<Field, String> {
        let (target, document, place) = self.target(reference, document)?;
        if self.open.contains(&place) {
            return Err(contains_itself(&place));
        }
        self.open.push(place);
        // Of the same name: an error is in this field once.
        let field = self.field("", target, document, optional).map(|field| field.with_name(name));
        self.open.pop();
        field
    }

    /// One type beside null, or a struct with a member for each.
    fn union(
        &mut self,
        name: &str,
        object: &'s Map<String, Value>,
        members: &'s [Value],
        document: &'s Value,
        optional: bool,
    ) -> Result<Field, String> {
        let number = self.unions;
        self.unions += 1;
        let is_null = |member: &&Value| member.get("type").and_then(Value::as_str) == Some("null");
        let others: Vec<_> = members.iter().filter(|member| !is_null(member)).collect();
        let nullable = optional || others.len() < members.len();
        let single = members.len() == 2 || self.options.flatten_singletons;
        if let ([only], true) = (&others[..], single) {
            let field = self.field("", only, document, nullable)?.with_name(name);
            return Ok(match object.get("default").filter(|default| !default.is_null()) {
                Some(default) => with_fact(field, SCHEMA_DEFAULT, default.to_string()),
                None => field,
            });
        }
        let (union, member) = self.union_names(number);
        let fields =
            others.iter().enumerate().map(|(i, other)| self.field(&format!("{member}{i}"), other, document, true));
        let fields = fields.collect::<Result<Fields, String>>()?;
        Ok(self.union_field(name, fields, union, nullable, facts(object)))
    }

    /// The name of a union, and what is before its members' numbers.
    fn union_names(&self, number: usize) -> (String, String) {
        match self.options.generalized {
            true => (format!("connect_union_{number}"), "connect_union_field_".to_owned()),
            false => (ONE_OF.to_owned(), format!("{ONE_OF}.field.")),
        }
    }

    fn union_field(
        &self,
        name: &str,
        members: Fields,
        union: String,
        nullable: bool,
        mut facts: HashMap<String, String>,
    ) -> Field {
        // A default would be one of a struct for all others who read it.
        facts.remove(SCHEMA_DEFAULT);
        if self.options.generalized {
            facts.insert(SCHEMA_PARAMETERS.to_owned(), json!({GENERAL_UNION: union.clone()}).to_string());
        }
        facts.insert(SCHEMA_NAME.to_owned(), union);
        Field::new(name, DataType::Struct(members), nullable).with_metadata(facts)
    }

    /// The members of an object and of all that it has to be as well.
    fn collect(
        &mut self,
        schema: &'s Value,
        document: &'s Value,
        properties: &mut Properties<'s>,
    ) -> Result<(), String> {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            return Err(format!("the JSON schema has more than {MAX_PARTS} parts"));
        }
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let (target, document, place) = self.target(reference, document)?;
            if !properties.visited.contains(&place) {
                properties.visited.push(place);
                self.collect(target, document, properties)?;
            }
        }
        for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let required = required(schema).contains(&name.as_str());
            match properties.members.iter_mut().find(|(known, ..)| *known == name) {
                Some(known) => *known = (name, member, document, required),
                None => properties.members.push((name, member, document, required)),
            }
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.collect(part, document, properties)?;
        }
        Ok(())
    }

    fn collected(&mut self, mut properties: Properties<'s>) -> Result<DataType, String> {
        properties.members.sort_by_key(|(_, schema, ..)| place_in_struct(schema));
        let member = |(name, schema, document, required): (&'s String, &'s Value, &'s Value, bool)| {
            self.field(name, schema, document, self.options.optional_for_nonrequired && !required)
        };
        Ok(DataType::Struct(properties.members.into_iter().map(member).collect::<Result<Fields, String>>()?))
    }

    /// What a reference points to, the document that it is in, and its name.
    fn target(&self, reference: &str, document: &'s Value) -> Result<(&'s Value, &'s Value, String), String> {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let (document, place) = match file {
            "" => (document, format!("{document:p}#{pointer}")),
            file => {
                let simple = file.rsplit('/').next().unwrap_or(file);
                let found = self.documents.get(file).or_else(|| self.documents.get(simple));
                let found = found.ok_or_else(|| format!("$ref {reference} is not among the schema's references"))?;
                (found, reference.to_owned())
            }
        };
        let target = document.pointer(pointer).ok_or_else(|| format!("$ref {reference} points to nothing"))?;
        Ok((target, document, place))
    }

    fn typed(
        &mut self,
        name: &str,
        object: &'s Map<String, Value>,
        // One of several that the schema allows.
        chosen: Option<&'s str>,
        document: &'s Value,
        mut optional: bool,
    ) -> Result<Field, String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let connect = text(TYPE);
        let title = text("title");
        let kind = match object.get("type") {
            _ if chosen.is_some() => chosen.unwrap_or_default(),
            Some(Value::String(kind)) => kind.as_str(),
            Some(Value::Array(kinds)) => {
                let kinds: Vec<_> = kinds.iter().filter_map(Value::as_str).collect();
                optional |= kinds.contains(&"null");
                match kinds.iter().copied().filter(|kind| *kind != "null").collect::<Vec<_>>()[..] {
                    [only] => only,
                    [] => return Err("a schema allows nothing but null".to_owned()),
                    ref several => {
                        let (union, member) = self.union_names(self.unions);
                        self.unions += 1;
                        let fields = several.iter().enumerate();
                        let fields = fields
                            .map(|(i, kind)| self.typed(&format!("{member}{i}"), object, Some(kind), document, true));
                        let fields = fields.collect::<Result<Fields, String>>()?;
                        return Ok(self.union_field(name, fields, union, optional, facts(object)));
                    }
                }
            }
            _ if object.contains_key("properties") => "object",
            _ if object.contains_key("enum") => "string",
            _ => return Err("a schema has no type".to_owned()),
        };
        let mut parameters = object.get(PARAMETERS).and_then(Value::as_object).cloned().unwrap_or_default();
        let data_type = match (kind, connect, title) {
            ("boolean", ..) => DataType::Boolean,
            ("integer", Some("int8"), _) => DataType::Int8,
            ("integer", Some("int16"), _) => DataType::Int16,
            ("integer", Some("int32"), Some(logical::DATE)) => DataType::Date32,
            ("integer", Some("int32"), Some(logical::TIME)) => DataType::Time32(TimeUnit::Millisecond),
            ("integer", Some("int32"), _) => DataType::Int32,
            ("integer", _, Some(logical::TIMESTAMP)) => timestamp_type(),
            ("integer", ..) => DataType::Int64,
            (_, Some("bytes"), _) => DataType::Binary,
            ("number", Some("float32"), _) => DataType::Float32,
            ("number", ..) => DataType::Float64,
            ("string", ..) => {
                if let Some(symbols) = object.get("enum").and_then(Value::as_array) {
                    let key = if self.options.generalized { GENERAL_ENUM } else { ENUM };
                    parameters.entry(key.to_owned()).or_insert_with(|| title.unwrap_or_default().into());
                    for symbol in symbols.iter().filter_map(Value::as_str) {
                        parameters.entry(format!("{key}.{symbol}")).or_insert_with(|| symbol.into());
                    }
                }
                DataType::Utf8
            }
            ("array", Some("map"), _) => {
                let items = object.get("items").and_then(|items| items.get("properties"));
                let part = |key: &str| items.and_then(|items| items.get(key)).ok_or("a map has no key or no value");
                let keys = self.field("keys", part("key")?, document, false)?;
                map(keys, self.field("values", part("value")?, document, false)?)
            }
            ("array", ..) => {
                let items = object.get("items").ok_or("Array schema did not specify the items type")?;
                DataType::List(Arc::new(self.field("item", items, document, false)?))
            }
            ("object", Some("map"), _) => {
                let values = object.get("additionalProperties").ok_or("a map has no additionalProperties")?;
                map(Field::new("keys", DataType::Utf8, false), self.field("values", values, document, false)?)
            }
            ("object", ..) => {
                match (object.get("properties").and_then(Value::as_object), object.get("additionalProperties")) {
                    (None, Some(values @ Value::Object(_))) => {
                        map(Field::new("keys", DataType::Utf8, false), self.field("values", values, document, false)?)
                    }
                    (properties, _) => self.members(properties, object, document)?,
                }
            }
            (other, ..) => return Err(format!("{other} is not a type of JSON Schema")),
        };
        let mut facts = facts(object);
        if !parameters.is_empty() {
            facts.insert(SCHEMA_PARAMETERS.to_owned(), Value::Object(parameters).to_string());
        }
        Ok(Field::new(name, data_type, optional).with_metadata(facts))
    }

    /// Members in the order of `connect.index`; those without one come behind, in the schema's order.
    fn members(
        &mut self,
        properties: Option<&'s Map<String, Value>>,
        object: &'s Map<String, Value>,
        document: &'s Value,
    ) -> Result<DataType, String> {
        let required: Vec<_> = object.get("required").map_or_else(Vec::new, names);
        let mut members: Vec<_> = properties.map_or_else(Vec::new, |properties| properties.iter().collect());
        members.sort_by_key(|(_, schema)| place_in_struct(schema));
        let member = |(name, schema): (&'s String, &'s Value)| {
            let optional = self.options.optional_for_nonrequired && !required.contains(&name.as_str());
            self.field(name, schema, document, optional)
        };
        Ok(DataType::Struct(members.into_iter().map(member).collect::<Result<Fields, String>>()?))
    }
}

/// The members of all parts of a schema; the later of one name counts.
#[derive(Default)]
struct Properties<'s> {
    /// Name, schema, the document it is in, whether it is required.
    members: Vec<(&'s String, &'s Value, &'s Value, bool)>,
    visited: Vec<String>,
}

fn required(schema: &Value) -> Vec<&str> {
    schema.get("required").map_or_else(Vec::new, names)
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().map_or_else(Vec::new, |names| names.iter().filter_map(Value::as_str).collect())
}

fn place_in_struct(schema: &Value) -> i64 {
    schema.get(INDEX).and_then(Value::as_i64).unwrap_or(i64::MAX)
}

/// Of the parts of one value that is no object, that which tells its type.
fn most_telling(parts: &[Value]) -> Result<&Value, String> {
    let has = |key: &'static str| move |part: &&Value| part.get(key).is_some();
    let text = |part: &&Value| part.get("type").and_then(Value::as_str) == Some("string");
    let found = parts.iter().find(|part| has("oneOf")(part) || has("anyOf")(part));
    // A text that is one of some is an enum; of numbers the type alone counts.
    let found = found.or_else(|| parts.iter().find(has("enum")).filter(|_| parts.iter().any(|part| text(&part))));
    let found = found.or_else(|| parts.iter().find(has("type"))).or_else(|| parts.iter().find(has("$ref")));
    found.or_else(|| parts.iter().find(has("enum"))).ok_or_else(|| "allOf has no part with a type".to_owned())
}

/// Name, version, doc, parameters and default of a schema.
fn facts(object: &Map<String, Value>) -> HashMap<String, String> {
    let mut facts = HashMap::new();
    let mut put = |key: &str, value: String| facts.insert(key.to_owned(), value);
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    if let Some(title) = text("title") {
        put(SCHEMA_NAME, title.to_owned());
    }
    if let Some(version) = object.get(VERSION).and_then(Value::as_i64) {
        put(SCHEMA_VERSION, version.to_string());
    }
    if let Some(doc) = text("description") {
        put(SCHEMA_DOC, doc.to_owned());
    }
    if let Some(parameters) = object.get(PARAMETERS).filter(|parameters| parameters.is_object()) {
        put(SCHEMA_PARAMETERS, parameters.to_string());
    }
    if let Some(default) = object.get("default").filter(|default| !default.is_null()) {
        put(SCHEMA_DEFAULT, default.to_string());
    }
    facts
}

fn map(keys: Field, values: Field) -> DataType {
    let entries = Fields::from(vec![keys.with_nullable(false), values]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

fn with_fact(field: Field, key: &str, value: String) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(key.to_owned(), value);
    field.with_metadata(metadata)
}

fn contains_itself(place: &str) -> String {
    // A place within a document has the document in front.
    let reference = place.find('#').map_or(place, |at| if place.starts_with("0x") { &place[at..] } else { place });
    format!("{reference} contains itself; values of such a type have no columns and cannot be converted")
}
