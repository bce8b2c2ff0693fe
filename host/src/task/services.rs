//! The worker's services as one connector or task sees them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tributary_sdk::context::{Level, Services};
use tributary_sdk::sink::TopicPartition;
use tributary_sdk::{Batch, Error, Result};

use super::control::{TaskControl, now_ms};
use super::own_records::OwnRecords;
use super::staged_state::StagedState;
use super::transaction::Ending;
use crate::log;
use crate::storage::{OffsetStore, StateStore};

/// Partitions that a sink asked to pause or to resume.
#[derive(Debug, Default)]
pub struct PauseRequests(Mutex<Vec<(bool, Vec<TopicPartition>)>>);

impl PauseRequests {
    /// The requests since the last call: pause (`true`) or resume, and which of the task's partitions.
    pub fn take(&self, assigned: &[log::TopicPartition]) -> Vec<(bool, Vec<log::TopicPartition>)> {
        let requests = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let of_task = |(pause, partitions): (bool, Vec<TopicPartition>)| {
            // None named: all are meant.
            let meant = |has: &&log::TopicPartition| {
                let same = |named: &TopicPartition| named.topic == has.topic && named.partition == has.partition;
                partitions.is_empty() || partitions.iter().any(same)
            };
            (pause, assigned.iter().filter(meant).cloned().collect())
        };
        requests.into_iter().map(of_task).collect()
    }

    fn add(&self, pause: bool, partitions: &[TopicPartition]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((pause, partitions.to_vec()));
    }
}

/// Where a source has ended transactions. Closed unless `transaction.boundary=connector` holds.
#[derive(Debug, Default)]
pub struct Boundaries(Mutex<Option<Vec<(usize, Ending)>>>);

impl Boundaries {
    /// The source may end transactions from now on.
    pub fn open(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
    }

    /// The ends since the last call: how many batches of the poll lie before each.
    pub fn take(&self) -> Vec<(usize, Ending)> {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn end(&self, ending: Ending) -> Result<()> {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ends) = ends.as_mut() else {
            return Err(Error::Unsupported(
                "a connector ends transactions only with transaction.boundary=connector, on a worker with \
                 exactly.once.source.support=enabled"
                    .into(),
            ));
        };
        ends.push((tributary_sdk::ffi::emitted(), ending));
        Ok(())
    }
}

/// What happens when a connector asks for new task configs.
pub type Reconfigure = Box<dyn Fn() + Send + Sync>;

/// The services of one instance.
pub struct InstanceServices {
    /// The connector's name.
    pub connector: String,
    /// The task's number; `None` for the connector itself.
    pub task: Option<u32>,
    /// Orders and progress.
    pub control: Arc<TaskControl>,
    /// Stored source offsets.
    pub offsets: Arc<dyn OffsetStore>,
    /// Keyed state.
    pub state: StagedState,
    /// For sinks.
    pub pauses: PauseRequests,
    /// For connectors.
    pub reconfigure: Option<Reconfigure>,
    /// For sources that say where transactions end.
    pub boundaries: Boundaries,
    /// For sinks that write records of their own.
    pub own_records: OwnRecords,
    metrics: Mutex<BTreeMap<String, f64>>,
}

impl InstanceServices {
    /// Services for a connector or task.
    pub fn new(
        connector: &str,
        task: Option<u32>,
        control: Arc<TaskControl>,
        offsets: Arc<dyn OffsetStore>,
        state: Arc<dyn StateStore>,
    ) -> Self {
        Self {
            connector: connector.to_owned(),
            task,
            control,
            offsets,
            state: StagedState::new(connector.to_owned(), state),
            pauses: PauseRequests::default(),
            reconfigure: None,
            boundaries: Boundaries::default(),
            own_records: OwnRecords::default(),
            metrics: Mutex::default(),
        }
    }

    /// The metrics that the plugin keeps, by name.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `tracing` fixes a line's level where the line is written.
macro_rules! at_level {
    ($level:expr, $action:ident) => {
        match $level {
            Level::Error => $action!(ERROR),
            Level::Warn => $action!(WARN),
            Level::Info => $action!(INFO),
            Level::Debug => $action!(DEBUG),
            Level::Trace => $action!(TRACE),
        }
    };
}

impl Services for InstanceServices {
    fn log_enabled(&self, level: Level) -> bool {
        macro_rules! enabled {
            ($level:ident) => {
                tracing::enabled!(target: "plugin", tracing::Level::$level)
            };
        }
        at_level!(level, enabled)
    }

    fn log(&self, level: Level, message: &str, fields: &str) {
        let (connector, task) = (self.connector.as_str(), self.task);
        let secrets = self.control.secrets();
        let (message, fields) = (secrets.hide(message), secrets.hide(fields));
        let fields = (!fields.is_empty()).then_some(&*fields);
        macro_rules! event {
            ($level:ident) => {
                tracing::event!(target: "plugin", tracing::Level::$level, connector, task, fields, "{message}")
            };
        }
        at_level!(level, event)
    }

    fn count(&self, name: &str, value: f64) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        match metrics.get_mut(name) {
            Some(count) => *count += value,
            None => _ = metrics.insert(name.to_owned(), value),
        }
    }

    fn gauge(&self, name: &str, value: f64) {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
    }

    fn cancelled(&self) -> bool {
        self.control.stopping()
    }

    fn wait(&self, time: Duration) -> bool {
        self.control.wait(time)
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    fn offsets(&self, partitions: &[Value]) -> Result<Vec<Option<Value>>> {
        self.offsets.get(&self.connector, partitions).map_err(|error| Error::retriable(error.to_string()))
    }

    fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.pauses.add(true, partitions);
        self.control.wake();
        Ok(())
    }

    fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.pauses.add(false, partitions);
        self.control.wake();
        Ok(())
    }

    fn request_commit(&self) {
        self.control.request_commit();
    }

    fn request_reconfiguration(&self) {
        if let Some(reconfigure) = &self.reconfigure {
            reconfigure();
        }
    }

    fn end_transaction(&self, commit: bool) -> Result<()> {
        self.boundaries.end(if commit { Ending::Commit } else { Ending::Discard })
    }

    fn state_get_many(&self, shard: &str, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        self.state.get_many(shard, keys)
    }

    fn state_put_many(&self, shard: &str, writes: &[(&[u8], Option<&[u8]>)]) -> Result<()> {
        self.state.put_many(shard, writes);
        Ok(())
    }

    fn state_scan(
        &self,
        shard: &str,
        prefix: &[u8],
        from: &[u8],
        entry: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<()> {
        self.state.scan(shard, prefix, from, entry)
    }

    fn produce(&self, batch: Batch) -> Result<()> {
        self.own_records.write(batch)
    }
}
