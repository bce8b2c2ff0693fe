//! Records that a sink writes to the log itself, such as the answers of the external system.
//!
//! What it promises: [`OwnRecords::flush`] answers `true` only when everything that was asked for is acknowledged, so that offsets
//! that are committed after it leave none behind; what could not be handed over is never forgotten. A producer is made when the
//! first record comes. Callable from any thread; a call waits while the client's buffers are full. How it fails: see [`SideProducer`].

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray, ListArray, StructArray};
use arrow_schema::{DataType, Field};
use tributary_sdk::{Batch, Column, Error, Result};

use super::control::TaskControl;
use super::errors::TaskError;
use super::side_producer::SideProducer;
use crate::log::{HEADER_FIELDS, LogError, LogProducer, LogRecords};

/// Makes a topic that is missing. `false`: the task has to stop, and it is not known whether there is one.
pub type Prepare = Box<dyn Fn(&str) -> std::result::Result<bool, TaskError> + Send>;
/// Makes the producer.
pub type MakeProducer = Box<dyn Fn() -> std::result::Result<Box<dyn LogProducer>, LogError> + Send>;

/// What writes them, of one task. Closed where nothing is written for the plugin.
#[derive(Default)]
pub struct OwnRecords(Mutex<Option<Writer>>);

struct Writer {
    prepare: Prepare,
    make: MakeProducer,
    control: Arc<TaskControl>,
    producer: Option<SideProducer>,
    /// Topics that are there.
    topics: HashSet<Arc<str>>,
    /// Something was not handed over, and why, where that is an error: nothing may be committed any more.
    lost: Option<Option<TaskError>>,
}

impl OwnRecords {
    /// From now on they are written.
    pub fn open(&self, prepare: Prepare, make: MakeProducer, control: Arc<TaskControl>) {
        *self.lock() = Some(Writer { prepare, make, control, producer: None, topics: HashSet::new(), lost: None });
    }

    /// The plugin's call. See [`tributary_sdk::Services::produce`].
    pub fn write(&self, batch: Batch) -> Result<()> {
        let mut writer = self.lock();
        let Some(writer) = writer.as_mut() else {
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
        // Until all of it is taken.
        writer.lost.get_or_insert(None);
        match writer.send(&batch.topic, &records) {
            Ok(true) => {
                if let Some(None) = writer.lost {
                    writer.lost = None;
                }
                Ok(())
            }
            Ok(false) => Err(Error::retriable("the task has to stop before its own records are written")),
            Err(error) => {
                let message = error.message.clone();
                writer.lost = Some(Some(error));
                Err(Error::failed(message))
            }
        }
    }

    /// Waits until all are acknowledged. Answers `false` when that takes longer, or something was not even handed over: nothing may be
    /// committed.
    pub fn flush(&self, timeout: Duration) -> std::result::Result<bool, TaskError> {
        let mut writer = self.lock();
        let Some(writer) = writer.as_mut() else { return Ok(true) };
        match &writer.lost {
            Some(Some(error)) => return Err(error.clone()),
            Some(None) => return Ok(false),
            None => {}
        }
        writer.producer.as_mut().map_or(Ok(true), |producer| producer.flush(timeout))
    }

    /// Frees the producer; nothing is written any more.
    pub fn close(&self) {
        if let Some(producer) = self.lock().take().and_then(|writer| writer.producer) {
            producer.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Writer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Answers `false` when the task has to stop and not all was taken.
    fn send(&mut self, topic: &Arc<str>, records: &LogRecords) -> std::result::Result<bool, TaskError> {
        if !self.topics.contains(topic) {
            if self.control.stopping() || !(self.prepare)(topic)? {
                return Ok(false);
            }
            self.topics.insert(topic.clone());
        }
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
        self.producer.insert(producer).send(topic, records)
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
