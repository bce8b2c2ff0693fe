//! What the herder asks of the worker.

use std::sync::Arc;

use tributary_sdk::Config;

use crate::worker::{
    ConnectorSpec, FollowSpec, StandbyProgress, Starts, State, TaskId, TaskProgress, TaskSpec, WorkerEvent,
};

/// Where the worker reports what happens; returns at once, from any thread.
pub type EventSink = Arc<dyn Fn(WorkerEvent) + Send + Sync>;

/// Runs connectors and tasks. No call waits for a plugin unless it says so. After a `stop_…` has returned, no event of what was stopped arrives.
pub trait TaskRunner: Send + Sync {
    /// Starts a connector: [`WorkerEvent::Connector`] with Running, Paused or Failed follows, and, unless it failed, [`WorkerEvent::TaskConfigs`].
    fn start_connector(&self, spec: ConnectorSpec);
    /// Waits until the connector has stopped or its deadline has passed. Fine when there is none.
    fn stop_connector(&self, name: &str);
    /// Asks the connector for its task configs again: [`WorkerEvent::TaskConfigs`] follows.
    fn request_task_configs(&self, name: &str, max_tasks: usize);
    /// Starts a task: [`WorkerEvent::Task`] follows.
    fn start_task(&self, spec: TaskSpec);
    /// Waits until the tasks have stopped, at most `task.shutdown.graceful.timeout.ms`; what still runs then is fenced and left. Fine for tasks that do not run.
    fn stop_tasks(&self, ids: &[TaskId]);
    /// From now on these write and report nothing more; they are stopped afterwards. Does not wait.
    fn fence(&self, tasks: &[TaskId], connectors: &[String]);
    /// Takes stopped sink tasks that will not come back out of their consumer group, so that its offsets can be changed. Waits.
    fn leave_group(&self, group: &str, ids: &[TaskId]);
    /// Running or Paused, for a connector and its running tasks; events with the new states follow.
    fn set_target_state(&self, connector: &str, target: State);
    /// Follows the state of these tasks of a connector from now on and of no others; `None`: of none. Does not wait.
    fn follow(&self, _connector: &str, _spec: Option<FollowSpec>) {}
    /// How the state of a connector's tasks is followed here, if any is.
    fn standby(&self, _connector: &str) -> Option<StandbyProgress> {
        None
    }
    /// What a running task has done so far.
    fn progress(&self, id: &TaskId) -> Option<TaskProgress>;
    /// Starts of connectors and of tasks since the worker began.
    fn starts(&self) -> (Starts, Starts) {
        Default::default()
    }
    /// The plugin's own checks, with a deadline: `(key, message)` for each problem; `Err` when they could not be made. Waits.
    fn validate_connector(&self, config: &Config) -> Result<Vec<(String, String)>, String>;
    /// Stops everything as `stop_…` do. Waits.
    fn shutdown(&self);
}
