//! Writes rows of columns in Protobuf's wire format, by a schema that may be another than the columns' own.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{Array, BinaryArray, BooleanArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field as ArrowField};
use tributary_sdk::batch::SCHEMA_DEFAULT;

use super::descriptor::{Field, Kind, Message};
use super::from_connect::{oneof_of, scrubbed};
use super::options::Options;
use super::to_connect::{Special, special, wrapped};
use super::wire::{put_bytes, put_tag, put_varint, zigzag};
use crate::converter::json::{self, decimal, type_name};
use crate::converter::within;

/// How a schema is met.
#[derive(Clone, Copy)]
pub struct Rules {
    /// The converter's.
    pub options: Options,
    /// Every field of the column has its place in the schema.
    pub strict: bool,
}

/// Writes the rows of one struct column.
pub struct Encoder<'a> {
    /// Sorted by number, as every implementation writes them.
    members: Vec<(u32, Member<'a>)>,
}

struct Member<'a> {
    name: String,
    /// Nulls of the oneof's struct count too.
    union: Option<&'a StructArray>,
    array: &'a dyn Array,
    /// A default value is left out.
    implicit: bool,
    values: Values<'a>,
    /// What is written for a null: the default that the record's schema has.
    default: Vec<u8>,
}

enum Values<'a> {
    One(Value<'a>),
    List(&'a OffsetBuffer<i32>, Value<'a>, &'a dyn Array, bool),
    Map(&'a OffsetBuffer<i32>, Value<'a>, Value<'a>, &'a dyn Array),
}

enum Value<'a> {
    /// Numbers, and how they stand on the wire.
    Integers(Integers<'a>, Wire),
    Double(&'a PrimitiveArray<Float64Type>),
    Float(&'a PrimitiveArray<Float32Type>),
    FloatAsDouble(&'a PrimitiveArray<Float32Type>),
    Bool(&'a BooleanArray),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Enum(&'a StringArray, HashMap<String, i32>),
    Message(Box<Encoder<'a>>),
    Special(Special, Integers<'a>),
    Decimal(&'a BinaryArray, i32),
    Wrapped(Box<Value<'a>>),
}

enum Integers<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
}

#[derive(Clone, Copy)]
enum Wire {
    Varint,
    Zigzag,
    Four,
    Eight,
}

impl Integers<'_> {
    fn get(&self, row: usize) -> i64 {
        match self {
            Self::I8(values) => values[row].into(),
            Self::I16(values) => values[row].into(),
            Self::I32(values) => values[row].into(),
            Self::I64(values) => values[row],
        }
    }
}

impl<'a> Encoder<'a> {
    /// For the rows of a struct.
    pub fn new(message: &Message, array: &'a StructArray, rules: Rules) -> Result<Self, String> {
        let mut members = Vec::with_capacity(message.fields.len());
        for (field, column) in array.fields().iter().zip(array.columns()) {
            match oneof_of(field) {
                Some(_) if matches!(field.data_type(), DataType::Struct(_)) => {
                    let union = column.as_struct();
                    for (inner, column) in union.fields().iter().zip(union.columns()) {
                        members.extend(Self::member(message, inner, &**column, Some(union), rules)?);
                    }
                }
                _ => members.extend(Self::member(message, field, &**column, None, rules)?),
            }
        }
        members.sort_by_key(|(number, _)| *number);
        Ok(Self { members })
    }

    fn member(
        message: &Message,
        field: &ArrowField,
        array: &'a dyn Array,
        union: Option<&'a StructArray>,
        rules: Rules,
    ) -> Result<Option<(u32, Member<'a>)>, String> {
        let name = scrubbed(field.name(), rules.options);
        let Some(target) = message.fields.iter().find(|target| target.name == name || target.name == *field.name())
        else {
            if rules.strict {
                return Err(format!(
                    "the message {} has no field {name}; add it, or set latest.compatibility.strict=false to leave it out",
                    message.full_name
                ));
            }
            return Ok(None);
        };
        let values = values(target, field, array, rules).map_err(|error| within(&name, error))?;
        // In a oneof, null is what was not chosen.
        let default = match union {
            None if !rules.options.ignore_defaults => default_bytes(target, field, rules).unwrap_or_default(),
            _ => Vec::new(),
        };
        let member = Member { name, union, array, implicit: implicit(target), values, default };
        Ok(Some((target.number, member)))
    }

    /// Appends a row's fields.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        for (number, member) in &self.members {
            if member.union.is_some_and(|union| union.is_null(row)) {
                continue;
            }
            if member.array.is_null(row) {
                out.extend_from_slice(&member.default);
                continue;
            }
            member.write(*number, row, out).map_err(|error| within(&member.name, error))?;
        }
        Ok(())
    }
}

fn implicit(target: &Field) -> bool {
    !target.presence && !target.repeated
}

/// A field with the default of the record's schema, as Java's Struct has no null where there is a default. `None`: it has none that fits.
fn default_bytes(target: &Field, field: &ArrowField, rules: Rules) -> Option<Vec<u8>> {
    let default = field.metadata().get(SCHEMA_DEFAULT)?;
    let (array, failures) = json::decode(field, &[Some(default)], &json::Options::default()).ok()?;
    if !failures.is_empty() || array.is_null(0) {
        return None;
    }
    let values = values(target, field, &*array, rules).ok()?;
    let name = field.name().clone();
    let member = Member { name, union: None, array: &*array, implicit: implicit(target), values, default: Vec::new() };
    let mut out = Vec::new();
    member.write(target.number, 0, &mut out).ok()?;
    Some(out)
}

impl Member<'_> {
    fn write(&self, number: u32, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        match &self.values {
            Values::One(value) if self.implicit && value.is_default(row) => Ok(()),
            Values::One(value) => value.write(number, row, out),
            Values::List(offsets, value, items, packed) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                if let Some(item) = (from..to).find(|&item| items.is_null(item)) {
                    return Err(format!("item {} is null, which a repeated field cannot hold", item - from));
                }
                if *packed && to > from {
                    let mut bytes = Vec::with_capacity(8 * (to - from));
                    (from..to).try_for_each(|item| value.write_plain(item, &mut bytes))?;
                    put_tag(out, number, 2);
                    put_bytes(out, &bytes);
                    return Ok(());
                }
                (from..to).try_for_each(|item| value.write(number, item, out))
            }
            Values::Map(offsets, keys, values, array) => {
                for entry in offsets[row] as usize..offsets[row + 1] as usize {
                    let mut bytes = Vec::with_capacity(32);
                    keys.write(1, entry, &mut bytes)?;
                    if array.is_null(entry) {
                        return Err("a value is null, which a map cannot hold".to_owned());
                    }
                    values.write(2, entry, &mut bytes)?;
                    put_tag(out, number, 2);
                    put_bytes(out, &bytes);
                }
                Ok(())
            }
        }
    }
}

impl Value<'_> {
    fn wire_type(&self) -> u8 {
        match self {
            Self::Integers(_, Wire::Varint | Wire::Zigzag) | Self::Bool(_) | Self::Enum(..) => 0,
            Self::Integers(_, Wire::Eight) | Self::Double(_) | Self::FloatAsDouble(_) => 1,
            Self::Integers(_, Wire::Four) | Self::Float(_) => 5,
            _ => 2,
        }
    }

    fn is_default(&self, row: usize) -> bool {
        match self {
            Self::Integers(values, _) => values.get(row) == 0,
            // Minus zero is not the default.
            Self::Double(values) => values.value(row).to_bits() == 0,
            Self::Float(values) | Self::FloatAsDouble(values) => values.value(row).to_bits() == 0,
            Self::Bool(values) => !values.value(row),
            Self::Text(values) => values.value(row).is_empty(),
            Self::Bytes(values) => values.value(row).is_empty(),
            Self::Enum(values, numbers) => numbers.get(values.value(row)) == Some(&0),
            _ => false,
        }
    }

    fn write(&self, number: u32, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        put_tag(out, number, self.wire_type());
        if self.wire_type() != 2 {
            return self.write_plain(row, out);
        }
        match self {
            Self::Text(values) => put_bytes(out, values.value(row).as_bytes()),
            Self::Bytes(values) => put_bytes(out, values.value(row)),
            _ => {
                let mut bytes = Vec::with_capacity(64);
                self.write_plain(row, &mut bytes)?;
                put_bytes(out, &bytes);
            }
        }
        Ok(())
    }

    /// Without number and length.
    fn write_plain(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Integers(values, wire) => {
                let value = values.get(row);
                match wire {
                    Wire::Varint => put_varint(out, value as u64),
                    Wire::Zigzag => put_varint(out, zigzag(value)),
                    Wire::Four => out.extend_from_slice(&(value as u32).to_le_bytes()),
                    Wire::Eight => out.extend_from_slice(&value.to_le_bytes()),
                }
            }
            Self::Double(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Self::Float(values) => out.extend_from_slice(&values.value(row).to_le_bytes()),
            Self::FloatAsDouble(values) => out.extend_from_slice(&f64::from(values.value(row)).to_le_bytes()),
            Self::Bool(values) => out.push(u8::from(values.value(row))),
            Self::Text(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Self::Bytes(values) => out.extend_from_slice(values.value(row)),
            Self::Enum(values, numbers) => {
                let value = values.value(row);
                let number = numbers.get(value).ok_or_else(|| format!("the enum has no symbol {value}"))?;
                put_varint(out, i64::from(*number) as u64);
            }
            Self::Message(encoder) => encoder.write(row, out)?,
            Self::Special(special, values) => write_special(*special, values.get(row), out),
            Self::Decimal(values, scale) => {
                put_tag(out, 1, 2);
                put_bytes(out, values.value(row));
                let digits = decimal::to_text(values.value(row), 0).trim_start_matches('-').len() as u64;
                put_tag(out, 2, 0);
                put_varint(out, digits);
                if *scale != 0 {
                    put_tag(out, 3, 0);
                    put_varint(out, i64::from(*scale) as u64);
                }
            }
            Self::Wrapped(inner) if inner.is_default(row) => {}
            Self::Wrapped(inner) => inner.write(1, row, out)?,
        }
        Ok(())
    }
}

fn write_special(special: Special, value: i64, out: &mut Vec<u8>) {
    let mut put = |number: u32, value: i64| {
        if value != 0 {
            put_tag(out, number, 0);
            put_varint(out, value as u64);
        }
    };
    match special {
        Special::Timestamp => {
            put(1, value.div_euclid(1000));
            put(2, value.rem_euclid(1000) * 1_000_000);
        }
        Special::Time => {
            put(1, value / 3_600_000);
            put(2, value / 60_000 % 60);
            put(3, value / 1000 % 60);
            put(4, value % 1000 * 1_000_000);
        }
        Special::Date | Special::Decimal => {
            use chrono::Datelike;
            let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap_or_default();
            let day =
                chrono::TimeDelta::try_days(value).and_then(|days| epoch.checked_add_signed(days)).unwrap_or(epoch);
            put(1, day.year().into());
            put(2, day.month().into());
            put(3, day.day().into());
        }
    }
}

fn values<'a>(target: &Field, field: &ArrowField, array: &'a dyn Array, rules: Rules) -> Result<Values<'a>, String> {
    match field.data_type() {
        DataType::List(item) if target.repeated && target.map_key.is_none() => {
            let list = array.as_list::<i32>();
            let value = value(&target.kind, item, list.values(), rules)?;
            let packed = value.wire_type() != 2;
            Ok(Values::List(list.offsets(), value, &**list.values(), packed))
        }
        DataType::Map(entries, _) => {
            let (Some(key), DataType::Struct(pair)) = (&target.map_key, entries.data_type()) else {
                return Err("the schema has no map where the record has one".to_owned());
            };
            let map = array.as_map();
            let keys = value(key, &pair[0], map.keys(), rules)?;
            let values = value(&target.kind, &pair[1], map.values(), rules)?;
            Ok(Values::Map(map.offsets(), keys, values, &**map.values()))
        }
        _ if target.repeated => Err("the schema has a repeated field where the record has none".to_owned()),
        _ => Ok(Values::One(value(&target.kind, field, array, rules)?)),
    }
}

fn value<'a>(kind: &Kind, field: &ArrowField, array: &'a dyn Array, rules: Rules) -> Result<Value<'a>, String> {
    let integers = || {
        Some(match field.data_type() {
            DataType::Int8 => Integers::I8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Integers::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Integers::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Integers::I64(array.as_primitive::<Int64Type>().values()),
            _ => return None,
        })
    };
    let wrong = || format!("the schema has another type where the record has {}", type_name(field.data_type()));
    let wire = match kind {
        Kind::Int64 | Kind::Uint64 | Kind::Uint32 => Some((Wire::Varint, true)),
        Kind::Int32 | Kind::Enum(_) => Some((Wire::Varint, false)),
        Kind::Sint64 => Some((Wire::Zigzag, true)),
        Kind::Sint32 => Some((Wire::Zigzag, false)),
        Kind::Fixed64 | Kind::Sfixed64 => Some((Wire::Eight, true)),
        Kind::Fixed32 => Some((Wire::Four, true)),
        Kind::Sfixed32 => Some((Wire::Four, false)),
        _ => None,
    };
    Ok(match (kind, field.data_type()) {
        (Kind::Double, DataType::Float64) => Value::Double(array.as_primitive()),
        (Kind::Double, DataType::Float32) => Value::FloatAsDouble(array.as_primitive()),
        (Kind::Float, DataType::Float32) => Value::Float(array.as_primitive()),
        (Kind::Bool, DataType::Boolean) => Value::Bool(array.as_boolean()),
        (Kind::Text, DataType::Utf8) => Value::Text(array.as_string()),
        (Kind::Bytes, DataType::Binary) => Value::Bytes(array.as_binary()),
        (Kind::Enum(found), DataType::Utf8) => Value::Enum(array.as_string(), found.values.iter().cloned().collect()),
        (Kind::Message(message), data_type) => match (special(message), wrapped(message), data_type) {
            (Some(Special::Timestamp), _, DataType::Timestamp(..)) => Value::Special(
                Special::Timestamp,
                Integers::I64(array.as_primitive::<TimestampMillisecondType>().values()),
            ),
            (Some(Special::Date), _, DataType::Date32) => {
                Value::Special(Special::Date, Integers::I32(array.as_primitive::<Date32Type>().values()))
            }
            (Some(Special::Time), _, DataType::Time32(_)) => {
                Value::Special(Special::Time, Integers::I32(array.as_primitive::<Time32MillisecondType>().values()))
            }
            (Some(Special::Decimal), _, DataType::Binary) => Value::Decimal(array.as_binary(), decimal::scale(field)?),
            (None, _, DataType::Struct(_)) => {
                Value::Message(Box::new(Encoder::new(message, array.as_struct(), rules)?))
            }
            (None, Some(inner), _) => Value::Wrapped(Box::new(value(&inner.kind, field, array, rules)?)),
            _ => return Err(wrong()),
        },
        _ => match (wire, integers()) {
            (Some((_, false)), Some(Integers::I64(_))) | (None, _) | (_, None) => return Err(wrong()),
            (Some((wire, _)), Some(integers)) => Value::Integers(integers, wire),
        },
    })
}
