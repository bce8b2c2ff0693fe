//! `BooleanConverter`, `ShortConverter`, `IntegerConverter`, `LongConverter`, `FloatConverter`, `DoubleConverter`: values of one
//! primitive type, in Kafka's own serialization (big-endian).
//!
//! A value of another size fails its row, and so does one of another type on the way to Kafka; a number of schemaless JSON goes
//! if it fits.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray};
use arrow_schema::{DataType, Field};
use tributary_sdk::batch::{SCHEMA_NAME, SCHEMA_OPTIONAL};
use tributary_sdk::{Column, Config, Form, Result};

use super::json::type_name;
use super::{Converter, FromConnect, RowFailure, ToConnect};

/// The primitive types that have a converter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Number {
    Boolean,
    Short,
    Integer,
    Long,
    Float,
    Double,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct NumberConverter {
    number: Number,
}

impl NumberConverter {
    /// For one type.
    pub fn new(number: Number) -> Self {
        Self { number }
    }
}

impl Number {
    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Short => "short",
            Self::Integer => "integer",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Short => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::Long => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
        }
    }
}

/// Reads values of `SIZE` bytes.
fn read<const SIZE: usize, T: Default>(
    number: Number,
    data: &BinaryArray,
    failures: &mut Vec<RowFailure>,
    value: impl Fn([u8; SIZE]) -> Option<T>,
) -> Vec<Option<T>> {
    let row = |(row, bytes): (usize, Option<&[u8]>)| {
        let bytes = bytes?;
        let read = <[u8; SIZE]>::try_from(bytes).ok().and_then(&value);
        if read.is_none() {
            let name = number.name();
            let what = if bytes.len() == SIZE {
                format!("0x{:02x} is neither 0 nor 1", bytes[0])
            } else {
                format!("the size of the data is {}, not {SIZE}", bytes.len())
            };
            failures.push(RowFailure { row, message: format!("Failed to deserialize {name}: {what}") });
        }
        read
    };
    data.iter().enumerate().map(row).collect()
}

/// Values as big-endian bytes.
fn write<T: ArrowPrimitiveType, const SIZE: usize>(
    column: &Column,
    bytes: impl Fn(T::Native) -> [u8; SIZE],
) -> BinaryArray {
    column.array().as_primitive::<T>().iter().map(|value| value.map(&bytes)).collect()
}

impl Converter for NumberConverter {
    fn configure(&mut self, _config: &Config, _is_key: bool) -> Result<()> {
        Ok(())
    }

    fn to_connect(&mut self, _topic: &str, data: &BinaryArray) -> ToConnect {
        let mut failures = Vec::new();
        let number = self.number;
        macro_rules! numbers {
            ($arrow:ty, $native:ty) => {
                Arc::new(PrimitiveArray::<$arrow>::from(read(number, data, &mut failures, |bytes| {
                    Some(<$native>::from_be_bytes(bytes))
                })))
            };
        }
        let array: ArrayRef = match number {
            Number::Boolean => Arc::new(BooleanArray::from(read(number, data, &mut failures, |[byte]| match byte {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            }))),
            Number::Short => numbers!(Int16Type, i16),
            Number::Integer => numbers!(Int32Type, i32),
            Number::Long => numbers!(Int64Type, i64),
            Number::Float => numbers!(Float32Type, f32),
            Number::Double => numbers!(Float64Type, f64),
        };
        let optional = HashMap::from([(SCHEMA_OPTIONAL.to_owned(), "true".to_owned())]);
        let field = Field::new("", array.data_type().clone(), true).with_metadata(optional);
        ToConnect::without(&Column::new(field, array), failures)
    }

    fn from_connect(&mut self, _topic: &str, column: &Column) -> FromConnect {
        let number = self.number;
        if column.form() == Form::Json {
            return self.write_json(column);
        }
        let data_type = column.field().data_type();
        if *data_type != number.data_type() || column.field().metadata().contains_key(SCHEMA_NAME) {
            let message = format!("Failed to serialize to {} (was {})", number.name(), type_name(data_type));
            return FromConnect::all_failed(column, &message);
        }
        let data = match number {
            Number::Boolean => column.array().as_boolean().iter().map(|value| Some([u8::from(value?)])).collect(),
            Number::Short => write::<Int16Type, 2>(column, i16::to_be_bytes),
            Number::Integer => write::<Int32Type, 4>(column, i32::to_be_bytes),
            Number::Long => write::<Int64Type, 8>(column, i64::to_be_bytes),
            Number::Float => write::<Float32Type, 4>(column, f32::to_be_bytes),
            Number::Double => write::<Float64Type, 8>(column, f64::to_be_bytes),
        };
        FromConnect { data, failures: Vec::new() }
    }
}

impl NumberConverter {
    fn write_json(&self, column: &Column) -> FromConnect {
        let mut failures = Vec::new();
        let number = self.number;
        let bytes = |text: &str| -> Option<Vec<u8>> {
            Some(match number {
                Number::Boolean => vec![u8::from(text.parse::<bool>().ok()?)],
                Number::Short => text.parse::<i16>().ok()?.to_be_bytes().to_vec(),
                Number::Integer => text.parse::<i32>().ok()?.to_be_bytes().to_vec(),
                Number::Long => text.parse::<i64>().ok()?.to_be_bytes().to_vec(),
                Number::Float => text.parse::<f32>().ok()?.to_be_bytes().to_vec(),
                Number::Double => text.parse::<f64>().ok()?.to_be_bytes().to_vec(),
            })
        };
        let texts = column.as_text().into_iter().flatten();
        let row = |(row, text): (usize, Option<&str>)| {
            let text = text?.trim_ascii();
            let written = bytes(text);
            if written.is_none() {
                let message = format!("Failed to serialize to {}: the JSON value is no {0}", number.name());
                failures.push(RowFailure { row, message });
            }
            written
        };
        FromConnect { data: texts.enumerate().map(row).collect(), failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_and_wrong_ones_fail_their_row() {
        for (number, bytes) in [
            (Number::Boolean, &[1][..]),
            (Number::Short, &[0xff, 0xfe]),
            (Number::Integer, &[0, 0, 1, 2]),
            (Number::Long, &[0x80, 0, 0, 0, 0, 0, 0, 1]),
            (Number::Float, &[0x3f, 0xc0, 0, 0]),
            (Number::Double, &[0xbf, 0xf8, 0, 0, 0, 0, 0, 0]),
        ] {
            let mut converter = NumberConverter::new(number);
            let input = BinaryArray::from_iter([Some(bytes), None, Some(&[9, 9, 9])]);
            let answer = converter.to_connect("t", &input);
            assert_eq!(answer.failures.len(), 1, "{number:?}");
            assert_eq!(answer.failures[0].row, 2);
            let back = converter.from_connect("t", &answer.runs[0].column);
            assert_eq!(back.data, input.slice(0, 2));
        }
        let answer = NumberConverter::new(Number::Boolean).to_connect("t", &BinaryArray::from_iter([Some([7])]));
        assert_eq!(answer.failures[0].message, "Failed to deserialize boolean: 0x07 is neither 0 nor 1");
    }

    #[test]
    fn numbers_of_json_go_if_they_fit() {
        let column = Column::json(arrow_array::StringArray::from(vec!["7", "70000", "\"7\""]));
        let answer = NumberConverter::new(Number::Short).from_connect("t", &column);
        assert_eq!(answer.data.value(0), [0, 7]);
        assert_eq!(answer.failures.iter().map(|failure| failure.row).collect::<Vec<_>>(), [1, 2]);
    }
}
