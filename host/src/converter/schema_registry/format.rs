//! What one schema language knows.

use arrow_array::{Array, ArrayRef};
use arrow_schema::FieldRef;
use tributary_sdk::{Column, Config, ConfigDef, Result};

use super::registered::{Registered, SchemaText};
use crate::converter::RowFailure;

/// Values that were read.
pub struct Decoded {
    /// Their type.
    pub field: FieldRef,
    /// One a row.
    pub array: ArrayRef,
    /// Rows that could not be read, increasing.
    pub failures: Vec<RowFailure>,
}

/// What is to be written under which schema.
pub struct Outgoing {
    /// The schema that the column's type makes.
    pub schema: SchemaText,
    /// The full name of the record, if it is one.
    pub record: Option<String>,
}

/// A schema language with its binary form. Errors are for users.
pub trait Format: Send + 'static {
    /// A schema prepared for reading.
    type Reader: Send + Sync;
    /// A schema prepared for writing columns of one type.
    type Writer: Send + Sync;
    /// The registry's name of it.
    const KIND: &'static str;

    /// From the converter's own config.
    fn new(config: &Config) -> Result<Self>
    where
        Self: Sized;

    /// Its keys beside the common ones.
    fn own_def() -> ConfigDef;

    /// How many bytes follow the schema's id before the value begins.
    fn prefix_len(&self, _after_id: &[u8]) -> std::result::Result<usize, String> {
        Ok(0)
    }

    /// Prepares a schema for reading values that begin with `prefix`.
    fn reader(&self, schema: &Registered, prefix: &[u8]) -> std::result::Result<Self::Reader, String>;

    /// Reads values, each without what stands before it; `None` is a tombstone.
    fn read(&self, reader: &Self::Reader, rows: &[Option<&[u8]>]) -> std::result::Result<Decoded, String>;

    /// The schema of a column. Columns of text, bytes and JSON documents come as they are.
    fn outgoing(&self, column: &Column) -> std::result::Result<Outgoing, String>;

    /// Prepares a schema for writing columns like this one. `strict`: every field of the column has its place in the schema.
    fn writer(&self, schema: &Registered, column: &Column, strict: bool) -> std::result::Result<Self::Writer, String>;

    /// Appends each row that is not null, with what stands before the value but after the id, through `out`.
    fn write(
        &self,
        writer: &Self::Writer,
        column: &Column,
        row: &mut dyn FnMut(usize, std::result::Result<&[u8], String>),
    ) -> std::result::Result<(), String>;
}

/// Writes each row that is not null behind `prefix`. What fails is a failure of its row, with `what` before the reason.
pub fn write_rows(
    column: &Column,
    prefix: &[u8],
    what: &str,
    give: &mut dyn FnMut(usize, std::result::Result<&[u8], String>),
    mut write: impl FnMut(usize, &mut Vec<u8>) -> std::result::Result<(), String>,
) {
    let mut out = Vec::with_capacity(256);
    for row in (0..column.len()).filter(|&row| column.array().is_valid(row)) {
        out.clear();
        out.extend_from_slice(prefix);
        match write(row, &mut out) {
            Ok(()) => give(row, Ok(&out)),
            Err(message) => give(row, Err(format!("{what}: {message}"))),
        }
    }
}

/// Why JSON documents cannot be written in a language that needs a schema.
pub fn schemaless(language: &str) -> String {
    format!(
        "values without a schema (JSON documents) have no {language} schema; give them one, for example with a source or converter that has schemas, or use JsonConverter or JsonSchemaConverter"
    )
}
