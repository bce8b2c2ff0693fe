//! Structured values as JSON text, one document a line.
//!
//! Structs and maps with text keys are objects, other maps are arrays of `[key, value]`, as Connect's JsonConverter has it; dates and times are their integers,
//! Connect's Decimal is a number with all its digits, bytes are base64, and numbers that JSON lacks are the strings
//! `"NaN"`, `"Infinity"` and `"-Infinity"`.
//!
//! Fails for good at an Arrow type that Connect has no counterpart for, naming it.

use std::collections::HashMap;

use base64::Engine as _;
use tributary_sdk::arrow::array::cast::AsArray;
use tributary_sdk::arrow::array::types::{
    Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use tributary_sdk::arrow::array::{Array, ArrayRef, MapArray, StructArray};
use tributary_sdk::arrow::schema::{DataType, Field, TimeUnit};
use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_PARAMETERS};
use tributary_sdk::{Column, Error, Result};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// Appends the values of `column` to `out`, one a line.
pub(crate) fn lines(column: &Column, out: &mut Vec<u8>) -> Result<()> {
    let (field, array) = (column.field().as_ref(), column.array());
    for row in 0..array.len() {
        match field.data_type() {
            // Text with a schema's name (an enum, say) is text all the same.
            DataType::Utf8 if array.is_valid(row) => {
                out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes())
            }
            DataType::Binary if array.is_valid(row) && scale(field).is_none() => {
                out.extend_from_slice(array.as_binary::<i32>().value(row));
            }
            _ => value(field, array, row, out)?,
        }
        out.push(b'\n');
    }
    Ok(())
}

/// The integers of an array of a primitive type.
macro_rules! integer {
    ($type:ty, $array:expr, $row:expr, $out:expr) => {
        $out.extend_from_slice($array.as_primitive::<$type>().value($row).to_string().as_bytes())
    };
}

fn value(field: &Field, array: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<()> {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match field.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" });
        }
        DataType::Int8 => integer!(Int8Type, array, row, out),
        DataType::Int16 => integer!(Int16Type, array, row, out),
        DataType::Int32 => integer!(Int32Type, array, row, out),
        DataType::Int64 => integer!(Int64Type, array, row, out),
        DataType::UInt8 => integer!(UInt8Type, array, row, out),
        DataType::UInt16 => integer!(UInt16Type, array, row, out),
        DataType::UInt32 => integer!(UInt32Type, array, row, out),
        DataType::UInt64 => integer!(UInt64Type, array, row, out),
        DataType::Date32 => integer!(Date32Type, array, row, out),
        DataType::Date64 => integer!(Date64Type, array, row, out),
        DataType::Time32(TimeUnit::Second) => integer!(Time32SecondType, array, row, out),
        DataType::Time32(_) => integer!(Time32MillisecondType, array, row, out),
        DataType::Time64(TimeUnit::Microsecond) => integer!(Time64MicrosecondType, array, row, out),
        DataType::Time64(_) => integer!(Time64NanosecondType, array, row, out),
        DataType::Timestamp(TimeUnit::Second, _) => integer!(TimestampSecondType, array, row, out),
        DataType::Timestamp(TimeUnit::Millisecond, _) => integer!(TimestampMillisecondType, array, row, out),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integer!(TimestampMicrosecondType, array, row, out),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => integer!(TimestampNanosecondType, array, row, out),
        DataType::Float32 => {
            let number = array.as_primitive::<Float32Type>().value(row);
            if number.is_finite() { serde_json::to_writer(&mut *out, &number)? } else { not_finite(number.into(), out) }
        }
        DataType::Float64 => {
            let number = array.as_primitive::<Float64Type>().value(row);
            if number.is_finite() { serde_json::to_writer(&mut *out, &number)? } else { not_finite(number, out) }
        }
        DataType::Utf8 => string(array.as_string::<i32>().value(row), out)?,
        DataType::LargeUtf8 => string(array.as_string::<i64>().value(row), out)?,
        DataType::Binary => match scale(field) {
            Some(scale) => out.extend_from_slice(decimal(array.as_binary::<i32>().value(row), scale).as_bytes()),
            None => base64(array.as_binary::<i32>().value(row), out),
        },
        DataType::LargeBinary => base64(array.as_binary::<i64>().value(row), out),
        DataType::FixedSizeBinary(_) => base64(array.as_fixed_size_binary().value(row), out),
        DataType::Struct(_) => object(array.as_struct(), row, out)?,
        DataType::List(item) => list(item, &array.as_list::<i32>().value(row), out)?,
        DataType::LargeList(item) => list(item, &array.as_list::<i64>().value(row), out)?,
        DataType::FixedSizeList(item, _) => list(item, &array.as_fixed_size_list().value(row), out)?,
        DataType::Map(..) => map(array.as_map(), row, out)?,
        other => {
            return Err(Error::failed(format!(
                "field {:?} has type {other}, which cannot be written as JSON: cast it before the sink",
                field.name()
            )));
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) -> Result<()> {
    Ok(serde_json::to_writer(out, text)?)
}

fn not_finite(number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(match number {
        number if number.is_nan() => b"\"NaN\"",
        number if number > 0.0 => b"\"Infinity\"",
        _ => b"\"-Infinity\"",
    });
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

fn object(array: &StructArray, row: usize, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'{');
    for (place, (field, column)) in array.fields().iter().zip(array.columns()).enumerate() {
        if place > 0 {
            out.push(b',');
        }
        string(field.name(), out)?;
        out.push(b':');
        value(field, column, row, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn list(item: &Field, items: &ArrayRef, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'[');
    for row in 0..items.len() {
        if row > 0 {
            out.push(b',');
        }
        value(item, items, row, out)?;
    }
    out.push(b']');
    Ok(())
}

fn map(array: &MapArray, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let entries = array.value(row);
    let [keys, values] = entries.columns() else {
        return Err(Error::failed("malformed columns: a map without keys and values"));
    };
    let (key_field, value_field) = (&entries.fields()[0], &entries.fields()[1]);
    let is_object = *key_field.data_type() == DataType::Utf8;
    let [open, between, close]: [&[u8]; 3] = if is_object { [b"", b":", b""] } else { [b"[", b",", b"]"] };
    out.push(if is_object { b'{' } else { b'[' });
    for entry in 0..entries.len() {
        if entry > 0 {
            out.push(b',');
        }
        out.extend_from_slice(open);
        value(key_field, keys, entry, out)?;
        out.extend_from_slice(between);
        value(value_field, values, entry, out)?;
        out.extend_from_slice(close);
    }
    out.push(if is_object { b'}' } else { b']' });
    Ok(())
}

/// The scale of Connect's Decimal; `None` for other types.
fn scale(field: &Field) -> Option<i32> {
    if field.metadata().get(SCHEMA_NAME)? != DECIMAL {
        return None;
    }
    let parameters: HashMap<String, String> = serde_json::from_str(field.metadata().get(SCHEMA_PARAMETERS)?).ok()?;
    parameters.get("scale")?.parse().ok()
}

/// Digits of a big-endian two's complement integer, with its point `scale` places from the right.
fn decimal(unscaled: &[u8], scale: i32) -> String {
    let negative = unscaled.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude = unscaled.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(carry.into());
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|&byte| byte != 0) {
        let mut rest = 0;
        for byte in &mut magnitude {
            let part = rest << 8 | u32::from(*byte);
            (*byte, rest) = ((part / 10) as u8, part % 10);
        }
        digits.push(b'0' + rest as u8);
    }
    let places = scale.max(0) as usize;
    if digits.is_empty() {
        digits.push(b'0');
    } else {
        digits.splice(0..0, std::iter::repeat_n(b'0', (-scale).max(0) as usize));
    }
    digits.resize(digits.len().max(places + 1), b'0');
    digits.reverse();
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let text = |digits: &[u8]| String::from_utf8_lossy(digits).into_owned();
    let sign = if negative { "-" } else { "" };
    if places == 0 { format!("{sign}{}", text(whole)) } else { format!("{sign}{}.{}", text(whole), text(fraction)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tributary_sdk::arrow::array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
    use tributary_sdk::arrow::array::{BinaryArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn rendered(field: Field, array: ArrayRef) -> String {
        let mut out = Vec::new();
        lines(&Column::new(field, array), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn decimal_field(name: &str, scale: i32) -> Field {
        Field::new(name, DataType::Binary, true).with_metadata(HashMap::from([
            (SCHEMA_NAME.to_owned(), DECIMAL.to_owned()),
            (SCHEMA_PARAMETERS.to_owned(), format!(r#"{{"scale":"{scale}"}}"#)),
        ]))
    }

    #[test]
    fn structs_with_everything_in_them() {
        let mut items = ListBuilder::new(Int32Builder::new());
        items.append_value([Some(1), None]);
        items.append_value([]);
        let mut tags = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        tags.keys().append_value("a\"b");
        tags.values().append_value(1);
        tags.append(true).unwrap();
        tags.append(true).unwrap();
        let mut codes = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
        codes.keys().append_value(7);
        codes.values().append_value("x");
        codes.append(true).unwrap();
        codes.append(false).unwrap();
        let columns: Vec<(Field, ArrayRef)> = vec![
            (Field::new("id", DataType::Int64, false), Arc::new(Int64Array::from(vec![1, i64::MIN]))),
            (Field::new("name", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("é\n"), None]))),
            (Field::new("x", DataType::Float64, false), Arc::new(Float64Array::from(vec![0.1, f64::NEG_INFINITY]))),
            (decimal_field("price", 2), Arc::new(BinaryArray::from(vec![&[0x04, 0xD2][..], &[0xFF]]))),
            (Field::new("raw", DataType::Binary, true), Arc::new(BinaryArray::from(vec![&[0xFF, 0x00][..], &[]]))),
        ];
        let (mut fields, mut arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        for (name, array) in [
            ("items", Arc::new(items.finish()) as ArrayRef),
            ("tags", Arc::new(tags.finish())),
            ("codes", Arc::new(codes.finish())),
        ] {
            fields.push(Field::new(name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let array = StructArray::new(fields.into(), arrays, None);
        let text = rendered(Field::new("", array.data_type().clone(), true), Arc::new(array));
        assert_eq!(
            text,
            concat!(
                r#"{"id":1,"name":"é\n","x":0.1,"price":12.34,"raw":"/wA=","items":[1,null],"tags":{"a\"b":1},"codes":[[7,"x"]]}"#,
                "\n",
                r#"{"id":-9223372036854775808,"name":null,"x":"-Infinity","price":-0.01,"raw":"","items":[],"tags":{},"codes":null}"#,
                "\n"
            )
        );
    }

    #[test]
    fn whole_values() {
        let named = |kind| {
            Field::new("", kind, true).with_metadata(HashMap::from([(SCHEMA_NAME.to_owned(), "Colour".to_owned())]))
        };
        assert_eq!(
            rendered(named(DataType::Utf8), Arc::new(StringArray::from(vec![Some("red"), None]))),
            "red\nnull\n"
        );
        assert_eq!(rendered(named(DataType::Binary), Arc::new(BinaryArray::from(vec![&b"raw"[..]]))), "raw\n");
        assert_eq!(
            rendered(Field::new("", DataType::Int64, true), Arc::new(Int64Array::from(vec![Some(5), None]))),
            "5\nnull\n"
        );
    }

    #[test]
    fn decimals_of_any_size() {
        assert_eq!(decimal(&[], 0), "0");
        assert_eq!(decimal(&[0], 3), "0.000");
        assert_eq!(decimal(&[0x80], 0), "-128");
        assert_eq!(decimal(&[0x7F, 0xFF], 1), "3276.7");
        assert_eq!(decimal(&[5], 3), "0.005");
        assert_eq!(decimal(&[5], -2), "500");
        let mut big = vec![1];
        big.extend([0; 16]);
        assert_eq!(decimal(&big, 0), "340282366920938463463374607431768211456");
    }

    #[test]
    fn a_type_that_connect_lacks_is_named() {
        let field = Field::new("took", DataType::Duration(TimeUnit::Second), true);
        let array: ArrayRef = Arc::new(tributary_sdk::arrow::array::DurationSecondArray::from(vec![1]));
        let error = lines(&Column::new(field, array), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("took") && error.contains("Duration"), "{error}");
    }
}
