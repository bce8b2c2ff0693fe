//! The converter around a format: finds schemas by id, divides batches by them, registers what is new.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::{Array, BinaryArray};
use arrow_schema::FieldRef;
use tributary_sdk::{Column, Config, Form, Result};

use super::client::{RegistryClient, RegistryError};
use super::config::RegistryConfig;
use super::format::{Decoded, Format};
use super::registered::Registered;
use crate::converter::{Converter, FromConnect, RowFailure, Run, ToConnect, canonical};

/// Zero byte and schema id.
const HEADER: usize = 5;
/// Compiled schemas that are kept for reading, and for writing.
const KEPT: usize = 200;

/// See the module's documentation.
pub struct RegistryConverter<F: Format> {
    parts: Option<Parts<F>>,
    retriable: bool,
}

struct Parts<F: Format> {
    format: F,
    client: RegistryClient,
    is_key: bool,
    /// By what stands before values.
    readers: Vec<(Box<[u8]>, Arc<F::Reader>)>,
    writers: Vec<KnownWriter<F>>,
}

/// A type of column under one topic, and how it is written.
struct KnownWriter<F: Format> {
    topic: Box<str>,
    field: FieldRef,
    id: u32,
    writer: Arc<F::Writer>,
    /// With `use.latest.version`: to be looked at again after this.
    made: std::time::Instant,
}

impl<F: Format> Default for RegistryConverter<F> {
    fn default() -> Self {
        Self { parts: None, retriable: false }
    }
}

impl<F: Format> Converter for RegistryConverter<F> {
    fn configure(&mut self, config: &Config, is_key: bool) -> Result<()> {
        let client = RegistryClient::new(RegistryConfig::parse(config, is_key)?, config)?;
        let format = F::new(config)?;
        self.parts = Some(Parts { format, client, is_key, readers: Vec::new(), writers: Vec::new() });
        Ok(())
    }

    fn to_connect(&mut self, _topic: &str, data: &BinaryArray) -> ToConnect {
        self.retriable = false;
        let Some(parts) = &mut self.parts else { return not_configured(data.len()) };
        let mut answer = ToConnect { runs: Vec::new(), failures: Vec::new() };
        let mut from = 0;
        while from < data.len() {
            let to = parts.end_of_run(data, from, &mut answer.failures);
            if to == from {
                // The row failed by itself.
                from += 1;
                continue;
            }
            if let Err(error) = parts.read(data, from, to, &mut answer) {
                self.retriable |= error.retriable;
                fail_rows(data, from, to, &error.message, &mut answer);
                if error.retriable {
                    // All of it is tried again: no use in waiting for the registry once more per run.
                    fail_rows(data, to, data.len(), &error.message, &mut answer);
                    break;
                }
            }
            from = to;
        }
        answer
    }

    fn from_connect(&mut self, topic: &str, column: &Column) -> FromConnect {
        self.retriable = false;
        let Some(parts) = &mut self.parts else {
            return FromConnect::all_failed(column, "the converter is not configured");
        };
        if column.array().null_count() == column.len() {
            return FromConnect { data: BinaryArray::new_null(column.len()), failures: Vec::new() };
        }
        let canonical = match column.form() {
            Form::Structured => canonical(column),
            _ => Ok(column.clone()),
        };
        match canonical.map_err(RegistryError::refused).and_then(|column| parts.write(topic, &column)) {
            Ok(answer) => answer,
            Err(error) => {
                self.retriable = error.retriable;
                FromConnect::all_failed(column, &error.message)
            }
        }
    }

    fn retriable(&self) -> bool {
        self.retriable
    }
}

impl<F: Format> Parts<F> {
    /// What stands before the value in a row.
    fn head<'d>(&self, value: &'d [u8]) -> std::result::Result<&'d [u8], String> {
        match value {
            [0, _, _, _, _, rest @ ..] => {
                let length = HEADER + self.format.prefix_len(rest)?;
                value.get(..length).ok_or_else(|| "Error deserializing: the value ends within its header".to_owned())
            }
            [] | [0, ..] => Err(format!(
                "Error deserializing {} message: the value has {} bytes, fewer than the {HEADER} of its header",
                F::KIND,
                value.len()
            )),
            [magic, ..] => Err(format!(
                "Unknown magic byte! The value begins with {magic:#04x} and not with 0x00: it was not written by a {} serializer \
                 with a schema registry; use the converter that fits what is in the topic",
                F::KIND
            )),
        }
    }

    /// The end of the rows from `from` on that share their schema; tombstones belong to whatever they stand beside.
    fn end_of_run(&self, data: &BinaryArray, from: usize, failures: &mut Vec<RowFailure>) -> usize {
        let mut shared: Option<&[u8]> = None;
        for row in from..data.len() {
            if data.is_null(row) {
                continue;
            }
            let value = data.value(row);
            if let Some(head) = shared
                && value.starts_with(head)
            {
                continue;
            }
            match self.head(value) {
                Ok(head) if shared.is_none() => shared = Some(head),
                Ok(_) => return row,
                Err(message) => {
                    if row == from {
                        failures.push(RowFailure { row, message });
                    }
                    return row;
                }
            }
        }
        data.len()
    }

    fn read(
        &mut self,
        data: &BinaryArray,
        from: usize,
        to: usize,
        answer: &mut ToConnect,
    ) -> std::result::Result<(), RegistryError> {
        let Some(first) = (from..to).find(|&row| data.is_valid(row)) else {
            let column = Column::bytes(BinaryArray::new_null(to - from));
            answer.runs.push(Run { rows: from..to, column });
            return Ok(());
        };
        let head = self.head(data.value(first)).map_err(RegistryError::refused)?;
        let reader = self.reader(head)?;
        let value = |row| data.is_valid(row).then(|| &data.value(row)[head.len()..]);
        let rows: Vec<Option<&[u8]>> = (from..to).map(value).collect();
        let Decoded { field, array, failures } = self.format.read(&reader, &rows).map_err(RegistryError::refused)?;
        let part = ToConnect::without(&Column::new(field, array), failures);
        answer
            .runs
            .extend(part.runs.into_iter().map(|run| Run { rows: run.rows.start + from..run.rows.end + from, ..run }));
        answer
            .failures
            .extend(part.failures.into_iter().map(|failure| RowFailure { row: failure.row + from, ..failure }));
        Ok(())
    }

    fn reader(&mut self, head: &[u8]) -> std::result::Result<Arc<F::Reader>, RegistryError> {
        if let Some((_, known)) = self.readers.iter().find(|(known, _)| **known == *head) {
            return Ok(known.clone());
        }
        let id = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let registered = self.client.by_id(id)?;
        if registered.schema.kind != F::KIND {
            return Err(RegistryError::refused(format!(
                "the schema with id {id} is of type {}, and this converter reads {}; use the converter for it",
                registered.schema.kind,
                F::KIND
            )));
        }
        let reader = self.format.reader(&registered, &head[HEADER..]);
        let reader = reader
            .map_err(|message| RegistryError::refused(format!("the schema with id {id} cannot be used: {message}")))?;
        if self.readers.len() >= KEPT {
            self.readers.clear();
        }
        let reader = Arc::new(reader);
        self.readers.push((head.into(), reader.clone()));
        Ok(reader)
    }

    fn write(&mut self, topic: &str, column: &Column) -> std::result::Result<FromConnect, RegistryError> {
        let (id, writer) = self.writer(topic, column)?;
        let mut header = [0; HEADER];
        header[1..].copy_from_slice(&id.to_be_bytes());
        let mut out = BinaryBuilder::with_capacity(column.len(), column.array().get_array_memory_size());
        let mut failures = Vec::new();
        let mut value = Vec::with_capacity(256);
        let mut next = 0;
        let written = self.format.write(&writer, column, &mut |row, bytes| {
            (next..row).for_each(|_| out.append_null());
            next = row + 1;
            match bytes {
                Ok(bytes) => {
                    value.clear();
                    value.extend_from_slice(&header);
                    value.extend_from_slice(bytes);
                    out.append_value(&value);
                }
                Err(message) => {
                    out.append_null();
                    failures.push(RowFailure { row, message });
                }
            }
        });
        written.map_err(RegistryError::refused)?;
        (next..column.len()).for_each(|_| out.append_null());
        Ok(FromConnect { data: out.finish(), failures })
    }

    fn writer(&mut self, topic: &str, column: &Column) -> std::result::Result<(u32, Arc<F::Writer>), RegistryError> {
        let config = self.client.config().clone();
        let field = column.field();
        let fresh = |known: &KnownWriter<F>| {
            config.auto_register || !config.use_latest || config.latest_ttl.is_none_or(|ttl| known.made.elapsed() < ttl)
        };
        let is = |known: &&KnownWriter<F>| {
            (Arc::ptr_eq(&known.field, field) || known.field == *field) && *known.topic == *topic && fresh(known)
        };
        if let Some(known) = self.writers.iter().find(is) {
            return Ok((known.id, known.writer.clone()));
        }
        let outgoing = self.format.outgoing(column).map_err(RegistryError::refused)?;
        let subject = config.subject.subject(topic, self.is_key, outgoing.record.as_deref());
        let subject = subject.map_err(RegistryError::refused)?;
        let registered = match (config.auto_register, config.use_id, config.use_latest) {
            (false, Some(id), _) => self.client.by_id(id)?,
            (false, None, true) => self.client.newest(&subject)?,
            _ => {
                let id = self.client.id_of(&subject, &outgoing.schema)?;
                Arc::new(Registered { id, schema: outgoing.schema, dependencies: Vec::new() })
            }
        };
        if registered.schema.kind != F::KIND {
            return Err(RegistryError::refused(format!(
                "the schema with id {} of subject {subject} is of type {}, and this converter writes {}",
                registered.id,
                registered.schema.kind,
                F::KIND
            )));
        }
        let writer = self.format.writer(&registered, column, config.strict).map_err(|message| {
            RegistryError::refused(format!(
                "values do not fit the schema with id {} of subject {subject}: {message}",
                registered.id
            ))
        })?;
        if self.writers.len() >= KEPT {
            self.writers.clear();
        }
        let (id, writer) = (registered.id, Arc::new(writer));
        self.writers.retain(|known| known.field != *field || *known.topic != *topic);
        let made = std::time::Instant::now();
        self.writers.push(KnownWriter { topic: topic.into(), field: field.clone(), id, writer: writer.clone(), made });
        Ok((id, writer))
    }
}

/// Tombstones need no schema and stay; the other rows have failed.
fn fail_rows(data: &BinaryArray, from: usize, to: usize, message: &str, answer: &mut ToConnect) {
    let mut rest = ToConnect::without(
        &Column::bytes(BinaryArray::new_null(to - from)),
        (from..to)
            .filter(|&row| data.is_valid(row))
            .map(|row| RowFailure { row: row - from, message: message.to_owned() })
            .collect(),
    );
    rest.runs.iter_mut().for_each(|run| run.rows = run.rows.start + from..run.rows.end + from);
    rest.failures.iter_mut().for_each(|failure| failure.row += from);
    answer.runs.append(&mut rest.runs);
    answer.failures.append(&mut rest.failures);
}

fn not_configured(rows: usize) -> ToConnect {
    let failed = |row| RowFailure { row, message: "the converter is not configured".to_owned() };
    ToConnect { runs: Vec::new(), failures: (0..rows).map(failed).collect() }
}
