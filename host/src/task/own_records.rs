//! Records that a sink writes to the log itself, such as the answers of the external system.
//!
//! [`Requested`] gathers them during calls of the plugin; [`OwnRecords`] writes them behind each call, with a producer that is made when
//! the first one comes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray, ListArray, StructArray};
use arrow_schema::{DataType, Field};
use tributary_sdk::{Batch, Column, Error, Result};

use super::control::TaskControl;
use super::errors::TaskError;
use super::side_producer::SideProducer;
use crate::log::{HEADER_FIELDS, LogError, LogProducer, LogRecords};

/// What the plugin wants to be written. Closed where nothing is written for it.
#[derive(Debug, Default)]
pub struct Requested(Mutex<Option<Vec<(Arc<str>, LogRecords)>>>);

impl Requested {
    /// From now on it is written.
    pub fn open(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    /// What was asked for since the last call, and the topics it goes to.
    pub fn take(&self) -> Vec<(Arc<str>, LogRecords)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The plugin's call. See [`tributary_sdk::Services::produce`].
    pub fn add(&self, batch: Batch) -> Result<()> {
        let mut requested = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(requested) = requested.as_mut() else {
            return Err(Error::Unsupported(
                "only a sink task writes records of its own, and none whose transforms keep state".into(),
            ));
        };
        if batch.is_empty() {
            return Ok(());
        }
        if batch.topic.is_empty() {
            return Err(Error::failed("a batch of records to write names no topic; this is a bug of the connector"));
        }
        let records = LogRecords {
            keys: batch.key.as_ref().map(|key| bytes("keys", key)).transpose()?,
            values: bytes("values", &batch.value)?,
            headers: batch.headers.as_ref().map(headers).transpose()?,
            timestamps: batch.timestamps,
            partitions: batch.partitions,
        };
        requested.push((batch.topic, records));
        Ok(())
    }
}

/// Text and bytes as they are.
fn bytes(what: &str, column: &Column) -> Result<BinaryArray> {
    match column.array().data_type() {
        DataType::Binary => Ok(column.array().as_binary::<i32>().clone()),
        DataType::Utf8 => Ok(column.array().as_string::<i32>().clone().into()),
        other => Err(Error::failed(format!(
            "{what} of records that a sink writes have to be text or bytes, not {other}; this is a bug of the connector"
        ))),
    }
}

/// Without what says how their values are to be read.
fn headers(headers: &ListArray) -> Result<ListArray> {
    let (_, offsets, items, nulls) = headers.clone().into_parts();
    let items = items.as_struct();
    let part = |name: &str| {
        let column = items.column_by_name(name).cloned();
        column.ok_or_else(|| Error::failed(format!("headers of records that a sink writes have no {name}")))
    };
    let items = StructArray::try_new(HEADER_FIELDS.clone(), vec![part("key")?, part("value")?], None)?;
    let item = Arc::new(Field::new("item", items.data_type().clone(), false));
    Ok(ListArray::try_new(item, offsets, Arc::new(items), nulls)?)
}

/// Makes a topic that is missing.
pub type Prepare = Box<dyn Fn(&str) -> std::result::Result<(), TaskError> + Send>;
/// Makes the producer.
pub type MakeProducer = Box<dyn Fn() -> std::result::Result<Box<dyn LogProducer>, LogError> + Send>;

/// Writes them.
pub struct OwnRecords {
    prepare: Prepare,
    make: MakeProducer,
    control: Arc<TaskControl>,
    producer: Option<SideProducer>,
    /// Topics that are there.
    topics: HashSet<Arc<str>>,
}

impl OwnRecords {
    /// Nothing is made before there is something to write.
    pub fn new(prepare: Prepare, make: MakeProducer, control: Arc<TaskControl>) -> Self {
        Self { prepare, make, control, producer: None, topics: HashSet::new() }
    }

    /// Hands them over. Answers `false` when the task has to stop and not all were taken.
    pub fn send(&mut self, requested: Vec<(Arc<str>, LogRecords)>) -> std::result::Result<bool, TaskError> {
        for (topic, records) in requested {
            if !self.topics.contains(&topic) {
                (self.prepare)(&topic)?;
                self.topics.insert(topic.clone());
            }
            if !self.producer()?.send(&topic, &records)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until all are acknowledged. See [`SideProducer::flush`].
    pub fn flush(&mut self, timeout: Duration) -> std::result::Result<bool, TaskError> {
        self.producer.as_mut().map_or(Ok(true), |producer| producer.flush(timeout))
    }

    /// Frees the producer.
    pub fn close(self) {
        if let Some(producer) = self.producer {
            producer.close();
        }
    }

    fn producer(&mut self) -> std::result::Result<&mut SideProducer, TaskError> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => {
                let refused = |_, error: &LogError| {
                    TaskError::new(format!(
                        "a record that the connector writes itself was refused, so the task stops: {error}"
                    ))
                };
                let what = "records that the connector writes itself".into();
                SideProducer::new((self.make)()?, self.control.clone(), what, Box::new(refused))
            }
        };
        Ok(self.producer.insert(producer))
    }
}
