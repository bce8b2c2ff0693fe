//! `JsonConverter`: JSON with and without schemas.
//!
//! Without (`schemas.enable=false`), text from Kafka is checked and passed on as it is; only a transform or a connector that
//! asks for a field parses it. With, values become structured columns by the schemas of their envelopes. Text that is not
//! JSON, or does not fit its schema, fails its row.

use arrow_array::{Array, BinaryArray, StringArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer};
use arrow_schema::FieldRef;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tributary_sdk::{Column, Config, Error, Form, Result};

use super::config::Options;
use super::decode::decode;
use super::envelope::{self, SchemaCache};
use super::{Encoder, field_from_json, field_to_json, syntax, text};
use crate::converter::conversion::{Converter, FromConnect, RowFailure, Run, ToConnect};
use crate::converter::utf8;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct JsonConverter {
    options: Options,
    cache: SchemaCache,
    /// Of `schema.content`.
    fixed: Option<FieldRef>,
}

impl JsonConverter {
    /// The rows as checked JSON text, and what was wrong with the others. `null` documents are null.
    fn texts(&self, data: &BinaryArray) -> (StringArray, Vec<RowFailure>) {
        let mut failures = Vec::new();
        let mut fail = |row, what: String| {
            let message = format!("Converting byte[] to Kafka Connect data failed due to serialization error: {what}");
            failures.push(RowFailure { row, message });
        };
        let mut invalid_rows = Vec::new();
        let texts = utf8::decode_strict(data, &mut invalid_rows);
        let mut invalid_rows = invalid_rows.into_iter().peekable();
        let mut nulls: Option<BooleanBufferBuilder> = None;
        let mut set_null = |row: usize| {
            let valid = nulls.get_or_insert_with(|| {
                let mut valid = BooleanBufferBuilder::new(texts.len());
                match texts.nulls() {
                    Some(known) => valid.append_buffer(known.inner()),
                    None => valid.append_n(texts.len(), true),
                }
                valid
            });
            valid.set_bit(row, false);
        };
        for row in 0..texts.len() {
            if texts.is_null(row) {
                continue;
            }
            if invalid_rows.next_if_eq(&row).is_some() {
                fail(row, "invalid UTF-8".to_owned());
                set_null(row);
                continue;
            }
            let bytes = texts.value(row).as_bytes();
            match syntax::check(bytes) {
                Ok(value) if bytes[value.start] == b'n' => set_null(row),
                Ok(_) => {}
                Err(error) => {
                    fail(row, error.to_string());
                    set_null(row);
                }
            }
        }
        let texts = match nulls {
            None => texts,
            Some(mut valid) => {
                let (offsets, values, _) = texts.into_parts();
                StringArray::new(offsets, values, Some(NullBuffer::new(valid.finish())))
            }
        };
        (texts, failures)
    }

    fn open_envelopes(&mut self, texts: &StringArray, mut failures: Vec<RowFailure>) -> ToConnect {
        let mut runs = Vec::new();
        let mut failed = std::mem::take(&mut failures).into_iter().peekable();
        let mut run: Option<OpenRun<'_>> = None;
        for row in 0..texts.len() {
            let mut close = |run: &mut Option<OpenRun<'_>>| {
                if let Some(run) = run.take() {
                    run.close(&self.options, &mut runs, &mut failures);
                }
            };
            if let Some(failure) = failed.next_if(|failure| failure.row == row) {
                close(&mut run);
                failures.push(failure);
                continue;
            }
            if texts.is_null(row) {
                // A tombstone joins whatever run is open.
                run.get_or_insert_with(|| OpenRun::new(row, None, None)).payloads.push(None);
                continue;
            }
            let opened = match &self.fixed {
                Some(_) => Ok(("", texts.value(row).trim_ascii())),
                None => envelope::open(texts.value(row).trim_ascii()),
            };
            match opened {
                Ok((schema, payload)) if run.as_ref().is_some_and(|run| run.schema == Some(schema)) => {
                    if let Some(run) = &mut run {
                        run.payloads.push(Some(payload));
                    }
                }
                Ok((schema, payload)) => {
                    let field = match &self.fixed {
                        Some(field) => Ok(Some(field.clone())),
                        None => self.cache.get(schema),
                    };
                    match field {
                        Ok(field) => {
                            // A run of nothing but tombstones takes the type of what follows.
                            if run.as_ref().is_some_and(|run| run.schema.is_some()) {
                                close(&mut run);
                            }
                            let run = run.get_or_insert_with(|| OpenRun::new(row, None, None));
                            run.schema = Some(schema);
                            run.field = field;
                            run.payloads.push(Some(payload));
                        }
                        Err(message) => {
                            close(&mut run);
                            failures.push(RowFailure { row, message });
                        }
                    }
                }
                Err(message) => {
                    close(&mut run);
                    failures.push(RowFailure { row, message });
                }
            }
        }
        if let Some(run) = run.take() {
            run.close(&self.options, &mut runs, &mut failures);
        }
        failures.sort_by_key(|failure| failure.row);
        ToConnect { runs, failures }
    }
}

/// Rows of one schema, being collected.
struct OpenRun<'t> {
    from: usize,
    /// The schema's text; `None` while there are tombstones only.
    schema: Option<&'t str>,
    field: Option<FieldRef>,
    payloads: Vec<Option<&'t str>>,
}

impl<'t> OpenRun<'t> {
    fn new(from: usize, schema: Option<&'t str>, field: Option<FieldRef>) -> Self {
        Self { from, schema, field, payloads: Vec::new() }
    }

    fn close(self, options: &Options, runs: &mut Vec<Run>, failures: &mut Vec<RowFailure>) {
        let rows = self.from..self.from + self.payloads.len();
        let Some(field) = self.field else {
            let payloads = self.payloads.into_iter().map(|payload| payload.filter(|&payload| payload != "null"));
            runs.push(Run { rows, column: Column::json(payloads.collect()) });
            return;
        };
        // A tombstone is null whatever the schema says; a null payload becomes the default.
        match decode(&field, &self.payloads, options) {
            Ok((array, failed)) => {
                let answer = ToConnect::without(&Column::new(field, array), failed);
                let moved = |run: Run| Run { rows: run.rows.start + rows.start..run.rows.end + rows.start, ..run };
                runs.extend(answer.runs.into_iter().map(moved));
                failures.extend(answer.failures.into_iter().map(|f| RowFailure { row: f.row + rows.start, ..f }));
            }
            Err(message) => failures.extend(rows.map(|row| RowFailure { row, message: message.clone() })),
        }
    }
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
        let (texts, failures) = self.texts(data);
        if self.options.schemas_enable {
            self.open_envelopes(&texts, failures)
        } else {
            ToConnect::without(&Column::json(texts), failures)
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
            _ => match Encoder::new(column.field(), column.array(), &self.options) {
                Ok(encoder) => {
                    write(column, envelope, column.array().get_array_memory_size(), |row, out| encoder.write(row, out))
                }
                Err(message) => FromConnect::all_failed(column, &message),
            },
        }
    }
}

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
