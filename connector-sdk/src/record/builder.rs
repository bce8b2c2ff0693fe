//! [`Records`]: records into batches.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, Int64Builder, StringBuilder};
use arrow_schema::Fields;
use serde_json::Value;

use super::Record;
use super::column::ColumnBuilder;
use super::headers::HeadersBuilder;
use crate::batch::{Batch, Offsets};
use crate::errors::{Error, Result};
use crate::source::Output;

/// Collects records and makes batches of them.
pub struct Records {
    topic: Arc<str>,
    source_partition: Option<Arc<str>>,
    value_schema: Option<Fields>,
    done: Vec<Batch>,
    current: Option<Run>,
    records: usize,
    bytes: usize,
}

/// The batch under way.
struct Run {
    topic: Arc<str>,
    source_partition: Option<Arc<str>>,
    key: ColumnBuilder,
    value: ColumnBuilder,
    headers: HeadersBuilder,
    timestamps: Int64Builder,
    partitions: Int32Builder,
    offsets: StringBuilder,
    rows: usize,
    has_timestamp: bool,
    has_partition: bool,
    has_offset: bool,
}

impl Records {
    /// For records to `topic`, unless one names another.
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            source_partition: None,
            value_schema: None,
            done: Vec::new(),
            current: None,
            records: 0,
            bytes: 0,
        }
    }

    /// The source partition of the records, a JSON object, unless one names another. Needed with [`Record::offset`].
    pub fn from(mut self, source_partition: &Value) -> Self {
        self.source_partition = Some(source_partition.to_string().into());
        self
    }

    /// The fields of structured values, instead of inferring them: rows that do not fit are refused.
    pub fn with_value_schema(mut self, fields: impl Into<Fields>) -> Self {
        self.value_schema = Some(fields.into());
        self
    }

    /// Adds a record. Fails on a structured value that is no object or does not fit the declared schema, on an offset
    /// without a source partition, and on an offset that is no JSON object.
    pub fn push(&mut self, record: Record) -> Result<()> {
        let topic = record.topic.as_ref().unwrap_or(&self.topic).clone();
        let source_partition = record.source_partition.as_ref().or(self.source_partition.as_ref()).cloned();
        if let Some(offset) = &record.offset {
            if source_partition.is_none() {
                return Err(Error::failed(format!(
                    "a record for topic {topic} has the offset {offset}, but no source partition: call Records::from"
                )));
            }
            if !offset.starts_with('{') {
                return Err(Error::failed(format!("the offset {offset} is no JSON object")));
            }
        }
        let goes_on = self.current.as_ref().is_some_and(|run| {
            run.topic == topic
                && run.source_partition == source_partition
                && run.key.takes(&record.key)
                && run.value.takes(&record.value)
        });
        if !goes_on {
            self.close()?;
            self.current = Some(Run::new(topic, source_partition, self.value_schema.clone()));
        }
        let run = self.current.as_mut().expect("set just above");
        self.bytes += run.push(record)?;
        self.records += 1;
        Ok(())
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of keys, values and headers so far, roughly: to end a poll in time.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn close(&mut self) -> Result<()> {
        if let Some(run) = self.current.take() {
            self.done.extend(run.finish()?);
        }
        Ok(())
    }

    /// The batches, in the order of the records.
    pub fn finish(mut self) -> Result<Vec<Batch>> {
        self.close()?;
        Ok(self.done)
    }

    /// Hands the batches over.
    pub fn emit(self, output: &mut Output<'_>) -> Result<()> {
        self.finish()?.into_iter().try_for_each(|batch| output.emit(batch))
    }
}

impl Run {
    fn new(topic: Arc<str>, source_partition: Option<Arc<str>>, value_schema: Option<Fields>) -> Self {
        Self {
            topic,
            source_partition,
            key: ColumnBuilder::new(None),
            value: ColumnBuilder::new(value_schema),
            headers: HeadersBuilder::default(),
            timestamps: Int64Builder::new(),
            partitions: Int32Builder::new(),
            offsets: StringBuilder::new(),
            rows: 0,
            has_timestamp: false,
            has_partition: false,
            has_offset: false,
        }
    }

    /// Answers the record's size.
    fn push(&mut self, record: Record) -> Result<usize> {
        self.has_timestamp |= record.timestamp.is_some();
        self.has_partition |= record.partition.is_some();
        self.has_offset |= record.offset.is_some();
        // The value goes first: it alone may be refused, and then nothing of the record has been added.
        let mut bytes = self.value.push(record.value)?;
        bytes += self.key.push(record.key)?;
        bytes += self.headers.push(record.headers);
        self.timestamps.append_option(record.timestamp);
        self.partitions.append_option(record.partition);
        self.offsets.append_option(record.offset);
        self.rows += 1;
        Ok(bytes)
    }

    fn finish(mut self) -> Result<Option<Batch>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let mut batch = Batch::new(self.topic, self.value.finish()?);
        batch.source_partition = self.source_partition;
        batch.key = if self.key.is_all_null() { None } else { Some(self.key.finish()?) };
        batch.headers = self.headers.finish()?;
        batch.timestamps = self.has_timestamp.then(|| self.timestamps.finish());
        batch.partitions = self.has_partition.then(|| self.partitions.finish());
        if self.has_offset {
            batch.offsets = Offsets::Source(self.offsets.finish());
        }
        Ok(Some(batch))
    }
}
