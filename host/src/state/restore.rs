//! Reading a shard's changelog.

use std::time::{Duration, Instant};

use arrow_array::BinaryArray;

use super::{Shard, StateError};
use crate::log::{ClientSettings, ConsumerEvent, Log, LogConsumer, LogError, TopicPartition};

/// How long one question to the cluster may take.
const ASK: Duration = Duration::from_secs(120);

/// Committed records of one partition of the changelog.
pub trait ChangelogReader {
    /// The first offset that there is, and the one up to which everything has to be read.
    fn bounds(&mut self) -> Result<(i64, i64), StateError>;
    /// The next records; the first call begins at `from`. `None`: everything was read.
    fn read(&mut self, from: i64) -> Result<Option<ChangelogRecords>, StateError>;
}

/// Some records, in order.
#[derive(Debug)]
pub struct ChangelogRecords {
    /// Keys.
    pub keys: BinaryArray,
    /// Values; null is a tombstone.
    pub values: BinaryArray,
    /// Offset after the last.
    pub next_offset: i64,
}

/// What a restore did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Records applied.
    pub records: u64,
    /// Whether SQLite was empty, or thrown away.
    pub full: bool,
    /// Where the changelog goes on.
    pub next_offset: i64,
}

/// The changelog on a log.
pub struct LogChangelog<'l> {
    log: &'l dyn Log,
    settings: ClientSettings,
    partition: TopicPartition,
    reader: Option<Box<dyn LogConsumer>>,
    end: i64,
    position: i64,
    timeout: Duration,
    stop: &'l dyn Fn() -> bool,
}

impl<'l> LogChangelog<'l> {
    /// Reads with these client settings. Gives up after `timeout` without any progress, and when `stop` says so.
    pub fn new(
        log: &'l dyn Log,
        mut settings: ClientSettings,
        topic: &str,
        shard: Shard,
        timeout: Duration,
        stop: &'l dyn Fn() -> bool,
    ) -> Self {
        settings.insert("enable.partition.eof".into(), "true".into());
        settings.insert("isolation.level".into(), "read_committed".into());
        settings.insert("enable.auto.commit".into(), "false".into());
        // The end is told when a fetch finds nothing: the last offsets are a transaction's marker, which is no record.
        settings.insert("fetch.max.wait.ms".into(), "20".into());
        settings.entry("group.id".into()).or_insert_with(|| format!("{topic}-restore"));
        let partition = TopicPartition { topic: topic.into(), partition: shard };
        Self { log, settings, partition, reader: None, end: 0, position: 0, timeout, stop }
    }

    fn error(&self, error: &LogError) -> StateError {
        let message = format!("restoring state from {}-{}: {error}", self.partition.topic, self.partition.partition);
        StateError { retriable: error.retriable, ..StateError::new(message) }
    }
}

impl ChangelogReader for LogChangelog<'_> {
    fn bounds(&mut self) -> Result<(i64, i64), StateError> {
        let within = self.timeout.min(ASK);
        let bounds = self.log.admin().watermarks(&self.partition, within).map_err(|error| self.error(&error))?;
        self.end = bounds.1;
        Ok(bounds)
    }

    fn read(&mut self, from: i64) -> Result<Option<ChangelogRecords>, StateError> {
        if self.reader.is_none() {
            self.position = from;
            if from >= self.end {
                return Ok(None);
            }
            let start = [(self.partition.clone(), from)];
            self.reader = Some(self.log.reader(&self.settings, &start).map_err(|error| self.error(&error))?);
        }
        let begun = Instant::now();
        while self.position < self.end {
            if (self.stop)() {
                return Err(StateError::retriable("the task stops while its state is restored"));
            }
            if begun.elapsed() > self.timeout {
                return Err(StateError::retriable(format!(
                    "restoring state from {}-{}: nothing was read for {:?}, at offset {} of {}; a transaction may be open",
                    self.partition.topic, self.partition.partition, self.timeout, self.position, self.end
                )));
            }
            let Some(reader) = &mut self.reader else { break };
            let events = reader
                .poll(50_000, 8 << 20, Duration::from_millis(20))
                .map_err(|error| StateError::new(format!("restoring state from {}: {error}", self.partition.topic)))?;
            let mut batches = Vec::new();
            for event in events {
                match event {
                    ConsumerEvent::Batch(batch) => batches.push(batch),
                    // Markers of transactions have offsets, too.
                    ConsumerEvent::End(_, offset) => self.position = self.position.max(offset),
                    _ => {}
                }
            }
            let Some(last) = batches.last() else { continue };
            let next_offset = last.offsets.values().last().map_or(self.position, |offset| offset + 1);
            self.position = self.position.max(next_offset);
            let column = |column: &dyn Fn(&crate::log::FetchedBatch) -> BinaryArray| {
                let arrays: Vec<BinaryArray> = batches.iter().map(|batch| column(batch)).collect();
                let arrays: Vec<&dyn arrow_array::Array> = arrays.iter().map(|array| array as _).collect();
                let joined =
                    arrow_select::concat::concat(&arrays).map_err(|error| StateError::new(error.to_string()))?;
                joined.as_any().downcast_ref().cloned().ok_or_else(|| StateError::damaged("records that are not bytes"))
            };
            let keys = column(&|batch| match &batch.records.keys {
                Some(keys) => keys.clone(),
                None => BinaryArray::new_null(batch.records.len()),
            })?;
            let values = column(&|batch| batch.records.values.clone())?;
            return Ok(Some(ChangelogRecords { keys, values, next_offset }));
        }
        Ok(None)
    }
}
