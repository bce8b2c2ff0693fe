//! The worker itself: what runs now, by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tributary_sdk::Config;

use super::connector_thread::ConnectorThread;
use super::environment::Environment;
use super::exactly_once::FENCE_WITHIN;
use super::standby::Standbys;
use super::task_thread::TaskThread;
use super::validation;
use super::{ConnectorSpec, FollowSpec, StandbyProgress, Starts, State, TaskId, TaskProgress, TaskSpec};
use crate::herder::TaskRunner;

/// How long the log may take to let members go.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs connectors and tasks. See the module's documentation.
pub struct Worker {
    environment: Arc<Environment>,
    connectors: Mutex<HashMap<String, ConnectorThread>>,
    tasks: Mutex<HashMap<TaskId, Arc<TaskThread>>>,
    standbys: Standbys,
}

impl Worker {
    /// A worker that runs nothing yet.
    pub fn new(environment: Arc<Environment>) -> Self {
        Self { environment, connectors: Mutex::default(), tasks: Mutex::default(), standbys: Standbys::default() }
    }
}

impl Worker {
    /// A commit that a task is in the middle of ends before the call returns, or fails.
    fn fence_producer(&self, task: &TaskThread) {
        let Some(id) = task.transactional_id() else { return };
        let fenced = self.environment.log.fence_producers(&[id.to_owned()], FENCE_WITHIN);
        fenced.unwrap_or_else(|error| tracing::warn!("the next task with the id fences it: {error}"));
    }
}

impl TaskRunner for Worker {
    fn start_connector(&self, spec: ConnectorSpec) {
        let name = spec.name.clone();
        let connector = ConnectorThread::start(self.environment.clone(), spec);
        if let Some(previous) = lock(&self.connectors).insert(name, connector) {
            previous.fence();
        }
    }

    fn stop_connector(&self, name: &str) {
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

    fn request_task_configs(&self, name: &str, max_tasks: usize) {
        if let Some(connector) = lock(&self.connectors).get(name) {
            connector.request_task_configs(max_tasks);
        }
    }

    fn start_task(&self, spec: TaskSpec) {
        let id = spec.id.clone();
        let task = TaskThread::start(self.environment.clone(), spec);
        if let Some(previous) = lock(&self.tasks).insert(id, Arc::new(task)) {
            previous.fence();
        }
    }

    fn stop_tasks(&self, ids: &[TaskId]) {
        // They stay known until they have stopped, so that they can still be fenced.
        let stopping = {
            let tasks = lock(&self.tasks);
            ids.iter().filter_map(|id| Some((id, tasks.get(id)?.clone()))).collect::<Vec<_>>()
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
                self.fence_producer(&task);
            }
            let mut tasks = lock(&self.tasks);
            if tasks.get(id).is_some_and(|known| Arc::ptr_eq(known, &task)) {
                tasks.remove(id);
            }
        }
    }

    fn fence(&self, tasks: &[TaskId], connectors: &[String]) {
        let running = lock(&self.tasks);
        tasks.iter().filter_map(|id| running.get(id)).for_each(|task| task.fence());
        let running = lock(&self.connectors);
        connectors.iter().filter_map(|name| running.get(name)).for_each(ConnectorThread::fence);
    }

    fn leave_group(&self, group: &str, ids: &[TaskId]) {
        let log = &self.environment.log;
        if ids.is_empty() || !log.static_membership() {
            return;
        }
        let members = ids.iter().map(TaskId::to_string).collect::<Vec<_>>();
        log.remove_static_members(group, &members, LEAVE_TIMEOUT).unwrap_or_else(|error| tracing::warn!("{error}"));
    }

    fn set_target_state(&self, connector: &str, target: State) {
        if let Some(connector) = lock(&self.connectors).get(connector) {
            connector.set_target(target);
        }
        for (id, task) in lock(&self.tasks).iter() {
            if id.connector == connector {
                task.set_paused(target == State::Paused);
            }
        }
    }

    fn validate_connector(&self, config: &Config) -> Result<Vec<(String, String)>, String> {
        validation::validate(&self.environment, config)
    }

    fn starts(&self) -> (Starts, Starts) {
        let starts = &self.environment.starts;
        (starts.connectors.read(), starts.tasks.read())
    }

    fn follow(&self, connector: &str, spec: Option<FollowSpec>) {
        self.standbys.follow(&self.environment, connector, spec);
    }

    fn standby(&self, connector: &str) -> Option<StandbyProgress> {
        self.standbys.progress(connector)
    }

    fn progress(&self, id: &TaskId) -> Option<TaskProgress> {
        lock(&self.tasks).get(id).map(|task| task.progress())
    }

    fn shutdown(&self) {
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
        self.standbys.shutdown(deadline);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
