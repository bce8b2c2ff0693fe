//! `JsonConverter`: JSON with and without schemas.
//!
//! Without (`schemas.enable=false`), text from Kafka is checked and passed on as it is; only a transform or a connector that
//! asks for a field parses it. With, values become structured columns by the schemas of their envelopes. Text that is not
//! JSON, or does not fit its schema, fails its row.

use arrow_array::{Array, BinaryArray};
use arrow_schema::FieldRef;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::{Column, Config, Error, Form, Result};

use super::config::Options;
use super::envelope::SchemaCache;
use super::{Encoder, field_from_json, field_to_json, incoming, text};
use crate::converter::canonical;
use crate::converter::conversion::{Converter, FromConnect, RowFailure, ToConnect};
use crate::converter::utf8;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct JsonConverter {
    options: Options,
    cache: SchemaCache,
    /// Of `schema.content`.
    fixed: Option<FieldRef>,
}

impl Converter for JsonConverter {
    fn configure(&mut self, config: &Config, _is_key: bool) -> Result<()> {
        self.options = Options::parse(config)?;
        self.cache = SchemaCache::new(self.options.cache_size);
        self.fixed = match self.options.schema_content.as_deref().filter(|_| self.options.schemas_enable) {
            None => None,
            Some(text) => {
                let schema = serde_json::from_str(text).map_err(|error| {
                    Error::failed(format!(
                        "Failed to parse schema in converter config due to serialization error: {error}"
                    ))
                })?;
                Some(field_from_json(&schema).map_err(Error::failed)?)
            }
        };
        Ok(())
    }

    fn to_connect(&mut self, _topic: &str, data: &BinaryArray) -> ToConnect {
        if self.options.schemas_enable {
            incoming::envelopes(data, &self.options, &mut self.cache, self.fixed.as_ref())
        } else {
            incoming::documents(data)
        }
    }

    fn from_connect(&mut self, _topic: &str, column: &Column) -> FromConnect {
        let envelope = if self.options.schemas_enable { Some(column) } else { None };
        match (column.form(), column.as_text(), column.as_bytes()) {
            (Form::Json, Some(texts), _) if envelope.is_none() => {
                FromConnect { data: BinaryArray::from(texts.clone()), failures: Vec::new() }
            }
            (Form::Json, Some(texts), _) => write(column, envelope, texts.value_data().len(), |row, out| {
                out.push_str(texts.value(row));
                Ok(())
            }),
            (Form::Text, Some(texts), _) => write(column, envelope, texts.value_data().len(), |row, out| {
                text::write_string(out, texts.value(row));
                Ok(())
            }),
            (Form::Bytes, _, Some(bytes)) => write(column, envelope, bytes.value_data().len() * 4 / 3, |row, out| {
                out.push('"');
                STANDARD.encode_string(bytes.value(row), out);
                out.push('"');
                Ok(())
            }),
            _ => match canonical(column) {
                Ok(column) => self.encode(&column),
                Err(message) => FromConnect::all_failed(column, &message),
            },
        }
    }
}

impl JsonConverter {
    fn encode(&self, column: &Column) -> FromConnect {
        let envelope = self.options.schemas_enable.then_some(column);
        match Encoder::new(column.field(), column.array(), &self.options) {
            Ok(encoder) => {
                // How long the first row is says more than what the columns take.
                write(column, envelope, 0, |row, out| encoder.write(row, out))
            }
            Err(message) => FromConnect::all_failed(column, &message),
        }
    }
}

/// Bytes that are reserved at most for rows that are not written yet.
const RESERVED: usize = 4 << 20;

/// Writes each row that is not null, in an envelope if one is wanted.
fn write(
    column: &Column,
    envelope: Option<&Column>,
    bytes: usize,
    mut value: impl FnMut(usize, &mut String) -> Result<(), String>,
) -> FromConnect {
    let (before, after) = match envelope.map(|column| (column.form(), field_to_json(column.field()))) {
        None => (String::new(), ""),
        Some((Form::Json, _)) => ("{\"schema\":null,\"payload\":".to_owned(), "}"),
        Some((_, Ok(schema))) => (format!("{{\"schema\":{schema},\"payload\":"), "}"),
        Some((_, Err(message))) => return FromConnect::all_failed(column, &message),
    };
    let rows = column.len();
    let mut texts = utf8::TextBuilder::with_capacity(rows, bytes + rows * (before.len() + 8));
    let mut failures = Vec::new();
    for row in 0..rows {
        if column.array().is_null(row) {
            texts.push_null();
            continue;
        }
        let out = texts.buffer();
        let from = out.len();
        out.push_str(&before);
        match value(row, out) {
            Ok(()) => {
                out.push_str(after);
                if from == 0 {
                    // Rows of a batch are mostly alike: growing by doubling would copy them all, and leave half of the memory empty.
                    let row = out.len();
                    out.reserve(((rows - 1) * (row + row / 16)).min(RESERVED));
                }
                texts.end_row();
            }
            Err(message) => {
                out.truncate(from);
                texts.push_null();
                failures.push(RowFailure { row, message });
            }
        }
    }
    FromConnect { data: texts.finish_binary(), failures }
}
