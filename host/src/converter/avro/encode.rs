//! Writes rows of columns in Avro's binary form, by a schema that may be another than the columns' own.
//!
//! Fields are found by name. One that the column does not have gets the schema's default; numbers are widened.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{Array, BinaryArray, BooleanArray, StringArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, TimeUnit};
use serde_json::Value;
use tributary_sdk::batch::{SCHEMA_DEFAULT, SCHEMA_NAME, SCHEMA_PARAMETERS};

use super::defaults;
use super::from_connect::scrubbed;
use super::names::{GENERAL_UNION, UNION};
use super::options::Options;
use super::schema::{Kind, Schema};
use super::to_connect::is_map_entry;
use crate::converter::within;

/// How a schema is met.
#[derive(Clone, Copy)]
pub struct Rules {
    /// The converter's.
    pub options: Options,
    /// Every field of the column has its place in the schema.
    pub strict: bool,
}

/// Writes the rows of one array.
pub struct Encoder<'a> {
    nulls: Option<&'a NullBuffer>,
    /// What a null is written as; `None`: it cannot be.
    null: Option<Vec<u8>>,
    /// What stands before a value: the number of its branch in a union with null.
    before: Vec<u8>,
    values: Values<'a>,
}

enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Float32As64(&'a [f32]),
    Bytes(&'a BinaryArray),
    Text(&'a StringArray),
    Fixed(&'a BinaryArray, usize, bool),
    Enum(&'a StringArray, HashMap<String, i64>),
    List(&'a OffsetBuffer<i32>, Box<Encoder<'a>>),
    Map(&'a OffsetBuffer<i32>, Box<Encoder<'a>>, Box<Encoder<'a>>),
    /// Each with its name.
    Record(Vec<(String, Member<'a>)>),
    /// Each with the number of its branch.
    Union(Vec<(i64, &'a dyn Array, Encoder<'a>)>),
}

enum Member<'a> {
    Field(Encoder<'a>),
    Constant(Vec<u8>),
}

impl<'a> Encoder<'a> {
    /// For the rows of `array`, which `field` describes.
    pub fn new(schema: &Schema, field: &Field, array: &'a dyn Array, rules: Rules) -> Result<Self, String> {
        let is_union = matches!(field.data_type(), DataType::Struct(_))
            && (field.metadata().get(SCHEMA_NAME).is_some_and(|name| name == UNION)
                || field.metadata().get(SCHEMA_PARAMETERS).is_some_and(|all| all.contains(GENERAL_UNION)));
        // As Java's Struct does, which has no null where there is a default.
        let default = field.metadata().get(SCHEMA_DEFAULT).filter(|_| !rules.options.ignore_defaults);
        let default = default.and_then(|default| default_bytes(default, field, schema));
        if let Kind::Union(members) = &schema.kind {
            let null = members.iter().position(|member| matches!(member.kind, Kind::Null));
            let null = null.map(|null| zigzag(null as i64));
            if is_union {
                let values = union(members, field, array, rules)?;
                return Ok(Self { nulls: array.nulls(), null, before: Vec::new(), values });
            }
            // The first branch that the column fits.
            let mut why = None;
            for (number, member) in members.iter().enumerate() {
                if matches!(member.kind, Kind::Null) {
                    continue;
                }
                match Self::new(member, field, array, rules) {
                    Ok(inner) => return Ok(Self { null: default.or(null), before: zigzag(number as i64), ..inner }),
                    Err(error) => why = why.or(Some(error)),
                }
            }
            return Err(why.unwrap_or_else(|| "the schema is null".to_owned()));
        }
        Ok(Self {
            nulls: array.nulls(),
            null: default,
            before: Vec::new(),
            values: values(schema, field, array, rules)?,
        })
    }

    /// Appends a row.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            let null = self.null.as_ref().ok_or("the value is null, and its type is not optional")?;
            out.extend_from_slice(null);
            return Ok(());
        }
        out.extend_from_slice(&self.before);
        match &self.values {
            Values::Null => {}
            Values::Boolean(array) => out.push(u8::from(array.value(row))),
            Values::Int8(values) => write_number(out, values[row].into()),
            Values::Int16(values) => write_number(out, values[row].into()),
            Values::Int32(values) => write_number(out, values[row].into()),
            Values::Int64(values) => write_number(out, values[row]),
            Values::Float32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Float64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Values::Float32As64(values) => out.extend_from_slice(&f64::from(values[row]).to_le_bytes()),
            Values::Bytes(array) => write_bytes(out, array.value(row)),
            Values::Text(array) => write_bytes(out, array.value(row).as_bytes()),
            Values::Fixed(array, size, number) => {
                let value = array.value(row);
                if *number && value.len() < *size {
                    // A decimal is as wide as its type.
                    let sign = if value.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
                    out.extend(std::iter::repeat_n(sign, size - value.len()));
                } else if value.len() != *size {
                    return Err(format!("a value has {} bytes, and its type {size}", value.len()));
                }
                out.extend_from_slice(value);
            }
            Values::Enum(array, symbols) => {
                let value = array.value(row);
                let number = symbols.get(value);
                write_number(out, *number.ok_or_else(|| format!("the enum has no symbol {value}"))?);
            }
            Values::List(offsets, items) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                if to > from {
                    write_number(out, (to - from) as i64);
                    (from..to).try_for_each(|item| items.write(item, out))?;
                }
                out.push(0);
            }
            Values::Map(offsets, keys, values) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                if to > from {
                    write_number(out, (to - from) as i64);
                    for entry in from..to {
                        keys.write(entry, out)?;
                        values.write(entry, out)?;
                    }
                }
                out.push(0);
            }
            Values::Record(members) => {
                for (name, member) in members {
                    match member {
                        Member::Field(encoder) => {
                            encoder.write(row, out).map_err(|error| within(name, error))?;
                        }
                        Member::Constant(bytes) => out.extend_from_slice(bytes),
                    }
                }
            }
            Values::Union(members) => {
                let member = members.iter().find(|(_, array, _)| array.is_valid(row));
                let (number, _, encoder) = member.ok_or("no member of a union has a value")?;
                write_number(out, *number);
                encoder.write(row, out)?;
            }
        }
        Ok(())
    }
}

fn values<'a>(schema: &Schema, field: &Field, array: &'a dyn Array, rules: Rules) -> Result<Values<'a>, String> {
    Ok(match (&schema.kind, field.data_type()) {
        (Kind::Null, _) if array.null_count() == array.len() => Values::Null,
        (Kind::Boolean, DataType::Boolean) => Values::Boolean(array.as_boolean()),
        (Kind::Int | Kind::Long, DataType::Int8) => Values::Int8(array.as_primitive::<Int8Type>().values()),
        (Kind::Int | Kind::Long, DataType::Int16) => Values::Int16(array.as_primitive::<Int16Type>().values()),
        (Kind::Int | Kind::Long, DataType::Int32) => Values::Int32(array.as_primitive::<Int32Type>().values()),
        (Kind::Int, DataType::Date32) => Values::Int32(array.as_primitive::<Date32Type>().values()),
        (Kind::Int, DataType::Time32(TimeUnit::Millisecond)) => {
            Values::Int32(array.as_primitive::<Time32MillisecondType>().values())
        }
        (Kind::Long, DataType::Int64) => Values::Int64(array.as_primitive::<Int64Type>().values()),
        (Kind::Long, DataType::Timestamp(TimeUnit::Millisecond, _)) => {
            Values::Int64(array.as_primitive::<TimestampMillisecondType>().values())
        }
        (Kind::Float, DataType::Float32) => Values::Float32(array.as_primitive::<Float32Type>().values()),
        (Kind::Double, DataType::Float32) => Values::Float32As64(array.as_primitive::<Float32Type>().values()),
        (Kind::Double, DataType::Float64) => Values::Float64(array.as_primitive::<Float64Type>().values()),
        (Kind::Bytes, DataType::Binary) => Values::Bytes(array.as_binary()),
        (Kind::Fixed(size), DataType::Binary) => {
            Values::Fixed(array.as_binary(), *size, schema.logical() == Some("decimal"))
        }
        (Kind::String, DataType::Utf8) => Values::Text(array.as_string()),
        (Kind::Enum(symbols), DataType::Utf8) => {
            let numbered = symbols.iter().enumerate().map(|(number, symbol)| (symbol.clone(), number as i64));
            Values::Enum(array.as_string(), numbered.collect())
        }
        (Kind::Array(items), DataType::Map(entries, _)) if is_map_entry(items) => {
            let (Kind::Record(pair), DataType::Struct(fields)) = (&items.kind, entries.data_type()) else {
                return Err("a map without entries".to_owned());
            };
            let map = array.as_map();
            let keys = Encoder::new(&pair[0].schema, &fields[0], map.keys(), rules)?;
            let values = Encoder::new(&pair[1].schema, &fields[1], map.values(), rules)?;
            Values::Map(map.offsets(), Box::new(keys), Box::new(values))
        }
        (Kind::Map(schema), DataType::Map(entries, _)) => {
            let DataType::Struct(fields) = entries.data_type() else { return Err("a map without entries".to_owned()) };
            if *fields[0].data_type() != DataType::Utf8 {
                return Err("the keys of an Avro map are strings".to_owned());
            }
            let map = array.as_map();
            let keys =
                Encoder { nulls: None, null: None, before: Vec::new(), values: Values::Text(map.keys().as_string()) };
            let values = Encoder::new(schema, &fields[1], map.values(), rules)?;
            Values::Map(map.offsets(), Box::new(keys), Box::new(values))
        }
        (Kind::Array(schema), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            Values::List(list.offsets(), Box::new(Encoder::new(schema, item, list.values(), rules)?))
        }
        (Kind::Record(wanted), DataType::Struct(fields)) => record(wanted, fields, array, rules)?,
        (_, found) => {
            return Err(format!("the schema has {} where the record has {found}", schema.type_name()));
        }
    })
}

fn record<'a>(
    wanted: &[super::schema::RecordField],
    fields: &arrow_schema::Fields,
    array: &'a dyn Array,
    rules: Rules,
) -> Result<Values<'a>, String> {
    let columns = array.as_struct().columns();
    let mut used = vec![false; fields.len()];
    let mut members = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let name = &wanted.name;
        let is =
            |field: &&std::sync::Arc<Field>| field.name() == name || scrubbed(field.name(), rules.options) == *name;
        let found = fields.iter().position(|field| is(&field));
        let member = match (found, &wanted.default) {
            (Some(at), _) => {
                used[at] = true;
                let encoder = Encoder::new(&wanted.schema, &fields[at], &*columns[at], rules);
                Member::Field(encoder.map_err(|error| within(name, error))?)
            }
            (None, Some(default)) => {
                let mut bytes = Vec::new();
                write_default(default, &wanted.schema, &mut bytes)
                    .map_err(|error| format!("the default of field {name}: {error}"))?;
                Member::Constant(bytes)
            }
            (None, None) => return Err(format!("the record has no field {name}, and the schema no default for it")),
        };
        members.push((name.clone(), member));
    }
    if let Some(at) = used.iter().position(|used| !used).filter(|_| rules.strict) {
        return Err(format!(
            "the schema has no field {}; add it, or set latest.compatibility.strict=false to leave it out",
            fields[at].name()
        ));
    }
    Ok(Values::Record(members))
}

fn union<'a>(
    schemas: &[std::sync::Arc<Schema>],
    field: &Field,
    array: &'a dyn Array,
    rules: Rules,
) -> Result<Values<'a>, String> {
    let DataType::Struct(fields) = field.data_type() else { return Err("a union is a struct".to_owned()) };
    let others = || schemas.iter().enumerate().filter(|(_, schema)| !matches!(schema.kind, Kind::Null));
    let mut members = Vec::with_capacity(fields.len());
    for (at, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
        let named = |schema: &Schema| {
            let name = schema.type_name();
            name == field.name() || name.rsplit('.').next() == Some(field.name())
        };
        let found = others().find(|(_, schema)| named(schema)).or_else(|| others().nth(at));
        let (number, schema) = found.ok_or_else(|| format!("the schema's union has no member {}", field.name()))?;
        members.push((number as i64, &**column, Encoder::new(schema, field, column, rules)?));
    }
    Ok(Values::Union(members))
}

/// What a null is written as where the type is not optional.
fn default_bytes(default: &str, field: &Field, schema: &Schema) -> Option<Vec<u8>> {
    let default: Value = serde_json::from_str(default).ok()?;
    let mut bytes = Vec::new();
    write_default(&defaults::to_avro(&default, field), schema, &mut bytes).ok()?;
    Some(bytes)
}

/// Writes a value that stands in a schema as JSON.
pub fn write_default(value: &Value, schema: &Schema, out: &mut Vec<u8>) -> Result<(), String> {
    let wrong = || format!("{value} is not of type {}", schema.type_name());
    match &schema.kind {
        Kind::Null if value.is_null() => {}
        Kind::Null => return Err(wrong()),
        Kind::Boolean => out.push(u8::from(value.as_bool().ok_or_else(wrong)?)),
        Kind::Int | Kind::Long => write_number(out, value.as_i64().ok_or_else(wrong)?),
        Kind::Float => out.extend_from_slice(&(value.as_f64().ok_or_else(wrong)? as f32).to_le_bytes()),
        Kind::Double => out.extend_from_slice(&value.as_f64().ok_or_else(wrong)?.to_le_bytes()),
        Kind::Bytes => write_bytes(out, &defaults::latin1(value.as_str().ok_or_else(wrong)?)),
        Kind::Fixed(size) => {
            let bytes = defaults::latin1(value.as_str().ok_or_else(wrong)?);
            if bytes.len() != *size {
                return Err(wrong());
            }
            out.extend_from_slice(&bytes);
        }
        Kind::String => write_bytes(out, value.as_str().ok_or_else(wrong)?.as_bytes()),
        Kind::Enum(symbols) => {
            let number = symbols.iter().position(|symbol| Some(symbol.as_str()) == value.as_str());
            write_number(out, number.ok_or_else(wrong)? as i64);
        }
        Kind::Array(schema) => {
            let items = value.as_array().ok_or_else(wrong)?;
            if !items.is_empty() {
                write_number(out, items.len() as i64);
                items.iter().try_for_each(|item| write_default(item, schema, out))?;
            }
            out.push(0);
        }
        Kind::Map(schema) => {
            let members = value.as_object().ok_or_else(wrong)?;
            if !members.is_empty() {
                write_number(out, members.len() as i64);
                for (key, value) in members {
                    write_bytes(out, key.as_bytes());
                    write_default(value, schema, out)?;
                }
            }
            out.push(0);
        }
        Kind::Record(fields) => {
            let members = value.as_object().ok_or_else(wrong)?;
            for field in fields {
                let value = members.get(&field.name).or(field.default.as_ref()).ok_or_else(wrong)?;
                write_default(value, &field.schema, out)?;
            }
        }
        Kind::Union(members) => {
            let from = out.len();
            for (number, member) in members.iter().enumerate() {
                write_number(out, number as i64);
                if write_default(value, member, out).is_ok() {
                    return Ok(());
                }
                out.truncate(from);
            }
            return Err(wrong());
        }
    }
    Ok(())
}

/// Appends a number in zigzag form, seven bits a byte.
fn write_number(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn zigzag(value: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(1);
    write_number(&mut out, value);
    out
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_number(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}
