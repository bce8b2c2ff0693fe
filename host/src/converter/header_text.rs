//! A header's serialized form: text as `SimpleHeaderConverter` writes it, but bytes raw.

use arrow_array::{Array, ArrayRef, BinaryArray};
use arrow_schema::{DataType, Field};
use tributary_sdk::batch::SCHEMA_NAME;

use super::json::{Encoder, Options, connect_type, logical, text};
use crate::transform::DateFormat;

/// Patterns of dates and times, and how many milliseconds one of their numbers is.
const TIMES: [(&str, &str, i64); 3] = [
    (logical::DATE, "yyyy-MM-dd", 86_400_000),
    (logical::TIME, "HH:mm:ss.SSS'Z'", 1),
    (logical::TIMESTAMP, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", 1),
];

/// How values of a logical type stand in text.
pub fn time_format(schema: &str) -> Option<(DateFormat, i64)> {
    let (_, pattern, unit) = TIMES.into_iter().find(|(name, ..)| *name == schema)?;
    Some((DateFormat::new(pattern).ok()?, unit))
}

/// Writes values of a column as header text.
pub struct HeaderText<'c> {
    schema: &'static str,
    encoder: Encoder<'c>,
    /// Of dates and times: what a number becomes.
    time: Option<(DateFormat, i64)>,
    bytes: Option<&'c BinaryArray>,
}

impl<'c> HeaderText<'c> {
    /// For a column that `field` describes. The error names a type that no header has.
    pub fn new(field: &Field, column: &'c ArrayRef) -> Result<Self, String> {
        let name = field.metadata().get(SCHEMA_NAME).map(String::as_str);
        let numeric = Options { numeric_decimals: true, ..Options::default() };
        let encoder = Encoder::new(field, column, &numeric)?;
        let schema = match field.data_type() {
            DataType::Date32 => logical::DATE,
            DataType::Time32(_) => logical::TIME,
            DataType::Timestamp(..) => logical::TIMESTAMP,
            DataType::Binary if name == Some(logical::DECIMAL) => logical::DECIMAL,
            other => match connect_type(other) {
                Some(("float", _)) => "float32",
                Some(("double", _)) => "float64",
                Some((kind, _)) => kind,
                None => return Err(format!("the type {other} cannot be put into a header")),
            },
        };
        let bytes = column.as_any().downcast_ref().filter(|_| schema == "bytes");
        Ok(Self { schema, encoder, time: time_format(schema), bytes })
    }

    /// The Connect type name that its headers have.
    pub fn schema(&self) -> &'static str {
        self.schema
    }

    /// Appends a row's value, which is not null.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if let Some(bytes) = self.bytes {
            out.extend_from_slice(bytes.value(row));
            return Ok(());
        }
        let mut json = String::new();
        self.encoder.write(row, &mut json)?;
        match &self.time {
            Some((format, unit)) => {
                let number: i64 = json.parse().map_err(|_| "a time that is no number")?;
                out.extend_from_slice(format.format(number * unit).as_bytes());
            }
            None if json.starts_with('"') => out.extend_from_slice(text::string_value(&json).as_bytes()),
            None => out.extend_from_slice(json.as_bytes()),
        }
        Ok(())
    }
}
