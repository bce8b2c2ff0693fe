//! Reads JSON into Arrow arrays by a schema.
//!
//! Every row is read, whatever becomes of the others. A value that does not fit its type fails its row with the path of the
//! field. (Kafka Connect takes 0, `false` or null for a number, a boolean or a text of another type, and cuts integers that
//! are too large: here these rows fail, so that nothing is lost silently.)

use arrow_array::ArrayRef;
use arrow_schema::{DataType, Field, Fields};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_NAME, SCHEMA_OPTIONAL};

use super::config::Options;
use super::schema::{logical, type_name};
use super::syntax::{Items, Kind, Members};
use super::union::{is_union, member_of};
use super::{decimal, text};
use crate::converter::RowFailure;
use crate::converter::columns::{Builder, MISMATCH, Values};

/// One value a row. `None` is a tombstone: null, whatever the schema says; the text `null` becomes the default, or fails where
/// the schema is not optional. The texts were checked. Rows that fail have some value in the array. The error is of the schema.
pub fn decode(field: &Field, rows: &[Option<&str>], options: &Options) -> Result<(ArrayRef, Vec<RowFailure>), String> {
    let node = Node::new(field, options)?;
    let mut builder = Builder::new(field, rows.len())?;
    let optional = field.metadata().get(SCHEMA_OPTIONAL).is_none_or(|optional| optional == "true");
    let mut failures = Vec::new();
    for (row, text) in rows.iter().enumerate() {
        let mut error = None;
        match text {
            None => builder.append_null(),
            Some("null") if !optional && node.default.is_none() => {
                fail(&mut error, node.null_refused());
                builder.append_null();
            }
            Some(_) => node.append(*text, &mut builder, &mut error),
        }
        if let Some(Failure { mut path, what }) = error {
            path.reverse();
            let message = if path.is_empty() { what } else { format!("{what}, in {}", path.join(".")) };
            failures.push(RowFailure { row, message });
        }
    }
    Ok((builder.finish()?, failures))
}

/// What was wrong with a row, and where: names from the inside out.
struct Failure {
    path: Vec<String>,
    what: String,
}

/// How values of a field are read. `append` always adds exactly one entry, so that columns stay of one length when a row fails.
struct Node {
    default: Option<String>,
    type_name: String,
    shape: Shape,
}

enum Shape {
    /// As the column's type says.
    Plain,
    /// The scale.
    Decimal(i32),
    List(Box<Node>),
    Map {
        entries_as_objects: bool,
        keys: Box<Node>,
        values: Box<Node>,
    },
    /// Of a union, values are of one of the members' types.
    Struct {
        fields: Fields,
        members: Vec<Node>,
        union: bool,
    },
}

impl Node {
    fn new(field: &Field, options: &Options) -> Result<Self, String> {
        let metadata = field.metadata();
        let shape = match field.data_type() {
            DataType::Binary if metadata.get(SCHEMA_NAME).is_some_and(|name| name == logical::DECIMAL) => {
                Shape::Decimal(decimal::scale(field)?)
            }
            DataType::List(item) => Shape::List(Box::new(Self::new(item, options)?)),
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                Shape::Map {
                    entries_as_objects: options.entries_as_objects,
                    keys: Box::new(Self::new(&pair[0], options)?),
                    values: Box::new(Self::new(&pair[1], options)?),
                }
            }
            DataType::Struct(fields) => Shape::Struct {
                fields: fields.clone(),
                members: fields.iter().map(|field| Self::new(field, options)).collect::<Result<_, _>>()?,
                union: options.unions && is_union(field),
            },
            _ => Shape::Plain,
        };
        let default = metadata.get(SCHEMA_DEFAULT).filter(|_| options.replace_null_with_default).cloned();
        Ok(Self { default, type_name: type_name(field.data_type()), shape })
    }

    fn null_refused(&self) -> String {
        format!("Invalid null value for required {} field", self.type_name)
    }

    /// Adds a value, or null and the reason for it.
    fn append(&self, value: Option<&str>, builder: &mut Builder, error: &mut Option<Failure>) {
        let value = match (value, &self.default) {
            (Some(text), _) if text != "null" => text,
            (_, Some(default)) => default,
            _ => {
                if !builder.nullable() {
                    fail(error, self.null_refused());
                }
                return builder.append_null();
            }
        };
        if let Err(what) = self.append_value(value, builder, error) {
            fail(error, what);
            builder.append_null();
        }
    }

    /// Adds a value that is not null. After `Err`, nothing was added.
    fn append_value(&self, value: &str, builder: &mut Builder, error: &mut Option<Failure>) -> Result<(), String> {
        let wrong = |expected: &str| format!("expected {expected}, but found {}", shown(value));
        match (&self.shape, &mut builder.values) {
            (_, Values::Boolean(builder)) => match value {
                "true" => builder.append_value(true),
                "false" => builder.append_value(false),
                _ => return Err(wrong("a boolean")),
            },
            (_, Values::Int8(builder)) => builder.append_value(integer(value)?),
            (_, Values::Int16(builder)) => builder.append_value(integer(value)?),
            (_, Values::Int32(builder)) => builder.append_value(integer(value)?),
            (_, Values::Int64(builder)) => builder.append_value(integer(value)?),
            (_, Values::Date(builder)) => builder.append_value(logical_integer(value, "Date", "integer")?),
            (_, Values::Time(builder)) => builder.append_value(logical_integer(value, "Time", "integer")?),
            (_, Values::Timestamp(builder)) => builder.append_value(logical_integer(value, "Timestamp", "integral")?),
            (_, Values::Float32(builder)) => builder.append_value(float(value)? as f32),
            (_, Values::Float64(builder)) => builder.append_value(float(value)?),
            (_, Values::Text(builder)) => match Kind::of(value) {
                Kind::String => builder.append_value(text::string_value(value)),
                _ => return Err(wrong("a string")),
            },
            (Shape::Decimal(scale), Values::Bytes(builder)) => match Kind::of(value) {
                Kind::Number => builder.append_value(decimal::from_text(value, *scale)?),
                Kind::String => builder.append_value(base64(value).ok_or("Invalid bytes for Decimal field")?),
                other => {
                    return Err(format!(
                        "Invalid type for Decimal, underlying representation should be numeric or bytes but was {}",
                        node_type(other)
                    ));
                }
            },
            (_, Values::Bytes(builder)) => match Kind::of(value) {
                Kind::String => builder.append_value(base64(value).ok_or("Invalid bytes field")?),
                _ => return Err(wrong("a base64 string")),
            },
            (Shape::List(node), Values::List(list)) => {
                for (i, item) in Items::of(value).ok_or_else(|| wrong("an array"))?.enumerate() {
                    let Ok(item) = item else { break };
                    nested(error, || i.to_string(), |error| node.append(Some(item), &mut list.items, error));
                }
                list.end();
            }
            (Shape::Map { entries_as_objects, keys, values }, Values::Map(map)) => {
                if let Values::Text(names) = &mut map.keys.values {
                    let members = Members::of(value).ok_or_else(|| {
                        format!(
                            "Maps with string fields should be encoded as JSON objects, but found {}",
                            node_type(Kind::of(value))
                        )
                    })?;
                    // Of a repeated key the last value counts.
                    let mut entries: Vec<(std::borrow::Cow<'_, str>, &str)> = Vec::new();
                    for member in members.map_while(Result::ok) {
                        let key = if member.escaped { text::unescape(member.key) } else { member.key.into() };
                        match entries.iter_mut().find(|(known, _)| *known == key) {
                            Some(entry) => entry.1 = member.value,
                            None => entries.push((key, member.value)),
                        }
                    }
                    for (key, value) in entries {
                        names.append_value(&key);
                        nested(error, || key.to_string(), |error| values.append(Some(value), &mut map.values, error));
                    }
                } else {
                    let items = Items::of(value).ok_or_else(|| {
                        format!(
                            "Maps with non-string fields should be encoded as JSON array of tuples, but found {}",
                            node_type(Kind::of(value))
                        )
                    })?;
                    for (i, item) in items.map_while(Result::ok).enumerate() {
                        let entry = Members::of(item).filter(|_| *entries_as_objects).map(|members| {
                            let mut pair = vec!["null"; 2];
                            for member in members.map_while(Result::ok) {
                                match member.key {
                                    "key" => pair[0] = member.value,
                                    "value" => pair[1] = member.value,
                                    _ => {}
                                }
                            }
                            pair
                        });
                        let pair: Vec<&str> = match Items::of(item) {
                            None if entry.is_some() => entry.unwrap_or_default(),
                            Some(pair) => pair.map_while(Result::ok).collect(),
                            None => {
                                let found = node_type(Kind::of(item));
                                fail(error, format!("Found invalid map entry instead of array tuple: {found}"));
                                break;
                            }
                        };
                        let [key, value] = pair[..] else {
                            fail(
                                error,
                                format!("Found invalid map entry, expected length 2 but found :{}", pair.len()),
                            );
                            break;
                        };
                        nested(
                            error,
                            || i.to_string(),
                            |error| {
                                keys.append(Some(key), &mut map.keys, error);
                                values.append(Some(value), &mut map.values, error);
                            },
                        );
                    }
                }
                map.end();
            }
            (Shape::Struct { fields, members, union: true }, Values::Struct(structs)) => {
                let chosen = member_of(fields, value)
                    .ok_or_else(|| format!("Did not find matching oneof field for data {}", shown(value)))?;
                for (index, column) in structs.members.iter_mut().enumerate() {
                    if index == chosen {
                        let name = || fields[index].name().clone();
                        nested(error, name, |error| members[index].append(Some(value), column, error));
                    } else {
                        column.append_null();
                    }
                }
                structs.end();
            }
            (Shape::Struct { fields, members, .. }, Values::Struct(structs)) => {
                let object = Members::of(value).ok_or_else(|| {
                    format!("Structs should be encoded as JSON objects, but found {}", node_type(Kind::of(value)))
                })?;
                let mut found: Vec<Option<&str>> = vec![None; fields.len()];
                // Fields mostly come in the schema's order: look behind the last one first.
                let mut next = 0;
                for member in object.map_while(Result::ok) {
                    let unescaped;
                    let key = if member.escaped {
                        unescaped = text::unescape(member.key);
                        &*unescaped
                    } else {
                        member.key
                    };
                    let is = |i: &usize| fields[*i].name() == key;
                    if let Some(i) = (next..fields.len()).find(is).or_else(|| (0..next.min(fields.len())).find(is)) {
                        found[i] = Some(member.value);
                        next = i + 1;
                    }
                }
                for (((field, member), column), value) in
                    fields.iter().zip(members).zip(&mut structs.members).zip(found)
                {
                    nested(error, || field.name().clone(), |error| member.append(value, column, error));
                }
                structs.end();
            }
            _ => return Err(MISMATCH.to_owned()),
        }
        Ok(())
    }
}

/// Keeps the first failure of a row.
fn fail(error: &mut Option<Failure>, what: String) {
    if error.is_none() {
        *error = Some(Failure { path: Vec::new(), what });
    }
}

/// Adds a name to the path of a failure that `inside` reports.
fn nested(error: &mut Option<Failure>, name: impl FnOnce() -> String, inside: impl FnOnce(&mut Option<Failure>)) {
    let before = error.is_some();
    inside(error);
    if let Some(failure) = error.as_mut().filter(|_| !before) {
        failure.path.push(name());
    }
}

/// An integer, also one written as `1.0` or `1e3`.
fn integer<T: TryFrom<i64> + std::str::FromStr>(text: &str) -> Result<T, String> {
    if let Ok(value) = text.parse() {
        return Ok(value);
    }
    if Kind::of(text) != Kind::Number {
        return Err(format!("expected an integer, but found {}", shown(text)));
    }
    let whole = decimal::from_text(text, 0).map_err(|_| format!("expected an integer, but found {}", shown(text)))?;
    decimal::to_text(&whole, 0).parse().map_err(|_| format!("the number {} does not fit its type", shown(text)))
}

fn logical_integer<T: std::str::FromStr>(text: &str, name: &str, kind: &str) -> Result<T, String> {
    text.parse().map_err(|_| {
        let found = node_type(Kind::of(text));
        format!("Invalid type for {name}, underlying representation should be {kind} but was {found}")
    })
}

fn float(text: &str) -> Result<f64, String> {
    match text {
        // As Kafka Connect writes them.
        "\"NaN\"" => Ok(f64::NAN),
        "\"Infinity\"" => Ok(f64::INFINITY),
        "\"-Infinity\"" => Ok(f64::NEG_INFINITY),
        _ if Kind::of(text) == Kind::Number => text.parse().map_err(|_| format!("{} is not a number", shown(text))),
        _ => Err(format!("expected a number, but found {}", shown(text))),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text::string_value(text).as_bytes()).ok()
}

/// Jackson's names of JSON's types, as Kafka Connect's messages have them.
fn node_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Null => "NULL",
        Kind::Boolean => "BOOLEAN",
        Kind::Number => "NUMBER",
        Kind::String => "STRING",
        Kind::Array => "ARRAY",
        Kind::Object => "OBJECT",
    }
}

/// At most 40 characters of a value.
fn shown(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
