//! What the herder and the worker say to each other.

use std::collections::BTreeSet;
use std::sync::Arc;

use tributary_sdk::Config;

use super::readings::TaskReadings;
use crate::state::ShardStatus;

/// A task: connector name and number from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// Connector name.
    pub connector: String,
    /// Task number.
    pub task: u32,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.connector, self.task)
    }
}

impl From<(&str, u32)> for TaskId {
    fn from((connector, task): (&str, u32)) -> Self {
        Self { connector: connector.to_owned(), task }
    }
}

/// States of connectors and tasks, and target states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum State {
    Unassigned,
    Running,
    Paused,
    Stopped,
    Failed,
    Restarting,
}

/// A connector to run.
#[derive(Debug, Clone)]
pub struct ConnectorSpec {
    /// Its name.
    pub name: String,
    /// Its config as the user wrote it (`${…}` unresolved: the worker resolves where the values are needed).
    pub config: Config,
    /// Running or Paused (a stopped connector is not started).
    pub target: State,
}

/// A task to run.
#[derive(Debug, Clone)]
pub struct TaskSpec {
    /// Which.
    pub id: TaskId,
    /// The connector's config, unresolved.
    pub connector_config: Config,
    /// The task's own config, unresolved.
    pub task_config: Config,
    /// Running or Paused.
    pub target: State,
    /// Which commit of task configs it is of, where other workers may know a newer one.
    pub generation: Option<u32>,
}

/// Tasks of a connector that run on other workers and whose state is to be followed here.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowSpec {
    /// The connector's name.
    pub connector: String,
    /// Its config, unresolved.
    pub config: Arc<Config>,
    /// Which tasks.
    pub tasks: BTreeSet<u32>,
    /// How many the connector has.
    pub of: u32,
}

/// What happened in the worker.
#[derive(Debug, Clone)]
pub enum WorkerEvent {
    /// A connector's state changed.
    Connector {
        /// Which.
        name: String,
        /// Its state now.
        state: State,
        /// Of a failure: message and trace.
        trace: Option<String>,
    },
    /// The connector is started (or asks again): its task configs, for the herder to store and start.
    TaskConfigs {
        /// Which.
        name: String,
        /// One config a task.
        configs: Vec<Config>,
    },
    /// A task's state changed.
    Task {
        /// Which.
        id: TaskId,
        /// Its state now.
        state: State,
        /// Of a failure: message and trace.
        trace: Option<String>,
    },
    /// A task read from or wrote to a topic, for the first time since its start.
    TopicUsed {
        /// The connector.
        connector: String,
        /// The task.
        task: u32,
        /// The topic.
        topic: String,
    },
}

/// What a task has done, for status and metrics.
#[derive(Debug, Clone, Default)]
pub struct TaskProgress {
    /// Records polled from the source, or read from Kafka.
    pub records_in: u64,
    /// Records acknowledged by Kafka, or accepted by the sink.
    pub records_out: u64,
    /// Bytes of `records_in`.
    pub bytes_in: u64,
    /// Records that failed and were skipped or dead-lettered.
    pub records_failed: u64,
    /// Records dropped by transforms.
    pub records_filtered: u64,
    /// Records that came too late for stateful transforms, whatever became of them.
    pub records_late: u64,
    /// Keyed state, where transforms keep some.
    pub state: Option<StateProgress>,
    /// When the last record passed, ms since the epoch.
    pub last_record_ms: Option<i64>,
    /// When offsets were last committed, ms since the epoch.
    pub last_commit_ms: Option<i64>,
    /// Records behind the end of the sink's partitions, where known.
    pub lag: Option<i64>,
    /// Whether a sink has given up its Kafka client while there is nothing to read.
    pub parked: bool,
    /// Why the task is not getting on although it runs: the error that it is trying to get past.
    pub retrying: Option<String>,
    /// What failed, as Connect's `task-error-metrics` count it.
    pub errors: ErrorTotals,
    /// How long its steps take, and how large they are.
    pub readings: TaskReadings,
}

/// The keyed state of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateProgress {
    /// Shards that are open.
    pub shards: u64,
    /// Entries in memory.
    pub entries: u64,
    /// Memory that they take.
    pub bytes: u64,
    /// Shards that are being restored.
    pub restoring: u64,
    /// Records of the changelog that are left to read for them.
    pub to_restore: u64,
}

impl StateProgress {
    /// All shards together.
    pub fn of(shards: &[ShardStatus]) -> Self {
        let mut all = Self::default();
        for shard in shards {
            match shard.to_restore {
                Some(records) => {
                    all.restoring += 1;
                    all.to_restore += records;
                }
                None => {
                    all.shards += 1;
                    all.entries += shard.entries as u64;
                    all.bytes += shard.bytes as u64;
                }
            }
        }
        all
    }
}

/// How a worker follows the state of a connector's tasks that run elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StandbyProgress {
    /// Tasks that are followed.
    pub tasks: u64,
    /// Shards whose files are kept up to date.
    pub shards: u64,
    /// Records of the changelog that are left to read for them; `None` while none is read.
    pub to_read: Option<u64>,
    /// Records read since the worker began.
    pub records_read: u64,
    /// Why it is not getting on, if it is not.
    pub retrying: Option<String>,
}

/// Errors of a task since it started: the attributes of Connect's `task-error-metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorTotals {
    /// `total-record-failures`: tries that failed, also those that were followed by others.
    pub record_failures: u64,
    /// `total-record-errors`: records that failed for good.
    pub record_errors: u64,
    /// `total-records-skipped`: of these, those that were tolerated.
    pub records_skipped: u64,
    /// `total-retries`: tries after the first.
    pub retries: u64,
    /// `total-errors-logged`.
    pub errors_logged: u64,
    /// `deadletterqueue-produce-requests`: records handed to the dead-letter topic's producer.
    pub dead_letter_requests: u64,
    /// `deadletterqueue-produce-failures`: those that the topic refused.
    pub dead_letter_failures: u64,
    /// `last-error-timestamp`, ms since the epoch.
    pub last_error_ms: Option<i64>,
}
