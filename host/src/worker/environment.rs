//! What connectors and tasks are made with: the worker's config, plugins, log and stores.

use std::sync::Arc;

use tributary_sdk::{Config, ConfigDef, Services};

use super::exactly_once::ExactlyOnce;
use super::guarded::Guarded;
use super::passwords::passwords;
use super::{StartCounters, TaskId, WorkerEvent};
use crate::config::{ConfigError, Secrets, WorkerConfig};
use crate::herder::EventSink;
use crate::log::Log;
use crate::plugin::{ConnectorHandle, PluginClass, Registry};
use crate::state::StateDirectory;
use crate::storage::{OffsetStore, StateStore, StorageError};
use crate::task::Lease;
use crate::task::control::TaskControl;
use crate::task::errors::TaskError;

/// Makes the offset store of a task that starts now; with the topic of its own that its connector keeps offsets in, if any.
pub type TaskOffsets = Arc<dyn Fn(&TaskId, Option<&str>) -> Result<Arc<dyn OffsetStore>, StorageError> + Send + Sync>;

/// Opens the offsets of a connector with a topic of its own.
pub type ConnectorOffsetsOf = Arc<dyn Fn(&str) -> Result<Arc<dyn OffsetStore>, StorageError> + Send + Sync>;

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
    /// The same as one run of a task has them, where that makes a difference.
    pub task_offsets: Option<TaskOffsets>,
    /// The same as a connector has them that names an offsets topic of its own, where that makes a difference.
    pub connector_offsets: Option<ConnectorOffsetsOf>,
    /// How sources deliver exactly once, if they do.
    pub exactly_once: Option<ExactlyOnce>,
    /// Keyed state.
    pub state: Arc<dyn StateStore>,
    /// The files of transforms' keyed state.
    pub state_files: StateDirectory,
    /// Until when tasks may write.
    pub lease: Lease,
    /// Takes what happens.
    pub events: EventSink,
    /// Counts starts.
    pub starts: StartsByKind,
}

/// Starts since the worker began.
#[derive(Debug, Default)]
pub struct StartsByKind {
    /// Of connectors.
    pub connectors: StartCounters,
    /// Of tasks.
    pub tasks: StartCounters,
}

impl Environment {
    /// The first part of changelogs' names.
    pub fn group_of_state(&self) -> &str {
        self.config.group_id.as_deref().unwrap_or("connect")
    }

    /// Configs with their secrets. Must not be stored, logged or shown; `control` learns what has to be hidden.
    pub fn resolve<const N: usize>(
        &self,
        configs: [&Config; N],
        control: &TaskControl,
    ) -> Result<[Config; N], TaskError> {
        let failed = |error: ConfigError| TaskError::new(error.to_string());
        let mut secrets = Secrets::default();
        let mut hidden = Vec::new();
        let mut resolved = Vec::new();
        for config in configs {
            let (config, found) = self.config.providers.resolve_all(config).map_err(failed)?;
            let class = self.class(&config).ok();
            let def = class.as_ref().map(|class| class.info().config_def.clone()).unwrap_or_default();
            hidden.extend(passwords(&config, &def));
            secrets = secrets.and(found.pairs());
            resolved.push(config);
        }
        // The worker's own client settings are in messages of its clients.
        if let Ok((worker, _)) = self.config.providers.resolve_all(&self.config.properties) {
            hidden.extend(passwords(&worker, &ConfigDef::new()));
        }
        control.set_secrets(secrets.and_passwords(hidden));
        resolved.try_into().map_err(|_| TaskError::new("a config was lost; this is a bug of the worker"))
    }

    /// The topic of its own that a connector keeps its offsets in. A standalone worker has one place for all.
    pub fn own_offsets_topic<'a>(&self, config: &'a Config) -> Option<&'a str> {
        self.connector_offsets.as_ref()?;
        config.get("offsets.storage.topic").map(str::trim).filter(|topic| !topic.is_empty())
    }

    /// The offsets of a connector, where users read and change them.
    pub fn offsets_of(&self, config: &Config) -> Result<Arc<dyn OffsetStore>, StorageError> {
        match (self.own_offsets_topic(config), &self.connector_offsets) {
            (Some(own), Some(open)) => open(own),
            _ => Ok(self.offsets.clone()),
        }
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
        control: &Arc<TaskControl>,
    ) -> Result<Box<dyn ConnectorHandle>, TaskError> {
        let handle = self.class(config)?.connector(services).map_err(|error| TaskError::of_call("create", error))?;
        Ok(Box::new(Guarded::new(handle, control.clone())))
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
