//! What readers see: a snapshot per connector, replaced as a whole whenever something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use tributary_sdk::Config;

use super::plugins_port::PluginKind;
use crate::worker::State;

/// All connectors as they are now. Reading takes a lock for as long as a look-up takes.
#[derive(Default)]
pub struct View(RwLock<BTreeMap<String, Arc<ConnectorView>>>);

impl View {
    /// One connector.
    pub fn connector(&self, name: &str) -> Option<Arc<ConnectorView>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All connectors, by name.
    pub fn connectors(&self) -> Vec<Arc<ConnectorView>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn put(&self, connector: ConnectorView) {
        let connector = Arc::new(connector);
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(connector.name.clone(), connector);
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// A connector as it is now.
#[derive(Debug, Clone)]
pub struct ConnectorView {
    /// Its name.
    pub name: String,
    /// Its config as the user wrote it.
    pub config: Arc<Config>,
    /// Source or sink; `None` if its class is not here.
    pub kind: Option<PluginKind>,
    /// The plugin's version.
    pub version: Option<String>,
    /// What the user wants: Running, Paused or Stopped.
    pub target: State,
    /// The connector itself.
    pub instance: InstanceView,
    /// Its tasks, by number.
    pub tasks: Vec<TaskView>,
    /// The topics it used.
    pub topics: Arc<BTreeSet<String>>,
}

/// A task as it is now.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// Its number.
    pub id: u32,
    /// Its config, unresolved.
    pub config: Arc<Config>,
    /// Its state.
    pub instance: InstanceView,
    /// Records in a second over the last few seconds.
    pub records_per_second: Option<f64>,
}

/// The state of a connector or task.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceView {
    /// Its state.
    pub state: State,
    /// Of a failure: message and trace.
    pub trace: Option<Arc<str>>,
    /// Restarts by the policy, once there was a failure.
    pub restart: Option<RestartView>,
}

/// Restarts by the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartView {
    /// Restarts in a row so far.
    pub attempts: u32,
    /// When the next one is due, milliseconds since the epoch.
    pub next_ms: Option<i64>,
}
