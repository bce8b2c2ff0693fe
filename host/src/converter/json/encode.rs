//! Writes rows of a structured column as JSON.
//!
//! Types are looked at once a column; a row costs the copying of its values. Members that are the same in all rows, which most of a
//! change event's are, are written once and copied with the names around them. A row that cannot be written (a value that JSON has no
//! form for) fails alone.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    TimestampMillisecondType,
};
use arrow_array::{Array, BinaryArray, BooleanArray, PrimitiveArray, StringArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::batch::{EXTENSION_NAME, JSON_EXTENSION, SCHEMA_DEFAULT, SCHEMA_NAME};

use super::config::Options;
use super::schema::logical;
use super::union::is_union;
use super::{decimal, text};

/// Writes the rows of one array.
pub struct Encoder<'a> {
    nulls: Option<&'a NullBuffer>,
    /// What a null is written as.
    null: String,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Bytes(&'a BinaryArray),
    Decimal(&'a BinaryArray, i32),
    List(&'a OffsetBuffer<i32>, Box<Encoder<'a>>),
    /// Entries as members of an object.
    Object(&'a OffsetBuffer<i32>, &'a StringArray, Box<Encoder<'a>>),
    /// Entries as pairs.
    Pairs(&'a OffsetBuffer<i32>, Box<Encoder<'a>>, Box<Encoder<'a>>),
    /// Entries as objects with `key` and `value`.
    Entries(&'a OffsetBuffer<i32>, Box<Encoder<'a>>, Box<Encoder<'a>>),
    /// Each that varies with what stands before its value, `{"name":` or `,"same":1,"name":`; and what stands behind the last one.
    Struct(Vec<(String, Encoder<'a>)>, String),
    /// The one that is not null.
    Union(Vec<Encoder<'a>>),
}

impl<'a> Encoder<'a> {
    /// For the rows of `array`, which `field` describes. The error names the type that has no JSON form.
    pub fn new(field: &Field, array: &'a dyn Array, options: &Options) -> Result<Self, String> {
        let name = field.metadata().get(SCHEMA_NAME).map(String::as_str);
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            DataType::Int8 => Values::Int8(array.as_primitive()),
            DataType::Int16 => Values::Int16(array.as_primitive()),
            DataType::Int32 => Values::Int32(array.as_primitive::<Int32Type>().values()),
            DataType::Date32 => Values::Int32(array.as_primitive::<Date32Type>().values()),
            DataType::Time32(TimeUnit::Millisecond) => {
                Values::Int32(array.as_primitive::<Time32MillisecondType>().values())
            }
            DataType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Values::Int64(array.as_primitive::<TimestampMillisecondType>().values())
            }
            DataType::Float32 => Values::Float32(array.as_primitive()),
            DataType::Float64 => Values::Float64(array.as_primitive()),
            DataType::Utf8 if field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == JSON_EXTENSION) => {
                Values::Json(array.as_string())
            }
            DataType::Utf8 => Values::Text(array.as_string()),
            DataType::Binary if name == Some(logical::DECIMAL) && options.numeric_decimals => {
                Values::Decimal(array.as_binary(), decimal::scale(field)?)
            }
            DataType::Binary => Values::Bytes(array.as_binary()),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                Values::List(list.offsets(), Box::new(Self::new(item, list.values(), options)?))
            }
            DataType::Map(entries, _) => {
                let map = array.as_map();
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err("a map without entries".to_owned());
                };
                let values = Box::new(Self::new(&pair[1], map.values(), options)?);
                match pair[0].data_type() {
                    DataType::Utf8 => Values::Object(map.offsets(), map.keys().as_string(), values),
                    _ => {
                        let keys = Box::new(Self::new(&pair[0], map.keys(), options)?);
                        match options.entries_as_objects {
                            true => Values::Entries(map.offsets(), keys, values),
                            false => Values::Pairs(map.offsets(), keys, values),
                        }
                    }
                }
            }
            DataType::Struct(fields) if options.unions && is_union(field) => {
                let members = fields.iter().zip(array.as_struct().columns());
                Values::Union(
                    members.map(|(field, column)| Self::new(field, column, options)).collect::<Result<_, _>>()?,
                )
            }
            DataType::Struct(fields) => {
                let mut members = Vec::new();
                let mut text = String::from("{");
                for (number, (field, column)) in fields.iter().zip(array.as_struct().columns()).enumerate() {
                    if number > 0 {
                        text.push(',');
                    }
                    text::write_string(&mut text, field.name());
                    text.push(':');
                    let member = Self::new(field, column, options)?;
                    let from = text.len();
                    if !member.is_same(column.len()) || member.write(0, &mut text).is_err() {
                        text.truncate(from);
                        members.push((std::mem::take(&mut text), member));
                    }
                }
                text.push('}');
                Values::Struct(members, text)
            }
            other => return Err(format!("Couldn't translate unsupported schema type {other}.")),
        };
        let default = field.metadata().get(SCHEMA_DEFAULT).filter(|_| options.replace_null_with_default);
        Ok(Self { nulls: array.nulls(), null: default.map_or("null", String::as_str).to_owned(), values })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// Whether all of the rows are written alike, and are enough that looking pays. Where they differ, the first ones mostly tell.
    fn is_same(&self, rows: usize) -> bool {
        if rows < FEW {
            return false;
        }
        match self.nulls.map_or(0, NullBuffer::null_count) {
            0 => {}
            nulls => return nulls == rows,
        }
        match &self.values {
            Values::Boolean(array) => [0, rows].contains(&array.values().count_set_bits()),
            Values::Int8(array) => all_same(array.values()),
            Values::Int16(array) => all_same(array.values()),
            Values::Int32(values) => all_same(values),
            Values::Int64(values) => all_same(values),
            Values::Text(array) | Values::Json(array) => all_texts_same(array),
            Values::Struct(members, _) => members.is_empty(),
            _ => false,
        }
    }

    /// Appends a row's JSON.
    pub fn write(&self, row: usize, out: &mut String) -> Result<(), String> {
        if self.is_null(row) {
            out.push_str(&self.null);
            return Ok(());
        }
        match &self.values {
            Values::Boolean(array) => out.push_str(if array.value(row) { "true" } else { "false" }),
            Values::Int8(array) => text::write_integer(out, array.value(row).into()),
            Values::Int16(array) => text::write_integer(out, array.value(row).into()),
            Values::Int32(values) => text::write_integer(out, values[row].into()),
            Values::Int64(values) => text::write_integer(out, values[row]),
            Values::Float32(array) => {
                let value = array.value(row);
                in_quotes(out, !value.is_finite(), |out| text::write_java_single(out, value));
            }
            Values::Float64(array) => {
                let value = array.value(row);
                in_quotes(out, !value.is_finite(), |out| text::write_java_double(out, value));
            }
            Values::Text(array) => text::write_string(out, array.value(row)),
            Values::Json(array) => out.push_str(array.value(row)),
            Values::Bytes(array) => {
                out.push('"');
                STANDARD.encode_string(array.value(row), out);
                out.push('"');
            }
            Values::Decimal(array, scale) => out.push_str(&decimal::to_java_text(array.value(row), *scale)),
            Values::List(offsets, items) => {
                out.push('[');
                let (from, to) = range(offsets, row);
                for item in from..to {
                    if item > from {
                        out.push(',');
                    }
                    items.write(item, out)?;
                }
                out.push(']');
            }
            Values::Object(offsets, keys, values) => {
                out.push('{');
                let (from, to) = range(offsets, row);
                for entry in from..to {
                    if entry > from {
                        out.push(',');
                    }
                    text::write_string(out, keys.value(entry));
                    out.push(':');
                    values.write(entry, out)?;
                }
                out.push('}');
            }
            Values::Pairs(offsets, keys, values) => {
                out.push('[');
                let (from, to) = range(offsets, row);
                for entry in from..to {
                    out.push_str(if entry > from { ",[" } else { "[" });
                    keys.write(entry, out)?;
                    out.push(',');
                    values.write(entry, out)?;
                    out.push(']');
                }
                out.push(']');
            }
            Values::Entries(offsets, keys, values) => {
                out.push('[');
                let (from, to) = range(offsets, row);
                for entry in from..to {
                    out.push_str(if entry > from { ",{\"key\":" } else { "{\"key\":" });
                    keys.write(entry, out)?;
                    out.push_str(",\"value\":");
                    values.write(entry, out)?;
                    out.push('}');
                }
                out.push(']');
            }
            Values::Union(members) => match members.iter().find(|member| !member.is_null(row)) {
                Some(member) => member.write(row, out)?,
                None => out.push_str("null"),
            },
            Values::Struct(members, end) => {
                for (before, value) in members {
                    out.push_str(before);
                    value.write(row, out)?;
                }
                out.push_str(end);
            }
        }
        Ok(())
    }
}

/// Fewer rows are written as they come.
const FEW: usize = 8;

fn all_same<T: PartialEq>(values: &[T]) -> bool {
    values.first().is_none_or(|first| values.iter().all(|value| value == first))
}

fn all_texts_same(array: &StringArray) -> bool {
    let (offsets, first) = (array.value_offsets(), array.value(0));
    let length = first.len() as i32;
    if !offsets.windows(2).all(|pair| pair[1] - pair[0] == length) {
        return false;
    }
    let (from, to) = (offsets[0] as usize, offsets[offsets.len() - 1] as usize);
    let texts = &array.value_data()[from..to];
    // Each is the one before it.
    texts[..texts.len() - first.len()] == texts[first.len()..]
}

fn range(offsets: &OffsetBuffer<i32>, row: usize) -> (usize, usize) {
    (offsets[row] as usize, offsets[row + 1] as usize)
}

/// JSON has no NaN and no infinities: Kafka Connect writes them in quotes.
fn in_quotes(out: &mut String, quotes: bool, write: impl FnOnce(&mut String)) {
    if quotes {
        out.push('"');
    }
    write(out);
    if quotes {
        out.push('"');
    }
}
