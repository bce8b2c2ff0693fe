//! A header's serialized form: text as `SimpleHeaderConverter` writes it, but bytes raw.

use arrow_array::{Array, ArrayRef, BinaryArray};
use arrow_schema::Field;

use super::header_schema;
use super::json::{Encoder, Options, logical, text};
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
    schema: String,
    encoder: Encoder<'c>,
    /// Of dates and times: what a number becomes.
    time: Option<(DateFormat, i64)>,
    bytes: Option<&'c BinaryArray>,
}

impl<'c> HeaderText<'c> {
    /// For a column that `field` describes. The error names a type that no header has.
    pub fn new(field: &Field, column: &'c ArrayRef) -> Result<Self, String> {
        let numeric = Options { numeric_decimals: true, ..Options::default() };
        let encoder = Encoder::new(field, column, &numeric)?;
        let schema = header_schema::of(field)?;
        let kind = header_schema::type_name(&schema);
        let bytes = column.as_any().downcast_ref().filter(|_| kind == "bytes");
        Ok(Self { encoder, time: time_format(kind), bytes, schema })
    }

    /// What its headers say of their type, see [`header_schema`].
    pub fn schema(&self) -> &str {
        &self.schema
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
