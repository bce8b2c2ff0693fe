//! Columns under way.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use tributary_sdk::arrow::array::builder::{
    BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder,
    StringBuilder,
};
use tributary_sdk::arrow::array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, ListArray, MapArray, StructArray, Time32MillisecondArray,
    TimestampMillisecondArray,
};
use tributary_sdk::arrow::buffer::{NullBuffer, OffsetBuffer};
use tributary_sdk::arrow::schema::{DataType, Fields};

use super::kind::{Kind, point_fields, variable_decimal_fields};
use super::{ColumnType, decimal, interval::Interval, text, time};
use crate::config::BinaryMode;

/// A column of one type, filled value by value.
pub(crate) struct ValueBuilder {
    column: ColumnType,
    values: Values,
    /// Whether each row is there, where `values` cannot say so.
    valid: Vec<bool>,
    /// For texts that are written anew.
    text: String,
}

enum Values {
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    VariableDecimal(Int32Builder, BinaryBuilder),
    Point(Float64Builder, Float64Builder, BinaryBuilder),
    Map(StringBuilder, StringBuilder, Vec<usize>),
    List(Box<ValueBuilder>, Vec<usize>),
}

impl ValueBuilder {
    pub fn new(column: &ColumnType) -> Self {
        let values = match (&column.kind, &column.data_type) {
            (Kind::VariableDecimal, _) => Values::VariableDecimal(Int32Builder::new(), BinaryBuilder::new()),
            (Kind::Point, _) => Values::Point(Float64Builder::new(), Float64Builder::new(), BinaryBuilder::new()),
            (Kind::HstoreMap, _) => Values::Map(StringBuilder::new(), StringBuilder::new(), Vec::new()),
            (Kind::List(item, _), _) => Values::List(Box::new(Self::new(item)), Vec::new()),
            (_, DataType::Boolean) => Values::Bool(BooleanBuilder::new()),
            (_, DataType::Int16) => Values::Int16(Int16Builder::new()),
            (_, DataType::Int32 | DataType::Date32 | DataType::Time32(_)) => Values::Int32(Int32Builder::new()),
            (_, DataType::Int64 | DataType::Timestamp(..)) => Values::Int64(Int64Builder::new()),
            (_, DataType::Float32) => Values::Float32(Float32Builder::new()),
            (_, DataType::Float64) => Values::Float64(Float64Builder::new()),
            (_, DataType::Binary) => Values::Bytes(BinaryBuilder::new()),
            _ => Values::Text(StringBuilder::new()),
        };
        Self { column: column.clone(), values, valid: Vec::new(), text: String::new() }
    }

    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Bool(builder) => builder.append_null(),
            Values::Int16(builder) => builder.append_null(),
            Values::Int32(builder) => builder.append_null(),
            Values::Int64(builder) => builder.append_null(),
            Values::Float32(builder) => builder.append_null(),
            Values::Float64(builder) => builder.append_null(),
            Values::Text(builder) => builder.append_null(),
            Values::Bytes(builder) => builder.append_null(),
            Values::VariableDecimal(..) | Values::Point(..) => self.push_filler(false),
            Values::Map(_, _, lengths) | Values::List(_, lengths) => {
                lengths.push(0);
                self.valid.push(false);
            }
        }
    }

    /// The least value of the type: where a value is required, and the server did not send it.
    pub fn push_zero(&mut self) {
        match &mut self.values {
            Values::Bool(builder) => builder.append_value(false),
            Values::Int16(builder) => builder.append_value(0),
            Values::Int32(builder) => builder.append_value(0),
            Values::Int64(builder) => builder.append_value(0),
            Values::Float32(builder) => builder.append_value(0.0),
            Values::Float64(builder) => builder.append_value(0.0),
            Values::Text(builder) => builder.append_value(match self.column.kind {
                Kind::DecimalText(0) => "0",
                Kind::DecimalText(digits) => return builder.append_value(format!("0.{}", "0".repeat(digits))),
                Kind::IntervalText => "P0Y0M0DT0H0M0S",
                Kind::HstoreJson => "{}",
                Kind::TimestampTz(_) | Kind::TimestampIso => "1970-01-01T00:00:00Z",
                Kind::TimeTz | Kind::TimeIso => "00:00:00Z",
                Kind::DateIso => "1970-01-01Z",
                _ => "",
            }),
            Values::Bytes(builder) => match self.column.kind {
                Kind::Decimal(_) => builder.append_value([0]),
                _ => builder.append_value([]),
            },
            Values::VariableDecimal(..) | Values::Point(..) => self.push_filler(true),
            Values::Map(_, _, lengths) | Values::List(_, lengths) => {
                lengths.push(0);
                self.valid.push(true);
            }
        }
    }

    fn push_filler(&mut self, valid: bool) {
        match &mut self.values {
            Values::VariableDecimal(scale, value) => {
                scale.append_value(0);
                value.append_value([0]);
            }
            Values::Point(x, y, wkb) => {
                x.append_value(0.0);
                y.append_value(0.0);
                wkb.append_value(well_known(0.0, 0.0));
            }
            _ => return,
        }
        self.valid.push(valid);
    }

    /// What stands for a value that has not changed: `placeholder` in texts, bytes and lists of texts; elsewhere the least value, or none.
    pub fn push_unavailable(&mut self, placeholder: &str, required: bool) {
        match &mut self.values {
            Values::Text(builder) if self.column.kind == Kind::HstoreJson => {
                builder.append_value(serde_json::json!({ placeholder: placeholder }).to_string());
            }
            Values::Text(builder) => builder.append_value(placeholder),
            Values::Bytes(builder) if !matches!(self.column.kind, Kind::Decimal(_) | Kind::Bits) => {
                builder.append_value(placeholder.as_bytes());
            }
            Values::List(items, lengths) if matches!(items.values, Values::Text(_)) => {
                items.push_unavailable(placeholder, true);
                lengths.push(1);
                self.valid.push(true);
            }
            Values::Map(keys, values, lengths) => {
                keys.append_value(placeholder);
                values.append_value(placeholder);
                lengths.push(1);
                self.valid.push(true);
            }
            _ if required => self.push_zero(),
            _ => self.push_null(),
        }
    }

    /// A value from the server's text. The error tells what does not fit, and nothing has been added then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        match self.try_push(bytes) {
            Some(()) => Ok(()),
            None => Err(match self.column.kind {
                Kind::Decimal(_) | Kind::VariableDecimal => {
                    "it is NaN or infinite, or has more digits than its type: set decimal.handling.mode to double or string"
                }
                _ => "it is not of the type that the catalogue says",
            }),
        }
    }

    fn try_push(&mut self, bytes: &[u8]) -> Option<()> {
        let kind = &self.column.kind;
        match &mut self.values {
            Values::Bool(builder) => builder.append_value(matches!(bytes, b"t" | b"1")),
            Values::Int16(builder) => builder.append_value(integer(bytes)?.try_into().ok()?),
            Values::Int32(builder) => builder.append_value(match kind {
                Kind::Date => match time::infinity(bytes) {
                    Some(positive) => {
                        if positive {
                            i32::MAX
                        } else {
                            i32::MIN
                        }
                    }
                    None => time::date(bytes)?.try_into().ok()?,
                },
                Kind::Time(unit) => (time::time(bytes)? / unit) as i32,
                _ => integer(bytes)?.try_into().ok()?,
            }),
            Values::Int64(builder) => {
                let value = long(kind, bytes)?;
                // Debezium divides what stands for infinity where it makes Connect's own type of it.
                let far = matches!(self.column.data_type, DataType::Timestamp(..)) && time::infinity(bytes).is_some();
                builder.append_value(if far { value / 1000 } else { value });
            }
            Values::Float32(builder) => builder.append_value(str(bytes)?.parse().ok()?),
            Values::Float64(builder) => builder.append_value(str(bytes)?.parse().ok()?),
            Values::Text(builder) => {
                self.text.clear();
                match write(kind, bytes, &mut self.text)? {
                    true => builder.append_value(&self.text),
                    false => builder.append_value(str(bytes)?),
                }
            }
            Values::Bytes(builder) => match kind {
                Kind::Bytes => builder.append_value(text::bytea(bytes)?),
                Kind::Decimal(scale) => match decimal::small_at_scale(bytes, *scale) {
                    Some((number, from)) => builder.append_value(&number[from..]),
                    None => builder.append_value(decimal::at_scale(str(bytes)?, *scale)?),
                },
                Kind::Bits => builder.append_value(bits(bytes)?),
                _ => builder.append_value(bytes),
            },
            Values::VariableDecimal(scales, values) => {
                let (scale, value) = decimal::with_scale(str(bytes)?)?;
                scales.append_value(scale);
                values.append_value(value);
                self.valid.push(true);
            }
            Values::Point(xs, ys, wkbs) => {
                let (x, y) = str(bytes)?.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
                let (x, y): (f64, f64) = (x.parse().ok()?, y.parse().ok()?);
                xs.append_value(x);
                ys.append_value(y);
                wkbs.append_value(well_known(x, y));
                self.valid.push(true);
            }
            Values::Map(keys, values, lengths) => {
                let pairs = text::hstore(str(bytes)?)?;
                lengths.push(pairs.len());
                for (key, value) in pairs {
                    keys.append_value(key);
                    values.append_option(value);
                }
                self.valid.push(true);
            }
            Values::List(items, lengths) => {
                let Kind::List(_, delimiter) = kind else { return None };
                let parts = text::array(bytes, *delimiter)?;
                let before = items.len();
                for part in &parts {
                    let done = match part {
                        Some(part) => items.try_push(part),
                        None => {
                            items.push_null();
                            Some(())
                        }
                    };
                    if done.is_none() {
                        // Those of the same array that fitted belong to a row that is given up; what follows them fails, too.
                        debug_assert!(items.len() >= before);
                        return None;
                    }
                }
                lengths.push(parts.len());
                self.valid.push(true);
            }
        }
        Some(())
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Bool(builder) => builder_len(builder),
            Values::Int16(builder) => builder_len(builder),
            Values::Int32(builder) => builder_len(builder),
            Values::Int64(builder) => builder_len(builder),
            Values::Float32(builder) => builder_len(builder),
            Values::Float64(builder) => builder_len(builder),
            Values::Text(builder) => builder_len(builder),
            Values::Bytes(builder) => builder_len(builder),
            _ => self.valid.len(),
        }
    }

    /// The column, and a builder for the next one.
    pub fn finish(&mut self) -> ArrayRef {
        let valid = std::mem::take(&mut self.valid);
        let rows = valid.len();
        let nulls = || Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
        match &mut self.values {
            Values::Bool(builder) => Arc::new(builder.finish()),
            Values::Int16(builder) => Arc::new(builder.finish()),
            Values::Int32(builder) => int32(builder.finish(), &self.column.data_type),
            Values::Int64(builder) => int64(builder.finish(), &self.column.data_type),
            Values::Float32(builder) => Arc::new(builder.finish()),
            Values::Float64(builder) => Arc::new(builder.finish()),
            Values::Text(builder) => Arc::new(builder.finish()),
            Values::Bytes(builder) => Arc::new(builder.finish()),
            Values::VariableDecimal(scale, value) => {
                let columns: Vec<ArrayRef> = vec![Arc::new(scale.finish()), Arc::new(value.finish())];
                Arc::new(StructArray::new(variable_decimal_fields(), columns, nulls()))
            }
            Values::Point(x, y, wkb) => {
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(x.finish()),
                    Arc::new(y.finish()),
                    Arc::new(wkb.finish()),
                    Arc::new(Int32Array::new_null(rows)),
                ];
                Arc::new(StructArray::new(point_fields(), columns, nulls()))
            }
            Values::Map(keys, values, lengths) => {
                let DataType::Map(entries, _) = &self.column.data_type else { unreachable!("a map's type") };
                let DataType::Struct(fields) = entries.data_type() else { unreachable!("a map's entries") };
                let fields: Fields = fields.clone();
                let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), Arc::new(values.finish())];
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                let pairs = StructArray::new(fields, columns, None);
                Arc::new(MapArray::new(entries.clone(), offsets, pairs, nulls(), false))
            }
            Values::List(items, lengths) => {
                let DataType::List(field) = &self.column.data_type else { unreachable!("a list's type") };
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                let items = items.finish();
                Arc::new(ListArray::new(field.clone(), offsets, items, nulls()))
            }
        }
    }
}

fn builder_len(builder: &impl tributary_sdk::arrow::array::builder::ArrayBuilder) -> usize {
    builder.len()
}

fn int32(array: Int32Array, data_type: &DataType) -> ArrayRef {
    let (_, values, nulls) = array.into_parts();
    match data_type {
        DataType::Date32 => Arc::new(Date32Array::new(values, nulls)),
        DataType::Time32(_) => Arc::new(Time32MillisecondArray::new(values, nulls)),
        _ => Arc::new(Int32Array::new(values, nulls)),
    }
}

fn int64(array: Int64Array, data_type: &DataType) -> ArrayRef {
    let (_, values, nulls) = array.into_parts();
    match data_type {
        DataType::Timestamp(..) => Arc::new(TimestampMillisecondArray::new(values, nulls)),
        _ => Arc::new(Int64Array::new(values, nulls)),
    }
}

fn str(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn integer(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    // Downwards, since there is one more number below zero than above.
    let size = digits.iter().try_fold(0i64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_sub(digit)
    })?;
    if negative { Some(size) } else { size.checked_neg() }
}

fn long(kind: &Kind, bytes: &[u8]) -> Option<i64> {
    // Java's own infinite dates, in the unit of the column.
    const FAR_MS: (i64, i64) = (-9_223_372_036_832_400_000, 9_223_372_036_825_200_000);
    let far = |positive| if positive { FAR_MS.1 } else { FAR_MS.0 };
    Some(match kind {
        Kind::Time(unit) => time::time(bytes)? / unit,
        Kind::TimeNanos => time::time(bytes)? * 1000,
        Kind::Timestamp(unit) => match time::infinity(bytes) {
            Some(positive) => far(positive),
            None => time::timestamp(bytes)?.div_euclid(*unit),
        },
        Kind::TimestampNanos => match time::infinity(bytes) {
            Some(positive) => far(positive),
            None => time::timestamp(bytes)?.checked_mul(1000)?,
        },
        Kind::IntervalMicros => Interval::parse(str(bytes)?)?.micros(),
        _ => integer(bytes)?,
    })
}

fn binary_text(mode: BinaryMode, bytes: &[u8]) -> String {
    match mode {
        BinaryMode::Base64 => STANDARD.encode(bytes),
        BinaryMode::Base64Url => URL_SAFE.encode(bytes),
        BinaryMode::Hex | BinaryMode::Bytes => text::hex(bytes),
    }
}

/// Writes the text of a value that is not written as the server does; `Some(false)`: it is.
fn write(kind: &Kind, bytes: &[u8], out: &mut String) -> Option<bool> {
    match kind {
        Kind::TimestampTz(_) | Kind::TimestampIso | Kind::DateIso if time::infinity(bytes).is_some() => {
            return Some(false);
        }
        Kind::TimestampTz(digits) => time::write_timestamp_digits(out, time::timestamp(bytes)?, *digits),
        Kind::TimestampIso => time::write_timestamp(out, time::timestamp(bytes)?),
        Kind::TimeTz => out.push_str(&time::time_tz(bytes)?),
        Kind::TimeIso => {
            time::write_time(out, time::time(bytes)?);
            out.push('Z');
        }
        Kind::DateIso => {
            time::write_date(out, time::date(bytes)?);
            out.push('Z');
        }
        Kind::IntervalText => out.push_str(&Interval::parse(str(bytes)?)?.iso()),
        Kind::BytesText(mode) => out.push_str(&binary_text(*mode, &text::bytea(bytes)?)),
        Kind::OpaqueText(mode) => out.push_str(&binary_text(*mode, bytes)),
        Kind::HstoreJson => {
            let pairs = text::hstore(str(bytes)?)?.into_iter();
            let object: serde_json::Map<String, serde_json::Value> =
                pairs.map(|(key, value)| (key, value.into())).collect();
            out.push_str(&serde_json::Value::Object(object).to_string());
        }
        _ => return Some(false),
    }
    Some(true)
}

/// Well-known binary of a point: little-endian, what it is, its coordinates.
fn well_known(x: f64, y: f64) -> Vec<u8> {
    let mut wkb = vec![1, 1, 0, 0, 0];
    wkb.extend(x.to_le_bytes());
    wkb.extend(y.to_le_bytes());
    wkb
}

/// Bits in little-endian bytes, without those of the end that are zero: the last bit of the text is the lowest of the first byte.
fn bits(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; text.len().div_ceil(8)];
    for (at, bit) in text.iter().rev().enumerate() {
        match bit {
            b'0' => {}
            b'1' => bytes[at / 8] |= 1 << (at % 8),
            _ => return None,
        }
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes.truncate(used);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_use_their_whole_range() {
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(integer(b"1.5"), None);
    }

    #[test]
    fn bits_are_little_endian() {
        assert_eq!(bits(b"101"), Some(vec![5]));
        assert_eq!(bits(b"1000000001"), Some(vec![1, 2]));
        assert_eq!(bits(b"0000000001"), Some(vec![1]));
        assert_eq!(bits(b"000"), Some(vec![]));
    }
}
