//! Connectors as users want them: configs, target states, and the task configs that follow from them.

use tributary_sdk::Config;

use super::StorageError;
use crate::worker::State;

/// A connector as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConnector {
    /// Its name.
    pub name: String,
    /// Its config as the user wrote it.
    pub config: Config,
    /// Running, Paused or Stopped.
    pub target: State,
    /// One config a task.
    pub tasks: Vec<Config>,
    /// The config that `tasks` was made from, to see after a crash that they are older than `config`.
    pub applied: Option<Config>,
}

/// Keeps connectors. Calls block, and what returns `Ok` is durable.
pub trait ConfigStore: Send + Sync {
    /// All connectors, by name.
    fn connectors(&self) -> Result<Vec<StoredConnector>, StorageError>;
    /// Creates or replaces a connector's config, and sets the target state if one is given (a new connector's is Running).
    fn put_connector(&self, name: &str, config: &Config, target: Option<State>) -> Result<(), StorageError>;
    /// Sets an existing connector's target state.
    fn put_target(&self, name: &str, target: State) -> Result<(), StorageError>;
    /// Replaces an existing connector's task configs; they were made from `applied`.
    fn put_tasks(&self, name: &str, tasks: &[Config], applied: &Config) -> Result<(), StorageError>;
    /// Forgets a connector and its tasks, but not its offsets: as in Kafka Connect, a connector of the same name goes on from them.
    fn remove_connector(&self, name: &str) -> Result<(), StorageError>;
}
