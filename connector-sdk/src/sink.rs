//! Sinks: connectors that write to an external system.

use std::sync::Arc;

use crate::batch::Batch;
use crate::config::Config;
use crate::config_def::ConfigDef;
use crate::context::Context;
use crate::errors::{Error, Result};
use crate::prepared::{Claim, Prepared, PreparedToken};
use crate::source::ExactlyOnceSupport;

/// A Kafka topic and partition number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

/// A place in a topic-partition: the offset of the next record to read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopicPartitionOffset {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
    /// Next-to-read offset; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

/// The records of one batch that a call could not accept.
#[derive(Debug, Default)]
pub struct Failures(Vec<RecordFailure>);

/// One record that could not be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFailure {
    /// Row in the batch that the call was given.
    pub row: usize,
    /// Whether the same record may be accepted later.
    pub retriable: bool,
    /// Why, lower-case.
    pub message: String,
}

impl Failures {
    /// The record at `row` cannot be accepted: the worker retries, dead-letters or skips it, or fails the task, as configured.
    pub fn fail(&mut self, row: usize, message: impl Into<String>) {
        self.0.push(RecordFailure { row, retriable: false, message: message.into() });
    }

    /// The record at `row` was not accepted now and may be later.
    pub fn retry(&mut self, row: usize, message: impl Into<String>) {
        self.0.push(RecordFailure { row, retriable: true, message: message.into() });
    }

    /// The failures so far.
    pub fn records(&self) -> &[RecordFailure] {
        &self.0
    }

    /// The failures, taken out.
    pub fn into_records(self) -> Vec<RecordFailure> {
        self.0
    }

    /// Whether every record was accepted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Divides the work of writing to an external system among tasks. Which partitions a task gets is decided by the consumer group.
pub trait SinkConnector: Default + Send + 'static {
    /// What does the writing.
    type Task: SinkTask;

    /// The config keys, beyond those that every sink has.
    fn config_def() -> ConfigDef;

    /// Checks a whole config beyond what [`Self::config_def`] says: `(key, message)` for each problem. No side effects.
    fn validate(&mut self, _config: &Config) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Starts.
    fn start(&mut self, context: &Context, config: &Config) -> Result<()>;

    /// At most `max_tasks` task configs.
    fn task_configs(&mut self, max_tasks: usize) -> Result<Vec<Config>>;

    /// Ends what `start` began.
    fn stop(&mut self) -> Result<()> {
        Ok(())
    }

    /// A user wants to change the group's offsets. `Ok(true)`: checked and fine; `Ok(false)`: this sink does not care; `Err`: refused, with the reason.
    fn alter_offsets(&mut self, _config: &Config, _offsets: &[TopicPartitionOffset]) -> Result<bool> {
        Ok(false)
    }

    /// Whether the connector writes each record exactly once with this config: `Supported`, because it keeps its offsets in its own store and goes
    /// on where that says ([`own_offsets`](crate::own_offsets)), or `Prepared`, because its transactions are prepared, and committed by their
    /// tokens ([`prepared`](crate::prepared)); `None`: not known. Where transforms keep state, one that keeps its offsets gets their results
    /// through an outbox topic: batches have an [`Origin`](crate::Origin), by which it has to keep its offsets ([`Batch::place`]).
    fn exactly_once_support(&mut self, _config: &Config) -> Option<ExactlyOnceSupport> {
        None
    }
}

/// Writes to an external system. The worker calls from one thread, one call at a time.
pub trait SinkTask: Default + Send + 'static {
    /// Starts with a task config.
    fn start(&mut self, context: &Context, config: &Config) -> Result<()>;

    /// These partitions now belong to the task, beginning at the given offsets. The answer names partitions that have to begin elsewhere
    /// (a sink that keeps offsets in its own store).
    fn open(&mut self, _partitions: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        Ok(Vec::new())
    }

    /// Takes a batch. A retriable error means that nothing of it counts: the same batch comes again after a pause.
    /// Records named in `failures` were not accepted, all others were.
    fn put(&mut self, batch: Batch, failures: &mut Failures) -> Result<()>;

    /// When this returns, everything put so far is safe. The offsets are those of what was put.
    fn flush(&mut self, _offsets: &[TopicPartitionOffset]) -> Result<()> {
        Ok(())
    }

    /// The offsets that may be committed, asked before each commit with those of what was put. By default: flush, then all.
    fn pre_commit(&mut self, offsets: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        self.flush(offsets)?;
        Ok(offsets.to_vec())
    }

    /// Where [`SinkConnector::exactly_once_support`] is `Prepared`, before [`Self::open`]: commits the token of each claim that has one, as
    /// [`Self::commit_prepared`] does, then aborts whatever else smaller epochs have prepared for its partition. See [`prepared`](crate::prepared).
    fn recover(&mut self, _claims: &[Claim]) -> Result<()> {
        Err(no_prepared_commits("recover"))
    }

    /// In place of [`Self::pre_commit`]: makes what was put durable and not visible. Answers for each partition up to which offset, and by what token
    /// it is committed; a partition that is not named is not committed. After an error, also a retriable one, this instance is asked for nothing more
    /// than to stop: the task begins anew, or has failed.
    fn prepare(&mut self, _offsets: &[TopicPartitionOffset]) -> Result<Vec<Prepared>> {
        Err(no_prepared_commits("prepare"))
    }

    /// Makes visible what these tokens stand for, which the group's offsets carry. One that is not known was committed before.
    fn commit_prepared(&mut self, _tokens: &[PreparedToken]) -> Result<()> {
        Err(no_prepared_commits("commit_prepared"))
    }

    /// Drops what these tokens stand for, which no offset carries or will carry; fine where it is not there.
    fn abort_prepared(&mut self, _tokens: &[PreparedToken]) -> Result<()> {
        Err(no_prepared_commits("abort_prepared"))
    }

    /// These partitions are taken away, after their last commit. What was put of them and was not made safe by it may be dropped.
    fn close(&mut self, _partitions: &[TopicPartition]) -> Result<()> {
        Ok(())
    }

    /// Ends what `start` began.
    fn stop(&mut self) -> Result<()> {
        Ok(())
    }

    /// As [`crate::SourceTask::canceller`].
    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        None
    }
}

fn no_prepared_commits(call: &str) -> Error {
    Error::Unsupported(format!("{call}: the sink task prepares no transactions, although exactly_once_support says so"))
}
