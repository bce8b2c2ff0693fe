//! The worker itself: what runs now, by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connector_thread::ConnectorThread;
use super::environment::Environment;
use super::task_thread::TaskThread;
use super::{ConnectorSpec, State, TaskId, TaskProgress, TaskSpec};

/// How long the log may take to let members go.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs connectors and tasks. See the module's documentation.
pub struct Worker {
    environment: Arc<Environment>,
    connectors: Mutex<HashMap<String, ConnectorThread>>,
    tasks: Mutex<HashMap<TaskId, TaskThread>>,
}

impl Worker {
    /// A worker that runs nothing yet.
    pub fn new(environment: Arc<Environment>) -> Self {
        Self { environment, connectors: Mutex::default(), tasks: Mutex::default() }
    }

    /// What connectors and tasks are made with.
    pub fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// Starts a connector.
    pub fn start_connector(&self, spec: ConnectorSpec) {
        let name = spec.name.clone();
        let connector = ConnectorThread::start(self.environment.clone(), spec);
        if let Some(previous) = lock(&self.connectors).insert(name, connector) {
            previous.fence();
        }
    }

    /// Stops a connector; returns when it has ended, or was abandoned at the deadline.
    pub fn stop_connector(&self, name: &str) {
        let Some(connector) = lock(&self.connectors).remove(name) else { return };
        connector.stop();
        if !connector.ended().wait(self.environment.config.task_shutdown_timeout) {
            connector.fence();
            tracing::warn!(
                "connector {name} did not stop within {:?} and is abandoned; its thread stays until the plugin's call returns",
                self.environment.config.task_shutdown_timeout
            );
        }
    }

    /// Asks a connector for its task configs; they come as an event.
    pub fn request_task_configs(&self, name: &str, max_tasks: usize) {
        if let Some(connector) = lock(&self.connectors).get(name) {
            connector.request_task_configs(max_tasks);
        }
    }

    /// Starts a task. One of the same id that still runs is fenced.
    pub fn start_task(&self, spec: TaskSpec) {
        let id = spec.id.clone();
        let task = TaskThread::start(self.environment.clone(), spec);
        if let Some(previous) = lock(&self.tasks).insert(id, task) {
            previous.fence();
        }
    }

    /// Stops tasks, all at once; returns when they have ended, or were fenced at the deadline.
    pub fn stop_tasks(&self, ids: &[TaskId]) {
        let stopping = {
            let mut tasks = lock(&self.tasks);
            ids.iter().filter_map(|id| Some((id, tasks.remove(id)?))).collect::<Vec<_>>()
        };
        for (_, task) in &stopping {
            task.stop();
        }
        let timeout = self.environment.config.task_shutdown_timeout;
        let deadline = Instant::now() + timeout;
        for (id, task) in stopping {
            if !task.ended().wait_until(deadline) {
                task.fence();
                tracing::warn!(
                    "task {id} did not stop within task.shutdown.graceful.timeout.ms ({timeout:?}) and is fenced: it can write \
                     nothing more, and its last records are repeated at the next start"
                );
            }
        }
    }

    /// Takes stopped sink tasks that will not come back out of their consumer group, so that their partitions are free at once
    /// and the group's offsets can be changed. Blocks for the log's answer; failing only means waiting for the sessions to end.
    pub fn leave_group(&self, group: &str, ids: &[TaskId]) {
        let log = &self.environment.log;
        if ids.is_empty() || !log.static_membership() {
            return;
        }
        let members = ids.iter().map(TaskId::to_string).collect::<Vec<_>>();
        log.remove_static_members(group, &members, LEAVE_TIMEOUT).unwrap_or_else(|error| tracing::warn!("{error}"));
    }

    /// Sets the target state of a connector and of its running tasks.
    pub fn set_target_state(&self, connector: &str, target: State) {
        if let Some(connector) = lock(&self.connectors).get(connector) {
            connector.set_target(target);
        }
        for (id, task) in lock(&self.tasks).iter() {
            if id.connector == connector {
                task.set_paused(target == State::Paused);
            }
        }
    }

    /// What a running task has done.
    pub fn progress(&self, id: &TaskId) -> Option<TaskProgress> {
        lock(&self.tasks).get(id).map(TaskThread::progress)
    }

    /// Stops everything, tasks first.
    pub fn shutdown(&self) {
        let tasks = lock(&self.tasks).keys().cloned().collect::<Vec<_>>();
        self.stop_tasks(&tasks);
        let connectors = std::mem::take(&mut *lock(&self.connectors));
        for connector in connectors.values() {
            connector.stop();
        }
        let deadline = Instant::now() + self.environment.config.task_shutdown_timeout;
        for (name, connector) in connectors {
            if !connector.ended().wait_until(deadline) {
                connector.fence();
                tracing::warn!("connector {name} did not stop in time and is abandoned");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
