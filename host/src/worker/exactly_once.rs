//! What exactly-once source tasks need of their worker.

use std::sync::Arc;
use std::time::Duration;

use tributary_sdk::Config;

use super::TaskId;
use super::environment::Environment;
use crate::log::LogError;
use crate::plugin::Kind;
use crate::storage::{StorageError, TransactionalOffsets};

/// How long fencing may take.
pub const FENCE_WITHIN: Duration = Duration::from_secs(30);

/// Opens the offsets of a connector; with the topic of its own that it names, if any.
pub type OpenOffsets = Arc<dyn Fn(Option<&str>) -> Result<Arc<dyn TransactionalOffsets>, StorageError> + Send + Sync>;
/// Whether tasks of this generation may still begin: the config topic was read to its end.
pub type IsCurrent = Arc<dyn Fn(&TaskId, u32) -> Result<bool, StorageError> + Send + Sync>;

/// A worker with `exactly.once.source.support=enabled`.
pub struct ExactlyOnce {
    /// The first part of transactional ids.
    pub group: String,
    /// Opens offsets.
    pub offsets: OpenOffsets,
    /// Where other workers may have newer tasks.
    pub current: Option<IsCurrent>,
    /// How many tasks of a connector may have had producers, for those that do not run any more.
    pub former_tasks: Arc<dyn Fn(&str) -> u32 + Send + Sync>,
}

/// The ids of so many tasks of a connector: `<group.id>-<connector>-<task>`, as in Kafka Connect.
pub fn transactional_ids(group: &str, connector: &str, tasks: u32) -> Vec<String> {
    (0..tasks).map(|task| transactional_id(group, &(connector, task).into())).collect()
}

fn transactional_id(group: &str, id: &TaskId) -> String {
    format!("{group}-{id}")
}

impl ExactlyOnce {
    /// The `transactional.id` of a task.
    pub fn transactional_id(&self, id: &TaskId) -> String {
        transactional_id(&self.group, id)
    }
}

impl Environment {
    /// The task's `transactional.id`; `None` for those that have no transactions.
    pub fn transactional_id(&self, id: &TaskId, connector_config: &Config) -> Option<String> {
        let exactly_once = self.exactly_once.as_ref()?;
        let source = self.class(connector_config).is_ok_and(|class| class.info().kind == Kind::Source);
        source.then(|| exactly_once.transactional_id(id))
    }

    /// Makes sure that tasks that ran once write nothing more.
    pub fn fence_former_tasks(&self, connector: &str) -> Result<(), LogError> {
        let Some(exactly_once) = &self.exactly_once else { return Ok(()) };
        let ids = transactional_ids(&exactly_once.group, connector, (exactly_once.former_tasks)(connector));
        if ids.is_empty() { Ok(()) } else { self.log.fence_producers(&ids, FENCE_WITHIN) }
    }
}
