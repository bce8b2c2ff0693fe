//! What was last observed of connectors and tasks, and the topics they used.

use super::StorageError;
use crate::worker::{State, TaskId};

/// A connector's or task's state as last reported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StatusRecord {
    /// Its state.
    pub state: State,
    /// Of a failure: message and trace.
    pub trace: Option<String>,
    /// The worker that reported it, `host:port`.
    pub worker_id: String,
    /// The group generation in which it was reported; 0 in standalone mode.
    pub generation: i32,
    /// The plugin's version.
    pub version: Option<String>,
}

/// A topic that a connector used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicStatus {
    /// The topic.
    pub topic: String,
    /// The task that used it first.
    pub task: u32,
    /// When, milliseconds since the epoch.
    pub discovered_ms: i64,
}

/// Keeps observations. Writes are queued and durable within moments; a failed write is logged, not returned.
pub trait StatusStore: Send + Sync {
    /// Records a connector's state.
    fn put_connector(&self, connector: &str, status: &StatusRecord);
    /// Records a task's state.
    fn put_task(&self, task: &TaskId, status: &StatusRecord);
    /// Forgets a task.
    fn remove_task(&self, task: &TaskId);
    /// Forgets a connector, its tasks and its topics.
    fn remove_connector(&self, connector: &str);
    /// Records that a connector used a topic.
    fn put_topic(&self, connector: &str, topic: &TopicStatus);
    /// Forgets the topics a connector used.
    fn remove_topics(&self, connector: &str);
    /// The last recorded state of a connector.
    fn connector(&self, connector: &str) -> Result<Option<StatusRecord>, StorageError>;
    /// The last recorded states of a connector's tasks, by number.
    fn tasks(&self, connector: &str) -> Result<Vec<(u32, StatusRecord)>, StorageError>;
    /// The topics a connector used, by name.
    fn topics(&self, connector: &str) -> Result<Vec<TopicStatus>, StorageError>;
}
