//! Batches, row by row: for sinks and transforms.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow_schema::FieldRef;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::value::value_at;
use crate::batch::{Batch, Column, Form, Offsets};
use crate::errors::{Error, Result};

impl Batch {
    /// The records, one by one.
    pub fn rows(&self) -> Rows<'_> {
        Rows { batch: self, key: self.key.as_ref().map(Reader::new), value: Reader::new(&self.value), next: 0 }
    }
}

/// Iterates over a batch's records.
pub struct Rows<'a> {
    batch: &'a Batch,
    key: Option<Reader<'a>>,
    value: Reader<'a>,
    next: usize,
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        let index = self.next;
        if index >= self.batch.len() {
            return None;
        }
        self.next += 1;
        Some(Row { batch: self.batch, key: self.key, value: self.value, index })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Rows<'_> {}

/// A column whose type was looked at once.
#[derive(Clone, Copy)]
enum Reader<'a> {
    Bytes(&'a BinaryArray),
    Text(&'a StringArray),
    Json(&'a StringArray),
    Structured(&'a ArrayRef, &'a FieldRef),
}

impl<'a> Reader<'a> {
    fn new(column: &'a Column) -> Self {
        match (column.form(), column.as_bytes(), column.as_text()) {
            (Form::Bytes, Some(array), _) => Self::Bytes(array),
            (Form::Text, _, Some(array)) => Self::Text(array),
            (Form::Json, _, Some(array)) => Self::Json(array),
            _ => Self::Structured(column.array(), column.field()),
        }
    }

    fn cell(self, row: usize) -> Cell<'a> {
        match self {
            Self::Bytes(array) if array.is_valid(row) => Cell::Bytes(array.value(row)),
            Self::Text(array) if array.is_valid(row) => Cell::Text(array.value(row)),
            Self::Json(array) if array.is_valid(row) => Cell::Json(array.value(row)),
            Self::Structured(array, field) if array.is_valid(row) => Cell::Structured(array, field, row),
            _ => Cell::Null,
        }
    }
}

/// One record of a batch.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    batch: &'a Batch,
    key: Option<Reader<'a>>,
    value: Reader<'a>,
    index: usize,
}

impl<'a> Row<'a> {
    /// Its place in the batch: what [`Failures`](crate::Failures) are told.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its topic.
    pub fn topic(&self) -> &'a str {
        &self.batch.topic
    }

    /// Its key.
    pub fn key(&self) -> Cell<'a> {
        self.key.map_or(Cell::Null, |key| key.cell(self.index))
    }

    /// Its value.
    pub fn value(&self) -> Cell<'a> {
        self.value.cell(self.index)
    }

    /// Milliseconds since the epoch.
    pub fn timestamp(&self) -> Option<i64> {
        let timestamps = self.batch.timestamps.as_ref()?;
        timestamps.is_valid(self.index).then(|| timestamps.value(self.index))
    }

    /// Its Kafka offset, in sinks.
    pub fn offset(&self) -> Option<i64> {
        match &self.batch.offsets {
            Offsets::Sink(offsets) if offsets.is_valid(self.index) => Some(offsets.value(self.index)),
            _ => None,
        }
    }

    /// Its headers: key, and value as bytes.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let index = self.index;
        self.batch.headers.iter().filter(move |headers| headers.is_valid(index)).flat_map(move |headers| {
            let offsets = headers.value_offsets();
            let items = headers.values().as_struct();
            let (keys, values) = (items.column(0).as_string::<i32>(), items.column(2).as_binary::<i32>());
            (offsets[index] as usize..offsets[index + 1] as usize)
                .map(move |at| (keys.value(at), values.is_valid(at).then(|| values.value(at))))
        })
    }
}

/// A key or value in its form.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// None: no key, or a tombstone.
    Null,
    /// Bytes.
    Bytes(&'a [u8]),
    /// Text.
    Text(&'a str),
    /// A JSON document.
    Json(&'a str),
    /// A row of a structured column.
    Structured(&'a ArrayRef, &'a FieldRef, usize),
}

impl<'a> Cell<'a> {
    /// Whether there is none.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Text or a JSON document's text; `None` for everything else.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) | Self::Json(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes, or a text's bytes; `None` for everything else.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Text(text) | Self::Json(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// As a JSON value: a document parsed, text as a string, bytes as base64, structured values as Connect's schemaless
    /// JSON shows them. Fails on a document that is not JSON.
    pub fn to_json(&self) -> Result<Value> {
        match self {
            Self::Null => Ok(Value::Null),
            Self::Bytes(bytes) => Ok(Value::String(super::value::base64(bytes))),
            Self::Text(text) => Ok(Value::String((*text).to_owned())),
            Self::Json(text) => Ok(serde_json::from_str(text)?),
            Self::Structured(array, field, row) => value_at(array, field, *row),
        }
    }

    /// As a type of the connector's own, by way of [`Self::to_json`].
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        match self {
            Self::Json(text) => serde_json::from_str(text).map_err(unparsed::<T>),
            other => serde_json::from_value(other.to_json()?).map_err(unparsed::<T>),
        }
    }
}

fn unparsed<T>(error: serde_json::Error) -> Error {
    let wanted = std::any::type_name::<T>();
    Error::failed(format!("the record is no {}: {error}", wanted.rsplit("::").next().unwrap_or(wanted)))
}
