//! Records that wait in the state, as bytes.
//!
//! Bytes, text and documents are kept as they are. Structured values are kept as Kafka Connect's JSON converter writes them; their
//! schemas are kept once for each shard.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BinaryArray, ListArray, StringArray};
use arrow_schema::FieldRef;
use tributary_sdk::{Batch, Column, Error, Form, Offsets, Result};

use super::meta::{Meta, damaged};
use super::stored::{length, take};
use crate::converter::json::{self, Encoder, Options};
use crate::state::{Shard, Store};
use crate::transform::headers::{Header, Headers, HeadersBuilder};

/// Gives schemas numbers, and finds them again.
pub trait Book {
    /// The number of a schema, which is kept.
    fn number(&mut self, field: &FieldRef) -> Result<u64>;
    /// The schema with a number.
    fn find(&mut self, number: u64) -> Result<FieldRef>;
}

/// The schemas of a shard's records.
#[derive(Default)]
pub struct Schemas(HashMap<u64, FieldRef>);

/// They are in the state.
struct InState<'a> {
    known: &'a mut Schemas,
    store: &'a mut Store,
    meta: &'a Meta,
}

/// A record that can be emitted.
pub struct Held {
    /// Event time, which decides the order.
    pub timestamp: Option<i64>,
    topic: Arc<str>,
    key: Side,
    value: Side,
    headers: Vec<(String, Option<String>, Option<Vec<u8>>)>,
}

/// Key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Side {
    form: SideForm,
    /// `None`: null.
    content: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SideForm {
    Missing,
    Bytes,
    Text,
    Json,
    /// With the number of its schema.
    Structured(u64),
}

impl Book for InState<'_> {
    fn number(&mut self, field: &FieldRef) -> Result<u64> {
        if let Some((number, _)) = self.known.0.iter().find(|(_, known)| *known == field) {
            return Ok(*number);
        }
        let schema = json::field_to_json(field).map_err(Error::failed)?;
        let number = digest(schema.as_bytes());
        self.meta.save(self.store, &name(number), schema.as_bytes())?;
        self.known.0.insert(number, field.clone());
        Ok(number)
    }

    fn find(&mut self, number: u64) -> Result<FieldRef> {
        if let Some(known) = self.known.0.get(&number) {
            return Ok(known.clone());
        }
        let missing = || damaged("a record whose schema is missing");
        let schema = self.meta.load(self.store, &name(number))?.ok_or_else(missing)?;
        let field = field_of(&schema).ok_or_else(missing)?;
        self.known.0.insert(number, field.clone());
        Ok(field)
    }
}

/// How structured values are written: as they are, also where a null has a default.
fn options() -> Options {
    Options { replace_null_with_default: false, ..Options::default() }
}

/// A schema that was written as JSON.
pub(super) fn field_of(schema: &[u8]) -> Option<FieldRef> {
    json::field_from_json(&serde_json::from_slice(schema).ok()?).ok()
}

fn name(number: u64) -> Vec<u8> {
    [b"schema".as_slice(), &number.to_be_bytes()].concat()
}

pub(super) fn digest(bytes: &[u8]) -> u64 {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(bytes);
    u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
}

/// Writes rows of a batch.
pub struct Keeper<'b> {
    batch: &'b Batch,
    key: Option<Writer<'b>>,
    value: Writer<'b>,
}

struct Writer<'b> {
    column: &'b Column,
    form: SideForm,
    encoder: Option<Encoder<'b>>,
}

impl<'b> Keeper<'b> {
    /// For a batch whose types Connect has. Its records wait in the state.
    pub fn new(batch: &'b Batch, known: &mut Schemas, store: &mut Store, meta: &Meta) -> Result<Self> {
        Self::with(batch, &mut InState { known, store, meta })
    }

    /// The same for records that are kept elsewhere.
    pub fn with(batch: &'b Batch, book: &mut dyn Book) -> Result<Self> {
        let mut writer = |column: &'b Column| -> Result<Writer<'b>> {
            // A schema that says more than the type goes with the value.
            let plain = column.field().metadata().is_empty();
            let form = match column.form() {
                Form::Bytes if plain => SideForm::Bytes,
                Form::Text if plain => SideForm::Text,
                Form::Json => SideForm::Json,
                Form::Bytes | Form::Text | Form::Structured => SideForm::Structured(book.number(column.field())?),
            };
            let encoder = match form {
                SideForm::Structured(_) => {
                    Some(Encoder::new(column.field(), column.array().as_ref(), &options()).map_err(Error::failed)?)
                }
                _ => None,
            };
            Ok(Writer { column, form, encoder })
        };
        let key = batch.key.as_ref().map(&mut writer).transpose()?;
        let value = writer(&batch.value)?;
        Ok(Self { batch, key, value })
    }

    /// Appends a row.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
        match self.batch.timestamps.as_ref().filter(|timestamps| timestamps.is_valid(row)) {
            Some(timestamps) => {
                out.push(1);
                out.extend_from_slice(&timestamps.value(row).to_be_bytes());
            }
            None => out.push(0),
        }
        length(self.batch.topic.len(), out);
        out.extend_from_slice(self.batch.topic.as_bytes());
        match &self.key {
            None => out.push(0),
            Some(key) => key.write(row, out)?,
        }
        self.value.write(row, out)?;
        let optional = |bytes: Option<&[u8]>, out: &mut Vec<u8>| match bytes {
            None => out.push(0),
            Some(bytes) => {
                out.push(1);
                length(bytes.len(), out);
                out.extend_from_slice(bytes);
            }
        };
        for header in Headers::of(self.batch.headers.as_ref()).row(row) {
            length(header.key.len(), out);
            out.extend_from_slice(header.key.as_bytes());
            optional(header.schema.map(str::as_bytes), out);
            optional(header.value, out);
        }
        Ok(())
    }
}

impl Writer<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), String> {
        match self.form {
            SideForm::Missing => out.push(0),
            SideForm::Bytes => out.push(1),
            SideForm::Text => out.push(2),
            SideForm::Json => out.push(3),
            SideForm::Structured(number) => {
                out.push(4);
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        if self.column.array().is_null(row) {
            out.push(0);
            return Ok(());
        }
        out.push(1);
        let mut written = String::new();
        let bytes = match (&self.encoder, self.column.as_text(), self.column.as_bytes()) {
            (Some(encoder), ..) => {
                encoder.write(row, &mut written)?;
                written.as_bytes()
            }
            (None, Some(texts), _) => texts.value(row).as_bytes(),
            (None, None, Some(bytes)) => bytes.value(row),
            _ => return Err("the record has a type that cannot be kept".to_owned()),
        };
        length(bytes.len(), out);
        out.extend_from_slice(bytes);
        Ok(())
    }
}

impl Held {
    /// What was written; `None` for other bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let rest = &mut &*bytes;
        let timestamp = match byte(rest)? {
            0 => None,
            _ => Some(word(rest)? as i64),
        };
        let topic = std::str::from_utf8(take(rest)?).ok()?.into();
        let (key, value) = (side(rest)?, side(rest)?);
        let mut headers = Vec::new();
        while !rest.is_empty() {
            let key = std::str::from_utf8(take(rest)?).ok()?.to_owned();
            let schema = match byte(rest)? {
                0 => None,
                _ => Some(std::str::from_utf8(take(rest)?).ok()?.to_owned()),
            };
            let value = match byte(rest)? {
                0 => None,
                _ => Some(take(rest)?.to_vec()),
            };
            headers.push((key, schema, value));
        }
        Some(Self { timestamp, topic, key, value, headers })
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, after) = rest.split_first()?;
    *rest = after;
    Some(*byte)
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*word))
}

fn side(rest: &mut &[u8]) -> Option<Side> {
    let form = match byte(rest)? {
        0 => return Some(Side { form: SideForm::Missing, content: None }),
        1 => SideForm::Bytes,
        2 => SideForm::Text,
        3 => SideForm::Json,
        4 => SideForm::Structured(word(rest)?),
        _ => return None,
    };
    let content = match byte(rest)? {
        0 => None,
        _ => Some(take(rest)?.to_vec()),
    };
    Some(Side { form, content })
}

/// Held records as batches, in their order.
pub fn batches(held: &[Held], shard: Shard, known: &mut Schemas, store: &mut Store, meta: &Meta) -> Result<Vec<Batch>> {
    batches_with(held, shard, &mut InState { known, store, meta })
}

/// The same for records that were kept elsewhere.
pub fn batches_with(held: &[Held], shard: Shard, book: &mut dyn Book) -> Result<Vec<Batch>> {
    let mut batches = Vec::new();
    let alike = |a: &Held, b: &Held| a.topic == b.topic && a.key.form == b.key.form && a.value.form == b.value.form;
    for run in held.chunk_by(alike) {
        let mut headers = HeadersBuilder::new(run.len());
        for record in run {
            for (key, schema, value) in &record.headers {
                headers.push(Header { key, schema: schema.as_deref(), value: value.as_deref() });
            }
            headers.end_row();
        }
        let headers: Option<ListArray> = headers.finish();
        let mut column = |of: fn(&Held) -> &Side| column(run.iter().map(of), book);
        let Some(value) = column(|held| &held.value)? else { return Err(damaged("a record without a value")) };
        batches.push(Batch {
            topic: run[0].topic.clone(),
            source_partition: None,
            partition: Some(shard),
            key: column(|held| &held.key)?,
            value,
            headers,
            timestamps: Some(run.iter().map(|held| held.timestamp).collect()),
            partitions: None,
            offsets: Offsets::None,
            origin: None,
        });
    }
    Ok(batches)
}

/// Sides of one form.
fn column<'h>(sides: impl Iterator<Item = &'h Side> + Clone, book: &mut dyn Book) -> Result<Option<Column>> {
    let Some(form) = sides.clone().next().map(|side| side.form) else { return Ok(None) };
    let texts = || -> Result<Vec<Option<&'h str>>> {
        let text = |bytes: &'h Vec<u8>| std::str::from_utf8(bytes).map_err(|_| damaged("a text that is none"));
        sides.clone().map(|side| side.content.as_ref().map(text).transpose()).collect()
    };
    Ok(match form {
        SideForm::Missing => None,
        SideForm::Bytes => {
            Some(Column::bytes(sides.clone().map(|side| side.content.as_deref()).collect::<BinaryArray>()))
        }
        SideForm::Text => Some(Column::text(StringArray::from(texts()?))),
        SideForm::Json => Some(Column::json(StringArray::from(texts()?))),
        SideForm::Structured(number) => {
            let field = book.find(number)?;
            let (array, failures): (ArrayRef, _) =
                json::decode(&field, &texts()?, &options()).map_err(Error::failed)?;
            if let Some(failure) = failures.into_iter().next() {
                return Err(damaged(&format!("a record that cannot be read ({})", failure.message)));
            }
            Some(Column::new(field, array))
        }
    })
}
