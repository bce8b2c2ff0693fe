//! Reads JSON into Arrow arrays by a schema.
//!
//! Every row is read, whatever becomes of the others. A value that does not fit its type fails its row with the path of the
//! field. (Kafka Connect takes 0, `false` or null for a number, a boolean or a text of another type, and cuts integers that
//! are too large: here these rows fail, so that nothing is lost silently.)

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, NullBufferBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_NAME, SCHEMA_OPTIONAL};

use super::config::Options;
use super::schema::logical;
use super::syntax::{Items, Kind, Members};
use super::union::{is_union, member_of};
use super::{decimal, text};
use crate::converter::RowFailure;

/// One value a row. `None` is a tombstone: null, whatever the schema says; the text `null` becomes the default, or fails where
/// the schema is not optional. The texts were checked. Rows that fail have some value in the array. The error is of the schema.
pub fn decode(field: &Field, rows: &[Option<&str>], options: &Options) -> Result<(ArrayRef, Vec<RowFailure>), String> {
    let mut builder = Builder::new(field, rows.len(), options)?;
    let optional = field.metadata().get(SCHEMA_OPTIONAL).is_none_or(|optional| optional == "true");
    let mut failures = Vec::new();
    for (row, text) in rows.iter().enumerate() {
        let mut error = None;
        match text {
            None => builder.append_nothing(),
            Some("null") if !optional && builder.default.is_none() => {
                fail(&mut error, format!("Invalid null value for required {} field", builder.type_name));
                builder.append_nothing();
            }
            Some(_) => builder.append(*text, &mut error),
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

/// Collects one array. `append` always adds exactly one entry, so that columns stay of one length when a row fails.
struct Builder {
    nullable: bool,
    default: Option<String>,
    type_name: &'static str,
    values: Values,
}

enum Values {
    Boolean(BooleanBuilder),
    Int8(PrimitiveBuilder<Int8Type>),
    Int16(PrimitiveBuilder<Int16Type>),
    Int32(PrimitiveBuilder<Int32Type>),
    Int64(PrimitiveBuilder<Int64Type>),
    Float32(PrimitiveBuilder<Float32Type>),
    Float64(PrimitiveBuilder<Float64Type>),
    Date(PrimitiveBuilder<Date32Type>),
    Time(PrimitiveBuilder<Time32MillisecondType>),
    Timestamp(PrimitiveBuilder<TimestampMillisecondType>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Decimal(BinaryBuilder, i32),
    List {
        item: FieldRef,
        items: Box<Builder>,
        offsets: Vec<i32>,
        nulls: NullBufferBuilder,
    },
    Map {
        entries: FieldRef,
        entries_as_objects: bool,
        keys: Box<Builder>,
        values: Box<Builder>,
        offsets: Vec<i32>,
        nulls: NullBufferBuilder,
    },
    Struct {
        fields: Fields,
        members: Vec<Builder>,
        nulls: NullBufferBuilder,
        /// Values are of one of the members' types.
        union: bool,
    },
}

impl Builder {
    fn new(field: &Field, rows: usize, options: &Options) -> Result<Self, String> {
        let metadata = field.metadata();
        let nulls = || NullBufferBuilder::new(rows);
        let offsets = || {
            let mut offsets = Vec::with_capacity(rows + 1);
            offsets.push(0);
            offsets
        };
        let (type_name, values) = match field.data_type() {
            DataType::Boolean => ("BOOLEAN", Values::Boolean(BooleanBuilder::with_capacity(rows))),
            DataType::Int8 => ("INT8", Values::Int8(PrimitiveBuilder::with_capacity(rows))),
            DataType::Int16 => ("INT16", Values::Int16(PrimitiveBuilder::with_capacity(rows))),
            DataType::Int32 => ("INT32", Values::Int32(PrimitiveBuilder::with_capacity(rows))),
            DataType::Int64 => ("INT64", Values::Int64(PrimitiveBuilder::with_capacity(rows))),
            DataType::Float32 => ("FLOAT32", Values::Float32(PrimitiveBuilder::with_capacity(rows))),
            DataType::Float64 => ("FLOAT64", Values::Float64(PrimitiveBuilder::with_capacity(rows))),
            DataType::Date32 => ("INT32", Values::Date(PrimitiveBuilder::with_capacity(rows))),
            DataType::Time32(TimeUnit::Millisecond) => ("INT32", Values::Time(PrimitiveBuilder::with_capacity(rows))),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                let builder = PrimitiveBuilder::with_capacity(rows).with_data_type(field.data_type().clone());
                ("INT64", Values::Timestamp(builder))
            }
            DataType::Utf8 => ("STRING", Values::Text(StringBuilder::with_capacity(rows, rows * 16))),
            DataType::Binary if metadata.get(SCHEMA_NAME).is_some_and(|name| name == logical::DECIMAL) => {
                ("BYTES", Values::Decimal(BinaryBuilder::with_capacity(rows, rows * 8), decimal::scale(field)?))
            }
            DataType::Binary => ("BYTES", Values::Bytes(BinaryBuilder::with_capacity(rows, rows * 16))),
            DataType::List(item) => {
                let items = Box::new(Self::new(item, rows, options)?);
                ("ARRAY", Values::List { item: item.clone(), items, offsets: offsets(), nulls: nulls() })
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let keys = Box::new(Self::new(&pair[0], rows, options)?);
                let values = Box::new(Self::new(&pair[1], rows, options)?);
                (
                    "MAP",
                    Values::Map {
                        entries: entries.clone(),
                        entries_as_objects: options.entries_as_objects,
                        keys,
                        values,
                        offsets: offsets(),
                        nulls: nulls(),
                    },
                )
            }
            DataType::Struct(fields) => {
                let members = fields.iter().map(|field| Self::new(field, rows, options)).collect::<Result<_, _>>()?;
                let union = options.unions && is_union(field);
                ("STRUCT", Values::Struct { fields: fields.clone(), members, nulls: nulls(), union })
            }
            other => return Err(format!("the type {other} cannot be read from JSON")),
        };
        let default = metadata.get(SCHEMA_DEFAULT).filter(|_| options.replace_null_with_default).cloned();
        Ok(Self { nullable: field.is_nullable(), default, type_name, values })
    }

    /// Adds a value, or null and the reason for it.
    fn append(&mut self, value: Option<&str>, error: &mut Option<Failure>) {
        let default;
        let value = match value {
            Some(text) if text != "null" => text,
            _ if self.default.is_some() => {
                default = self.default.clone().unwrap_or_default();
                &default
            }
            _ => {
                if !self.nullable {
                    fail(error, format!("Invalid null value for required {} field", self.type_name));
                }
                return self.append_nothing();
            }
        };
        if let Err(what) = self.append_value(value, error) {
            fail(error, what);
            self.append_nothing();
        }
    }

    /// Adds a value that is not null. After `Err`, nothing was added.
    fn append_value(&mut self, value: &str, error: &mut Option<Failure>) -> Result<(), String> {
        let wrong = |expected: &str| format!("expected {expected}, but found {}", shown(value));
        match &mut self.values {
            Values::Boolean(builder) => match value {
                "true" => builder.append_value(true),
                "false" => builder.append_value(false),
                _ => return Err(wrong("a boolean")),
            },
            Values::Int8(builder) => builder.append_value(integer(value)?),
            Values::Int16(builder) => builder.append_value(integer(value)?),
            Values::Int32(builder) => builder.append_value(integer(value)?),
            Values::Int64(builder) => builder.append_value(integer(value)?),
            Values::Date(builder) => builder.append_value(logical_integer(value, "Date", "integer")?),
            Values::Time(builder) => builder.append_value(logical_integer(value, "Time", "integer")?),
            Values::Timestamp(builder) => builder.append_value(logical_integer(value, "Timestamp", "integral")?),
            Values::Float32(builder) => builder.append_value(float(value)? as f32),
            Values::Float64(builder) => builder.append_value(float(value)?),
            Values::Text(builder) => match Kind::of(value) {
                Kind::String => builder.append_value(text::string_value(value)),
                _ => return Err(wrong("a string")),
            },
            Values::Bytes(builder) => match Kind::of(value) {
                Kind::String => builder.append_value(base64(value).ok_or("Invalid bytes field")?),
                _ => return Err(wrong("a base64 string")),
            },
            Values::Decimal(builder, scale) => match Kind::of(value) {
                Kind::Number => builder.append_value(decimal::from_text(value, *scale)?),
                Kind::String => builder.append_value(base64(value).ok_or("Invalid bytes for Decimal field")?),
                other => {
                    return Err(format!(
                        "Invalid type for Decimal, underlying representation should be numeric or bytes but was {}",
                        node_type(other)
                    ));
                }
            },
            Values::List { items, offsets, nulls, .. } => {
                for (i, item) in Items::of(value).ok_or_else(|| wrong("an array"))?.enumerate() {
                    let Ok(item) = item else { break };
                    nested(error, || i.to_string(), |error| items.append(Some(item), error));
                }
                offsets.push(items.len() as i32);
                nulls.append_non_null();
            }
            Values::Map { entries_as_objects, keys, values, offsets, nulls, .. } => {
                if let Values::Text(names) = &mut keys.values {
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
                        nested(error, || key.to_string(), |error| values.append(Some(value), error));
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
                                keys.append(Some(key), error);
                                values.append(Some(value), error);
                            },
                        );
                    }
                }
                offsets.push(values.len() as i32);
                nulls.append_non_null();
            }
            Values::Struct { fields, members, nulls, union: true } => {
                let chosen = member_of(fields, value)
                    .ok_or_else(|| format!("Did not find matching oneof field for data {}", shown(value)))?;
                for (index, member) in members.iter_mut().enumerate() {
                    if index == chosen {
                        nested(error, || fields[index].name().clone(), |error| member.append(Some(value), error));
                    } else {
                        member.append_nothing();
                    }
                }
                nulls.append_non_null();
            }
            Values::Struct { fields, members, nulls, .. } => {
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
                for ((field, member), value) in fields.iter().zip(members).zip(found) {
                    nested(error, || field.name().clone(), |error| member.append(value, error));
                }
                nulls.append_non_null();
            }
        }
        Ok(())
    }

    /// Adds a null, or where the schema has none, some value: the row is null or has failed.
    fn append_nothing(&mut self) {
        let null = self.nullable;
        macro_rules! primitive {
            ($builder:expr) => {
                if null { $builder.append_null() } else { $builder.append_value(Default::default()) }
            };
        }
        match &mut self.values {
            Values::Boolean(builder) => primitive!(builder),
            Values::Int8(builder) => primitive!(builder),
            Values::Int16(builder) => primitive!(builder),
            Values::Int32(builder) => primitive!(builder),
            Values::Int64(builder) => primitive!(builder),
            Values::Float32(builder) => primitive!(builder),
            Values::Float64(builder) => primitive!(builder),
            Values::Date(builder) => primitive!(builder),
            Values::Time(builder) => primitive!(builder),
            Values::Timestamp(builder) => primitive!(builder),
            Values::Text(builder) if null => builder.append_null(),
            Values::Text(builder) => builder.append_value(""),
            Values::Bytes(builder) | Values::Decimal(builder, _) if null => builder.append_null(),
            Values::Bytes(builder) | Values::Decimal(builder, _) => builder.append_value([]),
            Values::List { items, offsets, nulls, .. } => {
                offsets.push(items.len() as i32);
                nulls.append(!null);
            }
            Values::Map { values, offsets, nulls, .. } => {
                offsets.push(values.len() as i32);
                nulls.append(!null);
            }
            Values::Struct { members, nulls, .. } => {
                members.iter_mut().for_each(Self::append_nothing);
                nulls.append(!null);
            }
        }
    }

    fn len(&self) -> usize {
        use arrow_array::builder::ArrayBuilder;
        match &self.values {
            Values::Boolean(builder) => builder.len(),
            Values::Int8(builder) => builder.len(),
            Values::Int16(builder) => builder.len(),
            Values::Int32(builder) => builder.len(),
            Values::Int64(builder) => builder.len(),
            Values::Float32(builder) => builder.len(),
            Values::Float64(builder) => builder.len(),
            Values::Date(builder) => builder.len(),
            Values::Time(builder) => builder.len(),
            Values::Timestamp(builder) => builder.len(),
            Values::Text(builder) => builder.len(),
            Values::Bytes(builder) | Values::Decimal(builder, _) => builder.len(),
            Values::List { nulls, .. } | Values::Map { nulls, .. } | Values::Struct { nulls, .. } => nulls.len(),
        }
    }

    fn finish(self) -> Result<ArrayRef, String> {
        let offsets = |offsets: Vec<i32>| OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(match self.values {
            Values::Boolean(mut builder) => Arc::new(builder.finish()),
            Values::Int8(mut builder) => Arc::new(builder.finish()),
            Values::Int16(mut builder) => Arc::new(builder.finish()),
            Values::Int32(mut builder) => Arc::new(builder.finish()),
            Values::Int64(mut builder) => Arc::new(builder.finish()),
            Values::Float32(mut builder) => Arc::new(builder.finish()),
            Values::Float64(mut builder) => Arc::new(builder.finish()),
            Values::Date(mut builder) => Arc::new(builder.finish()),
            Values::Time(mut builder) => Arc::new(builder.finish()),
            Values::Timestamp(mut builder) => Arc::new(builder.finish()),
            Values::Text(mut builder) => Arc::new(builder.finish()),
            Values::Bytes(mut builder) | Values::Decimal(mut builder, _) => Arc::new(builder.finish()),
            Values::List { item, items, offsets: ends, mut nulls } => {
                let array = ListArray::try_new(item, offsets(ends), items.finish()?, nulls.finish());
                Arc::new(array.map_err(|error| error.to_string())?)
            }
            Values::Map { entries, keys, values, offsets: ends, mut nulls, .. } => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let pairs = StructArray::try_new(fields.clone(), vec![keys.finish()?, values.finish()?], None);
                let pairs = pairs.map_err(|error| error.to_string())?;
                let array = MapArray::try_new(entries, offsets(ends), pairs, nulls.finish(), false);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
            Values::Struct { fields, members, mut nulls, .. } => {
                let length = nulls.len();
                let columns = members.into_iter().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                let array = StructArray::try_new_with_length(fields, columns, nulls.finish(), length);
                Arc::new(array.map_err(|error| error.to_string())?)
            }
        })
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
