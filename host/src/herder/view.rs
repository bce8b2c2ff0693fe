//! What readers see: a snapshot per connector, replaced as a whole whenever something changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use tributary_sdk::Config;

use super::plugins_port::PluginKind;
use crate::storage::StatusStore;
use crate::worker::State;

/// All connectors as they are now. Reading takes a lock for as long as a look-up takes.
#[derive(Default)]
pub struct View {
    connectors: RwLock<BTreeMap<String, Arc<ConnectorView>>>,
    /// What other workers report of what runs there.
    others: OnceLock<Arc<dyn StatusStore>>,
}

impl View {
    /// One connector.
    pub fn connector(&self, name: &str) -> Option<Arc<ConnectorView>> {
        let connector = self.connectors.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        connector.map(|connector| self.complete(connector))
    }

    /// All connectors, by name.
    pub fn connectors(&self) -> Vec<Arc<ConnectorView>> {
        let all: Vec<_> = self.connectors.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.into_iter().map(|connector| self.complete(connector)).collect()
    }

    /// From now on, what does not run here is shown as these statuses have it.
    pub(super) fn show_others(&self, statuses: Arc<dyn StatusStore>) {
        let _ = self.others.set(statuses);
    }

    /// Adds what other workers report.
    fn complete(&self, connector: Arc<ConnectorView>) -> Arc<ConnectorView> {
        let Some(statuses) = self.others.get() else { return connector };
        let mut whole = ConnectorView::clone(&connector);
        let name = &connector.name;
        if let Ok(topics) = statuses.topics(name) {
            whole.topics = Arc::new(topics.into_iter().map(|topic| topic.topic).collect());
        }
        if !whole.instance.here
            && let Ok(Some(status)) = statuses.connector(name)
        {
            whole.instance.report(status);
        }
        if whole.tasks.iter().any(|task| !task.instance.here) {
            for (id, status) in statuses.tasks(name).unwrap_or_default() {
                if let Some(task) = whole.tasks.get_mut(id as usize).filter(|task| !task.instance.here) {
                    task.instance.report(status);
                }
            }
        }
        Arc::new(whole)
    }

    pub(super) fn put(&self, connector: ConnectorView) {
        let connector = Arc::new(connector);
        self.connectors.write().unwrap_or_else(PoisonError::into_inner).insert(connector.name.clone(), connector);
    }

    pub(super) fn remove(&self, name: &str) {
        self.connectors.write().unwrap_or_else(PoisonError::into_inner).remove(name);
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
    /// Whether it runs in this worker; if not, it is shown as its own worker reports it.
    pub here: bool,
    /// The worker that reports it, if that is another one.
    pub worker_id: Option<Arc<str>>,
}

impl InstanceView {
    /// Takes over what another worker, or this one before, has reported.
    fn report(&mut self, status: crate::storage::StatusRecord) {
        self.state = status.state;
        self.trace = status.trace.map(Into::into);
        self.worker_id = Some(status.worker_id.into());
    }
}

/// Restarts by the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartView {
    /// Restarts in a row so far.
    pub attempts: u32,
    /// When the next one is due, milliseconds since the epoch.
    pub next_ms: Option<i64>,
}
