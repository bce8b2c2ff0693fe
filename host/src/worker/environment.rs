//! What connectors and tasks are made with: the worker's config, plugins, log and stores.

use std::sync::Arc;

use tributary_sdk::{Config, Services};

use super::WorkerEvent;
use crate::config::WorkerConfig;
use crate::herder::EventSink;
use crate::log::Log;
use crate::plugin::{ConnectorHandle, PluginClass, Registry};
use crate::storage::{OffsetStore, StateStore};
use crate::task::Lease;
use crate::task::errors::TaskError;

/// Shared by everything that the worker runs.
pub struct Environment {
    /// The worker's properties.
    pub config: Arc<WorkerConfig>,
    /// The known classes.
    pub registry: Arc<Registry>,
    /// Kafka, or the embedded log.
    pub log: Arc<dyn Log>,
    /// Source offsets.
    pub offsets: Arc<dyn OffsetStore>,
    /// Keyed state.
    pub state: Arc<dyn StateStore>,
    /// Until when tasks may write.
    pub lease: Lease,
    /// Takes what happens.
    pub events: EventSink,
}

impl Environment {
    /// A config with its secrets. Must not be stored, logged or shown.
    pub fn resolve(&self, config: &Config) -> Result<Config, TaskError> {
        self.config.providers.resolve(config).map_err(|error| TaskError::new(error.to_string()))
    }

    /// The connector's class.
    pub fn class(&self, config: &Config) -> Result<PluginClass, TaskError> {
        let name = config.required("connector.class").map_err(|error| TaskError::new(error.to_string()))?;
        self.registry
            .connector(name, config.get("connector.plugin.version"))
            .map_err(|error| TaskError::new(error.to_string()))
    }

    /// Makes an unstarted connector. Opens its library on first use.
    pub fn create_connector(
        &self,
        config: &Config,
        services: Arc<dyn Services>,
    ) -> Result<Box<dyn ConnectorHandle>, TaskError> {
        self.class(config)?.connector(services).map_err(|error| TaskError::of_call("create", error))
    }

    /// `tasks.max`.
    pub fn tasks_max(&self, config: &Config) -> Result<usize, TaskError> {
        config.parsed("tasks.max", 1).map_err(|error| TaskError::new(error.to_string()))
    }

    /// Reports what happened.
    pub fn send(&self, event: WorkerEvent) {
        (self.events)(event);
    }
}
