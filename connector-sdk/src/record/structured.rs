//! Rows of JSON values into struct arrays, by a schema.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimestampMicrosecondType, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{ArrayRef, ListArray, MapArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::errors::{Error, Result};

/// A struct array of `rows`; a row of `None` is null. Members that the schema does not name are left out. Fails on a row
/// that does not fit, with the path of the member.
///
/// Numbers may not lose digits; bytes are an array of numbers or base64 text; dates, times and timestamps are numbers as
/// Arrow counts them.
pub fn struct_array(fields: &Fields, rows: &[Option<&Value>]) -> Result<StructArray> {
    build_struct(fields, rows, "")
}

type Cells<'a> = [Option<&'a Value>];

fn build_struct(fields: &Fields, rows: &Cells<'_>, path: &str) -> Result<StructArray> {
    if let Some(odd) = rows.iter().flatten().find(|row| !row.is_object()) {
        return Err(unfit(path, "an object", odd));
    }
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let cells: Vec<Option<&Value>> =
            rows.iter().map(|row| row.and_then(|row| row.get(field.name())).filter(|value| !value.is_null())).collect();
        let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
        let missing = || cells.iter().zip(rows).any(|(cell, row)| cell.is_none() && row.is_some());
        if !field.is_nullable() && missing() {
            return Err(Error::failed(format!("{path} is required by the schema, and a row does not have it")));
        }
        columns.push(build(field.data_type(), &cells, &path)?);
    }
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    if columns.is_empty() {
        return Ok(StructArray::new_empty_fields(rows.len(), nulls));
    }
    Ok(StructArray::try_new(fields.clone(), columns, nulls)?)
}

fn build(data_type: &DataType, cells: &Cells<'_>, path: &str) -> Result<ArrayRef> {
    match data_type {
        DataType::Boolean => {
            let mut builder = BooleanBuilder::new();
            for cell in cells {
                builder.append_option(
                    cell.map(|value| value.as_bool().ok_or_else(|| unfit(path, "true or false", value))).transpose()?,
                );
            }
            Ok(Arc::new(builder.finish()))
        }
        DataType::Int8 => integers::<Int8Type>(cells, path),
        DataType::Int16 => integers::<Int16Type>(cells, path),
        DataType::Int32 => integers::<Int32Type>(cells, path),
        DataType::Int64 => integers::<Int64Type>(cells, path),
        DataType::UInt8 => integers::<UInt8Type>(cells, path),
        DataType::UInt16 => integers::<UInt16Type>(cells, path),
        DataType::UInt32 => integers::<UInt32Type>(cells, path),
        DataType::UInt64 => integers::<UInt64Type>(cells, path),
        DataType::Date32 => integers::<Date32Type>(cells, path),
        DataType::Time32(TimeUnit::Millisecond) => integers::<Time32MillisecondType>(cells, path),
        DataType::Timestamp(TimeUnit::Millisecond, None) => integers::<TimestampMillisecondType>(cells, path),
        DataType::Timestamp(TimeUnit::Microsecond, None) => integers::<TimestampMicrosecondType>(cells, path),
        DataType::Float32 => floats::<Float32Type>(cells, path, |number| number as f32),
        DataType::Float64 => floats::<Float64Type>(cells, path, |number| number),
        DataType::Utf8 => {
            let mut builder = StringBuilder::new();
            for cell in cells {
                builder.append_option(
                    cell.map(|value| value.as_str().ok_or_else(|| unfit(path, "text", value))).transpose()?,
                );
            }
            Ok(Arc::new(builder.finish()))
        }
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            for cell in cells {
                builder.append_option(cell.map(|value| bytes_of(value, path)).transpose()?);
            }
            Ok(Arc::new(builder.finish()))
        }
        DataType::Struct(fields) => Ok(Arc::new(build_struct(fields, cells, path)?)),
        DataType::List(item) => {
            let mut items = Vec::new();
            let mut lengths = Vec::with_capacity(cells.len());
            for cell in cells {
                let array = match cell {
                    Some(value) => value.as_array().ok_or_else(|| unfit(path, "an array", value))?.as_slice(),
                    None => &[],
                };
                lengths.push(array.len());
                items.extend(array.iter().map(|item| Some(item).filter(|item| !item.is_null())));
            }
            let values = build(item.data_type(), &items, &format!("{path}[]"))?;
            Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), values, nulls(cells))?))
        }
        DataType::Map(entries, _) => build_map(entries, cells, path).map(|map| Arc::new(map) as ArrayRef),
        other => {
            Err(Error::failed(format!("{path} has the type {other}, which rows cannot be built for: use columns")))
        }
    }
}

fn build_map(entries: &Arc<Field>, cells: &Cells<'_>, path: &str) -> Result<MapArray> {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(Error::failed(format!("{path} is a map without entries in its type")));
    };
    if fields.len() != 2 || fields[0].data_type() != &DataType::Utf8 {
        return Err(Error::failed(format!("{path} is a map whose keys are no texts: use columns")));
    }
    let mut keys = StringBuilder::new();
    let mut values = Vec::new();
    let mut lengths = Vec::with_capacity(cells.len());
    for cell in cells {
        let mut count = 0;
        if let Some(value) = cell {
            let members = value.as_object().ok_or_else(|| unfit(path, "an object", value))?;
            for (key, value) in members {
                keys.append_value(key);
                values.push(Some(value).filter(|value| !value.is_null()));
            }
            count = members.len();
        }
        lengths.push(count);
    }
    let values = build(fields[1].data_type(), &values, &format!("{path}{{}}"))?;
    let entries_array = StructArray::try_new(fields.clone(), vec![Arc::new(keys.finish()), values], None)?;
    Ok(MapArray::try_new(entries.clone(), OffsetBuffer::from_lengths(lengths), entries_array, nulls(cells), false)?)
}

fn nulls(cells: &Cells<'_>) -> Option<NullBuffer> {
    let nulls = NullBuffer::from_iter(cells.iter().map(Option::is_some));
    (nulls.null_count() > 0).then_some(nulls)
}

fn integers<T: ArrowPrimitiveType>(cells: &Cells<'_>, path: &str) -> Result<ArrayRef>
where
    T::Native: TryFrom<i64> + TryFrom<u64>,
{
    let mut builder = PrimitiveBuilder::<T>::with_capacity(cells.len());
    for cell in cells {
        let number = cell.map(|value| {
            let signed = value.as_i64().and_then(|number| T::Native::try_from(number).ok());
            let number = signed.or_else(|| value.as_u64().and_then(|number| T::Native::try_from(number).ok()));
            number.ok_or_else(|| unfit(path, &format!("an integer within {}", T::DATA_TYPE), value))
        });
        builder.append_option(number.transpose()?);
    }
    Ok(Arc::new(builder.finish()))
}

fn floats<T: ArrowPrimitiveType>(cells: &Cells<'_>, path: &str, from: fn(f64) -> T::Native) -> Result<ArrayRef> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(cells.len());
    for cell in cells {
        let number = cell.map(|value| value.as_f64().map(from).ok_or_else(|| unfit(path, "a number", value)));
        builder.append_option(number.transpose()?);
    }
    Ok(Arc::new(builder.finish()))
}

fn bytes_of(value: &Value, path: &str) -> Result<Vec<u8>> {
    let wanted = "bytes (base64 text or an array of numbers to 255)";
    let bytes = match value {
        Value::String(text) => STANDARD.decode(text).ok(),
        Value::Array(items) => items.iter().map(|item| u8::try_from(item.as_u64()?).ok()).collect(),
        _ => None,
    };
    bytes.ok_or_else(|| unfit(path, wanted, value))
}

/// The value is shown by its type, not itself: it may be somebody's data.
fn unfit(path: &str, wanted: &str, value: &Value) -> Error {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number that does not fit",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let path = if path.is_empty() { "a structured value" } else { path };
    Error::failed(format!("{path} must be {wanted} and is {found}"))
}
