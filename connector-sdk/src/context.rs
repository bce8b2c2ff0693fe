//! What the worker does for a connector or task.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::errors::Result;
use crate::sink::TopicPartition;
use crate::state::State;

/// Levels of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is broken.
    Error = 1,
    /// Something needs a look.
    Warn = 2,
    /// What happens, rarely.
    Info = 3,
    /// What happens, per batch.
    Debug = 4,
    /// Everything.
    Trace = 5,
}

/// The worker's services, as a [`Context`] uses them. Implemented by the worker (directly, and through the plugin boundary)
/// and by the test kit; connectors use [`Context`].
pub trait Services: Send + Sync {
    /// Whether a line at this level would be kept.
    fn log_enabled(&self, level: Level) -> bool;
    /// Writes a log line; `fields` is a JSON object or empty.
    fn log(&self, level: Level, message: &str, fields: &str);
    /// Adds to a counter.
    fn count(&self, name: &str, value: f64);
    /// Sets a gauge.
    fn gauge(&self, name: &str, value: f64);
    /// Whether the instance has to come to an end.
    fn cancelled(&self) -> bool;
    /// Sleeps, or returns early with `true` when cancelled.
    fn wait(&self, time: Duration) -> bool;
    /// Milliseconds since the epoch, by the worker's clock.
    fn now_ms(&self) -> i64;
    /// Stored source offsets: JSON objects by source partition (JSON objects), in order.
    fn offsets(&self, partitions: &[serde_json::Value]) -> Result<Vec<Option<serde_json::Value>>>;
    /// Stops delivery of these partitions (all, if empty) to a sink.
    fn pause(&self, partitions: &[TopicPartition]) -> Result<()>;
    /// Resumes delivery.
    fn resume(&self, partitions: &[TopicPartition]) -> Result<()>;
    /// Asks for a commit soon: in a source, as soon as something that it has emitted is acknowledged, without waiting for the interval.
    /// A source that is told of acknowledgements ([`crate::SourceTask::acknowledger`]) hurries transactions with it, and nothing else.
    fn request_commit(&self);
    /// Asks for new task configs.
    fn request_reconfiguration(&self);
    /// Ends a transaction at what was emitted so far. The last record of each source partition there has to have an offset: a crash would otherwise
    /// read a part of the transaction again, so the task fails. Of what is not committed, nothing is left, and it is not read again.
    fn end_transaction(&self, commit: bool) -> Result<()>;
    /// Reads state; `None` for absent keys, in the order asked.
    fn state_get_many(&self, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>>;
    /// Writes state; a `None` value removes the key. Durable together with the next commit of offsets.
    fn state_put_many(&self, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<()>;
    /// Calls `entry` for the entries whose key begins with `prefix`, from `from`, in byte order, until it answers `false`.
    fn state_scan(
        &self,
        shard: &str,
        prefix: &[u8],
        from: &[u8],
        entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()>;
    /// In sink tasks: writes records of their own to the topic that the batch names, such as the answers of the external system. Keys and
    /// values are text or bytes and are written as they are, as are headers. Returns before they are written; they are acknowledged
    /// before offsets of what was put until then are committed, so after a crash they may come twice and are not lost. Where that
    /// cannot be had, also for a batch without rows: [`crate::Error::Unsupported`].
    fn produce(&self, batch: Batch) -> Result<()>;
}

/// The worker as one connector or task sees it. Cheap to clone; usable from the connector's own threads until it is dropped by the worker.
#[derive(Clone)]
pub struct Context(Arc<dyn Services>);

impl Context {
    /// Wraps an implementation of the services.
    pub fn new(services: Arc<dyn Services>) -> Self {
        Self(services)
    }

    /// Logs a line of information. Formats nothing when the level is off: see [`Services::log_enabled`].
    pub fn info(&self, message: impl AsRef<str>) {
        self.0.log(Level::Info, message.as_ref(), "");
    }

    /// Logs a warning.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.0.log(Level::Warn, message.as_ref(), "");
    }

    /// Logs an error.
    pub fn error(&self, message: impl AsRef<str>) {
        self.0.log(Level::Error, message.as_ref(), "");
    }

    /// The stored offset of one source partition, parsed.
    pub fn offset(&self, partition: &serde_json::Value) -> Result<Option<serde_json::Value>> {
        Ok(self.0.offsets(std::slice::from_ref(partition))?.pop().flatten())
    }

    /// The stored offset of one source partition, as a type of the connector's own.
    pub fn offset_as<T: serde::de::DeserializeOwned>(&self, partition: &serde_json::Value) -> Result<Option<T>> {
        let Some(offset) = self.offset(partition)? else { return Ok(None) };
        let shown = offset.to_string();
        serde_json::from_value(offset).map(Some).map_err(|error| {
            crate::Error::failed(format!(
                "the stored offset {shown} of source partition {partition} is not one of this connector: {error}"
            ))
        })
    }

    /// This task's state in one shard.
    pub fn state<'a>(&'a self, shard: &'a str) -> State<'a> {
        State::new(self, shard)
    }
}

impl std::ops::Deref for Context {
    type Target = dyn Services;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}
