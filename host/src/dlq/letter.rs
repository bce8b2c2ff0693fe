//! One dead letter: the record, and what its headers say of the failure.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray};

use crate::log::FetchedBatch;
use crate::task::letter_headers::PREFIX;

/// A row of a dead-letter topic.
#[derive(Clone, Copy)]
pub struct Letter<'a> {
    /// The records that it is among.
    pub batch: &'a FetchedBatch,
    /// Which of them.
    pub row: usize,
}

/// What the `__connect.errors.` headers say, by their names without the prefix.
pub type Context = BTreeMap<String, String>;

/// A header: key and value.
pub type Header = (String, Option<Vec<u8>>);

impl<'a> Letter<'a> {
    /// All of a batch.
    pub fn all(batch: &'a FetchedBatch) -> impl Iterator<Item = Self> {
        (0..batch.records.len()).map(move |row| Self { batch, row })
    }

    /// Its offset in the dead-letter topic.
    pub fn offset(&self) -> i64 {
        self.batch.offsets.value(self.row)
    }

    /// `topic-partition offset`.
    pub fn place(&self) -> String {
        let at = &self.batch.topic_partition;
        format!("{}-{} offset {}", at.topic, at.partition, self.offset())
    }

    /// The record's timestamp, in ms since the epoch.
    pub fn timestamp(&self) -> Option<i64> {
        let times = self.batch.records.timestamps.as_ref()?;
        times.is_valid(self.row).then(|| times.value(self.row))
    }

    /// The record's key.
    pub fn key(&self) -> Option<&'a [u8]> {
        cell(self.batch.records.keys.as_ref()?, self.row)
    }

    /// The record's value.
    pub fn value(&self) -> Option<&'a [u8]> {
        cell(&self.batch.records.values, self.row)
    }

    /// Context and the record's own headers. A record that failed again after a replay carries only the last failure; a
    /// letter that was made of another letter carries both, and the last one counts.
    pub fn headers(&self) -> (Context, Vec<Header>) {
        let (mut context, mut own) = (Context::new(), Vec::new());
        let headers = self.batch.records.headers.as_ref().filter(|headers| headers.is_valid(self.row));
        let Some(headers) = headers else { return (context, own) };
        let entries = headers.value(self.row);
        let (keys, values) = (entries.as_struct().column(0).as_string::<i32>(), entries.as_struct().column(1));
        let values = values.as_binary::<i32>();
        for entry in 0..keys.len() {
            let value = cell(values, entry);
            match keys.value(entry).strip_prefix(PREFIX) {
                Some(name) => {
                    let text = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                    context.insert(name.to_owned(), text);
                }
                None => own.push((keys.value(entry).to_owned(), value.map(<[u8]>::to_vec))),
            }
        }
        (context, own)
    }
}

fn cell(column: &BinaryArray, row: usize) -> Option<&[u8]> {
    column.is_valid(row).then(|| column.value(row))
}
