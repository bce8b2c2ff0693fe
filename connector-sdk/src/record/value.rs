//! Arrow values as JSON values, as Connect's schemaless JSON shows them: bytes as base64; dates, times and timestamps as
//! numbers (days, or milliseconds); Decimals as text, so that no digit is lost.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, TimeUnit};
use base64::Engine;
use serde_json::{Map, Number, Value};

use crate::batch::{EXTENSION_NAME, JSON_EXTENSION, SCHEMA_NAME, SCHEMA_PARAMETERS};
use crate::errors::{Error, Result};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

pub(super) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The value of a row.
pub(super) fn value_at(array: &dyn Array, field: &Field, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($ty:ty) => {
            Value::from(array.as_primitive::<$ty>().value(row))
        };
        ($ty:ty, / $divisor:expr) => {
            Value::from(i64::from(array.as_primitive::<$ty>().value(row)).div_euclid($divisor))
        };
        ($ty:ty, * $factor:expr) => {
            Value::from(i64::from(array.as_primitive::<$ty>().value(row)).saturating_mul($factor))
        };
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => float(array.as_primitive::<Float16Type>().value(row).to_f64()),
        // By way of its own text: 0.1f32 is 0.1, not 0.10000000149.
        DataType::Float32 => {
            let single = array.as_primitive::<Float32Type>().value(row);
            float(single.to_string().parse().unwrap_or_else(|_| f64::from(single)))
        }
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => text(array.as_string::<i32>().value(row), field)?,
        DataType::LargeUtf8 => text(array.as_string::<i64>().value(row), field)?,
        DataType::Binary => bytes(array.as_binary::<i32>().value(row), field),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row), field),
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(row), field),
        DataType::Date32 => number!(Date32Type),
        DataType::Date64 => number!(Date64Type),
        DataType::Time32(TimeUnit::Second) => number!(Time32SecondType, *1_000),
        DataType::Time32(_) => number!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => number!(Time64MicrosecondType, / 1_000),
        DataType::Time64(_) => number!(Time64NanosecondType, / 1_000_000),
        DataType::Timestamp(TimeUnit::Second, _) => number!(TimestampSecondType, *1_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) => number!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => number!(TimestampMicrosecondType, / 1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => number!(TimestampNanosecondType, / 1_000_000),
        DataType::Decimal128(_, scale) => {
            let unscaled = array.as_primitive::<arrow_array::types::Decimal128Type>().value(row);
            Value::String(decimal(unscaled, i32::from(*scale)))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let mut members = Map::with_capacity(fields.len());
            for (field, column) in fields.iter().zip(columns) {
                members.insert(field.name().clone(), value_at(column, field, row)?);
            }
            Value::Object(members)
        }
        DataType::List(item) => items(&array.as_list::<i32>().value(row), item)?,
        DataType::LargeList(item) => items(&array.as_list::<i64>().value(row), item)?,
        DataType::FixedSizeList(item, _) => items(&array.as_fixed_size_list().value(row), item)?,
        DataType::Map(entries, _) => map(&array.as_map().value(row), entries)?,
        DataType::Dictionary(_, values) => {
            let dictionary = array.as_any_dictionary();
            let key = value_at(dictionary.keys(), field, row)?.as_u64().unwrap_or(0) as usize;
            value_at(dictionary.values(), &Field::new("", values.as_ref().clone(), true), key)?
        }
        other => {
            return Err(Error::failed(format!("a value of type {other} cannot be shown as JSON: read its column")));
        }
    })
}

fn float(number: f64) -> Value {
    // JSON has no NaN nor infinity.
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn text(text: &str, field: &Field) -> Result<Value> {
    if field.metadata().get(EXTENSION_NAME).is_some_and(|name| name == JSON_EXTENSION) {
        return Ok(serde_json::from_str(text)?);
    }
    Ok(Value::String(text.to_owned()))
}

fn bytes(bytes: &[u8], field: &Field) -> Value {
    let metadata = field.metadata();
    if metadata.get(SCHEMA_NAME).is_some_and(|name| name == DECIMAL)
        && let Some(parameters) = metadata.get(SCHEMA_PARAMETERS)
        && let Ok(parameters) = serde_json::from_str::<Map<String, Value>>(parameters)
        && let Some(scale) = parameters.get("scale").and_then(Value::as_str).and_then(|scale| scale.parse().ok())
        && let Some(unscaled) = big_endian(bytes)
    {
        return Value::String(decimal(unscaled, scale));
    }
    Value::String(base64(bytes))
}

/// A two's complement number as Java's `BigInteger` writes it; `None` beyond 128 bits.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    if bytes.len() > 16 {
        return None;
    }
    let mut wide = if first & 0x80 == 0 { [0u8; 16] } else { [0xFF; 16] };
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

fn decimal(unscaled: i128, scale: i32) -> String {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = unscaled.unsigned_abs().to_string();
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) if digits.len() > scale => {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Ok(scale) => format!("{sign}0.{digits:0>scale$}"),
        Err(_) if unscaled == 0 => "0".into(),
        Err(_) => format!("{sign}{digits}{}", "0".repeat(scale.unsigned_abs() as usize)),
    }
}

fn items(array: &ArrayRef, item: &Field) -> Result<Value> {
    (0..array.len()).map(|at| value_at(array, item, at)).collect::<Result<Vec<_>>>().map(Value::Array)
}

/// An object where the keys are texts, else a list of pairs: as Connect does.
fn map(entries: &arrow_array::StructArray, field: &Field) -> Result<Value> {
    let DataType::Struct(fields) = field.data_type() else { return Ok(Value::Null) };
    let (keys, values) = (entries.column(0), entries.column(1));
    if let Some(keys) = keys.as_any().downcast_ref::<arrow_array::StringArray>() {
        let mut members = Map::with_capacity(entries.len());
        for at in 0..entries.len() {
            members.insert(keys.value(at).to_owned(), value_at(values, &fields[1], at)?);
        }
        return Ok(Value::Object(members));
    }
    let pair = |at| Ok(Value::Array(vec![value_at(keys, &fields[0], at)?, value_at(values, &fields[1], at)?]));
    (0..entries.len()).map(pair).collect::<Result<Vec<_>>>().map(Value::Array)
}
