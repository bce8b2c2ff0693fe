//! The JSON shapes of the API: Kafka Connect's names, with additions where old clients do not look.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tributary_sdk::Config;
use utoipa::ToSchema;

use super::body::ConfigMap;
use crate::herder::{ConnectorView, InstanceView, PluginKind, TaskView};
use crate::worker::{ErrorTotals, State, StateProgress, TaskProgress};

/// Every error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorMessage {
    /// The HTTP status.
    pub error_code: u16,
    /// What was wrong.
    pub message: String,
}

/// `GET /`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerInfo {
    /// The version of Kafka Connect whose API this is, then this worker's own.
    pub version: &'static str,
    /// The commit that the worker was built from.
    pub commit: &'static str,
    /// The log's cluster; null until it is known.
    pub kafka_cluster_id: Option<String>,
}

/// `GET /health`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerStatus {
    /// healthy, starting or unhealthy.
    pub status: &'static str,
    /// Details.
    pub message: String,
}

/// `source`, `sink`, or `unknown` if the class is not here.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub(super) enum ConnectorType {
    Source,
    Sink,
    Unknown,
}

impl From<Option<PluginKind>> for ConnectorType {
    fn from(kind: Option<PluginKind>) -> Self {
        match kind {
            Some(PluginKind::Source) => Self::Source,
            Some(PluginKind::Sink) => Self::Sink,
            _ => Self::Unknown,
        }
    }
}

/// A task's name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConnectorTaskId {
    /// The connector.
    pub connector: String,
    /// The task's number.
    pub task: u32,
}

/// A connector with its config.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConnectorInfo {
    /// Its name.
    pub name: String,
    /// Its config, references unresolved.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    #[serde(serialize_with = "config")]
    pub config: Arc<Config>,
    /// Its tasks.
    pub tasks: Vec<ConnectorTaskId>,
    /// Source or sink.
    #[serde(rename = "type")]
    pub kind: ConnectorType,
}

/// A task with its config.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskInfo {
    /// Its name.
    pub id: ConnectorTaskId,
    /// Its config, references unresolved.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    #[serde(serialize_with = "config")]
    pub config: Arc<Config>,
}

/// `POST /connectors`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateConnectorRequest {
    /// The connector's name.
    #[serde(default, deserialize_with = "super::body::scalar")]
    pub name: Option<String>,
    /// Its config.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub config: Option<ConfigMap>,
    /// RUNNING, PAUSED or STOPPED, in any case.
    pub initial_state: Option<String>,
}

/// The states of a connector and its tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConnectorStateInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// The connector itself.
    pub connector: InstanceState<'a>,
    /// Its tasks.
    pub tasks: Vec<TaskState<'a>>,
    /// Source or sink.
    #[serde(rename = "type")]
    pub kind: ConnectorType,
}

/// The state of a connector.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InstanceState<'a> {
    /// UNASSIGNED, RUNNING, PAUSED, STOPPED, FAILED or RESTARTING.
    #[schema(value_type = String)]
    pub state: State,
    /// The worker that runs it.
    pub worker_id: &'a str,
    /// The plugin's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'a str>,
    /// Of a failure: message and trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<&'a str>,
    /// Restarts by `errors.restart.policy`, once there was a failure. Not in Kafka Connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartState>,
}

/// The state of a task.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskState<'a> {
    /// Its number.
    pub id: u32,
    /// Its state.
    #[serde(flatten)]
    pub instance: InstanceState<'a>,
    /// What it has done since it started. Not in Kafka Connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Restarts by the policy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RestartState {
    /// Restarts in a row so far.
    pub attempts: u32,
    /// When the next one is due; not there if none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What a task has done since it started.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Progress {
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
    /// Records that came too late for transforms that keep state; not there while none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_late: Option<u64>,
    /// The state of transforms, where some keep state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<KeyedState>,
    /// Records in a second, over the last few seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_per_second: Option<f64>,
    /// When the last record passed; null if none has.
    pub last_record: Option<String>,
    /// When offsets were last committed; null if they were not.
    pub last_commit: Option<String>,
    /// Records between a sink and the end of its partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// Why the task is not getting on although it runs: the error that it tries to get past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrying: Option<String>,
    /// What failed; not there while nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Errors>,
}

/// The state of a task's transforms.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyedState {
    /// Shards that the task works on: input partitions, or source partitions.
    pub shards: u64,
    /// Entries in memory; the others are on disk only.
    pub entries_in_memory: u64,
    /// Memory that they take.
    pub bytes_in_memory: u64,
    /// Shards that are being restored; not there if none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restoring: Option<u64>,
    /// Records of the changelog that are left to read for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records_to_restore: Option<u64>,
}

impl KeyedState {
    fn new(state: &StateProgress) -> Self {
        let restores = state.restoring > 0;
        Self {
            shards: state.shards,
            entries_in_memory: state.entries,
            bytes_in_memory: state.bytes,
            restoring: restores.then_some(state.restoring),
            records_to_restore: restores.then_some(state.to_restore),
        }
    }
}

/// What failed since the task started, as Connect's `task-error-metrics` count it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Errors {
    /// Tries that failed, also those that were followed by others.
    pub failures: u64,
    /// Records that failed for good.
    pub errors: u64,
    /// Of these, those that were left out.
    pub skipped: u64,
    /// Tries after the first.
    pub retries: u64,
    /// Failed records that were logged.
    pub logged: u64,
    /// Records handed to the dead-letter topic.
    pub dead_letters: u64,
    /// Those that it refused.
    pub dead_letters_refused: u64,
    /// When a record last failed for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

impl Errors {
    fn new(totals: &ErrorTotals) -> Option<Self> {
        (*totals != ErrorTotals::default()).then(|| Self {
            failures: totals.record_failures,
            errors: totals.record_errors,
            skipped: totals.records_skipped,
            retries: totals.retries,
            logged: totals.errors_logged,
            dead_letters: totals.dead_letter_requests,
            dead_letters_refused: totals.dead_letter_failures,
            last: totals.last_error_ms.map(time),
        })
    }
}

impl From<&ConnectorView> for ConnectorInfo {
    fn from(connector: &ConnectorView) -> Self {
        let task = |task: &TaskView| ConnectorTaskId { connector: connector.name.clone(), task: task.id };
        Self {
            name: connector.name.clone(),
            config: connector.config.clone(),
            tasks: connector.tasks.iter().map(task).collect(),
            kind: connector.kind.into(),
        }
    }
}

impl<'a> InstanceState<'a> {
    pub(super) fn new(instance: &'a InstanceView, version: Option<&'a str>, worker_id: &'a str) -> Self {
        Self {
            state: instance.state,
            worker_id: instance.worker_id.as_deref().unwrap_or(worker_id),
            version,
            trace: instance.trace.as_deref(),
            restart: instance
                .restart
                .as_ref()
                .map(|restart| RestartState { attempts: restart.attempts, next: restart.next_ms.map(time) }),
        }
    }
}

impl Progress {
    pub(super) fn new(progress: &TaskProgress, records_per_second: Option<f64>) -> Self {
        Self {
            records_in: progress.records_in,
            records_out: progress.records_out,
            bytes_in: progress.bytes_in,
            records_failed: progress.records_failed,
            records_filtered: progress.records_filtered,
            records_late: Some(progress.records_late).filter(|&late| late > 0),
            state: progress.state.as_ref().map(KeyedState::new),
            records_per_second: records_per_second.map(|rate| (rate * 10.0).round() / 10.0),
            last_record: progress.last_record_ms.map(time),
            last_commit: progress.last_commit_ms.map(time),
            lag: progress.lag,
            retrying: progress.retrying.clone(),
            errors: Errors::new(&progress.errors),
        }
    }
}

/// RFC 3339 in UTC.
fn time(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

fn config<S: serde::Serializer>(config: &Arc<Config>, serializer: S) -> Result<S::Ok, S::Error> {
    config.0.serialize(serializer)
}
